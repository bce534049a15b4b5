"""One apply: a replica brought forward, restore point by restore point; owns the order that makes it resumable.

docs/format.md, "Applying a point"; point_apply.py is one of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec

from warmspare.apply.block_repair import BATCH_BLOCKS, BlockRepair
from warmspare.apply.damage import Damage
from warmspare.apply.point_apply import PointApply
from warmspare.apply.replica import Replica
from warmspare.errors import (
    ConfigError,
    IntegrityError,
    LeaseError,
    StoreError,
    WarmspareError,
    first_of,
)
from warmspare.format.restore_point import Disk
from warmspare.model.ids import PointId, VmId
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.apply_events import (
    ApplyDone,
    ApplyPoint,
    ApplyStart,
    ApplyWaiting,
    DiskLeft,
)
from warmspare.observe.kinds.finding_events import BlockRebuilt
from warmspare.observe.quantities import size
from warmspare.patience import outlasted
from warmspare.repository import disk_tables
from warmspare.repository.blocks.chain_blocks import ChainBlocks
from warmspare.repository.chain import Point, Repository, open_repository
from warmspare.repository.history.step import Step
from warmspare.repository.history.steps import descend, recall
from warmspare.repository.vm_lookup import find
from warmspare.state.local_files import local_io
from warmspare.state.replica_record import REPLICA, ReplicaDisk, ReplicaOwner, ReplicaPlace, mode_of
from warmspare.store.contract import Store
from warmspare.threads import Threads, in_thread

POLL_S = 5.0


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

    async def run(self, at: str | None = None) -> ApplyDone:
        """Bring the replica to the restore point `at` names, or to the newest.

        Raises the package's errors. Killed or cancelled anywhere, the next run goes on. IntegrityError with
        blocks named: the replica did move to the point, but for these blocks; the next run tries them again.
        """
        repository, point = await self._chosen(at)
        opened = self._opened(repository, point)
        with opened.replica.hold():
            return await self._walk(opened, point.id.sequence, explicit=at is not None)

    async def look(self, at: str | None = None) -> list[str]:
        """What `run` would do, in clauses; nothing is written, and no lock is taken. ConfigError, IntegrityError where
        it would be refused."""
        repository, final = await self._chosen(at)
        place = ReplicaPlace(self._target, mode_of(self._target), self._state)
        record = place.read()
        if record is not None:
            ReplicaOwner(self._vm, repository.id, self._store.uri, "--to").demand(record, place)
        before, moving = (record.at, record.moving) if record is not None else (None, None)
        self._demand_forward(repository, (before, moving), final.id.sequence, explicit=at is not None)
        steps = [step async for step in descend(repository, self._vm, before, final.id.sequence)]
        if not steps:
            return []
        most = sum(step.changed_blocks for step in steps) * BLOCK_BYTES
        way = f"from {before.label} to {final.id.label}" if before else f"from nothing to {final.id.label}"
        many = final.id.sequence - (before.sequence if before else 0)
        return [
            f"bring {self._target} {way}: {many} restore point{'s' if many > 1 else ''}, {size(most)} changed by them"
        ]

    async def follow(self, poll_s: float = POLL_S) -> None:
        """Keep the replica at the newest restore point until cancelled; each new point ends in `apply.done`.

        An outage of the store is waited out, from the first look on, and so is a drill of the replica; every other
        error ends it.
        """
        repository, newest = await outlasted(self._chosen, lambda error: self._waiting(error, poll_s), poll_s)
        opened = self._opened(repository, newest)
        replica, first = opened.replica, True
        with replica.hold():
            while True:
                try:
                    target = self._demand(await repository.newest(self._vm, hint=newest.id.sequence))
                    if first or replica.at is None or target != replica.at.sequence or _damaged(replica):
                        await self._walk(opened, target, explicit=False)
                    else:
                        await self._same(opened)
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

    def _opened(self, repository: Repository, point: Point) -> PointApply:
        disks = len(point.record.disks)
        replica = Replica(self._target, self._vm, repository, disks, state=self._state, initialize=self._initialize)
        return PointApply(repository, replica, self._vm, self._events, self._meter)

    async def _same(self, opened: PointApply) -> None:
        """IntegrityError if the point the replica is at was replaced."""
        at = opened.replica.at
        assert at
        await opened.repository.unchanged(self._vm, at, at.sequence)

    async def _walk(self, opened: PointApply, target: int, *, explicit: bool) -> ApplyDone:
        with opened.replica.moving_lock():
            return await self._moved(opened, target, explicit=explicit)

    async def _moved(self, opened: PointApply, target: int, *, explicit: bool) -> ApplyDone:
        repository, replica = opened.repository, opened.replica
        start = replica.at
        self._meter.restart()
        self._rebuilt = 0
        self._demand_forward(repository, (replica.at, replica.moving), target, explicit=explicit)
        final = await repository.load(self._vm, target)
        replica.admit(final.record)
        wanted = {disk.id for disk in final.record.disks}
        parent = await recall(repository, self._vm, start) if start is not None else None
        self._events.emit(
            ApplyStart(
                vm=self._vm,
                repository=self._store.uri,
                target=str(self._target),
                point=final.id.label,
                before=start.label if start else None,
            )
        )
        steps = [step async for step in descend(repository, self._vm, start, target)]
        await self._demand_same_way(repository, replica.moving, steps)
        if steps:
            await opened.run(steps, parent, wanted)
            self._events.emit(ApplyPoint(vm=self._vm, point=final.id.label, created=final.record.created))
        await self._heal(repository, replica, final)
        return self._done(replica, final, start)

    async def _demand_same_way(self, repository: Repository, moving: PointId | None, steps: Sequence[Step]) -> None:
        """IntegrityError where the replica was on its way to a point that is none of those on this way."""
        on_way = next((step for step in steps if moving and step.reaches(moving.sequence - 1)), None)
        if moving is None or on_way is None:
            return
        there = on_way.point.id
        if on_way.point.id.sequence != moving.sequence:  # it was dropped since
            with suppress(IntegrityError):
                there = (await recall(repository, self._vm, moving)).id
        if there != moving:
            raise IntegrityError(
                f"the repository was forked: this replica was on its way to restore point "
                f"{moving.label} of VM {self._vm!r} and now {there.label} stands there",
                where=self._store.uri,
                hint="put the right record back, or remove the replica and its state to begin anew",
            )

    def _demand_forward(
        self, repository: Repository, places: tuple[PointId | None, PointId | None], target: int, *, explicit: bool
    ) -> None:
        """places: where the replica is, and where it is on its way to."""
        for there in places:
            if there is None or there.sequence <= target:
                continue
            if explicit:
                verb = "is at" if there == places[0] else "is on its way to"
                raise ConfigError(
                    f"the replica {verb} restore point {there.label}, which is newer than {target}, and a replica "
                    "only goes forward",
                    where=str(self._target),
                    hint="apply the older point to another path",
                )
            raise repository.rolled_back(self._vm, there, target)

    def _done(self, replica: Replica, final: Point, start: PointId | None) -> ApplyDone:
        assert replica.record
        wanted = {disk.id for disk in final.record.disks}
        for left in replica.record.disks:
            if left.id not in wanted:
                self._events.emit(DiskLeft(vm=self._vm, disk=left.id, path=str(replica.path(left))))
        meter = self._meter
        paths = [str(replica.path(disk)) for disk in replica.record.disks if disk.id in wanted]
        done = ApplyDone(
            vm=self._vm,
            point=final.id.label,
            before=start.label if start else None,
            bytes_read=meter.read_bytes,
            bytes_written=meter.written_bytes,
            blocks_verified=meter.blocks_verified,
            blocks_rebuilt=self._rebuilt,
            seconds=round(meter.seconds, 3),
            disks=paths,
        )
        self._events.emit(done)
        return done

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
