"""When change tracking must not be believed since the last restore point; a pure judgement, which says why.

Since vSphere 6.5 corrupt tracking raises no error, so what is known to corrupt it (VMware KB 1021607, 1020128, 2090639)
is looked for in vCenter's events and the tree of snapshots, and assumed where neither reaches back. A wrong suspicion
costs one full compare, of which only real differences are sent; a wrong trust costs data.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from warmspare.source.ports import LastPoint
from warmspare.vsphere.inventory.snapshot_tree import SnapshotTree
from warmspare.vsphere.inventory.vm_devices import VmDisk
from warmspare.vsphere.tracking import eventkinds
from warmspare.vsphere.tracking.eventmark import EventMark, Newest, moment
from warmspare.vsphere.tracking.history import Happening, History

# What a restore point's hardware holds for the next run.
TAKEN, TREE, DISKS, HOST, RUN, EVENTS = "taken", "snapshots", "disks", "host_moref", "run", "events"


@dataclass(frozen=True, slots=True)
class LastSeen:
    """What the last restore point says of the VM: when, by vCenter's clock, its snapshot was about to be taken, and
    which snapshots of others there were. mark: where vCenter's events stood then; None in points of an earlier version
    and where that could not be told."""

    taken: datetime.datetime
    tree: SnapshotTree | None
    paths: dict[str, str]  # by UUID of the disk: its base file
    host: str  # its moref
    mark: EventMark | None

    @classmethod
    def of(cls, hardware: dict[str, Any]) -> LastSeen | None:
        """Of a restore point's hardware; None where it does not say when."""
        taken = moment(hardware.get(TAKEN))
        if taken is None:
            return None
        disks = hardware.get(DISKS)
        entries = [d for d in disks if isinstance(d, dict)] if isinstance(disks, list) else []
        paths = {str(disk.get("uuid")): str(disk.get("base_path")) for disk in entries}
        host = str(hardware.get(HOST) or "")
        return cls(taken, SnapshotTree.parse(hardware.get(TREE)), paths, host, EventMark.parse(hardware.get(EVENTS)))


def before_asking(
    last: LastPoint, left: LastSeen | None, vcenter: str, now: datetime.datetime, newest: Newest | str
) -> str:
    """Why no disk's tracking is to be believed, whatever vCenter's events say; "" where they decide.

    vcenter: its instance UUID. now: by its clock. newest: its newest event before the VM's latest snapshot, or why it
    isn't known.
    """
    if last.doubt:
        return last.doubt
    if last.interrupted:
        return "the last run was not finished"
    if left is None:
        return "the last restore point does not say when its snapshot was taken"
    if isinstance(newest, str):
        return newest
    if left.mark is None:
        return "the last restore point does not say where vCenter's events stood"
    if why := left.mark.broken(vcenter, newest):
        return why
    if now < left.taken:
        return (
            f"vCenter's clock was put back: it says {now.isoformat(timespec='seconds')}, and said "
            f"{left.taken.isoformat(timespec='seconds')} at the last restore point"
        )
    return ""


def of_vm(left: LastSeen, tree: SnapshotTree, history: History) -> str:
    """Why no disk's tracking is to be believed; "" where nothing speaks against it. tree: without snapshots of ours."""
    if history.gap:
        return history.gap
    if reason := _of_tree(left, tree):
        return reason
    told_to_stop = False
    for event in history.happenings:
        told_to_stop = told_to_stop or event.kind in eventkinds.TOLD_TO_STOP
        if reason := _of_event(event, told_to_stop=told_to_stop):
            return f"{reason} ({event.kind}, event {event.key} of {event.time})"
        if event.kind == eventkinds.WENT_OFF:
            told_to_stop = False
    return ""


def judged(happenings: Iterable[Happening]) -> list[int]:
    """The keys of those that speak against something, or explain why one does not: what a later run need not judge
    again. That the VM was told to stop is kept until it has."""
    keys: list[int] = []
    told: list[int] = []
    for event in happenings:
        if event.kind in eventkinds.TOLD_TO_STOP:
            told.append(event.key)
        elif event.devices or _of_event(event, told_to_stop=False):
            keys.append(event.key)
        if event.kind == eventkinds.WENT_OFF:
            keys += told
            told = []
    return keys


def of_disk(disk: VmDisk, last: LastPoint, left: LastSeen | None, history: History) -> str:
    """Why this disk's tracking is not to be believed, beyond what holds for the VM."""
    before = last.disks.get(disk.uuid)
    if before is None:
        return "it is not in the last restore point"
    if before.capacity_bytes != disk.capacity_bytes:
        return f"its capacity went from {before.capacity_bytes} to {disk.capacity_bytes} bytes"
    changed = next((one for one in history.happenings if disk.key in one.devices), None)
    if changed is not None:
        return f"the disk was removed or added ({changed.kind}, event {changed.key} of {changed.time})"
    path = left.paths.get(disk.uuid) if left is not None else None
    if path and path != disk.base_path:
        return f"it moved from {path} to {disk.base_path}"
    return ""


def _of_tree(left: LastSeen, tree: SnapshotTree) -> str:
    """Whether the VM goes on from where we left it: the nearest surviving snapshot that it ran on then must be the
    nearest old one that it runs on now. Anything else was a revert."""
    if left.tree is None:
        return "the last restore point does not say which snapshots there were"
    here = {node.moref for node in tree.nodes}
    expected = next((moref for moref in left.tree.chain() if moref in here), "")
    old = {node.moref for node in left.tree.nodes}
    found = next((moref for moref in tree.chain() if moref in old), "")
    if expected != found:
        return "the VM runs on another snapshot than at the last restore point: it was reverted"
    return ""


def _of_event(event: Happening, *, told_to_stop: bool) -> str:
    if event.kind in eventkinds.REVERTED:
        return "the VM was reverted to a snapshot"
    if event.kind in eventkinds.RESTARTED:
        return "the VM was restarted after a failure"
    if event.kind in eventkinds.HOST_FAILED:
        return "its host failed or was lost"
    if event.kind in eventkinds.MOVED or event.moved:
        return "its files were moved to another datastore"
    if event.kind in eventkinds.REGISTERED:
        return "it was registered anew"
    if event.kind.startswith(eventkinds.KILLED):
        return "the VM was killed by its host"
    if event.kind == eventkinds.WENT_OFF and not told_to_stop:
        return "it went off without having been told to"
    return ""
