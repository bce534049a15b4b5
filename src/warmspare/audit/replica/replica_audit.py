"""An audit of a replica: every block held against the hash table of the restore point it is at; owns its order.

docs/architecture.md, "Audits". Reads only, beside whatever `apply` does. A block that is not as expected is suspect,
and wrong only if the replica stood still, at one restore point, while it was read again. `--repair` takes the replica's
lock for the whole run and puts right what is wrong in the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from warmspare.audit.expected.hashes import ExpectedTable, expected_table
from warmspare.audit.replica import replica_progress as progressing
from warmspare.audit.replica.conclusion import AuditedBlocks, conclude
from warmspare.audit.replica.disk_audit import DiskAudit
from warmspare.audit.replica.replica_progress import ProgressFile, ReplicaProgress
from warmspare.audit.replica.standing import PATIENCE_S, AuditedReplica
from warmspare.audit.reports.report import AuditReport
from warmspare.errors import ConfigError, IntegrityError, LeaseError, NotFoundError, StoreError
from warmspare.model.ids import DiskId, PointId, VmId
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.audit_events import AuditPoint, AuditStart
from warmspare.observe.kinds.source_events import SourceWarning
from warmspare.repository.chain import Point, Repository, now_text, open_repository
from warmspare.repository.history.steps import descend, dropped_error, recall
from warmspare.repository.vm_lookup import vm_called
from warmspare.state.local_files import locked
from warmspare.state.replica_record import STATE
from warmspare.store.contract import Store
from warmspare.threads import Threads
from warmspare.ticker import every

SAVE_S = 10.0
MAX_ROUNDS = 1000  # of the replica moving on while suspects are read; each reads only what changed


@dataclass(frozen=True, slots=True)
class ReplicaAuditSettings:
    """at: the restore point that the replica must be at. percent: the share to look at, None for all. state: where the
    replica's state is, None for beside it. uncached: read the medium, not the page cache. threads: how many hash."""

    at: str | None = None
    percent: float | None = None
    repair: bool = False
    state: Path | None = None
    uncached: bool = False
    threads: int = 0
    patience_s: float = PATIENCE_S


class _Disk:
    """A disk under audit with the table that it is judged by now."""

    def __init__(self, audit: DiskAudit, stack: AsyncExitStack) -> None:
        self.audit, self.stack = audit, stack


class ReplicaAudit:
    """Runs once. vm: its ID in the repository, or its name there. scratch: for tables. progress: the directory where
    it is noted how far interrupted audits have come."""

    def __init__(
        self,
        store: Store,
        vm: str,
        target: Path,
        scratch: Path,
        progress: Path,
        events: Events,
        settings: ReplicaAuditSettings,
        meter: Meter | None = None,
    ) -> None:
        self._store, self._target, self._scratch = store, target, scratch
        self._vm = VmId(vm)  # as given, until the repository is asked whose name it is
        self._progress_dir, self._events, self._settings = progress, events, settings
        self._meter = meter or Meter()
        self._disks: dict[DiskId, _Disk] = {}
        self._seed = secrets.randbits(48)
        self._began = now_text()
        self._resumed = ""

    async def run(self) -> AuditReport:
        """Judge, and repair if that was asked for. Raises the package's errors where nothing can be judged.

        Killed or cancelled, the next run goes on; nothing of the replica was changed, but what a repair had done.
        """
        repository = await open_repository(self._store)
        self._vm = await vm_called(repository, self._vm)
        subject = AuditedReplica(self._target, self._vm, repository, self._settings.state)
        await subject.open(self._settings.at)
        if self._settings.repair and not subject.recorded:
            raise ConfigError(
                "only a replica with a state of `warmspare apply` can be repaired",
                where=str(self._target),
                hint="apply the restore point anew",
            )
        with self._lock(subject):
            return await self._audit(repository, subject)

    @contextlib.contextmanager
    def _lock(self, subject: AuditedReplica) -> Iterator[None]:
        if not self._settings.repair:
            yield
            return
        with locked(subject.place.lock_path, STATE) as mine:
            if not mine:
                raise LeaseError(
                    "an apply or a drill is working on this replica, so it can't be repaired now",
                    where=str(subject.place.state),
                    hint="end `warmspare apply --follow` for as long as the repair takes",
                    retryable=True,
                )
            now = subject.standing()
            if now.moving:
                raise LeaseError(
                    f"an interrupted apply left the replica on its way to restore point {now.moving.label}",
                    where=str(subject.place.target),
                    hint="run `warmspare apply`, then repair",
                    retryable=True,
                )
            yield

    async def _audit(self, repository: Repository, subject: AuditedReplica) -> AuditReport:
        saved = self._progress_file(repository)
        threads = Threads(self._settings.threads or len(os.sched_getaffinity(0)), "audit")
        with saved.hold():
            try:
                async with AsyncExitStack() as stack:
                    stack.push_async_callback(self._close)
                    await self._begin(repository, subject, saved, threads)
                    async with self._saving(saved, subject):
                        for disk in self._disks.values():
                            await disk.audit.scan()
                        point = await self._settle(repository, subject, threads)
                    audited = AuditedBlocks(
                        self._target,
                        self._settings.percent,
                        self._seed,
                        self._settings.uncached,
                        self._began,
                        self._resumed,
                    )
                    audits = [disk.audit for disk in self._disks.values()]
                    report = await conclude(
                        audited,
                        audits,
                        repository,
                        point,
                        self._scratch,
                        self._meter,
                        with_repair=self._settings.repair,
                    )
                saved.remove()
                return report
            finally:
                threads.close()

    def _progress_file(self, repository: Repository) -> ProgressFile:
        settings = self._settings
        parts = (repository.id, self._vm, str(self._target.resolve()), str(settings.percent), str(settings.uncached))
        identity = hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()
        return ProgressFile(self._progress_dir / f"{identity[:32]}.json", identity, self._events)

    @contextlib.asynccontextmanager
    async def _saving(self, saved: ProgressFile, subject: AuditedReplica) -> AsyncIterator[None]:
        """Note the progress now and then, and on the way out by an error or a cancel."""

        def save() -> None:
            self._save(saved, subject)

        async with every(SAVE_S, save):
            try:
                yield
            except BaseException:
                save()
                raise

    def _save(self, saved: ProgressFile, subject: AuditedReplica) -> None:
        """Note how far it has come. Where that fails the audit goes on: only an interruption would cost more."""
        here = self._point.id
        assert here
        try:
            now = subject.standing()
            saved.write(
                point=here,
                at=now.at,
                moving=now.moving,
                began=self._resumed or self._began,
                seed=self._seed,
                disks=[disk.audit for disk in self._disks.values()],
            )
        except (StoreError, IntegrityError) as error:
            self._events.emit(SourceWarning(message=f"the audit's progress was not noted: {error.sentence}"))

    # beginning

    async def _begin(
        self, repository: Repository, subject: AuditedReplica, saved: ProgressFile, threads: Threads
    ) -> None:
        standing = subject.standing()
        at = standing.at or await subject.wait(self._events, self._settings.patience_s)
        before = saved.read()
        start = await self._resumable(repository, before, at)
        try:
            self._point = start or await self._load(repository, at)
            await self._take_disks(repository, subject, self._point, threads)
        except (ConfigError, IntegrityError):
            if start is None or start.id == at:
                raise
            start, self._point = None, await self._load(repository, at)  # it was dropped, and is going
            await self._take_disks(repository, subject, self._point, threads)
        if start and before:
            stamps = {d.audit.disk.id: progressing.stamp(d.audit.fd) for d in self._disks.values() if d.audit.fd >= 0}
            if progressing.holds(before, standing.at, standing.moving, stamps):
                await self._resume(before)
            elif start.id != at:
                await self._advance(repository, subject, at, threads)
        self._meter.total_bytes = sum(disk.audit.disk.capacity_bytes for disk in self._disks.values())
        self._meter.done_bytes = sum(disk.audit.next_block * BLOCK_BYTES for disk in self._disks.values())
        self._events.emit(
            AuditStart(
                kind="replica",
                vm=self._vm,
                repository=self._store.uri,
                subject=str(self._target),
                point=self._point.id.label,
                bytes_total=self._meter.total_bytes,
                repair=self._settings.repair,
                resumed=self._resumed or None,
            )
        )

    async def _resumable(self, repository: Repository, before: ReplicaProgress | None, at: PointId) -> Point | None:
        """The point that an interrupted run judged by, if the replica's point is that or descends from it."""
        if before is None:
            return None
        known = before.point
        if known.sequence > at.sequence:
            return None
        try:
            start = await repository.load(self._vm, known.sequence)
            if start.id != known:
                return None
            async for _ in descend(repository, self._vm, known, at.sequence):
                pass
        except (ConfigError, IntegrityError, NotFoundError):
            return None
        return start

    async def _resume(self, before: ReplicaProgress) -> None:
        self._resumed, self._seed = before.began, before.seed
        for entry in before.disks:
            disk = self._disks.get(entry.id)
            if disk and disk.audit.disk.capacity_bytes == entry.capacity_bytes:
                disk.audit.reseed(before.seed)
                progressing.restore(disk.audit, entry)

    async def _load(self, repository: Repository, at: PointId) -> Point:
        """The replica's point. IntegrityError if the repository has not got it, or another in its place."""
        try:
            point = await repository.load(self._vm, at.sequence)
        except NotFoundError:
            await recall(repository, self._vm, at)  # or it says what became of it
            raise await dropped_error(repository, self._vm, at.sequence) from None
        if point.id != at:
            raise IntegrityError(
                f"the replica is at restore point {at.label} of VM {self._vm!r} and the repository has "
                f"{point.id.label} in its place: it was forked",
                where=self._store.uri,
                hint="put the right record back from a copy of the repository",
            )
        return point

    async def _take_disks(
        self, repository: Repository, subject: AuditedReplica, point: Point, threads: Threads
    ) -> None:
        """Have each disk of the point under audit, judged by its table there; those that it has not got are let go."""
        for disk_id in [known for known in self._disks if point.record.disk(known) is None]:
            await self._drop(disk_id)
        for disk in point.record.disks:
            stack = AsyncExitStack()
            try:
                table: ExpectedTable = await stack.enter_async_context(
                    expected_table(repository, point, disk.id, self._scratch)
                )
                known = self._disks.get(disk.id)
                if known is None:
                    path = subject.path(disk, point)
                    audit = DiskAudit(
                        disk,
                        path,
                        subject.open_disk(path),
                        table,
                        device=subject.place.device,
                        percent=self._settings.percent,
                        seed=self._seed,
                        uncached=self._settings.uncached,
                        threads=threads,
                        meter=self._meter,
                    )
                    self._disks[disk.id] = _Disk(audit, stack)
                else:
                    known.audit.move_to(disk, table)
                    old, known.stack = known.stack, stack
                    await old.aclose()
            except BaseException:
                await stack.aclose()
                raise

    async def _drop(self, disk_id: DiskId) -> None:
        disk = self._disks.pop(disk_id)
        if disk.audit.fd >= 0:
            os.close(disk.audit.fd)
        await disk.stack.aclose()

    async def _close(self) -> None:
        for disk_id in list(self._disks):
            await self._drop(disk_id)

    # beside an apply

    async def _settle(self, repository: Repository, subject: AuditedReplica, threads: Threads) -> Point:
        """Have every suspect read while the replica stood still at one point; that point.

        Whenever it moved on meanwhile, what the way there changed is suspect too.
        """
        for _ in range(MAX_ROUNDS):
            at = await subject.wait(self._events, self._settings.patience_s)
            if at != self._point.id:
                await self._advance(repository, subject, at, threads)
            for disk in self._disks.values():
                audit = disk.audit
                if subject.replaced(audit.path, audit.fd):
                    if audit.fd >= 0:
                        os.close(audit.fd)
                    audit.fd = subject.open_disk(audit.path)
                    audit.restart(audit.disk, audit.table)
                if audit.present_blocks < audit.next_block:  # cut off since it was read
                    audit.restart(audit.disk, audit.table)
                await audit.scan()
                await audit.judge_suspects()
            now = subject.standing()
            if now.still and now.at == at:
                return self._point
        raise LeaseError(
            f"the replica moved on {MAX_ROUNDS} times while it was judged",
            where=str(self._target),
            hint="end `warmspare apply --follow` for as long as the audit takes",
            retryable=True,
        )

    async def _advance(self, repository: Repository, subject: AuditedReplica, at: PointId, threads: Threads) -> None:
        """Judge by the point that the replica is at now. IntegrityError if it does not descend from the last one."""
        async for _ in descend(repository, self._vm, self._point.id, at.sequence):
            pass
        point = await self._load(repository, at)
        await self._take_disks(repository, subject, point, threads)
        self._point = point
        self._events.emit(AuditPoint(vm=self._vm, point=at.label, created=point.record.created))
