"""A replica that is open brought to a restore point; owns what is verified before anything changes, and the order.

docs/format.md, "Applying a point": manifests verified and held against the hash table's root, the record says where the
replica is moving to, packs fetched and merged, disks synced, the record moved forward.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import msgspec

from warmspare.apply.damage import Damage
from warmspare.apply.merge import AlreadyThere, Merge
from warmspare.apply.replica import Replica
from warmspare.errors import IntegrityError
from warmspare.format.restore_point import Disk
from warmspare.model.ids import DiskId, VmId
from warmspare.model.units import block_count
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.apply_events import ApplyDiskDone, ApplyDiskStart
from warmspare.observe.kinds.finding_events import DamagedFrame
from warmspare.observe.kinds.repository_events import StateRebuild
from warmspare.repository import disk_tables
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.change import DiskChange, change
from warmspare.repository.history.step import Step
from warmspare.state.local_files import local_io
from warmspare.state.local_table import HashTable, TableDamagedError
from warmspare.state.replica_record import REPLICA, ReplicaDisk
from warmspare.threads import Threads, in_thread

MAX_FINDING_EVENTS = 100


@dataclass(slots=True)
class _Work:
    """One disk of the replica, open while a point is applied to it."""

    disk: Disk
    place: ReplicaDisk
    fd: int
    table: HashTable
    change: DiskChange
    fresh: bool  # nothing that lies there is of use: it starts from zeros
    held: AlreadyThere
    damage: Damage = field(default_factory=Damage)


class PointApply:
    """Of one VM, to a replica that is held. repository, replica: open. meter: is told what is read and written."""

    def __init__(self, repository: Repository, replica: Replica, vm: VmId, events: Events, meter: Meter) -> None:
        self.repository, self.replica = repository, replica
        self._vm, self._events, self._meter = vm, events, meter
        self._findings = 0

    async def run(self, steps: Sequence[Step], parent: Point | None, wanted: set[DiskId]) -> None:
        """From the parent's contents to those of the last step's point. wanted: disks; the others stay as they are."""
        replica, point = self.replica, steps[-1].point
        known = replica.record.disks if replica.record else []
        places = {p.id: p for p in [*known, *replica.admit(point.record)] if p.id in wanted or p in known}
        async with AsyncExitStack() as stack:
            works = [
                await self._prepare(steps, parent, disk, places[disk.id], stack)
                for disk in point.record.disks
                if disk.id in wanted
            ]
            at = replica.record.at if replica.record else None
            replica.move(at=at, moving=point.id, disks=list(places.values()))
            cores = len(os.sched_getaffinity(0))
            threads = Threads(cores, "apply")
            stack.callback(threads.close)
            for work in works:
                await self._disk(point, work, threads, stack)
            for work in works:
                with local_io(REPLICA, replica.path(work.place)):
                    await in_thread(os.fsync, work.fd)
                await in_thread(work.table.commit, point.id.sha256, work.disk.capacity_bytes)
                places[work.disk.id] = msgspec.structs.replace(
                    work.place, capacity_bytes=work.disk.capacity_bytes, damaged=work.damage.runs
                )
            replica.move(at=point.id, moving=None, disks=list(places.values()))

    async def _prepare(
        self, steps: Sequence[Step], parent: Point | None, disk: Disk, place: ReplicaDisk, stack: AsyncExitStack
    ) -> _Work:
        """Verify what the steps say of a disk before anything of the replica changes."""
        repository, replica, uri = self.repository, self.replica, self.repository.store.uri
        point = steps[-1].point
        before = parent.record.disk(disk.id) if parent else None
        if before and before.capacity_bytes > disk.capacity_bytes:
            raise IntegrityError(
                f"restore point {point.id.label} says that disk {disk.id} shrank from {before.capacity_bytes} to "
                f"{disk.capacity_bytes} bytes, which a disk never does",
                where=uri,
                hint="audit the repository",
            )
        table = stack.enter_context(replica.table(disk.id))
        fresh = before is None
        if before is None:
            await in_thread(table.reset)
        else:
            assert parent
            await self._table_at(parent, point, disk.id, table)
        made = await stack.enter_async_context(change(repository, steps, parent, disk, replica.scratch))
        # On the way to another point before, it holds blocks of that one too, and its table is no proof of any.
        held = (
            AlreadyThere.TABLE if table.generation != point.id.sha256 and replica.moving is None else AlreadyThere.BYTES
        )
        if table.generation != point.id.sha256:
            if made.from_nothing:
                await in_thread(table.stage_zero, 0, block_count(disk.capacity_bytes))
            await in_thread(disk_tables.stage_manifest, table, made.manifest)
        await in_thread(disk_tables.demand_root, table, disk, point, uri)
        if made.alone and replica.moving is None:
            held = AlreadyThere.NOTHING
        damage = Damage(place.damaged if before else [])
        return _Work(disk, place, -1, table, made, fresh, held, damage)

    async def _table_at(self, parent: Point, point: Point, disk_id: DiskId, table: HashTable) -> None:
        """Have the table of the parent, or of the point itself: where a killed run had come that far already, and where
        the parent's is lost."""
        for known in (point, parent):
            disk = known.record.disk(disk_id)
            if disk and table.generation == known.id.sha256:
                try:
                    await in_thread(table.check, disk.capacity_bytes, disk.root)
                    return
                except TableDamagedError:
                    break
        self._events.emit(StateRebuild(vm=self._vm, disk=disk_id, what="hash table"))
        await disk_tables.rebuild(self.repository, disk_id, point, table, self.replica.scratch)

    async def _disk(self, point: Point, work: _Work, threads: Threads, stack: AsyncExitStack) -> None:
        replica = self.replica
        disk, path = work.disk, replica.path(work.place)
        work.fd = stack.enter_context(replica.open_disk(work.place, make=work.fresh))
        if work.fresh:
            await in_thread(replica.empty, work.fd, work.place, disk.capacity_bytes)
        else:
            await in_thread(replica.resize, work.fd, work.place, disk.capacity_bytes)
        total = work.change.manifest.packs.total_bytes
        self._meter.total_bytes += total
        self._events.emit(
            ApplyDiskStart(
                vm=self._vm,
                disk=disk.id,
                point=point.id.label,
                path=str(path),
                capacity_bytes=disk.capacity_bytes,
                bytes_total=total,
            )
        )
        read, written = self._meter.read_bytes, self._meter.written_bytes
        self._meter.read_bytes += work.change.bytes
        merge = Merge(
            self.repository,
            self._vm,
            work.change,
            work.fd,
            path,
            work.damage,
            threads,
            self._meter,
            work.table if work.held is AlreadyThere.TABLE else None,
            replica.scratch,
            held=work.held,
        )
        for finding in await merge.run():
            self._finding(disk.id, finding)
        self._events.emit(
            ApplyDiskDone(
                vm=self._vm,
                disk=disk.id,
                point=point.id.label,
                bytes_read=self._meter.read_bytes - read,
                bytes_written=self._meter.written_bytes - written,
            )
        )

    def _finding(self, disk: DiskId, message: str) -> None:
        self._findings += 1
        if self._findings <= MAX_FINDING_EVENTS:
            self._events.emit(DamagedFrame(vm=self._vm, disk=disk, message=message))
