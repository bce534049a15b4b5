"""Where a replica stands while it is audited: which restore point, which files, and whether it holds still.

Owns the reading of the replica's record beside an `apply` that may be at work, and the waiting for it; changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from warmspare.errors import ConfigError, IntegrityError, LeaseError
from warmspare.format.restore_point import Disk
from warmspare.model.ids import PointId, VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.audit import AuditWaiting
from warmspare.repository.chain import Point, Repository
from warmspare.state.local_files import io_error, local_io
from warmspare.state.replica_record import REPLICA, ReplicaOwner, ReplicaPlace, ReplicaRecord, mode_of

PATIENCE_S = 60.0  # how long a replica that is being brought forward may show no sign of it
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Standing:
    """What the record says: the point the replica is at, and the one it is on its way to."""

    at: PointId | None
    moving: PointId | None

    @property
    def still(self) -> bool:
        return self.at is not None and self.moving is None


class AuditedReplica:
    """The replica at `target`. state: where its state is, if not beside it.

    Without a record of a replica (`recorded` false) it is any raw image, and the point is the one that was named.
    """

    def __init__(self, target: Path, vm: VmId, repository: Repository, state: Path | None) -> None:
        mode = mode_of(target)
        if not mode:
            raise ConfigError("there is no replica", where=str(target), hint="check --replica")
        self.place = ReplicaPlace(target, mode, state)
        self._vm, self._repository = vm, repository
        self._record: ReplicaRecord | None = None
        self._named: PointId | None = None

    @property
    def recorded(self) -> bool:
        return self._record is not None

    async def open(self, at: str | None) -> None:
        """Read the record, and hold what was named against it.

        ConfigError if it is no replica of this VM and repository, or stands at another point than `at`; IntegrityError
        if the repository was replaced.
        """
        named = None
        if at is not None:
            point = await self._repository.load(self._vm, await self._repository.resolve(self._vm, at))
            named = point.id
        self._record = self._read()
        if self._record is None:
            if named is None:
                raise ConfigError(
                    "nothing says which restore point this replica is at: it has no readable state",
                    where=str(self.place.record_path),
                    hint="give --at, or --state if its state is elsewhere",
                )
            self._named = named
            return
        repository = self._repository
        ReplicaOwner(self._vm, repository.id, repository.store.uri, "--replica").demand(self._record, self.place)
        now = self.standing()
        if named and named != now.at:
            raise ConfigError(
                f"the replica is at restore point {now.at.label if now.at else 'none'} and not at {named.label}",
                where=str(self.place.target),
                hint="leave out --at, or audit another replica",
            )

    def _read(self) -> ReplicaRecord | None:
        return self.place.read()

    def standing(self) -> Standing:
        """As the record says now. IntegrityError if it can't be read any more."""
        if self._named:
            return Standing(self._named, None)
        record = self._read()
        if record is None:
            raise IntegrityError(
                "the replica's state is gone or damaged since the audit began",
                where=str(self.place.record_path),
                hint="find out who removes it, then audit again",
            )
        self._record = record
        return Standing(record.at, record.moving)

    async def wait(self, events: Events, patience_s: float = PATIENCE_S) -> PointId:
        """The point the replica is at, once it is not on its way to another one.

        LeaseError if it is on its way and nothing has changed it for `patience_s`: that apply was interrupted.
        """
        loop = asyncio.get_running_loop()
        seen: object = None
        since = loop.time()
        told = False
        while True:
            now = self.standing()
            if now.at and not now.moving:
                return now.at
            state = (now, self._traces())
            if state != seen:
                seen, since = state, loop.time()
            elif loop.time() - since >= patience_s:
                to = now.moving.label if now.moving else "none"
                raise LeaseError(
                    f"the replica is on its way from restore point {now.at.label if now.at else 'none'} to {to} and "
                    f"nothing has moved it for {patience_s:.0f} s",
                    where=str(self.place.target),
                    hint="run `warmspare apply`, then audit again",
                    retryable=True,
                )
            if not told:
                told = True
                events.emit(AuditWaiting(vm=self._vm))
            await asyncio.sleep(POLL_S)

    def _traces(self) -> tuple[tuple[int, int], ...]:
        """What changes when somebody writes to the files."""
        out = []
        for disk in self._record.disks if self._record else []:
            try:
                found = self.place.path(disk).stat()
            except OSError:
                continue
            out.append((found.st_mtime_ns, found.st_blocks))
        return tuple(out)

    def path(self, disk: Disk, point: Point) -> Path:
        """Where a disk of a point lies. ConfigError where it can't be told."""
        known = self._record.disk(disk.id) if self._record else None
        if known:
            return self.place.path(known)
        if self.place.is_directory:
            return self.place.target / disk.name
        if len(point.record.disks) > 1:
            raise ConfigError(
                f"VM {self._vm!r} has {len(point.record.disks)} disks and this is a single file",
                where=str(self.place.target),
                hint="give the directory that holds them",
            )
        return self.place.target

    def open_disk(self, path: Path) -> int:
        """A descriptor for reading; -1 if the file is missing. StoreError."""
        with local_io(REPLICA, path):
            try:
                return self.place.open(path)
            except FileNotFoundError:
                return -1

    def replaced(self, path: Path, fd: int) -> bool:
        """Whether another file stands at the path now than the one that is open (-1: none was there)."""
        try:
            there = path.stat()
        except FileNotFoundError:
            return fd >= 0
        except OSError as error:
            raise io_error(error, REPLICA, path) from error
        if fd < 0:
            return True
        mine = os.fstat(fd)
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino)
