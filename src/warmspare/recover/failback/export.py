"""Disks for the return: of a failed-over VM (its staged content and what changed in AWS), or of a replica; owns the
order from volumes to files that were read back.

docs/operations.md, "The way back". What is written is named `.part` until it is proved.
"""

from __future__ import annotations

import os
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from warmspare.apply.replica import Replica
from warmspare.errors import ConfigError, RecoverError
from warmspare.format.restore_point import Disk
from warmspare.model.ids import VmId
from warmspare.observe.events import Events, Meter
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.observe.kinds.failover_events import ExportDisk, ExportStart, FailoverNote
from warmspare.observe.quantities import size
from warmspare.outside.regular_files import open_regular
from warmspare.recover.aws.aws_errors import AwsError, denied_by_aws
from warmspare.recover.aws.client import Aws
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.blocks.replicablocks import held_at, opened, replica_at
from warmspare.recover.failback.convert import demand_same, find_qemu_img, to_vmdk
from warmspare.recover.failback.diskexport import WHAT, DiskExport, ExportBase
from warmspare.recover.failback.ebsread import EbsReader, unrelated
from warmspare.recover.failback.returning import (
    Returning,
    ReturningVolume,
    begin_export,
    finish_export,
    goes_on,
    volume_of,
)
from warmspare.recover.failover.launch import Launcher
from warmspare.recover.staging.staged import GIB, StagedDisk, staged_points
from warmspare.repository.chain import Point, Repository
from warmspare.repository.failover_record import FailoverRecord, read_journal
from warmspare.repository.history.steps import recall
from warmspare.repository.remedy_commands import command
from warmspare.repository.vm_lookup import vm_called
from warmspare.state.local_files import copy_sparse, local_io, sync_directory
from warmspare.state.replica_record import ReplicaOwner, ReplicaPlace, mode_of
from warmspare.state.user_files import demand_ours, keeps_notes, mark_ours


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """to: a directory. format: vmdk or raw. replica: the base, or with only_replica all there is."""

    to: Path
    format: str
    replica: Path | None
    only_replica: bool


class Export:
    """An export of one VM. vm: its ID or name in the repository."""

    def __init__(
        self, repository: Repository, aws: Aws, vm: str, settings: ExportSettings, events: Events, meter: Meter
    ) -> None:
        self._repository, self._vm, self._settings = repository, vm, settings
        self._events, self._meter, self._aws = events, meter, aws
        self._ec2, self._reader = Ec2(aws), EbsReader(aws)
        self._housekeeping = Housekeeping(events, vm)

    async def run(self) -> list[Path]:
        """The files. ConfigError, IntegrityError, StoreError, AwsError, RecoverError. Cut off, it is run again and
        reads the same EBS snapshots; files that are finished are written anew."""
        with self._housekeeping:
            return await self._run()

    async def look(self) -> list[str]:
        """What `run` would do, in clauses; nothing is written here, and nothing begun in AWS. The same errors."""
        vm = await vm_called(self._repository, self._vm)
        if self._settings.only_replica:
            point, source = await self._held(vm), f"the replica at {self._settings.replica}"
        else:
            record, point = await self._failed_over(vm)
            await self._pairs(vm, record, point)
            source = f"what {record.id_of('instance') or 'it'} has in AWS"
        self._demand_room(point)
        return [
            f"write disk {disk.name} ({size(disk.capacity_bytes)}) of {source} to "
            f"{self._settings.to / self._names(disk)[-1]}"
            for disk in point.record.disks
        ]

    async def _run(self) -> list[Path]:
        if self._settings.format == "vmdk":
            find_qemu_img()
        vm = await vm_called(self._repository, self._vm)
        if self._settings.only_replica:
            return await self._replica(vm)
        return await self._from_aws(vm, *await self._failed_over(vm))

    async def _failed_over(self, vm: VmId) -> tuple[FailoverRecord, Point]:
        """Its failover, and the restore point that it was to. ConfigError where it is not failed over, or elsewhere."""
        record = (await read_journal(self._repository, vm)).record
        if record is None or not record.holds:
            hint = "export a replica of it, with --replica PATH --only-replica, or correct --vm"
            raise ConfigError(f"VM {vm!r} is not failed over, so nothing of it is in AWS", hint=hint)
        region = await self._aws.region()
        if record.region != region:
            hint = f"give --region {record.region} here"
            raise ConfigError(f"VM {vm!r} was failed over to {record.region} and this is {region}", hint=hint)
        return record, await recall(self._repository, vm, record.point)

    async def _pairs(
        self, vm: VmId, record: FailoverRecord, point: Point
    ) -> list[tuple[Disk, StagedDisk, ReturningVolume]]:
        """Each disk with the EBS snapshot that it was started from, and its volume now."""
        returning = Returning(self._ec2)
        known = await staged_points(self._aws, self._repository.id, vm)
        staged = next((one for one in known if one.id == point.id), None)
        volumes = await returning.volumes(record.run, record.attempt, f"VM {vm}")
        await self._tell_if_running(vm, record.id_of("instance"))
        pairs: list[tuple[Disk, StagedDisk, ReturningVolume]] = []
        for disk in point.record.disks:
            source = staged.disk(disk.id) if staged else None
            if source is None:
                region = await self._aws.region()
                at = ["--at", str(point.id.sequence), "--region", region]
                staging = command(self._repository.store, "stage", vm, *at)
                raise RecoverError(
                    f"the EBS snapshot that disk {disk.name!r} was started from is gone",
                    where=point.id.label,
                    hint=f"stage that point again with {staging}, and run this again",
                )
            pairs.append((disk, source, volume_of(source, volumes)))
        return pairs

    async def _from_aws(self, vm: VmId, record: FailoverRecord, point: Point) -> list[Path]:
        returning, pairs = Returning(self._ec2), await self._pairs(vm, record, point)
        # What an export that was cut off left is ours, though not every file system says so.
        if not goes_on(self._settings.to, vm, record.run, self._events) or keeps_notes(self._settings.to):
            self._demand_room(point)
        export = begin_export(self._settings.to, vm, record.run, self._events)
        snapshots = [await returning.snapshot(volume, export.id, point.record.vm_name) for _, _, volume in pairs]
        files = []
        async with AsyncExitStack() as stack:
            replica = await self._base(vm, point, stack)
            for (disk, source, _), snapshot in zip(pairs, snapshots, strict=True):
                await returning.completed(snapshot)
                files.append(await self._disk(disk, source, snapshot, replica))
        left = [one for one in [*export.left, *snapshots] if not await self._removed(returning, one)]
        finish_export(self._settings.to, msgspec.structs.replace(export, left=left))
        return files

    async def _removed(self, returning: Returning, snapshot_id: str) -> bool:
        with self._housekeeping.trying("ec2:DeleteSnapshot", snapshot_id, denied=denied_by_aws):
            if (refusal := await returning.remove(snapshot_id)) is not None:
                raise refusal
            return True
        return False

    async def _tell_if_running(self, vm: VmId, instance_id: str) -> None:
        instance = await Launcher(self._ec2).get(instance_id) if instance_id else None
        if instance is not None and instance.state in ("pending", "running"):
            message = (
                f"{instance_id} is running: what it writes from now on is not in this export; stop it with `aws ec2 "
                f"stop-instances --instance-ids {instance_id}`, and export again"
            )
            self._events.emit(FailoverNote(vm=vm, message=message))

    async def _base(self, vm: VmId, point: Point, stack: AsyncExitStack) -> Replica | None:
        """The replica at the point that was failed over, held; None if none was named."""
        if self._settings.replica is None:
            return None
        replica = replica_at(self._settings.replica, vm, self._repository, point, None)
        await stack.enter_async_context(
            held_at(replica, point, lambda why: self._events.emit(FailoverNote(vm=vm, message=f"waiting: {why}")))
        )
        return replica

    async def _disk(self, disk: Disk, source: StagedDisk, snapshot: str, replica: Replica | None) -> Path:
        """One disk of AWS to its file."""
        part = self._part(disk)
        base = ExportBase(None, 0)
        self._remove_old(disk)
        if replica is not None and await self._is_child(source.snapshot_id, snapshot):
            table = replica.table(disk.id)
            table.check(disk.capacity_bytes, disk.root)
            base = ExportBase(table, disk.capacity_bytes)
            with opened(replica, disk) as (_, path):
                copy_sparse(path, part, WHAT, begun=mark_ours)
            pages, what = self._reader.changed(source.snapshot_id, snapshot), "what changed in AWS"
        else:
            pages, what = self._reader.blocks(snapshot), "all of the volume"
        gib = await self._gib(snapshot)
        capacity = disk.capacity_bytes if gib <= source.volume_gib else gib * GIB
        self._events.emit(ExportStart(disk=disk.name, source=what, bytes_total=capacity, path=str(part)))
        self._meter.total_bytes += capacity
        try:
            with DiskExport(part, capacity, base, self._meter, self._housekeeping) as writing:
                await writing.write(self._reader, snapshot, pages)
                await writing.prove()
                changed = writing.changed_bytes
        finally:
            if base.table is not None:
                base.table.close()
        return await self._finish(disk, part, capacity, changed)

    async def _is_child(self, first: str, second: str) -> bool:
        """Whether EBS can tell what changed between the two."""
        try:
            async for _ in self._reader.changed(first, second):
                return True
        except AwsError as error:
            if not unrelated(error):
                raise
            return False
        return True

    async def _gib(self, snapshot_id: str) -> int:
        answer = await self._ec2.ask("describe_snapshots", about=snapshot_id, SnapshotIds=[snapshot_id])
        return int(answer["Snapshots"][0]["VolumeSize"])

    async def _held(self, vm: VmId) -> Point:
        """The restore point that the replica says that it is at. ConfigError where there is none, or it is no such
        replica."""
        path = self._settings.replica
        assert path is not None
        place = ReplicaPlace(path, mode_of(path), None)
        record = place.read()
        if record is None or record.at is None or record.moving is not None:
            applying = command(self._repository.store, "apply", vm, "--to", str(path))
            hint = f"run {applying}, and then this again"
            raise ConfigError("the replica is not wholly at a restore point", where=str(path), hint=hint)
        ReplicaOwner(vm, self._repository.id, self._repository.store.uri, "--replica").demand(record, place)
        return await recall(self._repository, vm, record.at)

    async def _replica(self, vm: VmId) -> list[Path]:
        """The replica as it is."""
        path = self._settings.replica
        assert path is not None
        newest = await self._repository.newest(vm)
        if newest is None:
            raise ConfigError(f"VM {vm!r} has no restore point in this repository", hint="correct --vm or --repo")
        head = await self._repository.load(vm, newest)
        replica = replica_at(path, vm, self._repository, head, None)
        with replica.hold():
            at = replica.at
            if at is None or replica.moving is not None:
                applying = command(self._repository.store, "apply", vm, "--to", str(path))
                hint = f"run {applying}, and then this again"
                raise ConfigError("the replica is not wholly at a restore point", where=str(path), hint=hint)
            point = await recall(self._repository, vm, at)
            self._demand_room(point)
            with local_io(WHAT, self._settings.to):
                self._settings.to.mkdir(parents=True, exist_ok=True)
            files = []
            for disk in point.record.disks:
                part = self._part(disk)
                self._remove_old(disk)
                table = replica.table(disk.id)
                try:
                    table.check(disk.capacity_bytes, disk.root)
                    with opened(replica, disk) as (_, source):
                        copy_sparse(source, part, WHAT, begun=mark_ours)
                    self._events.emit(
                        ExportStart(
                            disk=disk.name,
                            source=f"the replica at {at.label}",
                            bytes_total=disk.capacity_bytes,
                            path=str(part),
                        )
                    )
                    self._meter.total_bytes += disk.capacity_bytes
                    base = ExportBase(table, disk.capacity_bytes)
                    writing = DiskExport(part, disk.capacity_bytes, base, self._meter, self._housekeeping)
                    with writing:
                        await writing.prove()
                finally:
                    table.close()
                files.append(await self._finish(disk, part, disk.capacity_bytes, 0))
        return files

    def _demand_room(self, point: Point) -> None:
        """ConfigError where a file of the user's is in the way."""
        for disk in point.record.disks:
            for name in self._names(disk):
                demand_ours(self._settings.to / name, WHAT)

    def _remove_old(self, disk: Disk) -> None:
        """What an export that was cut off or found no room has left: this one may need that room."""
        for name in self._names(disk)[:-1]:
            with local_io(WHAT, path := self._settings.to / name):
                path.unlink(missing_ok=True)

    def _names(self, disk: Disk) -> list[str]:
        """All files that an export of a disk makes, the one that stays last."""
        part = self._part(disk).name
        final = f"{part.removesuffix('.raw.part')}.{self._settings.format}"
        return [part, f"{part}.sums", f"{final}.part", final]

    def _part(self, disk: Disk) -> Path:
        return self._settings.to / f"{disk.name.removesuffix('.vmdk')}.raw.part"

    async def _finish(self, disk: Disk, part: Path, capacity: int, changed: int) -> Path:
        """The proved raw file under its name, or as a VMDK that holds the same."""
        final = part.with_name(part.name.removesuffix(".raw.part") + "." + self._settings.format)
        if self._settings.format == "vmdk":
            staged = final.with_name(final.name + ".part")
            with local_io(WHAT, staged):  # before qemu-img writes it: it may be cut off
                fd = open_regular(staged, os.O_WRONLY | os.O_CREAT)
                mark_ours(fd)
                os.close(fd)
            await to_vmdk(part, staged, final.name)
            await demand_same(part, staged)
            with local_io(WHAT, final):
                staged.replace(final)
            with self._housekeeping.trying(LOCAL, part):
                part.unlink()
        else:
            with local_io(WHAT, final):
                part.replace(final)
        with local_io(WHAT, final):
            sync_directory(final.parent)
        self._events.emit(
            ExportDisk(
                disk=disk.name,
                path=str(final),
                capacity_bytes=capacity,
                bytes_changed=changed,
                free_bytes=shutil.disk_usage(final.parent).free,
            )
        )
        return final
