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

from warmspare.copy.object_copy import Carrier, Read, Wanted
from warmspare.errors import ConfigError, IntegrityError, NotFoundError
from warmspare.format import restore_point
from warmspare.format.restore_point import Disk, RestorePoint
from warmspare.model.ids import PointId, RunId, VmId, VmKey, vm_key
from warmspare.observe.events import Events, Meter
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.apply_events import CopyPoint, CopyStart
from warmspare.observe.quantities import size
from warmspare.repository.chain import Point, open_repository
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
    """A restore point to copy. run: of its objects. bytes: about what they are, by what its sync sent."""

    id: PointId
    run: RunId
    bytes: int


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """One VM: the points to copy, oldest first; the newest that the destination had when this was made, and what that
    called the VM."""

    vm: VmId
    newest: int | None
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
        known = await self._common(vm, min(newest, there)) if newest and there else None
        chain = self._source.descend(vm, known.id if known else None, newest or 0)
        called = known.record.vm_name if known else None
        return CopyPlan(vm, there, called, [Planned(p.id, p.record.run, p.record.bytes_sent) async for p in chain])

    async def _common(self, vm: VmId, sequence: int) -> Point:
        """The newest point that both should have. Records name their parents, so equal ones have one history."""
        try:
            ours, theirs = await self._source.load(vm, sequence), await self._target.load(vm, sequence)
        except NotFoundError as error:
            raise IntegrityError(
                f"restore point {sequence} of VM {vm!r} is missing though later ones are there",
                where=error.where,
                hint="put the missing record back",
            ) from None
        if ours.id != theirs.id:
            raise IntegrityError(
                f"the destination has another history of VM {vm!r}: its restore point {theirs.id.label} is "
                f"{ours.id.label} in the source",
                where=self._target_store.uri,
                hint="copy to an empty place, or find out which of the two is to be kept",
            )
        return theirs

    async def _vm(self, plan: CopyPlan) -> None:
        key = vm_key(plan.vm)
        telling = watching(self._events, plan.vm)
        async with Lease.hold(self._target_store, layout.lease_key(key), on_watch=telling) as lease:
            if await self._target.newest(plan.vm) != plan.newest:  # a sync was there before we had the lease
                plan = await self._plan(plan.vm)
            if plan.points:
                await self._abort_stale(key, plan.points[0].run)
            newest, called = None, plan.called
            for entry in plan.points:
                newest = await self._point(plan.vm, entry, lease, called)
                called = newest.record.vm_name
            if newest is not None:  # as a sync there would: the source's index tells of another place
                await VmIndex(self._target).note(newest, plan.called, self._housekeeping)

    async def _abort_stale(self, vm: VmKey, run: RunId) -> None:
        """Remove the uploads that a copy before this one died in: nobody else writes objects of that run here."""
        for prefix in layout.run_prefixes(vm, run):
            await Clearing(self._target_store, self._housekeeping).uploads(prefix)

    async def _point(self, vm: VmId, planned: Planned, lease: Lease, called: str | None) -> Point:
        """called: what the point before it calls the VM."""
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
            manifests = [(d, await self._fetch(entry.record, d, stack)) for d in entry.record.disks]
            await self._below(entry.record, manifests, planned.bytes)
        await VmIndex(self._target).announce(entry, called, self._housekeeping)
        lease.check()
        if not await self._target.publish(vm, planned.id.sequence, data):
            raise IntegrityError(
                f"another restore point {planned.id.sequence} of VM {vm!r} was published at the destination meanwhile",
                where=self._target_store.uri,
                hint="let no sync write there while a copy does; nothing of it was overwritten",
            )
        await self._target.confirm(vm, entry)
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

    async def _fetch(self, record: RestorePoint, disk: Disk, stack: AsyncExitStack) -> LocalObject:
        what = f"the manifest of disk {disk.id} in restore point {record.sequence}"
        copy = await stack.enter_async_context(fetched(self._source, disk.manifest, self._scratch, what))
        self._meter.read_bytes += copy.total_bytes
        return copy

    async def _below(self, record: RestorePoint, manifests: list[tuple[Disk, LocalObject]], estimate: int) -> None:
        """Everything that the record names, in order."""
        vm, number = vm_key(record.vm_id), record.sequence
        where = self._source.where(layout.point_key(vm, number))
        pack_bytes = 0
        indexes: list[tuple[Wanted, Read]] = []
        tables: list[Wanted] = []
        for disk, copy in manifests:
            pack_bytes += read_manifest(copy, record, disk).packs.once().total_bytes
            what = f"the manifest of disk {disk.id} in restore point {number}"
            wanted = Wanted.below(f"{layout.vm_prefix(vm)}manifests/", disk.manifest, what, where)
            indexes.append((wanted, _reader(copy)))
            if disk.checkpoint and disk.checkpoint.sequence == number:  # else it came with its own point
                what = f"the hash table checkpoint of disk {disk.id} in restore point {number}"
                tables.append(Wanted.below(f"{layout.vm_prefix(vm)}tables/", disk.checkpoint.table, what, where))
        others = [*(wanted for wanted, _ in indexes), *tables]
        self._meter.total_bytes += pack_bytes + sum(wanted.bytes for wanted in others) - estimate
        for disk, copy in manifests:
            await self._bring((Wanted.pack(vm, ref), None) for ref in read_manifest(copy, record, disk).packs.once())
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
