"""Events of staging: restore points as EBS snapshots."""

from __future__ import annotations

from typing import Annotated

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import duration, size


class StageStart(Event, frozen=True, kw_only=True, tag="stage.start"):
    """The point and the region are settled."""

    vm: str
    repository: str
    point: str
    created: str
    region: str

    def words(self) -> str:
        return f"staging {self.vm!r} in {self.region}: restore point {self.point} of {self.created}"


class StageDisk(Event, frozen=True, kw_only=True, tag="stage.disk"):
    """A disk's EBS snapshot is started."""

    vm: str
    disk: str
    point: str
    snapshot: str
    capacity_bytes: int
    volume_gib: int
    bytes_total: Annotated[int, note(description="to be put")]
    parent: Annotated[str | None, note(description="null for a full one")]
    resumed: Annotated[bool, note(description="it was started before")]

    def words(self) -> str:
        return (
            f"disk {self.disk} at {self.point}: {size(self.bytes_total)} to put into {self.snapshot}"
            + (f", an increment on {self.parent}" if self.parent else ", in full")
            + (", begun before" if self.resumed else "")
        )


class StageDiskDone(Event, frozen=True, kw_only=True, tag="stage.disk.done"):
    """A disk's EBS snapshot is `completed`."""

    vm: str
    disk: str
    point: str
    snapshot: str
    bytes_read: int
    bytes_put: int
    bytes_kept: Annotated[int, note(description="put by an earlier run")]

    def words(self) -> str:
        return f"disk {self.disk} at {self.point}: {self.snapshot} is completed"


class StagePoint(Event, frozen=True, kw_only=True, tag="stage.point"):
    """All disks of the point are staged."""

    vm: str
    point: str
    created: str
    snapshots: Annotated[list[str], note(description="in the order of its disks")]

    def words(self) -> str:
        return f"restore point {self.point} of {self.created} can be started from"


class StageAgain(Event, frozen=True, kw_only=True, tag="stage.again"):
    """A snapshot was lost, or a parent not taken: begun anew, or in full."""

    usual = Weight.WARNING

    vm: str
    disk: str
    message: str

    def words(self) -> str:
        return f"disk {self.disk}: {self.message}"


class StageRemoved(Event, frozen=True, kw_only=True, tag="stage.removed"):
    """An old or hopeless snapshot was removed."""

    vm: str
    snapshot: str
    point: str
    message: str

    def words(self) -> str:
        return f"removed {self.snapshot} of {self.point}: {self.message}"


class StageKept(Event, frozen=True, kw_only=True, tag="stage.kept"):
    """AWS does not delete a snapshot. So in each run until it does."""

    usual = Weight.WARNING

    vm: str
    snapshot: str
    point: str
    code: Annotated[str, note(description="of AWS")]
    message: Annotated[str, note(description="why, in AWS's words")]

    def words(self) -> str:
        return f"{self.snapshot} of {self.point} is kept: {self.message}"


class StageLeft(Event, frozen=True, kw_only=True, tag="stage.left"):
    """Snapshots that AWS was not asked to delete any more in this run."""

    usual = Weight.WARNING

    vm: str
    snapshots: list[str]
    message: str

    def words(self) -> str:
        return f"{', '.join(self.snapshots)}: kept, {self.message}"


class StagePlan(Event, frozen=True, kw_only=True, tag="stage.plan"):
    """`--dry-run`, for each disk."""

    usual = Weight.ANSWER

    vm: str
    disk: str
    point: str
    snapshot: Annotated[str | None, note(description="staged already")]
    pending: Annotated[str | None, note(description="begun and not completed")]
    parent: Annotated[str | None, note(description="null: in full")]
    volume_gib: int
    puts: int
    bytes_total: int
    seconds: Annotated[float, note(description="at least, at `--puts`")]

    def words(self) -> str:
        if self.snapshot:
            return f"disk {self.disk} at {self.point}: staged as {self.snapshot}"
        base = f"an increment on {self.parent}" if self.parent else "in full"
        begun = f", {self.pending} is begun" if self.pending else ""
        return (
            f"disk {self.disk} at {self.point}: {self.puts} blocks ({size(self.bytes_total)}) would be put, "
            f"{base}{begun}; at least {duration(self.seconds)}"
        )


class StageWaiting(Event, frozen=True, kw_only=True, tag="stage.waiting"):
    """`--follow`: something that can pass is waited out. `--replica`: an apply that moves it is waited for."""

    usual = Weight.WARNING

    vm: Annotated[str, note(description="as `--vm` was given, before the store was reached the first time")]
    message: str
    seconds: Annotated[float, note(description="until the next try; for an apply, at most")]

    def words(self) -> str:
        return f"waiting: {self.message}"


class StageDone(Event, frozen=True, kw_only=True, tag="stage.done"):
    """The point is staged; with `--follow` after each point."""

    ends = True
    usual = Weight.GOOD

    vm: str
    point: str
    created: str
    snapshots: list[str]
    bytes_read: int
    bytes_put: int
    amplification: Annotated[float, note(description="bytes read for each byte put")]
    throttled: int
    removed: Annotated[int, note(description="old snapshots that went")]
    kept: Annotated[int, note(description="old snapshots that AWS did not delete")]
    seconds: float

    def words(self) -> str:
        return (
            f"restore point {self.point} is staged: {size(self.bytes_read)} read, {size(self.bytes_put)} put in "
            f"{duration(self.seconds)}"
        )
