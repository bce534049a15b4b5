"""What a replica's record says: which restore point it is at, and which files hold its disks; refuses to change them.

docs/architecture.md, invariant 13. `apply` writes the record, audits and recovery read it; whose it is they all ask
here (`ReplicaOwner`).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from warmspare.errors import ConfigError, IntegrityError
from warmspare.model.ids import DiskId, PointId, VmId
from warmspare.model.keyparts import encode_name
from warmspare.model.units import MAX_CAPACITY_BYTES, block_count
from warmspare.outside.records import Block, Count, Hex32, Line, UnfitError
from warmspare.outside.regular_files import demand_folders, open_disk
from warmspare.state.local_files import io_error, load_record, local_io

REPLICA = "the replica"
STATE = "the replica's state"
BESIDE = ".warmspare"
RECORD = "replica.json"
DISKS = "disks"  # a folder a disk, by its ID
LOCK = "lock"  # held by whoever applies, however long it waits for new points
STILL = "still"  # held while the replica moves, and by whoever reads it and must not see it move
FORMAT = 1


class ReplicaDisk(msgspec.Struct, frozen=True):
    """One disk. path: relative to the target's directory, fixed when the file is made; absolute for a device.

    damaged: [start, count) runs of blocks that may not be what the hash table says.
    """

    id: DiskId
    path: Line
    capacity_bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_CAPACITY_BYTES)]
    damaged: list[tuple[Block, Block]] = []

    def __post_init__(self) -> None:
        if any(start + count > block_count(self.capacity_bytes) for start, count in self.damaged):
            raise ValueError(f"blocks beyond the end of disk {self.id!r} are noted as damaged")


class ReplicaRecord(msgspec.Struct, frozen=True):
    """at: the restore point the replica holds (None: nothing yet). moving: the one it is on its way to."""

    format: Count
    repository: Hex32
    uri: Line
    vm: VmId
    at: PointId | None = None
    moving: PointId | None = None
    disks: list[ReplicaDisk] = []

    def disk(self, disk_id: DiskId) -> ReplicaDisk | None:
        return next((disk for disk in self.disks if disk.id == disk_id), None)


class ReplicaPlace:
    """Where the replica at `target` lies: a raw file, a directory of them, or a block device; and where its state is.

    mode: the target's, 0 if nothing stands there. state: another place for the state than beside it.
    """

    def __init__(self, target: Path, mode: int, state: Path | None) -> None:
        self.target = target
        self.device, self.is_directory = stat.S_ISBLK(mode), stat.S_ISDIR(mode)
        if self.device and state is None:
            state = Path("/var/lib/warmspare/replicas") / encode_name(str(target.resolve()))
        beside = target / BESIDE if self.is_directory else target.with_name(target.name + BESIDE)
        self.state = state or beside
        self._state_root = state or beside.parent
        self.record_path = self.state / RECORD
        self.lock_path = self.state / LOCK
        self.still_path = self.state / STILL

    def path(self, place: ReplicaDisk) -> Path:
        """Where a disk's file or device is. A device has its name from the user: the kernel may give it another."""
        if self.device:
            return self.target
        home = self.target if self.is_directory else self.target.parent
        return home / place.path

    def open(self, path: Path, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a disk's file or device. Where the replica is a single file the user named it, and may have
        named a link. NotRegularError for anything else; OSError as it comes."""
        return open_disk(path, flags, device=self.device, follow=not self.is_directory)

    def read(self) -> ReplicaRecord | None:
        """The record; None if there is none, or it is damaged or leads out of the target's directory. StoreError."""
        with local_io(STATE, self.state):
            demand_folders(self._state_root, self.state / DISKS)
        try:
            record = load_record(self.record_path, ReplicaRecord, STATE)
        except UnfitError:
            return None
        if record and not self.device and not all(_is_name(disk.path) for disk in record.disks):
            return None
        return record


@dataclass(frozen=True, slots=True)
class ReplicaOwner:
    """Whose a replica must be. vm: its ID. repository, uri: the repository's ID, and where it is read from. option: it
    names the replica on the command line. anew: what else helps where the repository was replaced, ", or …"."""

    vm: VmId
    repository: str
    uri: str
    option: str
    anew: str = ""

    def demand(self, record: ReplicaRecord, place: ReplicaPlace) -> None:
        """ConfigError if it is a replica of another VM or repository, or of a format that is not known; IntegrityError
        if the repository was replaced by another one at its URI."""
        if record.format != FORMAT:
            raise ConfigError(
                f"the replica's state has format {record.format} and this program knows {FORMAT}",
                where=str(place.record_path),
                hint="use the version of warmspare that wrote it",
            )
        if record.vm != self.vm:
            raise of_other_vm(record.vm, self.vm, place.target, hint=f"check --vm and {self.option}")
        if record.repository == self.repository:
            return
        if record.uri == self.uri:
            raise IntegrityError(
                f"the repository was replaced: it is {self.repository} and was {record.repository}",
                where=self.uri,
                hint=f"put the old one back{self.anew}",
            )
        raise of_other_repository(record, str(place.target), hint=f"check --repo and {self.option}")


def of_other_vm(found: str, wanted: str, target: Path, *, hint: str) -> ConfigError:
    return ConfigError(f"this is a replica of VM {found!r} and not of {wanted!r}", where=str(target), hint=hint)


def of_other_repository(record: ReplicaRecord, where: str, *, hint: str) -> ConfigError:
    return ConfigError(f"this replica comes from another repository: {record.uri}", where=where, hint=hint)


def _is_name(path: str) -> bool:
    return path not in ("", ".", "..") and not {"/", "\0"} & set(path)


def mode_of(target: Path) -> int:
    """The target's st_mode; 0 if nothing stands there. StoreError."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise io_error(error, REPLICA, target) from error
