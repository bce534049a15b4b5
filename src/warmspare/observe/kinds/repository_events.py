"""Events of repositories and local state: what they hold, how VMs stand there, what is removed or was lost."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from warmspare.observe.event import Event, FleetEvent, Weight, note
from warmspare.observe.quantities import duration, size


class InitDone(Event, frozen=True, kw_only=True, tag="init.done"):
    """`init`, for each repository."""

    usual = Weight.GOOD

    repository: str
    id: str
    created: str
    made: Annotated[bool, note(description="false where it was there")]

    def words(self) -> str:
        return (
            f"{'made a repository in' if self.made else 'there is a repository already in'} {self.repository} "
            f"(ID {self.id}, of {self.created})"
        )


class StorePromise(FleetEvent, frozen=True, kw_only=True, tag="store.promise"):
    """The store does not keep this, and can be used without. `create` (single_sender) and `replace` at each run, the
    others once a host."""

    usual = Weight.ALARM

    repository: str
    promise: Annotated[str, note(description="create, replace, checksums, clock")]
    message: Annotated[str, note(description="what follows")]

    def words(self) -> str:
        return f"WARNING: {self.repository}: {self.message}"


class LeaseWatched(FleetEvent, frozen=True, kw_only=True, tag="lease.watched"):
    """Another's lease can't be judged by its date; it is taken if nobody renews it for so long."""

    usual = Weight.WARNING

    vm: str
    seconds: float
    message: str

    def words(self) -> str:
        return f"{self.message}: taken if nobody renews it for {duration(self.seconds)}"


class ListedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of `point`. changed_blocks: of this point. reason: why all of it was read, "" for a disk that was not."""

    id: str
    name: str
    capacity_bytes: int
    changed_blocks: int
    change_id: str | None
    reason: str


class NamedReason(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that is not protected, and why."""

    name: str
    reason: str


class PointListed(Event, frozen=True, kw_only=True, tag="point"):
    """`points`: a restore point."""

    usual = Weight.ANSWER

    vm: str
    vm_name: str
    point: str
    sequence: int
    sha256: str
    parent: str | None
    created: str
    age_seconds: float
    capacity_bytes: Annotated[int, note(description="of its disks together")]
    disks: Annotated[list[ListedDisk], note(description="id, name, capacity_bytes, changed_blocks, change_id, reason")]
    unprotected: Annotated[list[NamedReason], note(description="name, reason")]
    bytes_read: int
    bytes_changed: int
    bytes_sent: Annotated[int, note(description="what its sync put into the store")]
    local: Annotated[
        str, note(description="created, in the time zone of the VM's policy; in UTC where the configuration has none")
    ]
    held: Annotated[list[str], note(description="the reasons of its holds")]
    kept: Annotated[
        list[str] | UnsetType,
        note(description="why the VM's policy keeps it, none: it would not; where there is a policy, and it can tell"),
    ] = UNSET
    request_id: Annotated[str | UnsetType, note(description="where it was made for one")] = UNSET


class PointsDone(Event, frozen=True, kw_only=True, tag="points.done"):
    """`points`."""

    ends = True
    usual = Weight.ANSWER

    count: int
    vms: Annotated[int, note(description="of how many VMs")]
    bytes_changed: Annotated[int, note(description="of all that are shown, as the next")]
    bytes_sent: int

    def words(self) -> str:
        if not self.count:
            return "no restore points"
        points = f"{self.count} restore point{'s' if self.count > 1 else ''}"
        whose = f" of {self.vms} VMs" if self.vms > 1 else ""
        return f"{points}{whose}: {size(self.bytes_changed)} changed, {size(self.bytes_sent)} sent"


HoldState = Literal["held", "ended", "damaged"]


class HoldListed(Event, frozen=True, kw_only=True, tag="hold"):
    """`hold list`: a hold."""

    usual = Weight.ANSWER

    vm: str
    sequence: Annotated[int, note(description="of the restore point")]
    point: Annotated[str | None, note(description="its label; null: the hold can't be read")]
    id: Annotated[str, note(description="what `hold remove --id` takes")]
    state: Annotated[HoldState, note(description="damaged: it can't be read, and holds its point all the same")]
    reason: Annotated[str, note(description="of a damaged one, why it can't be read")]
    created: str | None
    until: Annotated[str | None, note(description="null: it does not end by itself")]
    host: str | None

    def words(self) -> str:
        ends = f", until {self.until}" if self.until else ""
        made = f"; of {self.created} by {self.host}{ends}" if self.created else ""
        state = "" if self.state == "held" else f" {self.state.upper()}"
        return f"{self.vm} {self.point or self.sequence}{state} (ID {self.id}): {self.reason or 'no reason'}{made}"


class HoldsDone(Event, frozen=True, kw_only=True, tag="holds.done"):
    """`hold list`. If one can't be read, an error follows."""

    ends = True
    usual = Weight.ANSWER

    count: int
    held: Annotated[int, note(description="restore points that are held")]

    def words(self) -> str:
        return f"{self.count} holds on {self.held} restore points" if self.count else "no holds"


class HoldAdded(Event, frozen=True, kw_only=True, tag="hold.added"):
    """`hold add`: the restore point stands, and is held."""

    ends = True
    usual = Weight.GOOD

    vm: str
    point: str
    sequence: int
    sha256: str
    id: str
    reason: str
    until: str | None

    def words(self) -> str:
        ends = f" until {self.until}" if self.until else ""
        return f"restore point {self.point} of VM {self.vm!r} is held{ends} (ID {self.id})"


class HoldsRemoved(Event, frozen=True, kw_only=True, tag="hold.removed"):
    """`hold remove`."""

    ends = True
    usual = Weight.GOOD

    vm: str
    sequence: int
    ids: list[str]
    left: Annotated[int, note(description="other holds of the restore point")]

    def words(self) -> str:
        still = f", and {self.left} others hold it still" if self.left else ""
        return f"removed {len(self.ids)} of the holds on restore point {self.sequence} of VM {self.vm!r}{still}"


class StateAdopted(FleetEvent, frozen=True, kw_only=True, tag="state.adopted"):
    """The first sync to a copy: it goes on from this point with the state of that repository."""

    vm: str
    point: str
    repository: str

    def words(self) -> str:
        return (
            f"this repository is a copy of {self.repository}: going on from {self.point} with what is known from there"
        )


class StateUnreadable(FleetEvent, frozen=True, kw_only=True, tag="state.unreadable"):
    """A record of the state directory is damaged or none of ours; the run goes on as if it were not there."""

    usual = Weight.WARNING

    path: str
    message: str

    def words(self) -> str:
        return f"WARNING: {self.path} can't be read, and is taken for lost: {self.message}"


class StateRebuild(FleetEvent, frozen=True, kw_only=True, tag="state.rebuild"):
    """A local hash table or page map was lost, damaged or out of step."""

    usual = Weight.WARNING

    vm: str
    disk: str
    what: Annotated[str, note(description="hash table, page map")]

    def words(self) -> str:
        return f"disk {self.disk}: rebuilding the local {self.what} from the repository"


class StateDamaged(FleetEvent, frozen=True, kw_only=True, tag="state.damaged"):
    """Parts of the page map failed their checksums."""

    usual = Weight.WARNING

    vm: str
    disk: str
    what: str
    segments: int

    def words(self) -> str:
        return f"disk {self.disk}: the local {self.what} was damaged and is being learned again"


VmState = Literal["ok", "late", "no restore point", "failed over", "damaged"]
"""How a VM stands; what is not `ok` needs somebody, but for a failover that stands as it is meant to."""


class StandingFailover(msgspec.Struct, frozen=True, kw_only=True):
    """A failover that is not over. state: starting, started."""

    state: str
    began: str
    region: str
    instance: str


class LastDrill(msgspec.Struct, frozen=True, kw_only=True):
    """The newest drill that this host has a record of. where: qemu, ec2. result: passed, late, failed, not judged."""

    where: str
    began: str
    result: str
    reason: str
    point: str


class LastAudit(msgspec.Struct, frozen=True, kw_only=True):
    """The newest audit that this host has a report of. kind: replica, repository, source. result: clean, findings."""

    kind: str
    ended: str
    result: str
    coverage_percent: float


class RollingCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """How far the rolling audit of this host's sender is. covered: since when each disk has been read whole, null for
    not yet. round_percent: of the disks, in their present rounds."""

    covered: str | None
    round_percent: float


class NewestStaged(msgspec.Struct, frozen=True, kw_only=True):
    """The newest restore point of which every disk is staged and completed."""

    point: str
    sequence: int
    created: str
    age_seconds: float


class VmStatusTold(Event, frozen=True, kw_only=True, tag="status"):
    """`status`: a VM. What is null is not known here: another host may know it, or EC2."""

    usual = Weight.ANSWER

    repository: str
    vm: Annotated[str, note(description='"" for one of the configuration that no restore point tells the ID of')]
    vm_name: str
    state: VmState
    attention: Annotated[bool, note(description="whether somebody has to do something")]
    message: Annotated[str, note(description='why, "" where there is nothing to say')]
    point: Annotated[str | None, note(description="null: there is none, or it can't be read")]
    sequence: int | None
    created: str | None
    age_seconds: float | None
    rpo_seconds: int
    configured: Annotated[str | None, note(description="the `[vm.NAME]` that means it and says its RPO; null: none")]
    disks: int | None
    disk_bytes: int | None
    unprotected: Annotated[int | None, note(description="disks that are not in the point: left out, or lost")]
    failover: Annotated[StandingFailover | None, note(description="state, began, region, instance; null: none")]
    drill: Annotated[LastDrill | None, note(description="where, began, result, reason, point")]
    audit: Annotated[LastAudit | None, note(description="kind, ended, result, coverage_percent")]
    rolling: Annotated[RollingCoverage | None, note(description="covered, round_percent")]
    replica: Annotated[int | None, note(description="the sequence that a replica holds which was audited here")]
    staged: Annotated[
        NewestStaged | UnsetType | None,
        note(description="with `--staged`: point, sequence, created, age_seconds; null: nothing is"),
    ] = UNSET
    next_step: Annotated[str, note(description='a command, or what is to be done; "" for nothing')]


class StatusDone(Event, frozen=True, kw_only=True, tag="status.done"):
    """`status`."""

    ends = True
    usual = Weight.ANSWER

    vms: int
    attention: Annotated[int, note(description="VMs that need somebody; with `--strict` exit code 7")]
    damaged: Annotated[int, note(description="of them, those whose chain is not as it should be; with `--strict` 5")]


class PruneObject(Event, frozen=True, kw_only=True, tag="prune.object"):
    """An object that nothing needs any more: no restore point that is kept names it, nor what stands for others."""

    vm: str
    key: str
    bytes: int
    removed: Annotated[bool, note(description="false without `--yes`, and where the store did not let us")]

    def words(self) -> str:
        state = "was removed" if self.removed else "is named by no restore point"
        return f"{self.key} ({size(self.bytes)}) {state}"


class PrunePoint(Event, frozen=True, kw_only=True, tag="prune.point"):
    """`prune`, by a policy: a restore point that stands, and what becomes of it."""

    usual = Weight.ANSWER

    vm: str
    point: str
    sequence: int
    created: str
    goes: Annotated[bool, note(description="whether it is let go; false: it is kept")]
    reasons: Annotated[list[str], note(description="why it is kept")]
    doubt: Annotated[str, note(description="why its time is not to be believed; empty where it is")]

    def words(self) -> str:
        if self.goes:
            return f"{self.point}  {self.created}  goes"
        return f"{self.point}  {self.created}  stays: {', '.join(self.reasons)}"


class PruneRefused(Event, frozen=True, kw_only=True, tag="prune.refused"):
    """No restore point of a VM is let go."""

    usual = Weight.WARNING

    vm: str
    message: str

    def words(self) -> str:
        return f"VM {self.vm}: no restore point goes, for {self.message}"


class PruneFolds(Event, frozen=True, kw_only=True, tag="prune.folds"):
    """`prune`, by a policy: what it comes to for one VM."""

    usual = Weight.GOOD

    vm: str
    policy: Annotated[str, note(description="in words")]
    points: Annotated[int, note(description="that stood before")]
    goes: Annotated[int, note(description="of them")]
    done: Annotated[bool, note(description="false without `--yes`")]
    folds: Annotated[int, note(description="made, each of which stands for all points between two that are kept")]
    packs: Annotated[int, note(description="of which what is needed is written anew")]
    bytes_read: Annotated[int, note(description="of packs, as the next")]
    bytes_written: int
    bytes_back: Annotated[int, note(description="of packs, after the grace time; less than 0 where more is written")]
    packs_back: int

    def words(self) -> str:
        if not self.goes:
            return f"VM {self.vm}: all {self.points} restore points are kept ({self.policy or 'no policy'})"
        verb = "were" if self.done else "would be"
        return (
            f"VM {self.vm}: {self.goes} of {self.points} restore points {verb} let go ({self.policy}); "
            f"{size(self.bytes_read)} of {self.packs} packs {verb} read, {size(self.bytes_written)} written, and "
            f"{size(max(0, self.bytes_back))} come back after the grace time"
        )


class PruneDone(Event, frozen=True, kw_only=True, tag="prune.done"):
    """`prune` is at its end. If anything is left that the store did not let us remove, an error follows."""

    usual = Weight.GOOD

    repository: str
    removed: bool
    points: Annotated[int, note(description="that are let go now; their objects are removed after the grace time")]
    objects: int
    bytes: int
    uploads: int
    objects_kept: Annotated[int, note(description="too young, or a sync may still use them")]
    objects_left: Annotated[int, note(description="that the store did not let us remove")]
    uploads_left: int

    def words(self) -> str:
        kept = self.objects_kept
        stay = f"; {kept} that no restore point names stay: too young, or a sync may still use them" if kept else ""
        if not (self.objects or self.uploads or self.objects_left or self.uploads_left):
            return f"there is nothing to remove in {self.repository}{stay}"
        verb = "removed" if self.removed else "would be removed with --yes"
        return f"{self.objects} objects of {size(self.bytes)} and {self.uploads} unfinished uploads {verb}{stay}"
