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

import msgspec
import numpy as np

from warmspare.audit.blockset import BlockSet
from warmspare.audit.disk import DiskAudit
from warmspare.audit.report import DiskMap, MapBuilder
from warmspare.errors import LeaseError
from warmspare.state.files import local_io, locked, make_void, read_record, write_record
from warmspare.state.replica import Mark

WHAT = "the audit's progress"
FORMAT = 1
MAX_AGE_S = 24 * 3600
MAX_RUNS = 100_000  # of suspects; a replica that is wrong in more places is better read again


class Stamp(msgspec.Struct, frozen=True):
    """What tells whether a file is the same and was written to; the times are 0 for a device."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class DiskProgress(msgspec.Struct, frozen=True):
    """One disk. map, suspects: as far as next_block."""

    id: str
    capacity_bytes: int
    stamp: Stamp
    next_block: int
    read_bytes: int
    seconds: float
    map: DiskMap
    suspects: list[tuple[int, int]]


class Progress(msgspec.Struct, frozen=True):
    """identity: of what is audited and how. point: whose hashes were judged by. at, moving: what the replica's record
    said when this was written. saved_s: Unix time of that."""

    format: int
    identity: str
    point: Mark
    at: Mark | None
    moving: Mark | None
    began: str
    saved_s: float
    seed: int
    disks: list[DiskProgress]


def stamp(fd: int) -> Stamp:
    """Of an open file."""
    found = os.fstat(fd)
    if stat.S_ISBLK(found.st_mode):
        return Stamp(found.st_rdev, 0, 0, 0, 0)
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class ProgressFile:
    """The file of one audit. identity: everything that a run must have in common with the one that it goes on from."""

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._identity = path, identity

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """LeaseError if another run of the same audit is at work."""
        with local_io(WHAT, self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._path.with_suffix(".lock")
        with locked(lock, WHAT) as mine:
            if not mine:
                raise LeaseError(
                    "another audit of this replica is running", where=str(lock), hint="wait for it to end",
                    retryable=True,
                )  # fmt: skip
            yield

    def read(self) -> Progress | None:
        """What an earlier run left, if it is of this audit and not too old; None otherwise."""
        found = read_record(self._path, Progress, WHAT)
        if found is None or (found.format, found.identity) != (FORMAT, self._identity):
            return None
        return found if 0 <= time.time() - found.saved_s < MAX_AGE_S else None

    def write(
        self, *, point: Mark, at: Mark | None, moving: Mark | None, began: str, seed: int, disks: list[DiskAudit]
    ) -> None:
        """Note how far all disks are, durably; nothing if too many blocks are suspect."""
        entries = []
        for disk in disks:
            suspects = list(disk.suspects.runs()) if len(disk.suspects) < 16 * MAX_RUNS else []
            if disk.fd < 0 or (len(disk.suspects) and not 0 < len(suspects) <= MAX_RUNS):
                return
            entry = DiskProgress(
                disk.disk.id, disk.disk.capacity_bytes, stamp(disk.fd), disk.next_block, disk.read_bytes,
                disk.seconds, disk.map.build(), suspects,
            )  # fmt: skip
            entries.append(entry)
        record = Progress(FORMAT, self._identity, point, at, moving, began, time.time(), seed, entries)
        write_record(self._path, record, WHAT)

    def remove(self) -> None:
        make_void(self._path, WHAT)


def holds(saved: Progress, at: Mark | None, moving: Mark | None, stamps: dict[str, Stamp]) -> bool:
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


def restore(disk: DiskAudit, saved: DiskProgress) -> None:
    """Put a disk where it was; its table is that of the point that was judged by."""
    disk.map = MapBuilder.of(saved.capacity_bytes, saved.map)
    disk.suspects = BlockSet()
    for start, count in saved.suspects:
        disk.suspects.add(np.arange(start, start + count))
    disk.next_block, disk.read_bytes, disk.seconds = saved.next_block, saved.read_bytes, saved.seconds
