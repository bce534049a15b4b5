"""The contracts of a disk that can be read and of the machine it belongs to; refuses to know what becomes of bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from warmspare.model.columns import U32
from warmspare.model.extents import Extents
from warmspare.model.ids import DiskId, VmId
from warmspare.outside.diskimages import DiskImage
from warmspare.source.identity import Identity


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Up to 16 blocks in one buffer.

    blocks: their numbers, ascending. data: their bytes back to back, 64 KiB each; only the disk's short last
    block is shorter. The consumer calls `release` once, when it no longer needs `data`; the buffer is
    then used again.
    """

    blocks: U32
    data: memoryview
    release: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Hole:
    """Blocks [start, stop) that the medium itself says are zeros."""

    start: int
    stop: int


class Source(Protocol):
    """One disk, open for reading a state that does not change (a snapshot, or a file nobody writes)."""

    name: DiskId
    where: str  # for messages: the path, or the VM and disk

    @property
    def capacity_bytes(self) -> int: ...

    def read(self, extents: Extents) -> AsyncGenerator[Span | Hole, None]:
        """Everything in block-aligned extents, ascending. SourceError if any byte of it can't be read.

        Closed early (`aclose`), it stops reading; spans that were given out stay good until they are released.
        """

    def check(self) -> None:
        """SourceError if the disk changed since it was opened (where the medium can tell)."""

    async def close(self) -> None:
        """Give back what the disk took: descriptors, processes. May be called again."""
        ...


@runtime_checkable
class Named(Protocol):
    """A disk that somebody named by a path: what stands there may be an image file in place of a disk's bytes."""

    def image(self) -> DiskImage | None:
        """The kind of image file that it is; None where it is none, or can't be read. Blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class DiskInput:
    """A disk of this sync.

    source: its name is what the disk is known by for ever. file_name: of a replica ("": the source's name). reported:
    what the tracker says may have changed since the last restore point; None: everything is read and compared, and
    reason says why. change_id: to be kept in the restore point, for the next query. attributes: for people.
    as_raw: its bytes are meant as they are, though they look like an image file's.
    """

    source: Source
    reported: Extents | None = None
    reason: str = ""
    change_id: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    file_name: str = ""
    as_raw: bool = False


@dataclass(frozen=True, slots=True)
class LastDisk:
    """A disk as it is in the last restore point."""

    capacity_bytes: int
    change_id: str | None


@dataclass(frozen=True, slots=True)
class LastPoint:
    """What a machine may know of the restore point that this sync goes on from.

    disks: by ID. interrupted: a run since then died. hardware: as the machine gave it then (`Opened.hardware`). doubt:
    why nothing that says what changed since then is to be believed, "" where nothing is known against it.
    """

    disks: dict[DiskId, LastDisk]
    interrupted: bool
    hardware: dict[str, Any] = field(default_factory=dict)
    doubt: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A machine ready to be read: one moment of all its disks.

    unprotected: (name, reason) of disks that can't be protected. excluded: of those that the user left out: they
    stand in the restore point too, but are no reason to warn each time. hardware: what recovery needs to know, as JSON
    takes it. taken_s: since when the moment is held, by time.monotonic(); None where holding it costs nothing.
    """

    disks: list[DiskInput]
    unprotected: list[tuple[str, str]] = field(default_factory=list)
    excluded: list[tuple[str, str]] = field(default_factory=list)
    hardware: dict[str, Any] = field(default_factory=dict)
    taken_s: float | None = None


class Machine(Protocol):
    """What a sync replicates: disks at one moment. Its sync holds the lease from before `open` until after `close`."""

    vm_id: VmId
    vm_name: str
    identity: Identity | None  # which it is and where it lives, as it was found; None where nothing tells
    readable_again: bool  # whether its disks can be read once more after `all_read`

    async def open(self, last: LastPoint | None) -> Opened:
        """Make a moment of all disks (a snapshot) and open them. SourceError; then nothing stays open or behind.

        Where the moment is held (`Opened.taken_s`) it may be called again after `close`, for a later one. last: of the
        last restore point, or in its words of the moment before.
        """
        ...

    async def lives(self, before: Identity) -> bool:
        """Whether the machine of that identity still lives at that place, as far as anybody can be asked: false where
        nobody knows the place any more. SourceError where it is known and can't be asked."""
        ...

    async def all_read(self) -> None:
        """No byte more will be read: the moment may go, while the last bytes are still being sent."""
        ...

    async def close(self) -> None:
        """Close the disks and leave the machine as it was, on every way out. May be called again, and before open."""
        ...
