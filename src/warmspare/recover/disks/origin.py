"""Which VM disks are of and what that consists of, by their restore point; refuses a replica of another VM.

The record of the restore point lies in the repository. A recovery must go on without it, so a repository that can't be
reached is told and not an error: then the firmware is what the disk itself says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from warmspare.errors import ConfigError, IntegrityError, NotFoundError, StoreError, by_hand
from warmspare.format.restore_point import RestorePoint
from warmspare.model.ids import DiskId, VmId
from warmspare.recover.disks.held_replica import HeldReplica
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.repository.chain import NoRepositoryError, Point, Repository, open_repository
from warmspare.repository.history.steps import dropped_point
from warmspare.state.replica_record import of_other_repository, of_other_vm
from warmspare.store.contract import Store

D = TypeVar("D", bound=OpenDisk)


@dataclass(frozen=True, slots=True)
class Origin:
    """The VM. point: the restore point's record, None where the repository could not be reached (`why`). boots: name or
    ID of the disk to boot, None for what the VM's boot order says."""

    vm: VmId
    vm_name: str
    point: RestorePoint | None
    why: str = ""
    hardware: dict[str, Any] = field(default_factory=dict)
    boots: str | None = None

    def root(self, disk_id: DiskId) -> str | None:
        """The root of a disk's hash table at this restore point: what all its blocks hash to."""
        disk = self.point.disk(disk_id) if self.point else None
        return disk.root if disk else None

    def ordered(self, disks: Sequence[D]) -> list[D]:
        """The disks in the order of the VM's, but the one that boots first; those that the point has not are left out.
        ConfigError where `boots` is none of them."""
        by_id = {disk.id: disk for disk in disks}
        known = self.point.disks if self.point else []
        names: list[tuple[DiskId, str]] = [(disk.id, disk.name) for disk in known] or [(each, each) for each in by_id]
        order = boot_first([pair for pair in names if pair[0] in by_id], self.hardware, self.boots)
        return [by_id[disk_id] for disk_id, _ in order]


def boot_first(
    disks: Sequence[tuple[DiskId, str]], hardware: Mapping[str, Any], boots: str | None = None
) -> list[tuple[DiskId, str]]:
    """A VM's disks as (ID, name), the one that boots first: what the user says (its name or ID), else the first of the
    VM's boot order (of the restore point's hardware) that is among them, else the first. ConfigError."""
    first = disks[:1]
    if boots is not None:
        first = [pair for pair in disks if boots in pair][:1]
        if not first:
            names = ", ".join(name for _, name in disks)
            raise ConfigError(f"{boots!r} is none of the VM's disks", hint=f"name one of these: {names}")
    else:
        for wanted in hardware.get("boot_disks") or ():
            if found := [pair for pair in disks if pair[0] == wanted]:
                first = found
                break
    return [*first, *(pair for pair in disks if pair not in first)]


def of_point(record: RestorePoint) -> Origin:
    """The VM of a restore point."""
    return Origin(record.vm_id, record.vm_name, record, hardware=record.hardware)


async def origin(replica: HeldReplica, called: str, store: Store) -> Origin:
    """The VM that is called so (its ID in the repository, or its name). ConfigError if the replica is another's;
    IntegrityError if the repository has another record under the replica's point."""
    record = replica.record
    try:
        repository = await open_repository(store)
        if repository.id != record.repository:
            raise of_other_repository(record, store.uri, hint="give that as --repo, or none")
        point = await _point(repository, record.vm, replica.point.sequence)
    except (StoreError, NoRepositoryError) as error:  # unreachable, or the point is gone: the replica is still here
        _demand(called, record.vm, record.vm, replica)
        return Origin(record.vm, record.vm, None, error.sentence)
    if point.id != replica.point:
        raise IntegrityError(
            f"the replica is at restore point {replica.point.label} and the repository has {point.id.label}",
            where=store.uri,
            hint=by_hand("find out who replaced it (docs/failures.md, The repository)"),
        )
    _demand(called, record.vm, point.record.vm_name, replica)
    return of_point(point.record)


async def _point(repository: Repository, vm: VmId, sequence: int) -> Point:
    """Also one that was dropped since. NotFoundError."""
    try:
        return await repository.load(vm, sequence)
    except NotFoundError:
        if (point := await dropped_point(repository, vm, sequence)) is None:
            raise
        return point


def _demand(called: str, vm_id: VmId, vm_name: str, replica: HeldReplica) -> None:
    if called not in (vm_id, vm_name):
        raise of_other_vm(vm_name, called, replica.target, hint="correct --vm or --replica")
