"""A store that breaks its promises, each when it is told to; for tests of what notices it."""

from __future__ import annotations

import asyncio
import builtins
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from warmspare.errors import NotFoundError, StoreError
from warmspare.store.around.passing import PassingStore
from warmspare.store.contract import ObjectInfo, StaleUpload, Store


class Unkept(PassingStore):
    """creates, replaces: the share of conditions "only if absent" and "only if its tag is" that are dropped, drawn from
    a seed; the write is then done whatever stands there. only_together: they are dropped only while other conditional
    writes are under way. on: off, it is an honest store."""

    def __init__(
        self,
        store: Store,
        *,
        creates: float = 0.0,
        replaces: float = 0.0,
        seed: int = 1,
        only_together: bool = False,
        on: bool = True,
    ) -> None:
        super().__init__(store)
        self.creates, self.replaces, self.only_together, self.on = creates, replaces, only_together, on
        self.dropped = 0
        self._rng, self._under_way = random.Random(seed), 0

    def _drops(self, share: float) -> bool:
        drops = self.on and self._rng.random() < share and (not self.only_together or self._under_way > 1)
        self.dropped += drops
        return drops

    async def create(self, key: str, data: bytes) -> bool:
        self._under_way += 1
        try:
            await asyncio.sleep(0)  # others may begin
            if self._drops(self.creates):
                await self._store.put(key, data)
                return True
            return await self._store.create(key, data)
        finally:
            self._under_way -= 1

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        self._under_way += 1
        try:
            await asyncio.sleep(0)
            if self._drops(self.creates if etag is None else self.replaces):
                return await self._store.put(key, data)
            return await self._store.replace(key, data, etag=etag)
        finally:
            self._under_way -= 1


class Boastful(PassingStore):
    """Says of a create that was refused that it was done."""

    async def create(self, key: str, data: bytes) -> bool:
        await self._store.create(key, data)
        return True


class Closed(PassingStore):
    """Refuses every conditional write: with the answer that the condition did not hold, or as unknown."""

    unknown = False

    async def create(self, key: str, data: bytes) -> bool:
        if self.unknown:
            raise StoreError("the server does not support the request", where=key)
        return False

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        if self.unknown:
            raise StoreError("the server does not support the request", where=key)
        return None


class Swapless(PassingStore):
    """Knows "only if absent" and refuses every tag, as a server does whose tags are weak; or the whole request."""

    unknown = False

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        if etag is None:
            return await self._store.replace(key, data, etag=None)
        if self.unknown:
            raise StoreError("the server does not support the request", where=key)
        return None


class OneTag(PassingStore):
    """Gives every object the same tag."""

    async def head(self, key: str) -> ObjectInfo | None:
        info = await self._store.head(key)
        return None if info is None else replace(info, etag='"1"')

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        there = await self._store.head(key)
        if (None if there is None else '"1"') != etag:
            return None
        return replace(await self._store.put(key, data), etag='"1"')


class Cached(PassingStore):
    """Gives the first answer again, as a cache before the server does. heads, gets, lists: which of them."""

    def __init__(self, store: Store, *, heads: bool = False, gets: bool = False, lists: bool = False) -> None:
        super().__init__(store)
        self._cached = heads, gets, lists
        self._heads: dict[str, ObjectInfo | None] = {}
        self._gets: dict[str, bytes] = {}
        self._lists: dict[str, builtins.list[ObjectInfo]] = {}

    async def head(self, key: str) -> ObjectInfo | None:
        if key not in self._heads or not self._cached[0]:
            self._heads[key] = await self._store.head(key)
        return self._heads[key]

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        if key not in self._gets or not self._cached[1]:
            self._gets[key] = await self._store.get(key, max_bytes=max_bytes)
        return self._gets[key]

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        if prefix not in self._lists or not self._cached[2]:
            self._lists[prefix] = [info async for info in self._store.list(prefix)]
        for info in self._lists[prefix]:
            if info.key > start_after:
                yield info


class Late(PassingStore):
    """Shows what was written only to who asks for it the second time."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._asked: set[str] = set()

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        if key not in self._asked:
            self._asked.add(key)
            raise NotFoundError("no such object", where=key)
        return await self._store.get(key, max_bytes=max_bytes)


class Rangeless(PassingStore):
    """Gives the first bytes for any range."""

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return await self._store.get_range(key, 0, length)


class Careless(PassingStore):
    """Takes parts whose checksum is wrong."""

    async def takes_damage(self, key: str) -> bool | None:
        return True


class Early(PassingStore):
    """Answers with a date an hour off."""

    async def now(self) -> float:
        return await self._store.now() + 3600


class AddOnly(PassingStore):
    """Lets nobody remove anything, nor list uploads."""

    async def delete(self, keys: Sequence[str]) -> None:
        raise StoreError("access denied", where=keys[0])

    async def stale_uploads(self, prefix: str) -> builtins.list[StaleUpload]:
        raise StoreError("access denied", where=prefix)
