"""One disk in one run: plan, transfer, manifest, checkpoint, and the local state afterwards; owns their order.

Publishing is not its business: what it uploads is invisible until the restore point names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from warmspare.errors import SourceError, StoreError
from warmspare.format import tablefile
from warmspare.format.manifest import Header
from warmspare.format.packlist import PackRef
from warmspare.format.restore_point import Checkpoint, Disk
from warmspare.model.extents import Extents, whole_disk, without
from warmspare.model.ids import disk_key
from warmspare.model.units import BLOCK_PAGES, PAGE_BYTES, SPAN_BYTES
from warmspare.observe.kinds.finding_events import UntrackedChange
from warmspare.observe.kinds.repository_events import StateDamaged, StateRebuild
from warmspare.observe.kinds.source_events import SourceWarning
from warmspare.observe.kinds.sync_events import (
    DiskAudited,
    SyncAnew,
    SyncDiskDone,
    SyncDiskStart,
    SyncResumed,
    TrackingMissed,
)
from warmspare.outside.regular_files import open_regular
from warmspare.repository import disk_tables
from warmspare.source.ports import DiskInput
from warmspare.state.local_files import STATE_DIRECTORY, local_io
from warmspare.state.local_table import TableDamagedError
from warmspare.store import layout
from warmspare.sync.journal.manifest_file import ManifestFile
from warmspare.sync.journal.page_log import PageLog
from warmspare.sync.journal.sentlog import SentLog
from warmspare.sync.local.local_state import DiskState, commit_pages
from warmspare.sync.passes import carry, manifest_merge
from warmspare.sync.passes.carry import Carried
from warmspare.sync.passes.moment import Moment
from warmspare.sync.planning import rolling
from warmspare.sync.planning.read_plan import ReadPlan
from warmspare.sync.planning.rolling_cursor import RollingCursor
from warmspare.sync.publishing.sealed import file_ref
from warmspare.sync.resuming.reuse import Resume
from warmspare.sync.rows import Untracked
from warmspare.sync.stages.filter import PageFilter
from warmspare.sync.stages.transfer import Codec, PackTarget, Transfer
from warmspare.sync.sync_run import Run
from warmspare.threads import in_thread

MAX_FINDING_EVENTS = 100
# A checkpoint costs 16 bytes a block; one is due when the manifests since the last outweigh it twice over.
CHECKPOINT_RATIO = 2
CHECKPOINT_POINTS = 500


class DiskRun:
    """Disk number `index` of a run. before: the disk as the head has it. state: open, and at the head. resume: what
    earlier runs have sent. carried: what earlier passes of this sync leave, and the plan does not read again.

    left: what of the plan was not looked at; None before `transfer`.
    """

    def __init__(
        self,
        run: Run,
        index: int,
        given: DiskInput,
        state: DiskState,
        before: Disk | None,
        todo: ReadPlan,
        resume: Resume | None,
        carried: Carried | None = None,
    ) -> None:
        self._run, self._index, self._state, self._before, self._resume = run, index, state, before, resume
        self._carried = carried
        self.given, self.plan = given, todo
        self.left: Extents | None = None
        self._name = given.source.name
        self._files = ExitStack()
        self._stays = manifest_merge.Stays()
        self.changed_blocks = 0

    def close(self) -> None:
        self._files.close()
        if self._resume:
            self._resume.close()

    @property
    def packs(self) -> list[PackRef]:
        """Those that the manifest names, once it is finished."""
        return list(self._manifest.reader().packs)

    @property
    def done(self) -> bool:
        """Whether all of the plan was looked at, and what must be is in the store."""
        return self.left is not None and not len(self.left)

    @property
    def left_bytes(self) -> int:
        """How much of the plan was not looked at."""
        return (self.plan.read if self.left is None else self.left).total_bytes

    async def transfer(self, workers: Codec, moment: Moment, *, last: bool) -> None:
        """Read, filter, send. moment: the machine's; if it ends first, a part of the plan is left. last: whether this
        disk is the last one."""
        run, source = self._run, self.given.source
        reason = self.given.reason or self.plan.reason
        run.events.emit(
            SyncDiskStart(
                vm=run.vm,
                disk=self._name,
                capacity_bytes=source.capacity_bytes,
                bytes_total=self.plan.read.total_bytes,
                reason=reason,
            )
        )
        if self.plan.anew:
            run.events.emit(SyncAnew(vm=run.vm, disk=self._name, bytes=self.plan.anew.total_bytes))
        read, changed = run.meter.read_bytes, run.meter.changed_bytes
        again, left = True, self.plan.read

        def ended(not_read: Extents) -> None:
            nonlocal again, left
            again, left = moment.ended(last=last or len(not_read) > 0), not_read

        if self._carried:
            await in_thread(self._take_over, self._carried)
        for attempt in (1, 2):
            try:
                moment.begin()
                await self._audit(workers, moment.until_s)
                transfer = self._prepared(workers, ended, moment.until_s)
                packs = await transfer.run()
                self._manifest.finish(packs)
                await in_thread(self._trim, packs)
                if self._carried and self._carried.manifest:
                    await in_thread(self._merge, self._carried.manifest)
                if not len(left):
                    await in_thread(self._stage)
                break
            except* TableDamagedError as group:
                # Found half-way: the packs sent so far stay unreferenced, which costs bytes and nothing else.
                await self._mend(attempt == 1, again, group.exceptions[0])
        self.changed_blocks = self._stays.blocks + transfer.changed_blocks
        if self._resume and self._resume.reused_pages:
            run.events.emit(
                SyncResumed(vm=run.vm, disk=self._name, bytes_reused=self._resume.reused_pages * PAGE_BYTES)
            )
        self._log.sync()
        self.left = left
        if self._state.pages.damaged_segments:
            run.events.emit(
                StateDamaged(vm=run.vm, disk=self._name, what="page map", segments=self._state.pages.damaged_segments)
            )
        if not self.done:
            return
        run.events.emit(
            SyncDiskDone(
                vm=run.vm,
                disk=self._name,
                bytes_read=run.meter.read_bytes - read,
                bytes_changed=run.meter.changed_bytes - changed,
                blocks_changed=self.changed_blocks,
            )
        )

    async def _audit(self, workers: Codec, until_s: float | None) -> None:
        """The rolling audit's share, before anything else is read: a difference makes the plan a full compare, in which
        it is found again, sent and reported."""
        run, todo, capacity = self._run, self.plan, self.given.source.capacity_bytes
        settings, reported = run.rolling, todo.reported
        taken_up = self._carried is not None and self._carried.manifest is not None
        if settings is None or not settings.period_s or self._name in run.audits or taken_up:
            return
        now_s, path = settings.clock(), run.local.audit_path(self._name)
        cursor = RollingCursor.read(path, self._run.events) or RollingCursor.anywhere(capacity, now_s)
        if reported is None or todo.reason:
            run.audits[self._name] = cursor.compared(capacity, now_s)
            return
        window, after = cursor.share(capacity, settings.period_s, now_s)
        share = without(window, todo.read)
        found = await rolling.audit(self.given.source, share, self._state.table, workers.single, until_s)
        if found.trouble:
            run.events.emit(SourceWarning(message=f"the rolling audit of disk {self._name}: {found.trouble}"))
        # Where time ran out, the same share is due again; what can't be read must not stop the others.
        run.audits[self._name] = after if found.whole or found.trouble else cursor
        if len(window):
            run.events.emit(
                DiskAudited(
                    vm=run.vm,
                    disk=self._name,
                    offset=int(window.offsets[-1]),
                    bytes_due=window.total_bytes,
                    bytes_read=found.bytes_read,
                    blocks_judged=found.blocks,
                    blocks_wrong=len(found.wrong),
                    round_bytes=min(after.round_spans * SPAN_BYTES, capacity),
                    covered_s=after.covered_s or None,
                )
            )
        if found.wrong:
            self._compare(found.wrong, reported)
            run.audits[self._name] = cursor.compared(capacity, now_s)

    def _compare(self, wrong: list[int], reported: Extents) -> None:
        """Compare all of the disk: what tracking missed at one place it may have missed at others."""
        run, source = self._run, self.given.source
        assert run.rolling
        offset, length = rolling.first_run(wrong, source.capacity_bytes)
        run.missed.add(self._name)
        run.events.emit(TrackingMissed(vm=run.vm, disk=self._name, offset=offset, length=length))
        if not run.rolling.may_compare:
            raise SourceError(
                f"{rolling.FOUND}, so the disk would have to be compared in full, which the configuration forbids",
                where=f"disk {self._name!r}, offset {offset}",
                hint='allow it with full_compare = "auto", for one run at least',
            )
        run.meter.total_bytes += source.capacity_bytes - self.plan.read.total_bytes
        self.plan = replace(self.plan, read=whole_disk(source.capacity_bytes), reported=reported, reason=rolling.FOUND)

    def _take_over(self, carried: Carried) -> None:
        """The page log of the passes before goes on as this one's. A block that they recorded and that is looked at
        again counts as unknown first: if it is by now what it was at the head, nothing is written down of it, and the
        hashes of what it was meanwhile would be taken for the head's."""
        path = self._run.local.journal.page_log_path(self._index)
        if carried.pages:
            with local_io(STATE_DIRECTORY, path):
                carried.pages.replace(path)
        if carried.manifest is None:
            return
        log = PageLog(path)
        try:
            with carry.opened(carried.manifest) as older:
                for blocks in manifest_merge.look(older, self.plan.read, self._stays):
                    log.append(blocks, np.zeros((blocks.size, BLOCK_PAGES), dtype=np.uint64))
        finally:
            log.close()

    def _merge(self, manifest: Path) -> None:
        """With what the passes before recorded of blocks that this one did not look at."""
        with carry.opened(manifest) as older:
            self._manifest.rewrite(
                lambda fresh, out: manifest_merge.merge(older, self.plan.read, self._stays, fresh, out)
            )

    def leave(self, directory: Path) -> Carried:
        """What there is for the next pass, its files in `directory`; closes the disk's."""
        self.close()
        given, todo, journal, before = self.given, self.plan, self._run.local.journal, self._carried
        left = todo.read if self.left is None else self.left
        manifest, pages = (before.manifest, before.pages) if before else (None, None)
        if self.left is not None:
            name = disk_key(self._name)
            manifest, pages = directory / f"{name}.manifest", directory / f"{name}.pages"
            with local_io(STATE_DIRECTORY, directory):
                directory.mkdir(exist_ok=True)
                journal.manifest_path(self._index).replace(manifest)
                journal.page_log_path(self._index).replace(pages)
        reason = given.reason or todo.reason
        return Carried(given.source.capacity_bytes, given.change_id, left, todo.reported, reason, manifest, pages)

    def _prepared(self, workers: Codec, ended: Callable[[Extents], None], until_s: float | None) -> Transfer:
        run, source, journal = self._run, self.given.source, self._run.local.journal
        self._files.close()
        self._log: PageLog = journal.page_log(self._index)
        self._files.callback(self._log.close)
        header = Header(self._name, source.capacity_bytes, run.id)
        places = self._resume.frames if self._resume else None
        self._manifest = ManifestFile(journal.manifest_path(self._index), header, places)
        self._files.callback(self._manifest.close)
        sent = SentLog(journal.sent_path(self._name))
        self._files.callback(sent.close)
        before = self._before.capacity_bytes if self._before else None
        return Transfer(
            source,
            self.plan,
            PageFilter(
                source.capacity_bytes,
                before,
                self._state.table,
                self._state.pages,
                self._log,
                self.plan.reported,
                self.plan.anew,
            ),
            self._manifest,
            PackTarget(run.store, run.vm_key, run.id, self._index, run.numbers, run.pack_bytes),
            workers,
            run.meter,
            self._untracked,
            ended,
            sent,
            self._resume,
            until_s,
        )

    def _trim(self, packs: list[PackRef]) -> None:
        """Packs of earlier runs that turned out to be no use are not named."""
        resume = self._resume
        if resume and (unused := set(range(len(resume.packs))) - resume.used):
            self._manifest.without(packs, unused)

    def _stage(self) -> None:
        disk_tables.stage_manifest(self._state.table, self._manifest.reader())

    async def _mend(self, first: bool, again: bool, damage: BaseException) -> None:
        """Rebuild the local hash table, for another try; the damage itself where there can be none."""
        run, table = self._run, self._state.table
        if not first or run.head is None or self._before is None:
            raise damage
        run.events.emit(StateRebuild(vm=run.vm, disk=self._name, what="hash table"))
        if not again:
            table.reset()
            raise StoreError(
                f"the local hash table of disk {self._name!r} is damaged, and what was read is gone already",
                where=str(run.local.directory),
                hint="run again: it is rebuilt then",
                retryable=True,
            )
        table.unstage()
        await run.local.rebuild_table(self._before, table, run.head)

    def _untracked(self, found: Untracked) -> None:
        run = self._run
        run.findings += 1
        run.missed.add(self._name)
        if run.findings <= MAX_FINDING_EVENTS:
            run.events.emit(UntrackedChange(vm=run.vm, disk=self._name, offset=found.offset, length=found.length))

    async def describe(self, sequence: int) -> Disk:
        """The disk's entry in the record. Its manifest, and a checkpoint where one is due, are in the journal then."""
        run, given, before = self._run, self.given, self._before
        key = layout.manifest_key(run.vm_key, run.id, self._index)
        manifest = await in_thread(file_ref, key, run.local.journal.manifest_path(self._index))
        table, capacity = self._state.table, given.source.capacity_bytes
        root = await in_thread(table.staged_root, capacity)
        checkpoint = before.checkpoint if before else None
        weight = (before.manifest_bytes_since_checkpoint if before else 0) + manifest.bytes
        since = sequence - (checkpoint.sequence if checkpoint else 0)
        if weight > CHECKPOINT_RATIO * table.weight_bytes() or since >= CHECKPOINT_POINTS:
            path = run.local.journal.table_path(self._index)
            await in_thread(self._write_table, path)
            key = layout.table_key(run.vm_key, run.id, self._index)
            checkpoint = Checkpoint(sequence, await in_thread(file_ref, key, path))
            weight = 0
        return Disk(
            self._name,
            given.file_name or self._name,
            capacity,
            root,
            manifest,
            self.changed_blocks,
            given.change_id,
            checkpoint,
            weight,
            given.attributes,
            given.reason or self.plan.reason,
        )

    def _write_table(self, path: Path) -> None:
        capacity = self.given.source.capacity_bytes
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with local_io(STATE_DIRECTORY, path), os.fdopen(open_regular(path, flags), "wb") as out:
            for piece in tablefile.encode(capacity, self._state.table.staged_leaves(capacity)):
                out.write(piece)

    async def discard(self) -> int:
        """Forget what was transferred, where it was only to be looked at. The size its manifest would have."""
        await in_thread(self._state.table.unstage)
        with local_io(STATE_DIRECTORY, path := self._run.local.journal.manifest_path(self._index)):
            return path.stat().st_size

    def commit(self, generation: str) -> None:
        """Move the local state to the point that was published."""
        if not self._log.empty:
            commit_pages(self._state.pages, self._log, generation)
        else:
            self._state.pages.advance(generation)
        self._state.table.commit(generation, self.given.source.capacity_bytes)
        if cursor := self._run.audits.get(self._name):
            cursor.write(self._run.local.audit_path(self._name))
