"""A replica's files and what is known of them: names, record, lock; refuses a target it does not own.

docs/architecture.md, invariant 13. The record says which restore point the replica is at or is moving to, and
it is durable before the first byte of a disk changes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from warmspare._native import holes
from warmspare.errors import ConfigError, IntegrityError, LeaseError, StoreError
from warmspare.format.restore_point import Disk, RestorePoint
from warmspare.model.ids import DiskId, PointId, VmId, disk_key
from warmspare.model.units import SPAN_BYTES
from warmspare.outside.regular_files import demand_folders
from warmspare.repository.chain import Repository
from warmspare.state.local_files import io_error, local_io, locked, pwrite_all, sync_directory, write_record
from warmspare.state.local_table import HashTable
from warmspare.state.replica_record import (
    BESIDE,
    DISKS,
    RECORD,
    REPLICA,
    STATE,
    ReplicaDisk,
    ReplicaOwner,
    ReplicaPlace,
    ReplicaRecord,
    mode_of,
)

ZERO_STEP_BYTES = 1 << 30


class Replica:
    """The replica at `target`: a raw file, a directory of them, or a block device.

    Open it with `hold`; then `record` is its record, None if nothing was ever applied there.
    """

    def __init__(
        self, target: Path, vm: VmId, repository: Repository, disks: int, *, state: Path | None, initialize: bool
    ) -> None:
        """disks: how many there are to be; several make the target a directory if nothing stands there."""
        self.target, self._vm, self._repository, self._initialize = target, vm, repository, initialize
        mode = mode_of(target)
        if not mode:
            if not target.parent.is_dir():
                raise ConfigError(
                    "the replica can't be made: its directory does not exist",
                    where=str(target.parent),
                    hint="make it or check --to",
                )
            if disks > 1 and not (target.with_name(target.name + BESIDE) / RECORD).exists():
                with local_io(REPLICA, target):
                    target.mkdir(exist_ok=True)
                    sync_directory(target.parent)
                mode = stat.S_IFDIR
        self._place = ReplicaPlace(target, mode, state)
        self.device, self._is_directory = self._place.device, self._place.is_directory
        if mode and not (self.device or self._is_directory or stat.S_ISREG(mode)):
            raise ConfigError(
                "a replica is a file, a directory or a block device and this is none of them", where=str(target)
            )
        self.state, self._record_path = self._place.state, self._place.record_path
        self.record: ReplicaRecord | None = None

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """The replica's lock for as long as the block runs. LeaseError if another process has it.

        ConfigError or IntegrityError if what lies there is not a replica of this VM and repository.
        """
        if not self._record_path.exists():
            self._refuse_foreign_state()
        with locked(self._place.lock_path, STATE) as mine:
            if not mine:
                raise LeaseError(
                    "another apply is working on this replica",
                    where=str(self.state),
                    hint="wait for it to end",
                    retryable=True,
                )
            self._read_record()
            try:
                yield
            finally:
                if self.record is None:  # nothing was begun: leave no trace
                    with contextlib.suppress(OSError):
                        self._place.still_path.unlink(missing_ok=True)
                        self._place.lock_path.unlink()
                        self.state.rmdir()

    def _read_record(self) -> None:
        self.record = self._place.read()
        if self.record:
            self._demand_ours(self.record)
        elif self._record_path.exists():
            raise ConfigError(
                "the replica's state is damaged, so nothing is known of what the replica holds",
                where=str(self._record_path),
                hint="remove the replica and its state, or apply to another path",
            )

    @contextlib.contextmanager
    def standing(self) -> Iterator[bool]:
        """For readers: hold the replica still without being its apply, and know its record; yields False, and knows
        nothing, while an apply moves it or something else reads it. ConfigError or IntegrityError as `hold`."""
        if not self._record_path.exists():
            raise ConfigError("there is no replica", where=str(self.target), hint="make it with `warmspare apply`")
        with locked(self._place.still_path, STATE, reading=True) as mine:
            if mine:
                self._read_record()
            yield mine

    def followed(self) -> bool:
        """Whether an apply is at work on it, if only waiting for the next point."""
        with locked(self._place.lock_path, STATE, reading=True) as mine:
            return not mine

    @contextlib.contextmanager
    def moving_lock(self) -> Iterator[None]:
        """Nobody else reads the replica for as long as the block runs. LeaseError if someone does."""
        with locked(self._place.still_path, STATE) as mine:
            if not mine:
                raise LeaseError(
                    "a staging, a drill or a readiness check is reading this replica",
                    where=str(self.target),
                    hint="wait for it to end",
                    retryable=True,
                )
            yield

    def _refuse_foreign_state(self) -> None:
        if self.state.exists() and not self.state.is_dir():
            raise ConfigError(
                "the replica's state is to be a directory and a file stands there",
                where=str(self.state),
                hint="move it away or give another --state",
            )

    def _demand_ours(self, record: ReplicaRecord) -> None:
        anew = ", or remove the replica and its state to begin anew"
        repository = self._repository
        ReplicaOwner(self._vm, repository.id, repository.store.uri, "--to", anew).demand(record, self._place)

    # the record

    def move(self, *, at: PointId | None, moving: PointId | None, disks: list[ReplicaDisk]) -> None:
        """Write the record, durably."""
        self.record = ReplicaRecord(1, self._repository.id, self._repository.store.uri, self._vm, at, moving, disks)
        write_record(self._record_path, self.record, STATE)

    @property
    def at(self) -> PointId | None:
        return self.record.at if self.record else None

    @property
    def moving(self) -> PointId | None:
        return self.record.moving if self.record else None

    # files

    def admit(self, wanted: RestorePoint) -> list[ReplicaDisk]:
        """The disks of a restore point with their places here; those known keep the names they have.

        ConfigError if the target does not suit them, or something stands there already. Changes nothing.
        """
        known = {disk.id: disk for disk in self.record.disks} if self.record else {}
        single = not self._is_directory
        if single and len(wanted.disks) > 1:
            raise ConfigError(
                f"VM {self._vm!r} has {len(wanted.disks)} disks and the target is a single one",
                where=str(self.target),
                hint="apply into a directory",
            )
        out: list[ReplicaDisk] = []
        taken = {disk.path for disk in known.values()}
        for disk in wanted.disks:
            if disk.id in known:
                out.append(known[disk.id])
                continue
            path = self._name(disk, taken, single)
            taken.add(path)
            out.append(ReplicaDisk(disk.id, path, 0))
            self._demand_empty(out[-1], disk)
        return out

    def _name(self, disk: Disk, taken: set[str], single: bool) -> str:
        if single:
            name = str(self.target.resolve()) if self.device else self.target.name
            if name in taken:
                raise ConfigError(
                    f"the single file of this replica holds another disk and not {disk.name!r}",
                    where=str(self.target),
                    hint="apply into a directory or to another path",
                )
            return name
        if disk.name not in taken:
            return disk.name
        return f"{disk.name}-{disk_key(disk.id)}"

    def _demand_empty(self, place: ReplicaDisk, disk: Disk) -> None:
        path = self.path(place)
        if self.device:
            if not self._initialize:
                raise ConfigError(
                    "this block device holds no replica yet",
                    where=str(path),
                    hint="give --initialize to have all of it overwritten",
                )
            return
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return
        except OSError as error:
            raise io_error(error, REPLICA, path) from error
        if size:
            raise ConfigError(
                f"a file of {size} bytes stands where disk {disk.name!r} is to go and nothing says that it is "
                "a replica",
                where=str(path),
                hint="move it away or apply to another path",
            )

    def path(self, place: ReplicaDisk) -> Path:
        """Where a disk's file or device is."""
        return self._place.path(place)

    def open_for_reading(self, place: ReplicaDisk) -> int:
        """A descriptor of a disk's file or device. OSError."""
        return self._place.open(self.path(place))

    def table(self, disk_id: DiskId) -> HashTable:
        folder = self.state / DISKS / disk_key(disk_id)
        with local_io(STATE, folder):
            demand_folders(self.state, folder)
        return HashTable(folder / "table")

    @property
    def scratch(self) -> Path:
        return self.state / "tmp"

    @contextlib.contextmanager
    def open_disk(self, place: ReplicaDisk, *, make: bool) -> Iterator[int]:
        """A descriptor of the disk's file; made if absent and `make`, otherwise IntegrityError."""
        path = self.path(place)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if self.device else 0)
        try:
            fd = self._place.open(path, flags | (os.O_CREAT if make and not self.device else 0))
        except FileNotFoundError:
            raise IntegrityError(
                f"the replica's file of disk {place.id!r} is gone",
                where=str(path),
                hint=f"put it back, or remove {self.state} to begin anew",
            ) from None
        except OSError as error:
            if self.device and error.errno == errno.EBUSY:
                raise StoreError("the block device is in use", where=str(path), hint="unmount it") from error
            raise io_error(error, REPLICA, path) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def resize(self, fd: int, place: ReplicaDisk, capacity_bytes: int) -> None:
        """Give a disk its capacity; what it grows by reads as zeros. IntegrityError if it is shorter than it was."""
        path = self.path(place)
        with local_io(REPLICA, path):
            size = os.lseek(fd, 0, os.SEEK_END)
            if self.device:
                if size < capacity_bytes:
                    raise ConfigError(
                        f"the device has {size} bytes and the disk {capacity_bytes}",
                        where=str(path),
                        hint="grow the device or use a larger one",
                    )
                if place.capacity_bytes < capacity_bytes:
                    self._zero(fd, place.capacity_bytes, capacity_bytes)
                return
            if size < place.capacity_bytes:
                raise IntegrityError(
                    f"the replica's file has {size} bytes and had {place.capacity_bytes}",
                    where=str(path),
                    hint=f"put it back, or remove it and {self.state} to begin anew",
                )
            if size != capacity_bytes:
                os.ftruncate(fd, place.capacity_bytes)  # whatever a killed run or a stranger left behind it
                os.ftruncate(fd, capacity_bytes)

    def empty(self, fd: int, place: ReplicaDisk, capacity_bytes: int) -> None:
        """Make a disk read as zeros at its capacity, whatever it held."""
        with local_io(REPLICA, self.path(place)):
            if not self.device:
                os.ftruncate(fd, 0)
        self.resize(fd, msgspec.structs.replace(place, capacity_bytes=0), capacity_bytes)

    @staticmethod
    def _zero(fd: int, start: int, stop: int) -> None:
        # Discard is not trusted to read as zeros; write-zeroes is defined to, and writing them surely does.
        zeros = bytes(SPAN_BYTES)
        for at in range(start, stop, ZERO_STEP_BYTES):
            end = min(at + ZERO_STEP_BYTES, stop)
            if not holes.zero_range(fd, at, end - at):
                for offset in range(at, end, SPAN_BYTES):
                    pwrite_all(fd, zeros[: end - offset], offset)
