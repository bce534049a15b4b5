"""One sync of one VM, from the lease to the published restore point; owns the order the invariants demand.

docs/architecture.md, "Publishing". Packs, then manifests, then the record; local state moves only afterwards,
and a run that died is cleared up by the next.
"""

from __future__ import annotations

import itertools
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from warmspare import __version__
from warmspare.errors import ConfigError, LeaseError, SourceError, StoreError
from warmspare.format import flags, point, tablefile
from warmspare.format.manifest import Header
from warmspare.format.point import Checkpoint, Disk, ObjectRef, RestorePoint, Unprotected
from warmspare.model import BLOCK_BYTES, Extents
from warmspare.observe.events import Events, Meter
from warmspare.repository import tables
from warmspare.repository.chain import Point, PointId, Repository, now_text, open_repository
from warmspare.source.base import Source
from warmspare.state.files import local_io, locked
from warmspare.state.table import TableDamagedError
from warmspare.store import layout
from warmspare.store.base import Store
from warmspare.store.counting import CountingStore
from warmspare.store.lease import Lease
from warmspare.store.threads import in_thread
from warmspare.sync.filter import PageFilter, Untracked
from warmspare.sync.index import ManifestFile
from warmspare.sync.journal import PageLog, RunRecord
from warmspare.sync.local import DiskState, LocalState, commit_pages
from warmspare.sync.plan import Plan, plan
from warmspare.sync.transfer import Codec, Target, Transfer, codec
from warmspare.sync.upload import upload_file

MAX_FINDING_EVENTS = 100
# A checkpoint costs 16 bytes a block; one is due when the manifests since the last outweigh it twice over.
CHECKPOINT_RATIO = 2
CHECKPOINT_POINTS = 500
ABANDONED_S = 6 * 3600.0
WHAT = "the state directory"


@dataclass(frozen=True, slots=True)
class DiskInput:
    """A disk to sync: its source, and what the tracker reported (None: everything is read)."""

    source: Source
    reported: Extents | None = None
    change_id: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What `sync.done` tells."""

    point: PointId
    parent: PointId | None
    bytes_read: int
    bytes_changed: int
    bytes_sent: int
    seconds: float
    findings: int
    unprotected: int


@dataclass(slots=True)
class _Work:
    """One disk in this run."""

    index: int
    given: DiskInput
    state: DiskState
    before: Disk | None
    plan: Plan
    log: PageLog = field(init=False)
    manifest: ManifestFile = field(init=False)
    changed_blocks: int = 0


class Sync:
    """A sync of the disks of one VM. Settings are all arguments; `run` does it once."""

    def __init__(
        self, store: Store, vm: str, disks: list[DiskInput], state: Path, events: Events, *,
        level: int | None, meter: Meter | None = None,
    ) -> None:  # fmt: skip
        self._vm, self._disks, self._state_root, self._events = vm, disks, state, events
        self._meter = meter or Meter()
        self._store = CountingStore(store, self._on_sent)
        self._level = level
        self._findings = 0
        self._run = secrets.token_bytes(16)

    def _on_sent(self, size: int) -> None:
        self._meter.sent_bytes += size

    async def run(self) -> SyncResult:
        """Returns when the restore point is published and the local state has moved.

        Raises the package's errors; then nothing was published, unless the message says otherwise. A cancel
        leaves the repository as it was, but for objects that the next run removes.
        """
        repository = await open_repository(self._store, create=True)
        local = LocalState(self._state_root, self._vm, repository)
        async with AsyncExitStack() as stack:
            if not stack.enter_context(locked(local.directory / "lock", WHAT)):
                raise LeaseError(
                    f"another sync of VM {self._vm!r} is running with this state directory",
                    where=str(local.directory),
                    hint="wait for it to end",
                    retryable=True,
                )
            known = local.last()
            lease = await stack.enter_async_context(
                Lease.hold(self._store, layout.lease_key(layout.encode_name(self._vm)))
            )
            fresh = await repository.since(self._vm, known)
            head = fresh[-1] if fresh else None
            log = await self._recover(local, head, fresh)
            works = await self._prepare(local, head, fresh, log, stack)
            if head:
                local.remember(head.id)
            local.journal.clear()
            await self._abort_old_uploads()
            return await self._sync(repository, local, head, works, lease, stack)

    async def _recover(self, local: LocalState, head: Point | None, fresh: list[Point]) -> dict[str, PageLog]:
        """Look at the run that died, if one did. Returns its page logs by disk if it had published."""
        left = local.journal.left_over()
        if left is None:
            return {}
        if head and head.record.run == left.run:
            self._events.emit("sync.recovered", vm=self._vm, point=head.id.label, published=True)
            return {disk.id: local.journal.page_log(i) for i, disk in enumerate(head.record.disks)}
        if not any(p.record.run == left.run for p in fresh):
            await self._remove_run(left.run)
            self._events.emit("sync.recovered", vm=self._vm, point=None, published=False)
        return {}

    async def _remove_run(self, run: str) -> None:
        """Remove what a dead run of this sender put there and never published."""
        vm = layout.encode_name(self._vm)
        for prefix in layout.run_prefixes(vm, run):
            for stale in await self._store.stale_uploads(prefix):
                await self._store.abort_upload(stale)
            keys = [info.key async for info in self._store.list(prefix)]
            if keys:
                await self._store.delete(keys)

    async def _abort_old_uploads(self) -> None:
        """Remove uploads of this VM that some dead sender began, wherever it ran; the lease is ours, so no living
        one has any that old."""
        before = await self._store.now() - ABANDONED_S
        for stale in await self._store.stale_uploads(layout.vm_prefix(layout.encode_name(self._vm))):
            if stale.began_s < before:
                await self._store.abort_upload(stale)

    async def _prepare(
        self, local: LocalState, head: Point | None, fresh: list[Point], logs: dict[str, PageLog],
        stack: AsyncExitStack,
    ) -> list[_Work]:  # fmt: skip
        works: list[_Work] = []
        for index, given in enumerate(self._disks):
            name = given.source.name
            state = local.open_disk(name)
            stack.callback(state.close)
            before = await local.prepare(name, state, head, fresh, logs.get(name), self._events)
            capacity = given.source.capacity_bytes
            if before and capacity < before.capacity_bytes:
                raise SourceError(
                    f"disk {name!r} shrank: it has {capacity} bytes and had {before.capacity_bytes} at the last "
                    "restore point",
                    where=given.source.where,
                    hint="check the path; a VMware disk never shrinks, so sync another disk under another --vm",
                )
            todo = plan(capacity, before.capacity_bytes if before else None, given.reported)
            works.append(_Work(index, given, state, before, todo))
        for log in logs.values():
            log.close()
        return works

    async def _sync(
        self, repository: Repository, local: LocalState, head: Point | None, works: list[_Work], lease: Lease,
        stack: AsyncExitStack,
    ) -> SyncResult:  # fmt: skip
        sequence = head.id.sequence + 1 if head else 1
        parent = head.id.sha256 if head else None
        local.journal.begin(RunRecord(self._run.hex(), sequence, parent))
        self._meter.total_bytes = sum(work.plan.read.total_bytes for work in works)
        self._events.emit(
            "sync.start", vm=self._vm, repository=self._store.uri, sequence=sequence,
            parent=head.id.label if head else None, disks=[w.given.source.name for w in works],
            bytes_total=self._meter.total_bytes,
        )  # fmt: skip
        numbers = itertools.count()
        async with codec(self._level) as workers:
            for work in works:
                await self._transfer(local, head, work, numbers, workers, stack)
                lease.check()
        for work in works:
            work.given.source.check()
        disks = [await self._describe(local, work, sequence) for work in works]
        gone = [
            Unprotected(disk.name, "in the last restore point and not given to this sync")
            for disk in (head.record.disks if head else [])
            if disk.id not in {d.id for d in disks}
        ]
        for lost in gone:
            self._events.emit("unprotected", vm=self._vm, disk=lost.name, reason=lost.reason)
        record = RestorePoint(
            flags.VERSION, 0, self._vm, self._vm, sequence, parent, self._run.hex(), now_text(),
            f"warmspare {__version__}", disks, self._meter.read_bytes, self._meter.changed_bytes,
            self._store.sent_bytes, gone,
        )  # fmt: skip
        data = point.encode(record)
        new = Point(PointId(sequence, point.identity(data)), record)
        for work in works:
            work.given.source.check()
        lease.check()
        await self._publish(repository, sequence, data)
        await self._commit(local, works, new)
        return SyncResult(
            new.id, head.id if head else None, self._meter.read_bytes, self._meter.changed_bytes,
            self._store.sent_bytes, self._meter.seconds, self._findings, len(gone),
        )  # fmt: skip

    async def _transfer(
        self, local: LocalState, head: Point | None, work: _Work,
        numbers: itertools.count[int], workers: Codec, stack: AsyncExitStack,
    ) -> None:  # fmt: skip
        source, vm = work.given.source, layout.encode_name(self._vm)
        self._events.emit(
            "disk.start", vm=self._vm, disk=source.name, capacity_bytes=source.capacity_bytes,
            bytes_total=work.plan.read.total_bytes, reason=work.plan.reason,
        )  # fmt: skip
        read, changed = self._meter.read_bytes, self._meter.changed_bytes
        for attempt in (1, 2):
            work.log = local.journal.page_log(work.index)
            header = Header(source.name, source.capacity_bytes, self._run)
            work.manifest = ManifestFile(local.journal.manifest_path(work.index), header)
            stack.callback(work.log.close)
            stack.callback(work.manifest.close)
            before = work.before.capacity_bytes if work.before else None
            transfer = Transfer(
                source, work.plan,
                PageFilter(
                    source.capacity_bytes, before, work.state.table, work.state.pages, work.log,
                    work.plan.reported,
                ),
                work.manifest,
                Target(self._store, vm, self._run, work.index, numbers),
                workers, self._meter, lambda found: self._untracked(source.name, found),
            )  # fmt: skip
            try:
                packs = await transfer.run()
                work.manifest.finish(packs)
                await in_thread(stage_manifest_file, work)
                break
            except* TableDamagedError as group:
                # Found half-way: the packs sent so far stay unreferenced, which costs bytes and nothing else.
                if attempt == 2 or head is None or work.before is None:
                    raise group.exceptions[0] from None
                self._events.emit("state.rebuild", vm=self._vm, disk=source.name, what="hash table")
                work.state.table.unstage()
                await local.rebuild_table(work.before, work.state.table, head)
        work.changed_blocks = transfer.changed_blocks
        work.log.sync()
        if work.state.pages.damaged_segments:
            self._events.emit(
                "state.damaged", vm=self._vm, disk=source.name, what="page map",
                segments=work.state.pages.damaged_segments,
            )  # fmt: skip
        self._events.emit(
            "disk.done", vm=self._vm, disk=source.name, bytes_read=self._meter.read_bytes - read,
            bytes_changed=self._meter.changed_bytes - changed, blocks_changed=work.changed_blocks,
        )  # fmt: skip

    def _untracked(self, disk: str, found: Untracked) -> None:
        self._findings += 1
        if self._findings <= MAX_FINDING_EVENTS:
            self._events.emit(
                "finding", kind="untracked-change", vm=self._vm, disk=disk, offset=found.offset,
                length=found.length,
                message="changed though the extents do not report it; it was sent, but the tracker that made "
                "the extents misses changes",
            )  # fmt: skip

    async def _describe(self, local: LocalState, work: _Work, sequence: int) -> Disk:
        """Upload the manifest, and a checkpoint where one is due; the disk's entry in the record."""
        source, vm, run = work.given.source, layout.encode_name(self._vm), self._run.hex()
        key = layout.manifest_key(vm, run, work.index)
        path = str(local.journal.manifest_path(work.index))
        manifest = ObjectRef(key, *await upload_file(self._store, key, path, WHAT))
        table, capacity = work.state.table, source.capacity_bytes
        root = await in_thread(table.staged_root, capacity)
        checkpoint = work.before.checkpoint if work.before else None
        weight = (work.before.manifest_bytes_since_checkpoint if work.before else 0) + manifest.bytes
        since = sequence - (checkpoint.sequence if checkpoint else 0)
        if weight > CHECKPOINT_RATIO * table.weight_bytes() or since >= CHECKPOINT_POINTS:
            scratch = local.journal.directory / f"{work.index:03d}.table"
            await in_thread(_write_table, scratch, work)
            key = layout.table_key(vm, run, work.index)
            checkpoint = Checkpoint(sequence, ObjectRef(key, *await upload_file(self._store, key, str(scratch), WHAT)))
            weight = 0
        return Disk(
            source.name, source.name, capacity, root, manifest, work.changed_blocks, work.given.change_id,
            checkpoint, weight, work.given.attributes,
        )  # fmt: skip

    async def _publish(self, repository: Repository, sequence: int, data: bytes) -> None:
        if not await repository.publish(self._vm, sequence, data):
            # Another sender's point stands there; ours was never visible and its objects are ours to remove.
            await self._remove_run(self._run.hex())
            raise LeaseError(
                f"another sender published restore point {sequence} of VM {self._vm!r} first",
                where=self._store.uri,
                hint="nothing is lost; make sure that only one scheduler syncs this VM, and run again",
                retryable=True,
            )

    async def _commit(self, local: LocalState, works: list[_Work], new: Point) -> None:
        """Move the local state to the point that was published. Dying in here costs nothing: the journal
        still holds all of it."""
        try:
            for work in works:
                await in_thread(self._commit_disk, work, new)
            local.remember(new.id)
            local.journal.clear()
        except StoreError as error:
            raise StoreError(
                f"restore point {new.id.label} is published, but then {error.what}",
                where=error.where,
                hint=error.hint,
                retryable=True,
            ) from error

    @staticmethod
    def _commit_disk(work: _Work, new: Point) -> None:
        generation = new.id.sha256
        if work.log.rows:
            commit_pages(work.state.pages, work.log, generation)
        else:
            work.state.pages.advance(generation)
        work.state.table.commit(generation, work.given.source.capacity_bytes)


def stage_manifest_file(work: _Work) -> None:
    tables.stage_manifest(work.state.table, work.manifest.reader())


def _write_table(path: Path, work: _Work) -> None:
    capacity = work.given.source.capacity_bytes
    with local_io(WHAT, path), path.open("wb") as out:
        for piece in tablefile.encode(capacity, work.state.table.staged_leaves(capacity)):
            out.write(piece)


def check_disks(disks: list[DiskInput]) -> None:
    """ConfigError unless the disks' names are usable and different."""
    names = [d.source.name for d in disks]
    if not disks:
        raise ConfigError("no disk was given", hint="name at least one disk image")
    for name in names:
        if not point.safe_name(name):
            raise ConfigError(
                f"{name!r} can't name a disk: a name is a plain file name of printable characters, "
                "without slashes, not beginning with a dot",
                hint="give it as NAME=PATH",
            )
        if names.count(name) > 1:
            raise ConfigError(
                f"two disks are called {name!r}", hint="tell them apart by giving them as NAME=PATH"
            )


__all__ = ["BLOCK_BYTES", "DiskInput", "Sync", "SyncResult", "check_disks"]
