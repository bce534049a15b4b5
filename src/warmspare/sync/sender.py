"""One sync of one VM, from the lease to the published restore point; owns the order the invariants demand.

docs/architecture.md, "Invariants". The lease, then the machine is touched; packs, then manifests, then the record;
local state moves only afterwards, and a run that died is cleared up by the next.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from warmspare.errors import IntegrityError, LeaseError, StoreError
from warmspare.format import flags
from warmspare.format import restore_point as point
from warmspare.format.restore_point import RestorePoint, Unprotected
from warmspare.model.extents import Extents
from warmspare.model.ids import DiskId, PointId, RunId, new_run, vm_key
from warmspare.observe.events import Events, Meter
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.observe.kinds.sync_events import DiskUnprotected, SnapshotRenewed, SpoolFull, SyncStart
from warmspare.repository.chain import Point, Repository, now_text, open_repository, parent_of
from warmspare.repository.failover_record import FailoverRecord, known_return, refuse_failed_over
from warmspare.repository.history.steps import since
from warmspare.repository.trust import StoreTrust
from warmspare.source.identity import IDENTITY, Identity
from warmspare.source.ports import LastDisk, LastPoint, Machine, Opened
from warmspare.state.local_files import STATE_DIRECTORY, locked, out_of_the_way
from warmspare.store import layout
from warmspare.store.around.counting import CountingStore
from warmspare.store.around.discard import DiscardingStore
from warmspare.store.clearing import Clearing
from warmspare.store.contract import Store
from warmspare.store.lease import Lease, watching
from warmspare.sync.beginning import (
    ChainStart,
    chain_for,
    refuse_images,
    settled_in,
    there_already,
)
from warmspare.sync.diskrun import DiskRun
from warmspare.sync.journal.journal import RunRecord
from warmspare.sync.local.local_state import LocalState
from warmspare.sync.need import demand_needed
from warmspare.sync.passes.moment import Passes
from warmspare.sync.planning.rolling import MISSED
from warmspare.sync.preparing import Preparation, last_point
from warmspare.sync.publishing import sealed as sealing
from warmspare.sync.publishing.index_note import IndexNote
from warmspare.sync.publishing.lastrun import LastRun
from warmspare.sync.publishing.lost_disks import lost_disks
from warmspare.sync.publishing.publication import called, publish
from warmspare.sync.publishing.spool import Spool, SpoolPlace
from warmspare.sync.results import Survey, SyncResult
from warmspare.sync.stages.level import DEFAULT, LOWEST, Level
from warmspare.sync.stages.pack_writer import full_pack
from warmspare.sync.stages.transfer import codec
from warmspare.sync.sync_run import Run
from warmspare.sync.sync_settings import SyncSettings
from warmspare.threads import in_thread
from warmspare.version import __version__

ABANDONED_S = 6 * 3600.0
LATER_S = 2.0  # after publishing: a run that ends later reads back once more what it published


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A run that has what it needs to read. files: open for its disks. over: a failover of the VM that has ended."""

    repository: Repository
    run: Run
    works: list[DiskRun]
    opened: Opened
    lease: Lease
    files: AsyncExitStack
    over: FailoverRecord | None

    @property
    def todo_bytes(self) -> int:
        return sum(work.plan.read.total_bytes for work in self.works)


class Sender:
    """A sync of one machine; `run` does it once. also: where disks are known to differ from the last point though no
    tracker reports it, by disk."""

    def __init__(
        self,
        store: Store,
        machine: Machine,
        settings: SyncSettings,
        events: Events,
        *,
        meter: Meter | None = None,
        also: Mapping[DiskId, Extents] | None = None,
    ) -> None:
        self._machine, self._vm, self._settings, self._events = machine, machine.vm_id, settings, events
        self._key = vm_key(self._vm)
        self._meter = meter or Meter()
        self._store = CountingStore(store, self._on_sent)
        self._spool: Spool | None = None
        self._identity: Identity | None = None  # what the point records
        self._passes = Passes(settings.max_snapshot_age_s)
        self._preparation = Preparation(self._store, settings.rolling, also or {})
        self._housekeeping = Housekeeping(events, self._vm)
        self._trust = StoreTrust(settings.state, events, host=settings.host, single_sender=settings.single_sender)
        self._runs: set[RunId] = set()  # one a pass
        self._doubt = False  # whether a run since the last point may not have left the machine as it was

    def _on_sent(self, size: int) -> None:
        self._meter.sent_bytes += size

    async def run(self) -> SyncResult:
        """Returns when the restore point is published and the local state has moved.

        Raises the package's errors; then nothing was published, unless the message says otherwise. A cancel
        leaves the repository as it was, but for objects that the next run removes.
        """
        try:
            async with AsyncExitStack() as stack:
                stack.enter_context(self._housekeeping)
                begun = await self._begin(stack)
                if begun.run.head:
                    begun.run.local.remember(begun.run.head.id)
                await self._abort_old_uploads()
                return await self._sync(begun)
        except IntegrityError:
            self._trust.forget()
            raise

    async def survey(self) -> Survey:
        """What `run` would do now: everything is read, filtered and compressed, and only the lease is written. The
        machine is touched as by a sync, and left as it was."""
        async with AsyncExitStack() as stack:
            stack.enter_context(self._housekeeping)
            self._passes = Passes(None)  # a look that is cut short would say too little
            discarded = DiscardingStore(self._store, self._on_sent)
            begun = await self._begin(stack, discarded, journal="plan")
            run = begun.run
            run.local.journal.begin(RunRecord(run.id, 0, None))
            stack.callback(self._clear, run.local)
            self._meter.total_bytes = begun.todo_bytes
            await self._transfer(begun)
            manifests = sum([await work.discard() for work in begun.works])
            return Survey(
                self._vm,
                self._meter.read_bytes,
                self._meter.changed_bytes,
                discarded.sent_bytes + manifests,
                self._meter.seconds,
                run.local.last_rate(),
            )

    async def _begin(self, stack: AsyncExitStack, packs: Store | None = None, journal: str = "") -> _Begun:
        """The lease, the head, the machine and its disks. packs, journal: of a run that is no sync, where its packs go
        and what it writes down."""
        repository = await open_repository(self._store)
        start, state, retried = self._settings.start, self._settings.state, self._settings.request is not None
        self._vm = await chain_for(start, repository, self._machine, state, self._events, retried=retried)
        self._key = vm_key(self._vm)
        over = await refuse_failed_over(repository, self._vm)
        local = LocalState(self._settings.state, self._vm, repository, self._events)
        if not stack.enter_context(locked(local.directory / "lock", STATE_DIRECTORY)):
            raise LeaseError(
                f"another sync of VM {self._vm!r} is running with this state directory",
                where=str(local.directory),
                hint="wait for it to end",
                retryable=True,
            )
        if not journal:
            await self._trust.demand(repository)
        known = local.last() or await local.adopt(self._events)
        key = layout.lease_key(self._key)
        lease = await stack.enter_async_context(Lease.hold(self._store, key, on_watch=watching(self._events, self._vm)))
        head, fresh = await since(repository, self._vm, known)
        await demand_needed(self._settings, self._vm, repository, head, local, self._events)
        await refuse_images(self._machine, head, self._events)
        if start is ChainStart.NEW:
            if head is not None:  # somebody else has begun it, between our look and our lease
                raise there_already(repository, self._vm, head.id.sequence)
            if not journal:
                local.remember(None)
        last = LastRun(self._vm, repository, local, self._events, self._housekeeping)

        def spool_at(place: SpoolPlace) -> Spool:
            return self._spool_at(place, repository, local)

        if not journal and await last.complete(head, lease, spool_at):
            head, fresh = await since(repository, self._vm, known)
            await demand_needed(self._settings, self._vm, repository, head, local, self._events)
        logs = await last.take_in(head, stack, remove=not journal)
        size = full_pack
        if packs is None:
            packs = self._store
            if self._settings.spool is not None:
                packs = self._spool = await stack.enter_async_context(spool_at(self._settings.spool))
                await packs.take({})  # what is there is of no use: see LastRun
                size = packs.pack_bytes
        settled = await settled_in(start, repository, self._machine, self._vm, head, local, self._events)
        self._identity = settled.identity
        self._doubt = local.unsettled()
        run_id = new_run()
        self._runs.add(run_id)
        local.unsettle(run_id)
        stack.push_async_callback(self._leave, local)
        opened = await self._machine.open(last_point(head, self._doubt, over, settled))
        run = Run(
            packs,
            self._vm,
            self._key,
            run_id,
            local,
            head,
            self._events,
            self._meter,
            itertools.count(),
            size,
            rolling=self._settings.rolling,
        )
        files = await stack.enter_async_context(AsyncExitStack())
        works = await self._preparation.disks(run, opened, fresh, logs, files)
        if journal:
            local.use_journal(journal)
        return _Begun(repository, run, works, opened, lease, files, over)

    async def _leave(self, local: LocalState) -> None:
        """Leave the machine as it was; on every way out, the lease still held. A doubt about it ends with the next
        published point."""
        await self._machine.close()
        if not self._doubt:
            with self._housekeeping.trying(LOCAL, local.directory):
                local.settle()

    def _clear(self, local: LocalState) -> None:
        """Forget the run; the next one does it where that fails."""
        with self._housekeeping.trying(LOCAL, local.journal.directory):
            local.journal.clear()

    def _spool_at(self, place: SpoolPlace, repository: Repository, local: LocalState) -> Spool:
        def full() -> None:
            self._events.emit(SpoolFull(vm=self._vm, directory=str(place.directory)))

        directory = place.of(self._vm, repository.id)
        rate = local.last_rate()
        return Spool(self._store, directory, place, self._housekeeping, rate=rate, on_full=full)

    async def _abort_old_uploads(self) -> None:
        """Remove uploads of this VM that some dead sender began, wherever it ran; the lease is ours, so no living
        one has any that old."""
        await Clearing(self._store, self._housekeeping).uploads(layout.vm_prefix(self._key), older_s=ABANDONED_S)

    async def _sync(self, begun: _Begun) -> SyncResult:
        run, head = begun.run, begun.run.head
        sequence = head.id.sequence + 1 if head else 1
        parent = head.id.sha256 if head else None
        spool = str(self._settings.spool.directory) if self._settings.spool else ""
        begin = RunRecord(run.id, sequence, parent, spool)
        run.local.journal.begin(begin)
        self._meter.total_bytes = begun.todo_bytes
        self._events.emit(
            SyncStart(
                vm=self._vm,
                repository=self._store.uri,
                sequence=sequence,
                parent=head.id.label if head else None,
                disks=[w.given.source.name for w in begun.works],
                bytes_total=self._meter.total_bytes,
            )
        )
        begun = await self._all_passes(begun, begin)
        run, works, opened = begun.run, begun.works, begun.opened
        for work in works:
            work.given.source.check()
        disks = [await work.describe(sequence) for work in works]
        ours = sum(pack.bytes for work in works for pack in work.packs if pack.id.run in self._runs)
        tables = [disk.checkpoint.table for disk in disks if disk.checkpoint and disk.checkpoint.sequence == sequence]
        bytes_sent = ours + sum(ref.bytes for ref in [*(disk.manifest for disk in disks), *tables])
        unprotected = lost_disks(opened, head, {disk.id for disk in disks})
        for entry in unprotected:
            self._events.emit(DiskUnprotected(vm=self._vm, disk=entry.name, reason=entry.reason))
        left_out = [Unprotected(name, reason) for name, reason in opened.excluded]
        record = RestorePoint(
            flags.VERSION,
            0,
            self._vm,
            self._machine.vm_name,
            sequence,
            parent,
            run.id,
            now_text(),
            f"warmspare {__version__}",
            disks,
            self._meter.read_bytes,
            self._meter.changed_bytes,
            bytes_sent,
            [*unprotected, *left_out],
            opened.hardware
            | self._recorded()
            | ({MISSED: sorted(run.missed)} if run.missed else {})
            | known_return(begun.over)
            | ({point.REQUEST_ID: self._settings.request} if self._settings.request else {}),
        )
        data = point.encode(record)
        new = Point(PointId(sequence, point.identity(data)), record, data)
        run.local.journal.seal(data)
        async with IndexNote(begun.repository, self._housekeeping) as index:
            await self._publish(begun, new, data, index)
        return SyncResult(
            self._vm,
            new.id,
            head.id if head else None,
            self._meter.read_bytes,
            self._meter.changed_bytes,
            self._store.sent_bytes,
            self._meter.seconds,
            run.findings,
            len(unprotected),
        )

    async def _publish(self, begun: _Begun, new: Point, data: bytes, index: IndexNote) -> None:
        """Send what is left of a sealed point, make it visible, and move on to it. data: its record's bytes."""
        run, before = begun.run, called(begun.run.head)
        index.announce(new, before)
        await self._leave(run.local)  # what is left to do may take hours, and needs no machine
        if self._spool is not None:
            await self._spool.drained()
        await sealing.send_files(self._store, run.local.journal, new.record)
        await publish(begun.repository, new, data, begun.lease, self._housekeeping, index)
        published_s = time.monotonic()
        index.published(new, before)
        self._doubt = False
        await self._commit(run.local, begun.works, new)
        await run.local.clear_up(self._store, self._housekeeping)
        disks = [disk.id for disk in new.record.disks]
        await self._preparation.marks.forget(self._store, disks, self._housekeeping)
        if time.monotonic() - published_s > LATER_S:
            await begun.repository.confirm(self._vm, new, follows=parent_of(new))

    async def _all_passes(self, begun: _Begun, record: RunRecord) -> _Begun:
        """Look at everything and send it: in one pass, or in as many as the age of a snapshot makes of it. The last of
        them, which alone is to be published."""
        carried = begun.run.local.directory / "carried"
        try:
            while not await self._transfer(begun):
                begun = await self._next_pass(begun, record, carried)
            return begun
        finally:
            with self._housekeeping.trying(LOCAL, carried):
                out_of_the_way(carried, STATE_DIRECTORY)

    async def _next_pass(self, begun: _Begun, record: RunRecord, directory: Path) -> _Begun:
        """A later moment, for what the passes before have not looked at and for what changed since. What they have sent
        is kept like that of a run that died; so if this one dies, the next run goes on from all of it."""
        run, opened, unfinished = begun.run, begun.opened, begun.run.local.unfinished
        self._passes.judge(sum(work.left_bytes for work in begun.works), self._store.uri)
        left = {work.given.source.name: work.leave(directory) for work in begun.works}
        await begun.files.aclose()
        if self._spool is not None:
            await self._spool.drained()
        await unfinished.keep(
            self._store, run.local.journal, msgspec.structs.replace(record, run=run.id), self._housekeeping
        )
        await begun.lease.confirm()
        await self._machine.close()
        run = replace(run, id=new_run(), numbers=itertools.count())
        self._runs.add(run.id)
        # Before the snapshot is taken: it may take as long as the store needs to be asked about each pack.
        resumes = {name: await self._preparation.resume(run, name, begun.files) for name in left}
        disks = {name: LastDisk(one.capacity_bytes, one.change_id) for name, one in left.items()}
        opened = await self._machine.open(LastPoint(disks, False, opened.hardware))
        works = await self._preparation.disks(run, opened, [], {}, begun.files, left, resumes)
        begun = replace(begun, run=run, works=works, opened=opened)
        run.local.journal.begin(msgspec.structs.replace(record, run=run.id))
        self._passes.count += 1
        self._meter.total_bytes = self._meter.done_bytes + begun.todo_bytes
        self._events.emit(
            SnapshotRenewed(
                vm=self._vm,
                passes=self._passes.count,
                seconds=round(self._passes.held_s, 3),
                bytes_left=begun.todo_bytes,
            )
        )
        return begun

    async def _transfer(self, begun: _Begun) -> bool:
        """All disks, one after the other; the machine's moment goes when the last byte of the last was read, or when it
        gets too old. Whether all of them are done."""
        works = begun.works
        # What goes through a spool does not wait for the link, and yet it is the link that it must be small for.
        level = Level(self._settings.level, DEFAULT if self._spool else LOWEST)
        async with codec(level) as workers, asyncio.TaskGroup() as tasks:
            with self._passes.moment(self._machine, tasks, begun.opened).watched() as moment:
                for work in works:
                    await work.transfer(workers, moment, last=work is works[-1])
                    await begun.lease.confirm()
                    if moment.gone:
                        break
        return all(work.done for work in works)

    def _recorded(self) -> dict[str, Any]:
        """Whose this point is."""
        return {IDENTITY: self._identity.as_json()} if self._identity is not None else {}

    async def _commit(self, local: LocalState, works: list[DiskRun], new: Point) -> None:
        """Move the local state to the point that was published. Dying in here costs nothing: the journal
        still holds all of it."""
        try:
            # First of all: once the point is remembered, a later run would not look at what it names any more.
            local.unfinished.settle(new.id.sequence, [pack for work in works for pack in work.packs])
            for work in works:
                await in_thread(work.commit, new.id.sha256)
            local.remember(new.id)
            local.remember_rate(self._store.sent_bytes, self._meter.seconds)
        except StoreError as error:
            raise StoreError(
                f"restore point {new.id.label} is published, but then {error.what}",
                where=error.where,
                hint=error.hint,
                retryable=True,
            ) from error
        self._clear(local)
