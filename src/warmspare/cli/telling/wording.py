"""Events in words, for people; owns every sentence that is printed and no decision."""

from __future__ import annotations

from collections.abc import Callable

from warmspare.observe.events import Event


def size(count: float) -> str:
    """Bytes in binary units, three digits or so."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 0:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min {int(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def progress(event: Event) -> str:
    """One line of how far a run is."""
    names = ("read", "changed", "sent", "written")
    parts = [f"{size(event[f'bytes_{name}'])} {name}" for name in names if f"bytes_{name}" in event]
    total = event["bytes_total"]
    share = f"{event['bytes_done'] / total:.0%} of {size(total)}" if total else "starting"
    left = f", {duration(event['seconds_left'])} left" if event["seconds_left"] >= 0 else ""
    rate = size(event["bytes_done"] / event["seconds"]) if event["seconds"] else "0 B"
    return f"{share}: {', '.join(parts)}; {rate}/s{left}"


def _sync_done(e: Event) -> str:
    tail = f"; {e['findings']} findings" if e["findings"] else ""
    tail += f"; {e['unprotected']} unprotected" if e["unprotected"] else ""
    return (
        f"restore point {e['point']}: {size(e['bytes_read'])} read, {size(e['bytes_changed'])} changed, "
        f"{size(e['bytes_sent'])} sent in {duration(e['seconds'])}{tail}"
    )


def _plan_done(e: Event) -> str:
    parts = [
        f"a sync now would read {size(e['bytes_read'])}, find {size(e['bytes_changed'])} changed and send "
        f"{size(e['bytes_to_send'])}; reading took {duration(e['seconds'])}"
    ]
    if e["seconds_at_limit"] is not None:
        parts.append(f"at the limit it takes {duration(e['seconds_at_limit'])}")
    if e["seconds_at_measured_rate"] is not None:
        parts.append(f"at the rate of the last sync {duration(e['seconds_at_measured_rate'])}")
    if e["rpo_holds"] is not None:
        kept = "can" if e["rpo_holds"] else "can NOT"
        parts.append(f"the RPO of {duration(e['rpo_seconds'])} {kept} be held")
    return "; ".join(parts)


def _apply_done(e: Event) -> str:
    tail = f", {e['blocks_rebuilt']} blocks rebuilt" if e["blocks_rebuilt"] else ""
    return (
        f"replica at restore point {e['point']}: {size(e['bytes_read'])} fetched, {size(e['bytes_written'])} written, "
        f"{e['blocks_verified']} blocks verified{tail} in {duration(e['seconds'])}"
    )


def _copy_start(e: Event) -> str:
    if not e["points"]:
        return f"{e['destination']} has everything that {e['source']} has"
    return f"copying {e['points']} restore points of {', '.join(e['vms'])} from {e['source']} to {e['destination']}"


def _copy_done(e: Event) -> str:
    tail = f", {e['objects_there']} objects were there already" if e["objects_there"] else ""
    return (
        f"{e['points']} restore points copied: {size(e['bytes_read'])} read, {size(e['bytes_sent'])} sent{tail} in "
        f"{duration(e['seconds'])}"
    )


def _reports_verified(e: Event) -> str:
    if not e["count"]:
        return f"no audit reports in {e['directory']}"
    state = f"{e['wrong']} WRONG" if e["wrong"] else "whole and unchanged"
    return f"{e['count']} audit reports in {e['directory']}: {state}" + (
        f"; the newest has SHA-256 {e['sha256']}" if e["sha256"] else ""
    )


def _check_done(e: Event) -> str:
    said = (
        f"{e['stops']} things were found that will stop {e['vm']!r} from starting in EC2"
        if e["stops"]
        else (f"{e['vm']!r} starts in EC2 as far as was seen")
    )
    left = f"; not known: {'; '.join(e['not_known'])}" if e["not_known"] else ""
    return f"{said}; warnings: {e['warnings']}, notes: {e['notes']}{left}"


def _outlook(e: Event) -> str:
    head = f"{e['vm']} at restore point {e['point']}: "
    if e["stops"]:
        head += f"WILL NOT START: {'; '.join(e['stops'])}"
    else:
        head += f"starts {e['runs'][0] if len(e['runs']) == 1 else ''}".rstrip() + " as far as was seen"
    return head + (f"; not known: {'; '.join(e['not_known'])}" if e["not_known"] else "")


def _drill_start(e: Event) -> str:
    if "subnet" in e:
        return (
            f"starting {e['vm']!r} at restore point {e['point']} in EC2, {e['subnet']}, which reaches nothing; "
            f"{duration(e['timeout_seconds'])} at most"
        )
    firmware = e["firmware"].upper()
    source = e["replica"] or "the restore point itself"
    return (
        f"starting {e['vm']!r} at restore point {e['point']} from an overlay of {source}: {firmware}, "
        f"disks on {e['controller']}, {e['cpus']} CPU, {e['memory_mib']} MiB, no network; "
        f"{duration(e['timeout_seconds'])} at most"
    )


def _drill_done(e: Event) -> str:
    verdict = f"PASSED: up after {duration(e['boot_seconds'])}" if e["passed"] else "FAILED"
    disks = {
        True: "the replica is as it was; ",
        False: "the replica is CHANGED; ",
        None: "" if "instance" in e else "every block that was read of the restore point was verified; ",
    }[e["untouched"]]
    return f"drill of {e['vm']!r} {verdict}; {e['reason']}; {disks}evidence in {e['evidence']}"


def _rehearsal_start(e: Event) -> str:
    vms, orders = len(e["vms"]), len(e["orders"])
    where = "in EC2" if e["where"] == "ec2" else "in QEMU"
    rto = "" if e["rto_seconds"] is None else f"; the plan's RTO is {duration(e['rto_seconds'])}"
    note = f"; {e['note']}" if e["note"] else ""
    return f"rehearsing {vms} VM{'s' * (vms > 1)} in {orders} step{'s' * (orders > 1)} {where}{rto}{note}"


def _rehearsal_step(e: Event) -> str:
    head = f"{e['vm']}: {e['result'].upper()}"
    if e["ready_seconds"] is not None:
        head += f", ready ({e['ready']}) {duration(e['ready_seconds'])} after the beginning"
        head += "" if e["rto_seconds"] is None else f" of {duration(e['rto_seconds'])}"
    if e["waited_seconds"] >= 1:
        head += f", of which it waited {duration(e['waited_seconds'])} for room on this host"
    return f"{head}: {e['reason']}"


def _rehearsal_done(e: Event) -> str:
    counts = [(e["passed"], "passed"), (e["late"], "late"), (e["failed"], "FAILED"), (e["not_judged"], "NOT JUDGED")]
    said = ", ".join(f"{count} {word}" for count, word in counts if count)
    if e["ready_seconds"] is not None:
        said += f"; all were ready after {duration(e['ready_seconds'])}"
    if e["rto_seconds"] is not None:
        meets = {True: "met", False: "MISSED", None: "not judged"}[e["within"]]
        said += f"; the RTO of {duration(e['rto_seconds'])} is {meets}"
    return f"rehearsal of {e['vms']}: {said}; record {e['number']}: {e['record']}"


def _drill(e: Event) -> str:
    took = "" if e["boot_seconds"] is None else f", up {duration(e['boot_seconds'])} after power-on"
    if e["ready_seconds"] is not None and e["rto_seconds"] is not None:
        took += f", ready after {duration(e['ready_seconds'])} of {duration(e['rto_seconds'])}"
    why = "" if e["result"] == "passed" else f": {e['reason']}"
    point = e["point"] or "no restore point"
    return f"{e['began']}  {e['where']:4}  {point}: {e['result']}{took}{why}"


def _drill_trend(e: Event) -> str:
    head = f"{e['passed']} of {e['drills']} passed in {e['where']}"
    if e["late"]:
        head += f", {e['late']} late"
    if e["last_result"] != "passed":
        head += f", the last time {e['last_passed'] or 'never'}"
    for word, name in (("boots", "boot_seconds"), ("ready", "ready_seconds")):
        if e[name] is not None:
            before = e[f"median_{name}"]
            against = "" if before is None else f" (before: {duration(before)})"
            head += f"; {word} after {duration(e[name])}{against}"
    return head


def _drills_done(e: Event) -> str:
    if e["wrong"]:
        return f"{e['count']} records in {e['directory']}: {e['wrong']} things are WRONG"
    head = f"; the newest has the SHA-256 {e['sha256']}" if e["sha256"] else ""
    return f"{e['count']} records in {e['directory']}, each as it was written{head}"


def _prune_done(e: Event) -> str:
    kept = e["objects_kept"]
    stay = f"; {kept} that no restore point names stay: too young, or a sync may still use them" if kept else ""
    if not (e["objects"] or e["uploads"] or e["objects_left"] or e["uploads_left"]):
        return f"there is nothing to remove in {e['repository']}{stay}"
    verb = "removed" if e["removed"] else "would be removed with --yes"
    return f"{e['objects']} objects of {size(e['bytes'])} and {e['uploads']} unfinished uploads {verb}{stay}"


def _prune_object(e: Event) -> str:
    return f"{e['key']} ({size(e['bytes'])}) {'was removed' if e['removed'] else 'is named by no restore point'}"


_WORDS: dict[str, Callable[[Event], str | None]] = {
    "prune.object": _prune_object,
    "prune.done": _prune_done,
    "init.done": lambda e: (
        f"{'made a repository in' if e['made'] else 'there is a repository already in'} {e['repository']} "
        f"(ID {e['id']}, of {e['created']})"
    ),
    "vm.moved": lambda e: (
        f"VM {e['vm']} lives elsewhere than at the last restore point: {e['now']}, before {e['before']}"
        + ("; it was adopted" if e["adopted"] else "")
    ),
    "sync.start": lambda e: (
        f"syncing {e['vm']!r} to {e['repository']}: restore point {e['sequence']}"
        + (f" after {e['parent']}" if e["parent"] else ", the first")
    ),
    "sync.recovered": lambda e: (
        f"the last run ended early, but its restore point {e['point']} is published; going on from there"
        if e["published"]
        else "the last run ended before it published; "
        + (f"{e['packs_kept']} packs that it sent are used again" if e["packs_kept"] else "it had sent no whole pack")
    ),
    "sync.completing": lambda e: (
        f"the last run had read everything for restore point {e['sequence']} at {e['created']}; sending the rest of it"
    ),
    "tracking.missed": lambda e: (
        f"TRACKING MISSED CHANGES of disk {e['disk']}: {e['length']} bytes at offset {e['offset']} differ from the "
        "last restore point and were not reported; all of the disk is compared now"
    ),
    "spool.full": lambda e: f"the spool {e['directory']} is full: reading goes no faster than the link from here on",
    "sync.resumed": lambda e: f"disk {e['disk']}: {size(e['bytes_reused'])} were in the store already",
    "sync.anew": lambda e: f"disk {e['disk']}: {size(e['bytes'])} are read and sent again, as an audit asked for",
    "sync.snapshot_renewed": lambda e: (
        f"the snapshot was let go after {duration(e['seconds'])}; going on at another one (number "
        f"{e['passes']}), {size(e['bytes_left'])} to read"
    ),
    "sync.done": _sync_done,
    "sync.late": lambda e: f"{duration(e['seconds'])} have passed, half of the RPO of {duration(e['rpo_seconds'])}",
    "plan.done": _plan_done,
    "sync.failed": lambda e: f"FAILED: {e['message']}",
    "sync.all": lambda e: (
        f"{e['vms']} VMs: {e['vms'] - e['failed']} done"
        + (f", {e['failed']} failed" if e["failed"] else "")
        + (f", {e['unprotected']} with something unprotected" if e["unprotected"] else "")
    ),
    "source.open": lambda e: f"disk {e['disk']}: opened through VDDK {e['vddk']}, read by {e['transport']}",
    "source.retry": lambda e: f"{e['message']}; trying again in {duration(e['seconds'])}",
    "store.retry": lambda e: f"{e['message']}; tried {e['attempt']} times, trying on",
    "source.warning": lambda e: f"warning: {e['message']}",
    "housekeeping.warning": lambda e: f"warning: {e['message']}",
    "apply.start": lambda e: (
        f"applying {e['vm']!r} to {e['target']}: restore point {e['point']}"
        + (f", from {e['before']}" if e["before"] else ", from nothing")
    ),
    "disk.start": lambda e: _disk_start(e),
    "apply.point": lambda e: f"at restore point {e['point']} of {e['created']}",
    "apply.waiting": lambda e: f"waiting: {e['message']}",
    "apply.done": _apply_done,
    "copy.start": _copy_start,
    "copy.point": lambda e: f"{e['vm']}: restore point {e['point']} of {e['created']} is copied",
    "copy.done": _copy_done,
    "failover.point": lambda e: (
        f"VM {e['vm']}: restore point {e['point']}, {duration(e['age_seconds'])} old"
        + (f"; not staged yet: {_numbers(e['newer_unstaged'])}" if e["newer_unstaged"] else "")
    ),
    "failover.note": lambda e: f"{e['vm']}: note: {e['message']}",
    "failover.missing": lambda e: f"{e['vm']}: MISSING: {e['message']}",
    "failover.would": lambda e: f"{e['vm']} (order {e['order']}): would {e['action']}",
    "failover.import": lambda e: f"{e['vm']}: {e['task']}: {e['percent'] or '0'} %, {e['message'] or 'begun'}",
    "failover.step": lambda e: f"{e['vm']}: {e['step']} {e['id']} after {duration(e['seconds'])}",
    "failover.vm": lambda e: (
        f"{e['vm']} runs as {e['instance']} ({e['type']}) at {e['ip']}, restore point {e['point']}"
    ),
    "failover.done": lambda e: f"{e['vms']} VMs are failed over in {duration(e['seconds'])}",
    "failover.planned": lambda e: (
        f"dry run: nothing was changed; {e['missing'] or 'nothing'} {'things are' if e['missing'] else 'is'} missing"
        + (f"; {e['stops']} will not start" if e["stops"] else "")
        + (f"; of {e['not_known']} it is not known whether they start" if e["not_known"] else "")
    ),
    "outlook": _outlook,
    "failback.done": lambda e: (
        f"VM {e['vm']} may be synced again; it was failed over to {e['point']} on {e['began']}"
        + (f" and runs in AWS as {e['instance']} until somebody ends that" if e["instance"] else "")
    ),
    "export.start": lambda e: f"disk {e['disk']}: {size(e['bytes_total'])} to read ({e['source']}), to {e['path']}",
    "export.disk": lambda e: (
        f"disk {e['disk']}: {e['path']} is written and was read back: {size(e['capacity_bytes'])}, "
        f"{size(e['bytes_changed'])} changed in AWS"
    ),
    "export.done": lambda e: f"{e['disks']} disks of {e['vm']} are ready for the return, in {duration(e['seconds'])}",
    "lease.watched": lambda e: f"{e['message']}: taken if nobody renews it for {duration(e['seconds'])}",
    "stage.start": lambda e: f"staging {e['vm']!r} in {e['region']}: restore point {e['point']} of {e['created']}",
    "stage.disk": lambda e: (
        f"disk {e['disk']} at {e['point']}: {size(e['bytes_total'])} to put into {e['snapshot']}"
        + (f", an increment on {e['parent']}" if e["parent"] else ", in full")
        + (", begun before" if e["resumed"] else "")
    ),
    "stage.disk.done": lambda e: f"disk {e['disk']} at {e['point']}: {e['snapshot']} is completed",
    "stage.again": lambda e: f"disk {e['disk']}: {e['message']}",
    "stage.point": lambda e: f"restore point {e['point']} of {e['created']} can be started from",
    "stage.removed": lambda e: f"removed {e['snapshot']} of {e['point']}: {e['message']}",
    "stage.kept": lambda e: f"{e['snapshot']} of {e['point']} is kept: {e['message']}",
    "stage.left": lambda e: f"{', '.join(e['snapshots'])}: kept, {e['message']}",
    "stage.waiting": lambda e: f"waiting: {e['message']}",
    "stage.plan": lambda e: _stage_plan(e),
    "stage.done": lambda e: (
        f"restore point {e['point']} is staged: {size(e['bytes_read'])} read, {size(e['bytes_put'])} put in "
        f"{duration(e['seconds'])}"
    ),
    "disk.left": lambda e: f"disk {e['disk']}: {e['message']} ({e['path']})",
    "store.promise": lambda e: f"WARNING: {e['repository']}: {e['message']}",
    "state.adopted": lambda e: (
        f"this repository is a copy of {e['repository']}: going on from {e['point']} with what is known from there"
    ),
    "state.unreadable": lambda e: f"WARNING: {e['path']} can't be read, and is taken for lost: {e['message']}",
    "state.rebuild": lambda e: f"disk {e['disk']}: rebuilding the local {e['what']} from the repository",
    "state.damaged": lambda e: f"disk {e['disk']}: the local {e['what']} was damaged and is being learned again",
    "unprotected": lambda e: f"UNPROTECTED: disk {e['disk']} is {e['reason']}",
    "finding": lambda e: f"FINDING on {_subject(e)}: {_place(e)}{e['message']}",
    "audit.start": lambda e: (
        f"auditing {e['subject']}"
        + (f" against restore point {e['point']} of {e['vm']!r}: {size(e['bytes_total'])}" if e["point"] else "")
        + (f"; going on with the audit that began {e['resumed']}" if e["resumed"] else "")
    ),
    "audit.point": lambda e: f"the replica went on to restore point {e['point']} of {e['created']}; judging by that",
    "audit.waiting": lambda e: str(e["message"]),
    "point.read": lambda e: (
        f"read of restore point {e['point']}: {e['blocks_verified']} blocks put together and verified, for which "
        f"{size(e['bytes_fetched'])} were fetched; its disks have {size(e['capacity_bytes'])}"
    ),
    "check.done": _check_done,
    "drill.start": _drill_start,
    "drill.waiting": lambda e: (
        f"{e['vm']!r}, {duration(e['seconds'])} since power-on: {e['line'] or 'the serial port is silent'}"
    ),
    "drill.note": lambda e: f"note on {e['vm']!r}: {e['message']}",
    "drill.missing": lambda e: f"{e['vm']}: MISSING: {e['message']}",
    "drill.instance": lambda e: f"{e['instance']} ({e['type']}), for the drill of {e['vm']!r}, is starting",
    "drill.ending": lambda e: f"ending what the drill of {e['vm']!r} made",
    "drill.ended": lambda e: (
        f"instance, volumes and image of the drill of {e['vm']!r} are gone, after {duration(e['seconds'])}"
    ),
    "drill.clean": lambda e: (
        f"{e['ended']} drills of {e['vm']!r} had left something"
        if e["ended"]
        else (f"no drill of {e['vm']!r} has left anything")
    ),
    "drill.cleaned": lambda e: f"{e['vm']}: ended {e['what']}",
    "drill.done": _drill_done,
    "drill.kept": lambda e: f"record {e['number']}: {e['record']}",
    "drill": _drill,
    "drill.trend": _drill_trend,
    "drills.done": _drills_done,
    "record.wrong": lambda e: f"WRONG: {e['record']} {e['message']}",
    "rehearsal.missing": lambda e: f"{e['vm']}: MISSING: {e['message']}",
    "rehearsal.start": _rehearsal_start,
    "rehearsal.due": lambda e: f"{e['vm']}, order {e['order']}, is due after {duration(e['due_seconds'])}",
    "rehearsal.step": _rehearsal_step,
    "rehearsal.done": _rehearsal_done,
    "report.wrong": lambda e: f"WRONG: {e['report']} {e['message']}",
    "reports.verified": _reports_verified,
    "progress": progress,
}


def _numbers(points: list[int]) -> str:
    """Sequences of restore points: `13`, `13 to 17`."""
    return str(points[0]) if len(points) == 1 else f"{points[0]} to {points[-1]}"


def _stage_plan(e: Event) -> str:
    if e["snapshot"]:
        return f"disk {e['disk']} at {e['point']}: staged as {e['snapshot']}"
    on = f"an increment on {e['parent']}" if e["parent"] else "in full"
    begun = f", {e['pending']} is begun" if e["pending"] else ""
    return (
        f"disk {e['disk']} at {e['point']}: {e['puts']} blocks ({size(e['bytes_total'])}) would be put, {on}{begun}; "
        f"at least {duration(e['seconds'])}"
    )


def _subject(e: Event) -> str:
    return f"disk {e['disk']}" if "disk" in e else str(e["key"])


def _place(e: Event) -> str:
    if "offset" in e:
        return f"{e['length']} bytes at offset {e['offset']} "
    if "blocks" in e:
        shown = ", ".join(str(block) for block in e["blocks"][:8])
        return f"blocks {shown}{' and more' if len(e['blocks']) > 8 else ''}: "
    return ""


def _disk_start(e: Event) -> str:
    why = f" ({e['reason']})" if e.get("reason") else ""
    verb = "read" if "reason" in e else "fetch"
    return f"disk {e['disk']} of {size(e['capacity_bytes'])}: {size(e['bytes_total'])} to {verb}{why}"


def sentence(event: Event) -> str | None:
    """What a person is told of an event; None for those that only programs need."""
    words = _WORDS.get(event["event"])
    text = words(event) if words else None
    return f"{event['vm_name']}: {text}" if text and "vm_name" in event else text
