"""Events of replicas and copies: restore points brought to a replica, or to another repository."""

from __future__ import annotations

from typing import Annotated

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import duration, size


class ApplyStart(Event, frozen=True, kw_only=True, tag="apply.start"):
    """The replica is about to be brought to the point."""

    vm: str
    repository: str
    target: str
    point: str
    before: Annotated[str | None, note(description="null for a new replica")]

    def words(self) -> str:
        return f"applying {self.vm!r} to {self.target}: restore point {self.point}" + (
            f", from {self.before}" if self.before else ", from nothing"
        )


class ApplyPoint(Event, frozen=True, kw_only=True, tag="apply.point"):
    """The replica is at this point now."""

    vm: str
    point: str
    created: str

    def words(self) -> str:
        return f"at restore point {self.point} of {self.created}"


class ApplyDiskStart(Event, frozen=True, kw_only=True, tag="disk.start"):
    """A disk of the replica is about to be written."""

    use = "apply"

    vm: str
    disk: str
    point: str
    path: str
    capacity_bytes: int
    bytes_total: int

    def words(self) -> str:
        return f"disk {self.disk} of {size(self.capacity_bytes)}: {size(self.bytes_total)} to fetch"


class ApplyDiskDone(Event, frozen=True, kw_only=True, tag="disk.done"):
    """A disk of the replica holds the point."""

    use = "apply"

    vm: str
    disk: str
    point: str
    bytes_read: int
    bytes_written: int


class DiskLeft(Event, frozen=True, kw_only=True, tag="disk.left"):
    """A disk of the replica is not in the point; its file stays."""

    vm: str
    disk: str
    path: str
    message: str = "this disk is not in the restore point; its file stays as it last was"

    def words(self) -> str:
        return f"disk {self.disk}: {self.message} ({self.path})"


class ApplyWaiting(Event, frozen=True, kw_only=True, tag="apply.waiting"):
    """`--follow`: the store can't be reached, or a drill or a staging reads the replica."""

    usual = Weight.WARNING

    vm: Annotated[str, note(description="as `--vm` was given, before the store was reached the first time")]
    message: str
    seconds: float

    def words(self) -> str:
        return f"waiting: {self.message}"


class ApplyDone(Event, frozen=True, kw_only=True, tag="apply.done"):
    """The replica is at the point that was asked for; with `--follow` after each point."""

    ends = True
    usual = Weight.GOOD

    vm: str
    point: str
    before: Annotated[str | None, note(description="null for a new replica")]
    bytes_read: int
    bytes_written: int
    blocks_verified: int
    blocks_rebuilt: int
    seconds: float
    disks: list[str]

    def words(self) -> str:
        tail = f", {self.blocks_rebuilt} blocks rebuilt" if self.blocks_rebuilt else ""
        return (
            f"replica at restore point {self.point}: {size(self.bytes_read)} fetched, {size(self.bytes_written)} "
            f"written, {self.blocks_verified} blocks verified{tail} in {duration(self.seconds)}"
        )


class CopyStart(Event, frozen=True, kw_only=True, tag="copy.start"):
    """Both repositories were looked at."""

    source: str
    destination: str
    vms: Annotated[list[str], note(description="those that have points to copy")]
    points: int
    bytes_total: Annotated[int, note(description="about, until a point's manifests were read")]

    def words(self) -> str:
        if not self.points:
            return f"{self.destination} has everything that {self.source} has"
        return f"copying {self.points} restore points of {', '.join(self.vms)} from {self.source} to {self.destination}"


class CopyPoint(Event, frozen=True, kw_only=True, tag="copy.point"):
    """This point stands at the destination now."""

    vm: str
    point: str
    created: str
    objects: Annotated[int, note(description="that were sent for it")]
    objects_there: Annotated[int, note(description="that were there")]

    def words(self) -> str:
        return f"{self.vm}: restore point {self.point} of {self.created} is copied"


class CopyDone(Event, frozen=True, kw_only=True, tag="copy.done"):
    """The destination has all that was to be copied."""

    ends = True
    usual = Weight.GOOD

    vms: int
    points: int
    objects: int
    objects_there: int
    bytes_read: int
    bytes_sent: int
    seconds: float

    def words(self) -> str:
        tail = f", {self.objects_there} objects were there already" if self.objects_there else ""
        return (
            f"{self.points} restore points copied: {size(self.bytes_read)} read, {size(self.bytes_sent)} sent{tail} in "
            f"{duration(self.seconds)}"
        )
