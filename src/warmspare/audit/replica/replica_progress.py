"""How far an audit of a replica has come, so that an interrupted one goes on; owns the rules of when it may.

What was judged stays evidence as long as nobody but `apply` wrote since, and what `apply` wrote is known from the
chain: the next run starts from the point that was judged by, and when it has read the rest it moves on to the point
that the replica is at then, as an audit that was never interrupted does. So progress counts only if
- it is of the same replica, VM, repository and share of the blocks;
- each file is the same (device and inode), and, if the replica is still at the same point, was not written to since
  (size, times of modification and change);
- it is not older than a day, for evidence ages.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from warmspare.audit.expected.blockset import BlockSet
from warmspare.audit.replica.disk_audit import DiskAudit
from warmspare.audit.reports.report import DiskMap, MapBuilder
from warmspare.errors import LeaseError
from warmspare.model.ids import DiskId, PointId
from warmspare.model.units import MAX_CAPACITY_BYTES, block_count
from warmspare.observe.events import Events
from warmspare.outside.records import Block, Count, Line, Moment, Seconds, is_moment
from warmspare.state.local_files import local_io, locked, make_void, read_record, write_record

WHAT = "the audit's progress"
FORMAT = 1
MAX_AGE_S = 24 * 3600
MAX_RUNS = 100_000  # of suspects, of all disks; a replica that is wrong in more places is better read again
_Time = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class Stamp(msgspec.Struct, frozen=True):
    """What tells whether a file is the same and was written to; the times are 0 for a device."""

    device: Annotated[int, msgspec.Meta(ge=0)]
    inode: Annotated[int, msgspec.Meta(ge=0)]
    size: Count
    modified_ns: _Time
    changed_ns: _Time


class ReplicaDiskProgress(msgspec.Struct, frozen=True):
    """One disk. map, suspects: as far as next_block."""

    id: DiskId
    capacity_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_CAPACITY_BYTES)]
    stamp: Stamp
    next_block: Block
    read_bytes: Count
    seconds: Seconds
    map: DiskMap
    suspects: list[tuple[Block, Block]]

    def __post_init__(self) -> None:
        """ValueError unless it is of such a disk."""
        blocks = block_count(self.capacity_bytes)
        MapBuilder.of(self.capacity_bytes, self.map)
        last = 0
        for start, count in self.suspects:
            if start < last or not 0 < count <= blocks - start:
                raise ValueError("the suspect blocks are not ascending ones of the disk")
            last = start + count
        if self.next_block > blocks:
            raise ValueError("it is beyond the end of the disk")


class ReplicaProgress(msgspec.Struct, frozen=True):
    """identity: of what is audited and how. point: whose hashes were judged by. at, moving: what the replica's record
    said when this was written. saved_s: Unix time of that."""

    format: Count
    identity: Line
    point: PointId
    at: PointId | None
    moving: PointId | None
    began: Moment
    saved_s: Seconds
    seed: Count
    disks: list[ReplicaDiskProgress]

    def __post_init__(self) -> None:
        if not is_moment(self.began):
            raise ValueError("it began on a day that no calendar has")


def stamp(fd: int) -> Stamp:
    """Of an open file."""
    found = os.fstat(fd)
    if stat.S_ISBLK(found.st_mode):
        return Stamp(found.st_rdev, 0, 0, 0, 0)
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class ProgressFile:
    """The file of one audit. identity: everything that a run must have in common with the one that it goes on from."""

    def __init__(self, path: Path, identity: str, events: Events) -> None:
        self._path, self._identity, self._events = path, identity, events

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """LeaseError if another run of the same audit is at work."""
        with local_io(WHAT, self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._path.with_suffix(".lock")
        with locked(lock, WHAT) as mine:
            if not mine:
                raise LeaseError(
                    "another audit of this replica is running",
                    where=str(lock),
                    hint="wait for it to end",
                    retryable=True,
                )
            yield

    def read(self) -> ReplicaProgress | None:
        """What an earlier run left, if it is of this audit and not too old; None otherwise."""
        found = read_record(self._path, ReplicaProgress, WHAT, self._events)
        if found is None or (found.format, found.identity) != (FORMAT, self._identity):
            return None
        return found if 0 <= time.time() - found.saved_s < MAX_AGE_S else None

    def write(
        self,
        *,
        point: PointId,
        at: PointId | None,
        moving: PointId | None,
        began: str,
        seed: int,
        disks: list[DiskAudit],
    ) -> None:
        """Note how far all disks are, durably; nothing if too many blocks are suspect."""
        entries, left = [], MAX_RUNS
        for disk in disks:
            suspects = list(disk.suspects.runs()) if len(disk.suspects) < 16 * MAX_RUNS else []
            left -= len(suspects)
            if disk.fd < 0 or left < 0 or (len(disk.suspects) and not suspects):
                return
            entry = ReplicaDiskProgress(
                disk.disk.id,
                disk.disk.capacity_bytes,
                stamp(disk.fd),
                disk.next_block,
                disk.read_bytes,
                disk.seconds,
                disk.map.build(),
                suspects,
            )
            entries.append(entry)
        record = ReplicaProgress(FORMAT, self._identity, point, at, moving, began, time.time(), seed, entries)
        write_record(self._path, record, WHAT)

    def remove(self) -> None:
        make_void(self._path, WHAT)


def holds(saved: ReplicaProgress, at: PointId | None, moving: PointId | None, stamps: dict[DiskId, Stamp]) -> bool:
    """Whether what was judged may be built upon. at, moving: what the replica's record says now; stamps: of its files,
    by disk."""
    still = (saved.at, saved.moving) == (at, moving) and moving is None
    for disk in saved.disks:
        now = stamps.get(disk.id)
        if now is None:
            return False
        if (now.device, now.inode) != (disk.stamp.device, disk.stamp.inode) or (still and now != disk.stamp):
            return False
    return True


def restore(disk: DiskAudit, saved: ReplicaDiskProgress) -> None:
    """Put a disk where it was; its table is that of the point that was judged by."""
    disk.map = MapBuilder.of(saved.capacity_bytes, saved.map)
    disk.suspects = BlockSet()
    for start, count in saved.suspects:
        disk.suspects.add(np.arange(start, start + count))
    disk.next_block, disk.read_bytes, disk.seconds = saved.next_block, saved.read_bytes, saved.seconds
