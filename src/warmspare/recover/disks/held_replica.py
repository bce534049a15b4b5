"""A replica held still and opened for reading: its lock, its record, its disks' descriptors; refuses to change it.

The lock is one that `apply` takes while it moves the replica, so that can't happen while it is looked at; an apply that
follows waits. Whoever needs the bytes is given a read-only descriptor, and never a path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from warmspare.errors import ConfigError, IntegrityError, LeaseError, by_hand
from warmspare.model.ids import DiskId, PointId
from warmspare.repository.remedy_commands import typed
from warmspare.state.local_files import io_error, local_io, locked
from warmspare.state.replica_record import FORMAT, REPLICA, STATE, ReplicaPlace, ReplicaRecord, mode_of
from warmspare.threads import in_thread

HASH_STEP_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Trace:
    """What shows that a file was written to: any write sets mtime and ctime, and ctime can't be set back.

    A block device keeps neither; there the read-only descriptor is the proof. sha256: of all bytes, where asked for.
    """

    bytes: int
    mtime_ns: int
    ctime_ns: int
    allocated_bytes: int
    sha256: str | None = None

    def fields(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HeldDisk:
    """One disk of the replica. fd: open read-only for as long as the replica is held."""

    id: DiskId
    path: Path
    capacity_bytes: int
    fd: int

    @property
    def read_bytes(self) -> int:
        """Nothing: the kernel reads it."""
        return 0

    async def trace(self, *, hashed: bool = False) -> Trace:
        """What the medium says of the disk now. hashed: read and hash all of it, too. StoreError."""
        with local_io(REPLICA, self.path):
            size = os.lseek(self.fd, 0, os.SEEK_END)
            sha256 = await self._digest(size) if hashed else None
            found = os.fstat(self.fd)
        return Trace(size, found.st_mtime_ns, found.st_ctime_ns, found.st_blocks * 512, sha256)

    async def _digest(self, size: int) -> str:
        digest = hashlib.sha256()

        def step(at: int) -> None:
            digest.update(os.pread(self.fd, min(HASH_STEP_BYTES, size - at), at))

        for at in range(0, size, HASH_STEP_BYTES):
            await in_thread(step, at)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class HeldReplica:
    """A replica that stands at a restore point and stays there while it is held."""

    target: Path
    record: ReplicaRecord
    point: PointId
    disks: tuple[HeldDisk, ...]

    @property
    def repository(self) -> str:
        return self.record.repository

    @property
    def uri(self) -> str:
        return self.record.uri

    @property
    def replica(self) -> Path:
        return self.target


@contextlib.contextmanager
def held(target: Path, *, state: Path | None = None) -> Iterator[HeldReplica]:
    """Hold the replica at `target` (a file, a directory, a device) for as long as the block runs.

    state: where its state is kept, if not beside it. LeaseError while an apply works on it; ConfigError if it is no
    replica; IntegrityError if it is between two restore points, or known to be damaged.
    """
    mode = mode_of(target)
    if not mode:
        raise ConfigError("there is no replica here", where=str(target), hint="correct --replica")
    place = ReplicaPlace(target, mode, state)
    if not place.record_path.exists():
        raise ConfigError(
            "this is no replica: nothing says which restore point it holds",
            where=str(place.record_path),
            hint=f"make one with `warmspare apply --vm VM --repo URI --to {shlex.quote(str(target))}`, or give its "
            "--state",
        )
    with locked(place.still_path, STATE, reading=True) as mine, contextlib.ExitStack() as stack:
        if not mine:
            raise LeaseError(
                "an apply is moving this replica, or another drill or check is reading it",
                where=str(target),
                hint="wait for it to end, and run this again",
                retryable=True,
            )
        record = place.read()
        if record is None:
            raise ConfigError(
                "the replica's state is damaged",
                where=str(place.record_path),
                hint="remove the replica and its state, and make it anew with `warmspare apply --vm VM --repo URI --to "
                f"{shlex.quote(str(target))}`",
            )
        at = _standing(record, target, state)
        disks = []
        for disk in record.disks:
            path = place.path(disk)
            with local_io(REPLICA, path):
                fd = place.open(path)
            stack.callback(os.close, fd)
            disks.append(HeldDisk(disk.id, path, disk.capacity_bytes, fd))
            size = os.lseek(fd, 0, os.SEEK_END)
            if size < disk.capacity_bytes:
                raise IntegrityError(
                    f"the replica's file has {size} bytes and its disk {disk.capacity_bytes}",
                    where=str(path),
                    hint=f"run {_typed('audit replica', record, '--replica', target, state, '--repair')} to heal it",
                )
        try:
            yield HeldReplica(target, record, at, tuple(disks))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise io_error(error, REPLICA, target) from error  # whoever read it, its medium failed


def _typed(name: str, record: ReplicaRecord, option: str, target: Path, state: Path | None, *more: str) -> str:
    """A command for this replica, as it is to be typed. option: by which it takes a replica."""
    kept = ["--state", str(state)] if state is not None else []
    return typed(name, record.vm, record.uri, option, str(target), *kept, *more)


def _standing(record: ReplicaRecord, target: Path, state: Path | None) -> PointId:
    """The restore point that it is at; IntegrityError unless it is wholly there."""
    if record.format != FORMAT:
        raise ConfigError(
            f"the replica's state has format {record.format} and this program knows {FORMAT}",
            where=str(target),
            hint=by_hand("use the version of warmspare that wrote it"),
        )
    if record.at is None or record.moving is not None:
        to = f" to {record.moving.sequence}" if record.moving else ""
        raise IntegrityError(
            f"the replica is between two restore points: an apply{to} was interrupted",
            where=str(target),
            hint=f"run {_typed('apply', record, '--to', target, state)}: it goes on",
        )
    broken = [disk.id for disk in record.disks if disk.damaged]
    if broken:
        raise IntegrityError(
            f"blocks of disk {broken[0]} are known to be damaged",
            where=str(target),
            hint=f"run {_typed('apply', record, '--to', target, state)}: it tries to heal them",
        )
    return record.at
