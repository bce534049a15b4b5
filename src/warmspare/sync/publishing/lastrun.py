"""What the run before this one left, if it did not come to its end; owns whether it is finished, kept or noted.

The journal tells: a run that had sealed its point is finished without its machine, one that had not is kept for the
pages that it sent, and one that had published has only left the local state behind.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from warmspare.errors import NotFoundError
from warmspare.format import restore_point
from warmspare.model.ids import DiskId, PointId, VmId, vm_key
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.sync_events import SyncCompleting, SyncRecovered
from warmspare.repository.chain import Point, Repository
from warmspare.store.lease import Lease
from warmspare.sync.journal.journal import RunRecord
from warmspare.sync.journal.page_log import PageLog
from warmspare.sync.local.local_state import LocalState
from warmspare.sync.publishing import sealed as sealing
from warmspare.sync.publishing.index_note import IndexNote
from warmspare.sync.publishing.publication import called, publish
from warmspare.sync.publishing.spool import Spool, SpoolPlace


class LastRun:
    """Of one VM. Whoever asks holds its lease and the lock of its local state."""

    def __init__(
        self, vm: VmId, repository: Repository, local: LocalState, events: Events, housekeeping: Housekeeping
    ) -> None:
        self._vm, self._repository, self._local, self._events = vm, repository, local, events
        self._housekeeping = housekeeping
        self._left = local.journal.left_over()

    async def complete(self, head: Point | None, lease: Lease, spool_at: Callable[[SpoolPlace], Spool]) -> bool:
        """Finish it, if all that it lacked was to be sent. Whether its point is the head now; if not, what its spool
        held is gone. spool_at: the spool of a place, not entered yet."""
        left, journal = self._left, self._local.journal
        if left is None:
            return False
        async with AsyncExitStack() as stack:
            spool = None
            if left.spool:
                spool = await stack.enter_async_context(spool_at(SpoolPlace(Path(left.spool))))
            sealed = sealing.of(journal, left)
            if sealed is not None and sealed.record.parent == (head.id.sha256 if head else None):
                record, store = sealed.record, self._repository.store
                self._events.emit(SyncCompleting(vm=self._vm, sequence=record.sequence, created=record.created))
                vm = vm_key(self._vm)
                point = Point(PointId(record.sequence, restore_point.identity(sealed.data)), record, sealed.data)
                index = await stack.enter_async_context(IndexNote(self._repository, self._housekeeping))
                index.announce(point, called(head))
                if await sealing.complete(store, vm, journal, spool, sealed, self._housekeeping):
                    await publish(self._repository, point, sealed.data, lease, self._housekeeping, index)
                    index.published(point, called(head))
                    return True
            if spool is not None:
                await spool.take({})
        return False

    async def take_in(self, head: Point | None, stack: AsyncExitStack, *, remove: bool) -> dict[DiskId, PageLog]:
        """What it had not published is kept for this run; of what it had published, its page logs are returned, by
        disk, if that point is the head still; they are closed with the stack at the latest. remove: whether what is of
        no use is removed from the store."""
        left, local, store = self._left, self._local, self._repository.store
        if left is None:
            return {}
        published = await self._published(left)
        if published is None:
            if remove:
                kept = await local.unfinished.keep(store, local.journal, left, self._housekeeping)
                self._events.emit(SyncRecovered(vm=self._vm, point=None, published=False, packs_kept=kept))
            return {}
        if remove:
            packs = await local.packs_of(published) if local.unfinished.runs() else []
            local.unfinished.settle(published.id.sequence, packs)
        self._events.emit(SyncRecovered(vm=self._vm, point=published.id.label, published=True, packs_kept=0))
        if head is None or published.id != head.id:
            return {}
        logs: dict[DiskId, PageLog] = {}
        for index, disk in enumerate(published.record.disks):
            logs[disk.id] = local.journal.page_log(index)
            stack.callback(logs[disk.id].close)
        return logs

    async def _published(self, left: RunRecord) -> Point | None:
        """Its point, if it came so far. The record under its sequence tells, and nothing else."""
        try:
            found = await self._repository.load(self._vm, left.sequence)
        except NotFoundError:
            return None
        return found if found.record.run == left.run else None
