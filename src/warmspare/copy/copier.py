"""Restore points of a repository copied to another, only what is missing; owns the order that keeps both right.

As a sync publishes: packs, then manifests, then tables, then the record, each point after its parent, under the
destination's lease. A destination keeps its own ID and gets the records byte for byte, so a point has the same identity
in both. One that went another way is refused before anything is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from warmspare.copy.object_copy import Carrier, Read, Wanted
from warmspare.errors import ConfigError, IntegrityError, LeaseError
from warmspare.format import restore_point
from warmspare.format.retained.retention import Fold
from warmspare.model.ids import PointId, VmId, VmKey, new_run, vm_key
from warmspare.observe.events import Events, Meter
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.apply_events import CopyPoint, CopyStart
from warmspare.observe.quantities import size
from warmspare.repository.chain import Point, open_repository
from warmspare.repository.history import retained
from warmspare.repository.history.descents import write_descent
from warmspare.repository.history.step import Step, StepManifest
from warmspare.repository.history.steps import descend, dropped, recall
from warmspare.repository.trust import StoreTrust
from warmspare.repository.verified_objects import LocalObject, fetched, read_manifest
from warmspare.repository.vm_index import VmIndex
from warmspare.repository.vm_lookup import find
from warmspare.store import layout
from warmspare.store.around.counting import CountingStore
from warmspare.store.clearing import Clearing
from warmspare.store.contract import Store
from warmspare.store.lease import Lease, watching
from warmspare.threads import in_thread

OBJECTS_AT_ONCE = 4  # each has one part of 8 MiB in hand, besides those the store has under way


@dataclass(frozen=True, slots=True)
class Planned:
    """A restore point to copy, and how it is come to. bytes: about what its objects are, by what its sync sent."""

    step: Step
    bytes: int

    @property
    def id(self) -> PointId:
        return self.step.point.id


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """One VM: the points to copy, oldest first; the newest that the destination had when this was made, its ID, and
    what that called the VM."""

    vm: VmId
    newest: int | None
    newest_id: PointId | None
    called: str | None
    points: Sequence[Planned]

    @property
    def words(self) -> str:
        """What is to be done, as a clause."""
        first, last = self.points[0].id.label, self.points[-1].id.label
        which = f"restore point {first}" if len(self.points) == 1 else f"restore points {first} to {last}"
        return f"copy {which} of VM {self.vm!r}, {size(sum(point.bytes for point in self.points))} at most"


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What `copy.done` tells. there: objects that stood at the destination already, of points that it lacked."""

    vms: int
    points: int
    objects: int
    there: int
    bytes_read: int
    bytes_sent: int
    seconds: float


class Copier:
    """Copies from one store to another. Settings are all arguments; `run` does it once.

    state: this host's state directory, which has room for the manifests of one point. single_sender: no other host
    sends to the target.
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        state: Path,
        events: Events,
        *,
        meter: Meter | None = None,
        single_sender: bool = False,
    ) -> None:
        self._meter = meter or Meter()
        self._source_store, self._target_store = source, CountingStore(target, self._on_sent)
        self._scratch, self._events = state / "tmp", events
        self._housekeeping = Housekeeping(events)
        self._trust = StoreTrust(state, events, single_sender=single_sender)
        self._objects = self._there = 0

    def _on_sent(self, size: int) -> None:
        self._meter.sent_bytes += size

    async def run(self, vm: str | None = None) -> CopyResult:
        """Copy one VM (its ID or name in the source), or all. Returns when all is published.

        Raises the package's errors: what was published until then stands, and is right; a rerun goes on. A cancel
        leaves objects that the next run finds and uses.
        """
        plans = await self.look(vm)
        self._carrier = Carrier(self._source, self._target, self._events, self._meter)
        points = sum(len(plan.points) for plan in plans)
        self._meter.total_bytes = sum(entry.bytes for plan in plans for entry in plan.points)
        self._events.emit(
            CopyStart(
                source=self._source_store.uri,
                destination=self._target_store.uri,
                vms=[plan.vm for plan in plans],
                points=points,
                bytes_total=self._meter.total_bytes,
            )
        )
        if plans:
            await self._trust.demand(self._target)
        try:
            with self._housekeeping:
                for plan in plans:
                    await self._vm(plan)
        except IntegrityError:
            self._trust.forget()
            raise
        return CopyResult(
            len(plans),
            points,
            self._objects,
            self._there,
            self._meter.read_bytes,
            self._target_store.sent_bytes,
            self._meter.seconds,
        )

    async def look(self, vm: str | None = None) -> list[CopyPlan]:
        """What is missing, of each VM of which anything is. Writes nothing."""
        self._source = await open_repository(self._source_store)
        names = await self._names(vm)
        self._target = await open_repository(self._target_store)
        return [plan for name in names if (plan := await self._plan(name)).points]

    async def _names(self, vm: str | None) -> list[VmId]:
        if vm is None:
            return await self._source.vms()
        found = await find(self._source, vm)
        if found.newest is None:
            where = self._source_store.uri
            raise ConfigError(f"VM {vm!r} has no restore point in the source", where=where, hint="check --vm")
        return [found.id]

    async def _plan(self, vm: VmId) -> CopyPlan:
        """What the destination lacks, every record of it proved to descend from what it has. IntegrityError where the
        two have different histories, or the source's does not add up."""
        newest, there = await self._source.newest(vm), await self._target.newest(vm)
        known = await self._common(vm, newest, there) if newest and there else None
        chain = descend(self._source, vm, known.id if known else None, newest or 0)
        called = known.record.vm_name if known else None
        return CopyPlan(
            vm,
            there,
            known.id if known else None,
            called,
            [Planned(step, step.point.record.bytes_sent) async for step in chain],
        )

    async def _common(self, vm: VmId, ours: int, theirs: int) -> Point:
        """The newest point that both should have: the newest of one of them, which the other may have dropped. Records
        name their parents, so equal ones have one history."""
        newest = await (self._source.load(vm, ours) if ours <= theirs else self._target.load(vm, theirs))
        other = self._target if ours <= theirs else self._source
        try:
            return await recall(other, vm, newest.id)
        except IntegrityError as error:
            raise IntegrityError(
                f"the destination has another history of VM {vm!r}: restore point {newest.id.label} of the "
                f"{'source' if ours <= theirs else 'destination'} is not in that of the other ({error.what})",
                where=self._target_store.uri,
                hint="copy to an empty place, or find out which of the two is to be kept",
            ) from None

    async def _vm(self, plan: CopyPlan) -> None:
        key = vm_key(plan.vm)
        telling = watching(self._events, plan.vm)
        async with Lease.hold(self._target_store, layout.lease_key(key), on_watch=telling) as lease:
            if await self._target.newest(plan.vm) != plan.newest:  # a sync was there before we had the lease
                plan = await self._plan(plan.vm)
            if plan.points:
                await self._abort_stale(key, plan.points[0].step)
            newest, called, at = None, plan.called, plan.newest_id
            for entry in plan.points:
                newest = await self._point(plan.vm, entry, lease, called, at)
                called, at = newest.record.vm_name, newest.id
            if newest is not None:  # as a sync there would: the source's index tells of another place
                await VmIndex(self._target).note(newest, plan.called, self._housekeeping)

    async def _abort_stale(self, vm: VmKey, step: Step) -> None:
        """Remove the uploads that a copy before this one died in: nobody else writes objects of these runs here."""
        runs = {step.point.record.run, *([step.fold.run] if step.fold else [])}
        for prefix in (prefix for run in runs for prefix in layout.run_prefixes(vm, run)):
            await Clearing(self._target_store, self._housekeeping).uploads(prefix)

    async def _point(
        self, vm: VmId, planned: Planned, lease: Lease, called: str | None, before: PointId | None
    ) -> Point:
        """called: what the point before it calls the VM. before: that point at the destination."""
        key, label = layout.point_key(vm_key(vm), planned.id.sequence), planned.id.label
        data = await self._source.store.get(key, max_bytes=restore_point.MAX_POINT_BYTES)
        entry = self._source.parse(vm, planned.id.sequence, data)
        if entry.id != planned.id:
            raise IntegrityError(
                f"restore point {label} of VM {vm!r} became {entry.id.label} while it was copied",
                where=self._source.where(key),
                hint="find out who writes to the source",
            )
        objects, there = self._objects, self._there
        async with AsyncExitStack() as stack:
            stated = [one for disk in entry.record.disks if (one := planned.step.manifest(disk.id)) is not None]
            manifests = [(one, await self._fetch(one, stack)) for one in stated]
            await self._below(planned.step, manifests, planned.bytes, before)
        lease.check()
        if planned.step.fold is not None:
            await self._fold(vm, planned.step.fold, before)
        await VmIndex(self._target).announce(entry, called, self._housekeeping)
        lease.check()
        if not await self._target.publish(vm, planned.id.sequence, data):
            raise IntegrityError(
                f"another restore point {planned.id.sequence} of VM {vm!r} was published at the destination meanwhile",
                where=self._target_store.uri,
                hint="let no sync write there while a copy does; nothing of it was overwritten",
            )
        await self._target.confirm(vm, entry, follows=before)
        self._events.emit(
            CopyPoint(
                vm=vm,
                point=label,
                created=entry.record.created,
                objects=self._objects - objects,
                objects_there=self._there - there,
            )
        )
        return entry

    async def _fold(self, vm: VmId, fold: Fold, before: PointId | None) -> None:
        """Have the destination say what its next point stands for: what lies between the newest that it has and that.
        The manifest says too much then, and nothing wrong (docs/format.md, "Retention record")."""
        there = await retained.newest(self._target, vm)
        points = [point async for point in dropped(self._source, vm, fold)]
        lacking = [point for point in points if before is None or point.id.sequence > before.sequence]
        folds = list(there.record.folds) if there else []
        if lacking:
            run = new_run()
            parts = await write_descent(self._target, vm, run, fold.target.sequence, lacking)
            folds.append(structs.replace(fold, base=before, dropped=len(lacking), descent=parts))
            if not await retained.write(self._target, vm, there, folds):
                raise LeaseError(
                    f"another changed what is kept of VM {vm!r} at the destination meanwhile",
                    where=self._target_store.uri,
                    hint="run it again",
                    retryable=True,
                )

    async def _fetch(self, manifest: StepManifest, stack: AsyncExitStack) -> LocalObject:
        copy = await stack.enter_async_context(fetched(self._source, manifest.ref, self._scratch, manifest.name))
        self._meter.read_bytes += copy.total_bytes
        return copy

    async def _below(
        self, step: Step, manifests: list[tuple[StepManifest, LocalObject]], estimate: int, before: PointId | None
    ) -> None:
        """Everything that the record names, or what stands for it, in order."""
        record = step.point.record
        vm, number = vm_key(record.vm_id), record.sequence
        where = self._source.where(layout.point_key(vm, number))
        pack_bytes = 0
        indexes: list[tuple[Wanted, Read]] = []
        tables: list[Wanted] = []
        for stated, copy in manifests:
            pack_bytes += read_manifest(copy, stated).packs.once().total_bytes
            kind = "folds" if stated.folded else "manifests"
            indexes.append(
                (Wanted.below(f"{layout.vm_prefix(vm)}{kind}/", stated.ref, stated.name, where), _reader(copy))
            )
            disk = stated.disk
            # One of a point that the destination has came with that.
            if disk.checkpoint and disk.checkpoint.sequence > (before.sequence if before else 0):
                what = f"the hash table checkpoint of disk {disk.id} in restore point {number}"
                tables.append(Wanted.below(f"{layout.vm_prefix(vm)}tables/", disk.checkpoint.table, what, where))
        others = [*(wanted for wanted, _ in indexes), *tables]
        self._meter.total_bytes += pack_bytes + sum(wanted.bytes for wanted in others) - estimate
        for stated, copy in manifests:
            await self._bring((Wanted.pack(vm, ref), None) for ref in read_manifest(copy, stated).packs.once())
        await self._bring(indexes)
        await self._bring((wanted, None) for wanted in tables)

    async def _bring(self, wanted: Iterable[tuple[Wanted, Read | None]]) -> None:
        """A few at once; the first that fails cancels the others."""
        todo = iter(wanted)

        async def work() -> None:
            for one, read in todo:
                if await self._carrier.bring(one, read):
                    self._objects += 1
                else:
                    self._there += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(OBJECTS_AT_ONCE):
                tasks.create_task(work(), name="copy")


def _reader(copy: LocalObject) -> Read:
    async def read(offset: int, length: int) -> bytes:
        return await in_thread(copy.read_at, offset, length)

    return read
