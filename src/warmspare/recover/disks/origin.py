"""Which VM disks are of and what that consists of, by their restore point; refuses a replica of another VM.

The record of the restore point lies in the repository. A recovery must go on without it, so a repository that can't be
reached is told and not an error: then the firmware is what the disk itself says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from warmspare.errors import ConfigError, IntegrityError, StoreError
from warmspare.format.point import RestorePoint
from warmspare.recover.disks.base import OpenDisk
from warmspare.recover.disks.held import HeldReplica
from warmspare.repository.chain import NoRepositoryError, open_repository
from warmspare.store.base import Store

D = TypeVar("D", bound=OpenDisk)


@dataclass(frozen=True, slots=True)
class Origin:
    """The VM. point: the restore point's record, None where the repository could not be reached (`why`)."""

    vm: str
    vm_name: str
    point: RestorePoint | None
    why: str = ""
    hardware: dict[str, Any] = field(default_factory=dict)

    def root(self, disk_id: str) -> str | None:
        """The root of a disk's hash table at this restore point: what all its blocks hash to."""
        disk = self.point.disk(disk_id) if self.point else None
        return disk.root if disk else None

    def ordered(self, disks: Sequence[D]) -> list[D]:
        """The disks in the order of the VM's; those that the point has not are left out."""
        if self.point is None:
            return list(disks)
        by_id = {disk.id: disk for disk in disks}
        return [by_id[disk.id] for disk in self.point.disks if disk.id in by_id]


def of_point(record: RestorePoint) -> Origin:
    """The VM of a restore point."""
    return Origin(record.vm_id, record.vm_name, record, hardware=record.hardware)


async def origin(replica: HeldReplica, vm: str, store: Store) -> Origin:
    """The VM that `vm` (its ID in the repository, or its name) must be. ConfigError if the replica is another's;
    IntegrityError if the repository has another record under the replica's point."""
    record = replica.record
    try:
        repository = await open_repository(store)
        if repository.id != record.repository:
            raise ConfigError(
                f"this replica comes from another repository: {record.uri}", where=store.uri, hint="check --repo"
            )
        point = await repository.load(record.vm, replica.point.sequence)
    except (StoreError, NoRepositoryError) as error:  # unreachable, or the point is gone: the replica is still here
        _demand(vm, record.vm, record.vm, replica)
        return Origin(record.vm, record.vm, None, error.sentence)
    if point.id != replica.point:
        raise IntegrityError(
            f"the replica is at restore point {replica.point.label} and the repository has {point.id.label}",
            where=store.uri,
            hint="find out who replaced it; docs/failures.md",
        )
    _demand(vm, record.vm, point.record.vm_name, replica)
    return of_point(point.record)


def _demand(vm: str, vm_id: str, vm_name: str, replica: HeldReplica) -> None:
    if vm not in (vm_id, vm_name):
        raise ConfigError(
            f"this is a replica of VM {vm_name!r} and not of {vm!r}",
            where=str(replica.target),
            hint="check --vm and --replica",
        )
