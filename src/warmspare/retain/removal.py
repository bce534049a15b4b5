"""Removal of what nobody needs any more: of points that were let go, of runs that died, of uploads that never ended.

Owns the rules that make it safe whatever happens meanwhile. What points that were let go named is needed by none who
began within the grace time (vm_standing.py). A run that died put its objects there after the point that it meant to
follow, and would publish under the next sequence, which is given out once. So an object that is older than the newest
point and that nothing names belongs to a run whose sequence is taken: nothing that names it can be published any more,
lease or no lease. (A sender uses packs of an earlier run again only while that run's sequence is free, see
sync/resuming/unpublished.py.) So where points are let go, syncs go on beside it; and where a full store takes no lease
any more, what makes room is removed without one, unless somebody holds it.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from warmspare.audit.repository import contents as inventories
from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.seen import KnownRepository
from warmspare.errors import ConfigError, IntegrityError, NoRoomError, NotFoundError, first_of
from warmspare.model.ids import VmId, VmKey, new_run, vm_key, vm_of
from warmspare.model.named_moment import moment_text
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.repository_events import PruneFolds, PruneObject, PrunePoint, PruneRefused
from warmspare.repository.chain import open_repository
from warmspare.retain.folding import FoldCosts, Folding
from warmspare.retain.naming import NeededObjects
from warmspare.retain.policy import RetentionPolicy
from warmspare.retain.retainer import Held, Retainer, Staged, VmRetention
from warmspare.retain.vm_standing import UnsureError, VmStanding, demand_seen, refreshed, standing, unsure
from warmspare.state.local_files import local_io
from warmspare.store import layout
from warmspare.store.clearing import Clearing
from warmspare.store.contract import StaleUpload, Store
from warmspare.store.lease import CLOCK_GRAIN_S, Lease, watching

GRACE_S = 86400.0
_BATCH = 1000


@dataclass(slots=True)
class Pruned:
    """What `prune.done` tells. points: let go, or to be let go. objects, bytes, uploads: removed, or to be removed
    where nothing is. kept: objects that nothing names and that stay, for they are too young or a sync may still use
    them. objects_left, uploads_left: that the store did not let us remove."""

    points: int = 0
    objects: int = 0
    bytes: int = 0
    uploads: int = 0
    kept: int = 0
    objects_left: int = 0
    uploads_left: int = 0


@dataclass(frozen=True, slots=True)
class Policies:
    """Which points of a VM are kept. of: None for a VM of which nothing is let go. staged: see Retainer. grace_s: how
    long whoever began before has to end."""

    of: Callable[[VmId, str], RetentionPolicy | None]
    held: Held
    staged: Staged | None = None
    grace_s: float = GRACE_S


class Prune:
    """Settings are all arguments; `run` does it once. vm: an ID, None for all. older_s: by the store's time, what was
    not needed for so long; None: a week, and for a VM whose points are let go the grace time. remove: False only looks.
    known: what was seen of the repository before. policies: None: no point is let go."""

    def __init__(
        self,
        store: Store,
        scratch: Path,
        known: KnownRepository,
        events: Events,
        *,
        vm: VmId | None,
        older_s: float | None,
        remove: bool,
        policies: Policies | None = None,
    ) -> None:
        self._store, self._directory, self._known, self._events = store, scratch, known, events
        self._wanted, self._older_s, self._remove, self._policies = vm, older_s, remove, policies
        self._done = Pruned()
        self._housekeeping = Housekeeping(events)
        self._clearing = Clearing(store, self._housekeeping, insist=True)

    async def run(self) -> Pruned:
        """ConfigError if there is no repository or no such VM; LeaseError if a sync is at work on one of which no point
        is let go, or another prune; IntegrityError, and nothing of that VM removed, if the repository does not tell for
        sure what is needed; StoreError. What was removed until then is gone. What the store does not let us remove does
        not end it."""
        self._repository = await open_repository(self._store)
        names, _ = await inventories.vms(self._store)
        if self._wanted is not None:
            names = [name for name in names if name == vm_key(self._wanted)]
            if not names:
                raise ConfigError(
                    f"no VM of this repository has the ID {self._wanted!r}",
                    where=self._store.uri,
                    hint="list them with `warmspare points`",
                )
        with self._housekeeping:
            for key in names:
                vm = vm_of(key) or await self._repository.long_name(key)
                policy = await self._policy(vm)
                async with AsyncExitStack() as stack:
                    which = layout.lease_key(key) if policy is None else layout.prune_lease_key(key)
                    lease = await self._held(key, which, stack)
                    await self._vm(key, vm, policy, which, lease)
        return self._done

    async def _policy(self, vm: VmId | None) -> RetentionPolicy | None:
        if self._policies is None or vm is None:
            return None
        newest = await self._repository.newest(vm)
        if newest is None:
            return None
        return self._policies.of(vm, (await self._repository.load(vm, newest)).record.vm_name)

    async def _held(self, vm: VmKey, key: str, stack: AsyncExitStack) -> Lease | None:
        """That lease; None where there is no room for one, or nothing is written at all, and nobody else has it."""
        if self._remove:
            held = Lease.hold(self._store, key, on_watch=watching(self._events, _told(vm)))
            with suppress(NoRoomError):
                return await stack.enter_async_context(held)
        await self._confirm(vm, key, None)
        return None

    async def _vm(
        self, key: VmKey, vm: VmId | None, policy: RetentionPolicy | None, which: str, lease: Lease | None
    ) -> None:
        """which: the lease that is asked for; lease: None where there is none."""
        grace_s = self._policies.grace_s if self._policies else GRACE_S
        # Listed before any record is read: where a run publishes meanwhile, what it put there is not older than the
        # newest record that was listed, however long it took.
        there = await inventories.take(self._store, key)
        needed: set[str] = set()
        found: VmStanding | None = None
        try:
            if vm is not None:
                found = await standing(self._repository, vm, grace_s)
                seen = [(one.point, one.source) for one in self._known.seen if one.vm == vm]
                await demand_seen(self._repository, found, seen)
                with self._scratch() as scratch:
                    if policy is not None:
                        await self._retain(found, policy, scratch)
                        found = await refreshed(self._repository, found, grace_s)
                    needed = await NeededObjects(self._repository, found, scratch).gather()
        except* (IntegrityError, NotFoundError) as group:
            error = first_of(group)
            if isinstance(error, UnsureError):
                raise error from None
            raise unsure(self._repository, vm or _told(key), error.sentence) from error
        except* NoRoomError as full:  # alone, or out of a download
            error = first_of(full)
            hint = "let XDG_STATE_HOME name a directory on a file system that has room, and run it again"
            raise NoRoomError(error.what, where=error.where, hint=hint) from error
        older_s = self._older_s if self._older_s is not None else grace_s if policy is not None else 7 * 86400.0
        for each in needed:
            there.name(each)
        limit_s = await self._store.now() - older_s
        todo = self._unneeded(key, found, there, limit_s)
        for at in range(0, len(todo), _BATCH):
            await self._remove_all(key, todo[at : at + _BATCH], which, lease)
        await self._end_uploads(key, there, limit_s, which, lease)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder of its own for working files. StoreError, NoRoomError."""
        with local_io("temporary space", self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            made = tempfile.TemporaryDirectory(prefix=".prune-", dir=self._directory)
        with made as folder:
            yield Path(folder)

    async def _retain(self, found: VmStanding, policy: RetentionPolicy, scratch: Path) -> None:
        """Let points go, or say which would."""
        assert self._policies is not None
        retainer = Retainer(self._repository, found, policy, self._policies.held)
        decided = await retainer.look(self._policies.staged)
        self._tell(decided)
        since = moment_text(await self._store.now())
        priced = self._store.uri.startswith("s3://")
        folding = Folding(self._repository, found.vm, new_run(), itertools.count(), scratch, since, priced)
        if decided.goes:
            await (retainer.fold if self._remove else retainer.survey)(decided, folding)
            self._done.points += len(decided.goes)
        made: FoldCosts = folding.made
        self._events.emit(
            PruneFolds(
                vm=found.vm,
                policy=policy.words,
                points=len(decided.points),
                goes=len(decided.goes),
                done=self._remove,
                folds=made.folds,
                packs=made.packs,
                bytes_read=made.read_bytes,
                bytes_written=made.written_bytes,
                bytes_back=made.back_bytes - made.written_bytes,
                packs_back=made.back_packs,
            )
        )

    def _tell(self, decided: VmRetention) -> None:
        if decided.refusal:
            self._events.emit(PruneRefused(vm=decided.vm, message=decided.refusal))
        goes = set(decided.goes)
        for sequence, point in decided.points.items():
            self._events.emit(
                PrunePoint(
                    vm=decided.vm,
                    point=point.id.label,
                    sequence=sequence,
                    created=point.created,
                    goes=sequence in goes,
                    reasons=list(decided.plan.kept.get(sequence, ())),
                    doubt=decided.doubts.get(sequence, ""),
                )
            )

    # what is not needed

    def _unneeded(
        self, key: VmKey, found: VmStanding | None, there: VmContents, limit_s: float
    ) -> list[tuple[str, int]]:
        """What is to be removed, with sizes. Records first: what they name is of no use without them. there: without
        what is needed."""
        todo: list[tuple[str, int]] = []
        if found is not None and found.by_all is not None:
            dropped = [point for number, point in found.points.items() if found.by_all.dropped(number)]
            todo += [(layout.point_key(key, point.id.sequence), point.bytes) for point in dropped]
            old = [one for one in found.out_of_use if one.modified_s < limit_s]
            todo += [(layout.retention_key(key, one.record.generation), one.bytes) for one in old]
        published = {point.run for point in found.points.values()} if found else set()
        folding = found is not None and bool(found.records)
        for each, modified_s, size in there.left():
            # The last record has its time from the same clock; without one no sequence is taken, so all stays. A run
            # that has published is over; and what stood for points and does not any more is out of use by its age.
            over = modified_s + CLOCK_GRAIN_S < there.newest_s or each.split("/")[-2] in published
            over = over or (folding and each in there.folded)
            if modified_s < limit_s and over:
                todo.append((each, size))
            else:
                self._done.kept += 1
        return todo

    async def _remove_all(self, vm: VmKey, batch: list[tuple[str, int]], which: str, lease: Lease | None) -> None:
        left: set[str] = set()
        if self._remove:
            await self._confirm(vm, which, lease)
            left = await self._clearing.left([key for key, _ in batch])
        self._done.objects_left += len(left)
        for key, size in batch:
            self._done.objects += key not in left
            self._done.bytes += 0 if key in left else size
            removed = self._remove and key not in left
            self._events.emit(PruneObject(vm=_told(vm), key=key, bytes=size, removed=removed))

    async def _end_uploads(self, vm: VmKey, there: VmContents, limit_s: float, which: str, lease: Lease | None) -> None:
        if there.no_uploads is not None:
            self._clearing.not_listed(there.prefix, there.no_uploads)
        for upload in [upload for upload in there.uploads or [] if upload.began_s < limit_s]:
            gone = not self._remove or await self._aborted(vm, upload, which, lease)
            self._done.uploads += gone
            self._done.uploads_left += not gone

    async def _aborted(self, vm: VmKey, upload: StaleUpload, which: str, lease: Lease | None) -> bool:
        await self._confirm(vm, which, lease)
        return await self._clearing.abort(upload)

    async def _confirm(self, vm: VmKey, which: str, lease: Lease | None) -> None:
        """LeaseError if another has it by now."""
        if lease is not None:
            await lease.confirm()
        else:
            await Lease.demand_free(self._store, which, on_watch=watching(self._events, _told(vm)))


def _told(vm: VmKey) -> VmId:
    """As people know it; its key where the ID is too long to stand in that."""
    return vm_of(vm) or VmId(vm)
