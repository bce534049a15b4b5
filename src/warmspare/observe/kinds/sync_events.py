"""Events of a sync: its restore point, its disks, several VMs."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from warmspare.errors import StoreError, WarmspareError
from warmspare.observe.event import Event, FleetEvent, Weight, note
from warmspare.observe.quantities import duration, size


class VmMoved(FleetEvent, frozen=True, kw_only=True, tag="vm.moved"):
    """The VM lives elsewhere than the one of the newest point."""

    usual = Weight.WARNING

    vm: str
    before: str
    now: str
    adopted: Annotated[bool, note(description="`--adopt` said so")]

    def words(self) -> str:
        return f"VM {self.vm} lives elsewhere than at the last restore point: {self.now}, before {self.before}" + (
            "; it was adopted" if self.adopted else ""
        )


class SyncStart(FleetEvent, frozen=True, kw_only=True, tag="sync.start"):
    """The chain was checked, and reading begins."""

    vm: str
    repository: str
    sequence: int
    parent: Annotated[str | None, note(description="a label, or null for the first")]
    disks: list[str]
    bytes_total: int

    def words(self) -> str:
        return f"syncing {self.vm!r} to {self.repository}: restore point {self.sequence}" + (
            f" after {self.parent}" if self.parent else ", the first"
        )


class SyncRecovered(FleetEvent, frozen=True, kw_only=True, tag="sync.recovered"):
    """The last run had not finished."""

    vm: str
    point: Annotated[str | None, note(description="of that run, where it was published and stands")]
    published: bool
    packs_kept: Annotated[int, note(description="what it sent and this one uses, where it was not")]

    def words(self) -> str:
        if self.published:
            return f"the last run ended early, but its restore point {self.point} is published; going on from there"
        return "the last run ended before it published; " + (
            f"{self.packs_kept} packs that it sent are used again" if self.packs_kept else "it had sent no whole pack"
        )


class SyncCompleting(FleetEvent, frozen=True, kw_only=True, tag="sync.completing"):
    """The last run had read everything for this point; the rest of it is sent now."""

    vm: str
    sequence: int
    created: str

    def words(self) -> str:
        return (
            f"the last run had read everything for restore point {self.sequence} at {self.created}; "
            "sending the rest of it"
        )


class SyncAnew(FleetEvent, frozen=True, kw_only=True, tag="sync.anew"):
    """An audit marked so much of the disk; it is read again and sent whole."""

    vm: str
    disk: str
    bytes: int

    def words(self) -> str:
        return f"disk {self.disk}: {size(self.bytes)} are read and sent again, as an audit asked for"


class SyncResumed(FleetEvent, frozen=True, kw_only=True, tag="sync.resumed"):
    """So much of the disk's pages were in the store from runs that had not finished."""

    vm: str
    disk: str
    bytes_reused: int

    def words(self) -> str:
        return f"disk {self.disk}: {size(self.bytes_reused)} were in the store already"


class SpoolFull(FleetEvent, frozen=True, kw_only=True, tag="spool.full"):
    """Reading waits for the link from here on. Once a run."""

    usual = Weight.WARNING

    vm: str
    directory: str

    def words(self) -> str:
        return f"the spool {self.directory} is full: reading goes no faster than the link from here on"


class SnapshotRenewed(FleetEvent, frozen=True, kw_only=True, tag="sync.snapshot_renewed"):
    """The snapshot was let go, and the next is there. disk.start comes again for each disk, and disk.done for those
    that are read to their end."""

    vm: str
    passes: Annotated[int, note(description="the next is the snapshot of this number")]
    seconds: Annotated[float, note(description="how long the last was kept")]
    bytes_left: int

    def words(self) -> str:
        return (
            f"the snapshot was let go after {duration(self.seconds)}; going on at another one (number {self.passes}), "
            f"{size(self.bytes_left)} to read"
        )


class SyncDiskStart(FleetEvent, frozen=True, kw_only=True, tag="disk.start"):
    """Reading of a disk begins."""

    use = "sync"

    vm: str
    disk: str
    capacity_bytes: int
    bytes_total: int
    reason: Annotated[str, note(description='why all of it is read; "" with extents')]

    def words(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"disk {self.disk} of {size(self.capacity_bytes)}: {size(self.bytes_total)} to read{why}"


class SyncDiskDone(FleetEvent, frozen=True, kw_only=True, tag="disk.done"):
    """A disk was read to its end."""

    use = "sync"

    vm: str
    disk: str
    bytes_read: int
    bytes_changed: int
    blocks_changed: int


class DiskAudited(FleetEvent, frozen=True, kw_only=True, tag="disk.audited"):
    """The rolling audit took its share of the disk."""

    vm: str
    disk: str
    offset: Annotated[int, note(description="about where it began")]
    bytes_due: int
    bytes_read: int
    blocks_judged: Annotated[int, note(description="that were not reported as changed")]
    blocks_wrong: int
    round_bytes: Annotated[int, note(description="of the present round that are done")]
    covered_s: Annotated[
        float | None,
        note(description="when the last round was done, by this host's clock in seconds since 1970; null for never"),
    ]


class TrackingMissed(FleetEvent, frozen=True, kw_only=True, tag="tracking.missed"):
    """The rolling audit found a block that differs and was not reported; the disk is compared in full now."""

    usual = Weight.ALARM

    vm: str
    disk: str
    offset: int
    length: int
    message: str = "the source differs from the last restore point where tracking said that nothing had changed"

    def words(self) -> str:
        return (
            f"TRACKING MISSED CHANGES of disk {self.disk}: {self.length} bytes at offset {self.offset} differ from the "
            "last restore point and were not reported; all of the disk is compared now"
        )


class DiskUnprotected(FleetEvent, frozen=True, kw_only=True, tag="unprotected"):
    """A disk is not in the restore point; exit code 7 follows."""

    usual = Weight.ALARM

    vm: str
    disk: str
    reason: str

    def words(self) -> str:
        return f"UNPROTECTED: disk {self.disk} is {self.reason}"


class SyncLate(FleetEvent, frozen=True, kw_only=True, tag="sync.late"):
    """A sync has passed half the RPO of its VM."""

    usual = Weight.WARNING

    vm: str
    seconds: float
    rpo_seconds: float

    def words(self) -> str:
        return f"{duration(self.seconds)} have passed, half of the RPO of {duration(self.rpo_seconds)}"


class SyncDone(FleetEvent, frozen=True, kw_only=True, tag="sync.done"):
    """The restore point is published."""

    ends = True
    usual = Weight.GOOD

    vm: str
    point: str
    sequence: int
    sha256: str
    parent: Annotated[str | None, note(description="a label, or null for the first")]
    bytes_read: int
    bytes_changed: int
    bytes_sent: int
    seconds: float
    findings: int
    unprotected: int

    def words(self) -> str:
        tail = f"; {self.findings} findings" if self.findings else ""
        tail += f"; {self.unprotected} unprotected" if self.unprotected else ""
        return (
            f"restore point {self.point}: {size(self.bytes_read)} read, {size(self.bytes_changed)} changed, "
            f"{size(self.bytes_sent)} sent in {duration(self.seconds)}{tail}"
        )


class SyncUnneeded(FleetEvent, frozen=True, kw_only=True, tag="sync.unneeded"):
    """`--not-after`: the chain has a newer point already; `--request-id`: one was made for it. Nothing was done."""

    ends = True

    vm: str
    point: Annotated[str, note(description="the newest; with request_id the one that was made for it")]
    sequence: int
    sha256: str
    created: str
    request_id: Annotated[str | UnsetType, note(description="where that is why")] = UNSET

    def words(self) -> str:
        why = "is there already" if self.request_id is UNSET else f"was made for request {self.request_id!r}"
        return f"nothing to do: restore point {self.point} of {self.created} {why}"


class PlanDone(FleetEvent, frozen=True, kw_only=True, tag="plan.done"):
    """What a sync would do now. Null where it can't be told."""

    ends = True
    usual = Weight.ANSWER

    vm: str
    bytes_read: int
    bytes_changed: int
    bytes_to_send: int
    seconds: float
    seconds_at_limit: float | None
    seconds_at_measured_rate: float | None
    rpo_seconds: float | None
    rpo_holds: bool | None

    def words(self) -> str:
        parts = [
            f"a sync now would read {size(self.bytes_read)}, find {size(self.bytes_changed)} changed and send "
            f"{size(self.bytes_to_send)}; reading took {duration(self.seconds)}"
        ]
        if self.seconds_at_limit is not None:
            parts.append(f"at the limit it takes {duration(self.seconds_at_limit)}")
        if self.seconds_at_measured_rate is not None:
            parts.append(f"at the rate of the last sync {duration(self.seconds_at_measured_rate)}")
        if self.rpo_holds is not None and self.rpo_seconds is not None:
            kept = "can" if self.rpo_holds else "can NOT"
            parts.append(f"the RPO of {duration(self.rpo_seconds)} {kept} be held")
        return "; ".join(parts)


class SyncFailed(FleetEvent, frozen=True, kw_only=True, tag="sync.failed"):
    """One of several VMs failed; the others go on. The fields are those of `error`; `message` and `what` name the VM.
    vm_name is the NAME of `[vm.NAME]` where the VM was not found."""

    usual = Weight.ALARM

    kind: str
    exit_code: int
    message: str
    what: str
    where: str
    hint: str
    retryable: bool
    action: str | UnsetType = UNSET

    @classmethod
    def of(cls, error: WarmspareError, vm_name: str | UnsetType) -> SyncFailed:
        return cls(
            vm_name=vm_name,
            kind=error.kind,
            exit_code=error.exit_code,
            message=error.sentence,
            what=error.what,
            where=error.where,
            hint=error.hint,
            retryable=error.retryable,
            action=error.action if isinstance(error, StoreError) and error.action else UNSET,
        )

    def words(self) -> str:
        return f"FAILED: {self.message}"


class SyncAll(Event, frozen=True, kw_only=True, tag="sync.all"):
    """Several VMs were synced; their own events carry vm_name."""

    ends = True

    vms: int
    failed: int
    unprotected: int

    def weight(self) -> Weight:
        return Weight.ALARM if self.failed or self.unprotected else Weight.GOOD

    def words(self) -> str:
        return (
            f"{self.vms} VMs: {self.vms - self.failed} done"
            + (f", {self.failed} failed" if self.failed else "")
            + (f", {self.unprotected} with something unprotected" if self.unprotected else "")
        )
