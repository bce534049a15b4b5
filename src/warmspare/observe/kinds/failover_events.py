"""Events of failover and failback: plans, images, instances, exported disks."""

from __future__ import annotations

from typing import Annotated

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import duration, size, span


class FailoverPoint(Event, frozen=True, kw_only=True, tag="failover.point"):
    """What a VM starts from."""

    vm: str
    point: str
    created: str
    age_seconds: float
    newer_unstaged: Annotated[list[int], note(description="sequences of newer points that are not staged")]

    def words(self) -> str:
        return f"VM {self.vm}: restore point {self.point}, {duration(self.age_seconds)} old" + (
            f"; not staged yet: {span(self.newer_unstaged)}" if self.newer_unstaged else ""
        )


class FailoverNote(Event, frozen=True, kw_only=True, tag="failover.note"):
    """Something is not as at home."""

    usual = Weight.WARNING

    vm: str
    message: str

    def words(self) -> str:
        return f"{self.vm}: note: {self.message}"


class FailoverMissing(Event, frozen=True, kw_only=True, tag="failover.missing"):
    """Something keeps a VM from being started."""

    usual = Weight.ALARM

    vm: str
    message: str

    def words(self) -> str:
        return f"{self.vm}: MISSING: {self.message}"


class FailoverWould(Event, frozen=True, kw_only=True, tag="failover.would"):
    """`--dry-run`: what would be done."""

    usual = Weight.ANSWER

    vm: str
    order: int
    action: str

    def words(self) -> str:
        return f"{self.vm} (order {self.order}): would {self.action}"


class FailoverPlanned(Event, frozen=True, kw_only=True, tag="failover.planned"):
    """`--dry-run`; exit code 2 if anything is missing, else 5 if a VM will not start."""

    ends = True

    vms: int
    missing: int
    stops: Annotated[int, note(description="VMs")]
    not_known: Annotated[int, note(description="VMs")]

    def weight(self) -> Weight:
        return Weight.ALARM if self.missing or self.stops else Weight.ANSWER

    def words(self) -> str:
        return (
            f"dry run: nothing was changed; {self.missing or 'nothing'} {'things are' if self.missing else 'is'} "
            "missing"
            + (f"; {self.stops} will not start" if self.stops else "")
            + (f"; of {self.not_known} it is not known whether they start" if self.not_known else "")
        )


class FailoverImport(Event, frozen=True, kw_only=True, tag="failover.import"):
    """VM Import goes on."""

    vm: str
    task: str
    percent: str
    message: str

    def words(self) -> str:
        return f"{self.vm}: {self.task}: {self.percent or '0'} %, {self.message or 'begun'}"


class FailoverStepDone(Event, frozen=True, kw_only=True, tag="failover.step"):
    """A step of a VM is done: what it makes is there."""

    vm: str
    step: Annotated[str, note(description="image, instance")]
    id: str
    seconds: float

    def words(self) -> str:
        return f"{self.vm}: {self.step} {self.id} after {duration(self.seconds)}"


class FailoverStarted(Event, frozen=True, kw_only=True, tag="failover.vm"):
    """A VM counts as started."""

    vm: str
    point: str
    image: str
    instance: str
    type: str
    ip: str
    ready: str
    seconds: float

    def words(self) -> str:
        return f"{self.vm} runs as {self.instance} ({self.type}) at {self.ip}, restore point {self.point}"


class FailoverDone(Event, frozen=True, kw_only=True, tag="failover.done"):
    """All VMs of the plan count as started."""

    ends = True
    usual = Weight.GOOD

    vms: int
    seconds: float

    def words(self) -> str:
        return f"{self.vms} VMs are failed over in {duration(self.seconds)}"


class FailbackDone(Event, frozen=True, kw_only=True, tag="failback.done"):
    """The mark of the failover is cleared; the fields say what may still be in AWS."""

    usual = Weight.GOOD

    vm: str
    point: str
    began: str
    region: str
    instance: str
    image: str

    def words(self) -> str:
        return f"VM {self.vm} may be synced again; it was failed over to {self.point} on {self.began}" + (
            f" and runs in AWS as {self.instance} until somebody ends that" if self.instance else ""
        )


class ExportStart(Event, frozen=True, kw_only=True, tag="export.start"):
    """A disk is about to be read."""

    disk: str
    source: str
    bytes_total: int
    path: str

    def words(self) -> str:
        return f"disk {self.disk}: {size(self.bytes_total)} to read ({self.source}), to {self.path}"


class ExportDisk(Event, frozen=True, kw_only=True, tag="export.disk"):
    """A disk is written and was read back."""

    disk: str
    path: str
    capacity_bytes: int
    bytes_changed: int
    free_bytes: int

    def words(self) -> str:
        return (
            f"disk {self.disk}: {self.path} is written and was read back: {size(self.capacity_bytes)}, "
            f"{size(self.bytes_changed)} changed in AWS"
        )


class ExportDone(Event, frozen=True, kw_only=True, tag="export.done"):
    """All disks of the VM are written."""

    ends = True
    usual = Weight.GOOD

    vm: str
    disks: int
    seconds: float

    def words(self) -> str:
        return f"{self.disks} disks of {self.vm} are ready for the return, in {duration(self.seconds)}"
