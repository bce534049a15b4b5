"""One apply: a replica brought forward, restore point by restore point; owns the order that makes it resumable.

docs/format.md, "Applying a point". For each point: manifests verified and held against the hash table's root,
the record says where the replica is moving to, packs fetched and merged, disks synced, record moved forward.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from warmspare.apply.block_repair import BATCH_BLOCKS, BlockRepair
from warmspare.apply.damage import Damage
from warmspare.apply.merge import Merge
from warmspare.apply.replica import Replica
from warmspare.errors import (
    ConfigError,
    IntegrityError,
    LeaseError,
    NotFoundError,
    StoreError,
    WarmspareError,
    first_of,
)
from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import Disk
from warmspare.model.ids import DiskId, PointId, VmId
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.apply import (
    ApplyDiskDone,
    ApplyDiskStart,
    ApplyDone,
    ApplyPoint,
    ApplyStart,
    ApplyWaiting,
    DiskLeft,
)
from warmspare.observe.kinds.finding import BlockRebuilt, DamagedFrame
from warmspare.observe.kinds.repository import StateRebuild
from warmspare.patience import outlasted
from warmspare.repository import disk_tables
from warmspare.repository.blocks.chain_blocks import ChainBlocks
from warmspare.repository.chain import Point, Repository, open_repository
from warmspare.repository.finding import find
from warmspare.repository.verified_objects import manifest_of
from warmspare.state.local_files import local_io
from warmspare.state.local_table import HashTable, TableDamagedError
from warmspare.state.replica_record import REPLICA, ReplicaDisk
from warmspare.store.contract import Store
from warmspare.threads import Threads, in_thread

MAX_FINDING_EVENTS = 100
POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What `apply.done` tells. before: where the replica was (None: nowhere). disks: paths of the replica's files."""

    point: PointId
    before: PointId | None
    bytes_read: int
    bytes_written: int
    blocks_verified: int
    blocks_rebuilt: int
    seconds: float
    disks: list[str]


@dataclass(slots=True)
class _Work:
    """One disk of the replica, open while a point is applied to it."""

    disk: Disk
    place: ReplicaDisk
    fd: int
    table: HashTable
    manifest: ManifestReader
    fresh: bool  # the disk was not in the parent: it starts from zeros
    damage: Damage = field(default_factory=Damage)


class Receiver:
    """Applies one VM's restore points to one target. vm: its ID in the repository, or its name there. Settings are all
    arguments."""

    def __init__(
        self,
        store: Store,
        vm: str,
        target: Path,
        events: Events,
        *,
        state: Path | None = None,
        initialize: bool = False,
        meter: Meter | None = None,
    ) -> None:
        self._store, self._target, self._events = store, target, events
        self._vm = VmId(vm)  # as given, until the repository is asked whose name it is
        self._state, self._initialize = state, initialize
        self._meter = meter or Meter()
        self._rebuilt = 0
        self._findings = 0

    async def run(self, at: str | None = None) -> ApplyResult:
        """Bring the replica to the restore point `at` names, or to the newest.

        Raises the package's errors. Killed or cancelled anywhere, the next run goes on. IntegrityError with
        blocks named: the replica did move to the point, but for these blocks; the next run tries them again.
        """
        repository, point = await self._chosen(at)
        replica = self._replica(repository, point)
        with replica.hold():
            return await self._walk(repository, replica, point.id.sequence, explicit=at is not None)

    async def follow(self, poll_s: float = POLL_S) -> None:
        """Keep the replica at the newest restore point until cancelled; each new point ends in `apply.done`.

        An outage of the store is waited out, from the first look on, and so is a drill of the replica; every other
        error ends it.
        """
        repository, newest = await outlasted(self._chosen, lambda error: self._waiting(error, poll_s), poll_s)
        replica = self._replica(repository, newest)
        first = True
        with replica.hold():
            while True:
                try:
                    target = self._demand(await repository.newest(self._vm, hint=newest.id.sequence))
                    if first or replica.at is None or target != replica.at.sequence or _damaged(replica):
                        await self._walk(repository, replica, target, explicit=False)
                    else:
                        await self._same(repository, replica)
                    first = False
                except* (StoreError, LeaseError) as group:
                    error = first_of(group)
                    if not error.retryable:
                        raise
                    self._waiting(error, poll_s)
                await asyncio.sleep(poll_s)

    async def _chosen(self, at: str | None = None) -> tuple[Repository, Point]:
        """The repository, and the VM's restore point that `at` names, or its newest."""
        repository = await open_repository(self._store)
        found = await find(repository, self._vm)
        self._vm = found.id
        if at is not None:
            return repository, await repository.load(self._vm, await repository.resolve(self._vm, at))
        return repository, found.point or await repository.load(self._vm, self._demand(found.newest))

    def _waiting(self, error: WarmspareError, poll_s: float) -> None:
        self._events.emit(ApplyWaiting(vm=self._vm, message=error.sentence, seconds=poll_s))

    def _demand(self, newest: int | None) -> int:
        if newest is None:
            raise ConfigError(
                f"VM {self._vm!r} has no restore point in this repository",
                where=self._store.uri,
                hint="check --vm and --repo, or make one with `warmspare sync`",
            )
        return newest

    def _replica(self, repository: Repository, point: Point) -> Replica:
        return Replica(
            self._target,
            self._vm,
            repository,
            len(point.record.disks),
            state=self._state,
            initialize=self._initialize,
        )

    async def _same(self, repository: Repository, replica: Replica) -> None:
        """IntegrityError if the point the replica is at was replaced."""
        assert replica.at
        async for _ in repository.descend(self._vm, replica.at, replica.at.sequence):
            pass

    async def _walk(self, repository: Repository, replica: Replica, target: int, *, explicit: bool) -> ApplyResult:
        with replica.moving_lock():
            return await self._moved(repository, replica, target, explicit=explicit)

    async def _moved(self, repository: Repository, replica: Replica, target: int, *, explicit: bool) -> ApplyResult:
        start = replica.at
        self._meter.restart()
        self._rebuilt = 0
        self._demand_forward(repository, replica, target, explicit=explicit)
        final = await repository.load(self._vm, target)
        replica.admit(final.record)
        wanted = {disk.id for disk in final.record.disks}
        parent = await self._parent(repository, start, target)
        self._events.emit(
            ApplyStart(
                vm=self._vm,
                repository=self._store.uri,
                target=str(self._target),
                point=final.id.label,
                before=start.label if start else None,
            )
        )
        async for point in repository.descend(self._vm, start, target):
            if replica.moving and replica.moving.sequence == point.id.sequence and replica.moving != point.id:
                raise IntegrityError(
                    f"the repository was forked: this replica was on its way to restore point "
                    f"{replica.moving.label} of VM {self._vm!r} and now {point.id.label} stands there",
                    where=self._store.uri,
                    hint="put the right record back, or remove the replica and its state to begin anew",
                )
            await self._step(repository, replica, point, parent, wanted)
            self._events.emit(ApplyPoint(vm=self._vm, point=point.id.label, created=point.record.created))
            parent = point
        await self._heal(repository, replica, final)
        return self._done(replica, final, start)

    async def _parent(self, repository: Repository, start: PointId | None, target: int) -> Point | None:
        """The point that the replica is at, as the repository has it now; `descend` proves that it is the same."""
        if start is None:
            return None
        try:
            return await repository.load(self._vm, start.sequence)
        except NotFoundError:
            raise repository.rolled_back(self._vm, start, target) from None

    def _demand_forward(self, repository: Repository, replica: Replica, target: int, *, explicit: bool) -> None:
        for there in (replica.at, replica.moving):
            if there is None or there.sequence <= target:
                continue
            if explicit:
                verb = "is at" if there == replica.at else "is on its way to"
                raise ConfigError(
                    f"the replica {verb} restore point {there.label}, which is newer than {target}, and a replica "
                    "only goes forward",
                    where=str(self._target),
                    hint="apply the older point to another path",
                )
            raise repository.rolled_back(self._vm, there, target)

    def _done(self, replica: Replica, final: Point, start: PointId | None) -> ApplyResult:
        assert replica.record
        wanted = {disk.id for disk in final.record.disks}
        for left in replica.record.disks:
            if left.id not in wanted:
                self._events.emit(DiskLeft(vm=self._vm, disk=left.id, path=str(replica.path(left))))
        meter = self._meter
        paths = [str(replica.path(disk)) for disk in replica.record.disks if disk.id in wanted]
        result = ApplyResult(
            final.id,
            start,
            meter.read_bytes,
            meter.written_bytes,
            meter.blocks_verified,
            self._rebuilt,
            meter.seconds,
            paths,
        )
        self._events.emit(
            ApplyDone(
                vm=self._vm,
                point=final.id.label,
                before=start.label if start else None,
                bytes_read=result.bytes_read,
                bytes_written=result.bytes_written,
                blocks_verified=result.blocks_verified,
                blocks_rebuilt=result.blocks_rebuilt,
                seconds=round(result.seconds, 3),
                disks=paths,
            )
        )
        return result

    # one restore point

    async def _step(
        self, repository: Repository, replica: Replica, point: Point, parent: Point | None, wanted: set[DiskId]
    ) -> None:
        known = replica.record.disks if replica.record else []
        places = {p.id: p for p in [*known, *replica.admit(point.record)] if p.id in wanted or p in known}
        async with AsyncExitStack() as stack:
            works = [
                await self._prepare(repository, replica, point, parent, disk, places[disk.id], stack)
                for disk in point.record.disks
                if disk.id in wanted
            ]
            at = replica.record.at if replica.record else None
            replica.move(at=at, moving=point.id, disks=list(places.values()))
            cores = len(os.sched_getaffinity(0))
            threads = Threads(cores, "apply")
            stack.callback(threads.close)
            for work in works:
                await self._disk(repository, replica, point, work, threads, stack)
            for work in works:
                with local_io(REPLICA, replica.path(work.place)):
                    await in_thread(os.fsync, work.fd)
                await in_thread(work.table.commit, point.id.sha256, work.disk.capacity_bytes)
                places[work.disk.id] = msgspec.structs.replace(
                    work.place, capacity_bytes=work.disk.capacity_bytes, damaged=work.damage.runs
                )
            replica.move(at=point.id, moving=None, disks=list(places.values()))

    async def _prepare(
        self,
        repository: Repository,
        replica: Replica,
        point: Point,
        parent: Point | None,
        disk: Disk,
        place: ReplicaDisk,
        stack: AsyncExitStack,
    ) -> _Work:
        """Verify what the point says of a disk before anything of the replica changes."""
        before = parent.record.disk(disk.id) if parent else None
        if before and before.capacity_bytes > disk.capacity_bytes:
            raise IntegrityError(
                f"restore point {point.id.label} says that disk {disk.id} shrank from {before.capacity_bytes} to "
                f"{disk.capacity_bytes} bytes, which a disk never does",
                where=self._store.uri,
                hint="audit the repository",
            )
        table = stack.enter_context(replica.table(disk.id))
        if before is None:
            await in_thread(table.reset)
        else:
            assert parent
            await self._table_at(repository, replica, parent, point, disk.id, table)
        manifest = await stack.enter_async_context(manifest_of(repository, point.record, disk, replica.scratch))
        if table.generation != point.id.sha256:
            await in_thread(disk_tables.stage_manifest, table, manifest)
        await in_thread(disk_tables.demand_root, table, disk, point, self._store.uri)
        damage = Damage(place.damaged if before else [])
        return _Work(disk, place, -1, table, manifest, before is None, damage)

    async def _table_at(
        self, repository: Repository, replica: Replica, parent: Point, point: Point, disk_id: DiskId, table: HashTable
    ) -> None:
        """Have the table of the parent, or of the point itself where a killed run had come that far already."""
        for known in (point, parent):
            disk = known.record.disk(disk_id)
            if disk and table.generation == known.id.sha256:
                try:
                    await in_thread(table.check, disk.capacity_bytes, disk.root)
                    return
                except TableDamagedError:
                    break
        self._events.emit(StateRebuild(vm=self._vm, disk=disk_id, what="hash table"))
        await disk_tables.rebuild(repository, disk_id, parent, table, replica.scratch)

    async def _disk(
        self,
        repository: Repository,
        replica: Replica,
        point: Point,
        work: _Work,
        threads: Threads,
        stack: AsyncExitStack,
    ) -> None:
        disk, path = work.disk, replica.path(work.place)
        work.fd = stack.enter_context(replica.open_disk(work.place, make=work.fresh))
        if work.fresh:
            await in_thread(replica.empty, work.fd, work.place, disk.capacity_bytes)
        else:
            await in_thread(replica.resize, work.fd, work.place, disk.capacity_bytes)
        total = work.manifest.packs.total_bytes
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
        self._meter.read_bytes += disk.manifest.bytes
        merge = Merge(repository, point, disk, work.fd, path, work.manifest, work.damage, threads, self._meter)
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

    # repair

    async def _heal(self, repository: Repository, replica: Replica, final: Point) -> None:
        """Rebuild what did not verify from the chain. IntegrityError naming the blocks that stay wrong."""
        assert replica.record
        lost: list[str] = []
        for place in replica.record.disks:
            disk = final.record.disk(place.id)
            if disk and place.damaged:
                lost += await self._heal_disk(repository, replica, final, disk, place)
        if lost:
            raise IntegrityError(
                "the replica is inconsistent: " + "; ".join(lost),
                where=str(self._target),
                hint="put the damaged objects back from a copy of the repository and apply again, or sync these "
                "blocks again from the source",
            )

    async def _heal_disk(
        self, repository: Repository, replica: Replica, final: Point, disk: Disk, place: ReplicaDisk
    ) -> list[str]:
        assert replica.record
        path = replica.path(place)
        damage = Damage(place.damaged)
        why = ""
        async with AsyncExitStack() as stack:
            table = stack.enter_context(replica.table(disk.id))
            if table.generation != final.id.sha256:
                await disk_tables.rebuild(repository, disk.id, final, table, replica.scratch)
            table.check(disk.capacity_bytes, disk.root)
            fd = stack.enter_context(replica.open_disk(place, make=False))
            threads = Threads(len(os.sched_getaffinity(0)), "apply")
            stack.callback(threads.close)
            # What a repair fetches is not of what this apply has to fetch: it has a meter of its own.
            chain = ChainBlocks(repository, final, disk, replica.scratch, threads, Meter())
            repair = BlockRepair(await stack.enter_async_context(chain), fd, disk.capacity_bytes)
            for blocks in damage.batches(BATCH_BLOCKS):
                with local_io(REPLICA, path):
                    outcome = await repair.repair(blocks, table.read(blocks))
                damage.discard(outcome.sound)
                self._rebuilt += len(outcome.rebuilt)
                self._meter.blocks_verified += len(outcome.sound)
                if outcome.rebuilt:
                    self._events.emit(BlockRebuilt(vm=self._vm, disk=disk.id, blocks=outcome.rebuilt))
                why = why or (outcome.lost[0][1] if outcome.lost else "")
            with local_io(REPLICA, path):
                await in_thread(os.fsync, fd)
        healed = msgspec.structs.replace(place, damaged=damage.runs)
        disks = [healed if known.id == place.id else known for known in replica.record.disks]
        replica.move(at=replica.record.at, moving=replica.record.moving, disks=disks)
        if not len(damage):
            return []
        return [
            f"{len(damage)} {'block' if len(damage) == 1 else 'blocks'} of disk {disk.id} ({damage.describe()}) "
            f"did not verify at restore point {final.id.label}: {why}"
        ]


def _damaged(replica: Replica) -> bool:
    return bool(replica.record and any(disk.damaged for disk in replica.record.disks))
