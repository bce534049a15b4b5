"""The index of a repository's VMs: read as a hint, and kept up to date beside the work; refuses to fail anything.

docs/format.md, "Index". Whoever reads it proves what it says (`vm_lookup.py`). Whoever writes it has other work, so
each write is bounded in tries and time, and what it could not do the next sync of the VM does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from warmspare.errors import FormatError, NotFoundError, StoreError
from warmspare.format import flags, index_shard
from warmspare.format.index_shard import DamagedShardError, IndexEntry, IndexShard, WholeMark, entry_of, shards_of
from warmspare.model.ids import VmId
from warmspare.observe.housekeeping import Housekeeping, Trying, denied_by_store
from warmspare.repository.chain import Point, Repository
from warmspare.store import layout
from warmspare.store.swaps import swap

TRIES = 12  # of replacing a shard that others replace at the same moment
PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0
WITHIN_S = 10.0  # all of a note, whatever the store does; who has other work gives it up before
ACTION = "index:update"


@dataclass(frozen=True, slots=True)
class ThereShard:
    """A shard as it was found. shard: None where none is there, or nothing that is to be believed; etag: of what is
    there, None for nothing."""

    shard: IndexShard | None
    etag: str | None


class VmIndex:
    """Of one repository. conflicts: how often another's write came between a look and a write of ours."""

    def __init__(self, repository: Repository) -> None:
        self._repository, self._store = repository, repository.store
        self.conflicts = 0

    async def read(self, number: int) -> IndexShard | None:
        """A shard; None where it is not there, is not to be had, or is not to be believed. StoreError where the store
        is away."""
        try:
            return await self._decoded(number)
        except FormatError:
            return None
        except StoreError as error:
            if error.retryable:
                raise
            return None

    async def announce(self, point: Point, before: str | None, housekeeping: Housekeeping) -> None:
        """What `note` does, for a point that is about to be published, where the VM does not stand yet: so that no
        sender that dies in between leaves another VM of that name the only one there. Else nothing is asked."""
        await self._note(point, before, housekeeping, published=False)

    async def note(self, point: Point, before: str | None, housekeeping: Housekeeping) -> None:
        """Write down that this is a VM's newest point, which its sender has just published. before: what the point
        before it called the VM; None if there is none. Never fails; what it failed with is told by `housekeeping`."""
        await self._note(point, before, housekeeping, published=True)

    async def _note(self, point: Point, before: str | None, housekeeping: Housekeeping, *, published: bool) -> None:
        record = point.record
        places = shards_of(record.vm_id, record.vm_name)
        known = shards_of(record.vm_id, before) if before is not None else frozenset()
        with self._trying(housekeeping):
            try:
                async with asyncio.timeout(WITHIN_S):
                    for number in sorted(places if published else places - known):
                        entry = entry_of(record, point.id.sha256)
                        await self._put(number, entry, new_here=number not in known)
                    for number in sorted(known - places if published else ()):
                        await self.change(number, partial(_without, record.vm_id))
            except TimeoutError:
                raise StoreError(f"the store did not take it within {WITHIN_S:.0f} s") from None

    def gave_up(self, housekeeping: Housekeeping) -> None:
        """Take note that somebody did not wait for it any longer."""
        with self._trying(housekeeping):
            raise StoreError("the store had not taken it when all else was done")

    def _trying(self, housekeeping: Housekeeping) -> Trying:
        where = self._repository.where(layout.index_prefix())
        right = "" if self._store.uri.startswith("s3://") else "write access"
        return housekeeping.trying(ACTION, where, denied=denied_by_store, right=right, verb="brought up to date")

    async def _put(self, number: int, entry: IndexEntry, *, new_here: bool) -> None:
        """The entry in place of what a shard says of that VM. new_here: whether the VM never belonged here before; else
        a shard that is missing is one that was lost, with who knows whom."""

        async def altered(there: ThereShard) -> IndexShard:
            if there.shard is not None:
                return there.shard.having(entry)
            whole = there.etag is None and new_here and await self.has_whole_mark()
            return self.empty(whole=whole).having(entry)

        await self.change(number, altered)

    def empty(self, *, whole: bool) -> IndexShard:
        return IndexShard(flags.VERSION, 0, self._repository.id, whole)

    async def change(self, number: int, alter: Callable[[ThereShard], Awaitable[IndexShard | None]]) -> bool:
        """Replace a shard by what is made of it; nothing where that is None or what is there. False where it is of a
        version that this program does not know, and stays. StoreError."""
        key = layout.index_key(number)
        for tries in range(TRIES):
            if tries:
                self.conflicts += 1
                await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE_S, PAUSE_S * 2**tries)))  # noqa: S311
            try:
                there = await self.there(number)
            except FormatError:
                return False
            wanted = await alter(there)
            if wanted is None or wanted == there.shard:
                return True
            if await swap(self._store, key, index_shard.encode(wanted), etag=there.etag) is not None:
                return True
        raise StoreError("other senders wrote it each time", where=self._repository.where(key), retryable=True)

    async def there(self, number: int) -> ThereShard:
        """What stands there; the tag is asked for first, so that what is written since is not written over.
        FormatError where it is of another version."""
        info = await self._store.head(layout.index_key(number))
        if info is None:
            return ThereShard(None, None)
        if info.bytes > index_shard.MAX_SHARD_BYTES:
            return ThereShard(None, info.etag)
        try:
            return ThereShard(await self._decoded(number), info.etag)
        except (DamagedShardError, NotFoundError):
            return ThereShard(None, info.etag)

    async def _decoded(self, number: int) -> IndexShard:
        """A shard that is there. StoreError, FormatError."""
        key = layout.index_key(number)
        data = await self._store.get(key, max_bytes=index_shard.MAX_SHARD_BYTES)
        return index_shard.decode(data, number, self._repository.id, self._repository.where(key))

    async def has_whole_mark(self) -> bool:
        """Whether a shard that is not there is one that no VM belongs to."""
        key = layout.index_whole_key()
        try:
            data = await self._store.get(key, max_bytes=index_shard.MAX_SHARD_BYTES)
            index_shard.decode_whole(data, self._repository.id, self._repository.where(key))
        except (NotFoundError, FormatError):
            return False
        return True

    async def leave_whole_mark(self) -> None:
        """Say that from now on. StoreError."""
        key = layout.index_whole_key()
        mark = index_shard.encode(WholeMark(flags.VERSION, 0, self._repository.id))
        if not await self._store.create(key, mark) and not await self.has_whole_mark():
            await self._store.put(key, mark)


async def _without(vm: VmId, there: ThereShard) -> IndexShard | None:
    return there.shard.without(vm) if there.shard is not None else None
