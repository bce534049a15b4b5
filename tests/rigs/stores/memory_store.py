"""A store in this process's memory that counts requests and answers after a while; for many VMs, or a long time."""

from __future__ import annotations

import asyncio
import bisect
import builtins
import hashlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from crc32c import crc32c

from warmspare.errors import NotFoundError, StoreError
from warmspare.store.contract import ObjectInfo, StaleUpload, Upload

PAGE = 1000  # keys in an answer to a listing, as S3 has it


class MemoryStore:
    """See Store. requests: by method. latency_s: before each answer. clock: its time. refused: methods and prefixes of
    keys that are answered by a refusal. read_bytes, written_bytes: of bodies."""

    uri = "memory"
    server = "memory"

    def __init__(self, latency_s: float = 0.0, clock: Callable[[], float] = time.time) -> None:
        self.latency_s, self.clock = latency_s, clock
        self.read_bytes = self.written_bytes = 0
        self.requests: Counter[str] = Counter()
        self.refused: set[tuple[str, str]] = set()
        self.objects: dict[str, tuple[bytes, float]] = {}
        self._tags: dict[int, tuple[bytes, str]] = {}  # by the identity of a body
        self._keys: list[str] = []

    async def _asked(self, method: str, key: str) -> None:
        self.requests[method] += 1
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if any(method == one and key.startswith(prefix) for one, prefix in self.refused):
            raise StoreError("access denied", where=key)

    def info(self, key: str) -> ObjectInfo | None:
        if key not in self.objects:
            return None
        data, when_s = self.objects[key]
        there = self._tags.get(id(data))
        if there is None or there[0] is not data:
            there = self._tags[id(data)] = data, hashlib.sha256(data).hexdigest()
        return ObjectInfo(key, len(data), when_s, there[1])

    def keep(self, key: str, data: bytes) -> ObjectInfo:
        if key not in self.objects:
            bisect.insort(self._keys, key)
        self.objects[key] = data, self.clock()
        self.written_bytes += len(data)
        info = self.info(key)
        assert info
        return info

    def copy(self) -> MemoryStore:
        """Another with the same objects, which asks the same clock."""
        other = MemoryStore(self.latency_s, self.clock)
        other.objects, other._keys = dict(self.objects), list(self._keys)
        return other

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        await self._asked("get", key)
        if key not in self.objects:
            raise NotFoundError("no such object", where=key)
        if len(self.objects[key][0]) > max_bytes:
            raise StoreError("the object is too large", where=key)
        return self._given(self.objects[key][0])

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        await self._asked("get_range", key)
        if key not in self.objects:
            raise NotFoundError("no such object", where=key)
        data = self.objects[key][0][offset : offset + length]
        if len(data) != length:
            raise StoreError("the object is shorter", where=key)
        return self._given(data)

    def _given(self, data: bytes) -> bytes:
        self.read_bytes += len(data)
        return data

    async def head(self, key: str) -> ObjectInfo | None:
        await self._asked("head", key)
        return self.info(key)

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        await self._asked("put", key)
        return self.keep(key, data)

    async def create(self, key: str, data: bytes) -> bool:
        await self._asked("create", key)
        if key not in self.objects:
            self.keep(key, data)
        return self.objects[key][0] == data

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        await self._asked("replace", key)
        there = self.info(key)
        if (there.etag if there else None) != etag:
            return None
        return self.keep(key, data)

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        await self._asked("list", prefix)
        first = max(bisect.bisect_right(self._keys, start_after), bisect.bisect_left(self._keys, prefix))
        for given, key in enumerate(itertools.islice(self._keys, first, None)):
            if not key.startswith(prefix):
                break
            if given and given % PAGE == 0:
                await self._asked("list", prefix)
            info = self.info(key)
            assert info
            yield info

    async def delete(self, keys: Sequence[str]) -> None:
        await self._asked("delete", keys[0])
        for key in keys:
            self.forget(key)

    def forget(self, key: str) -> None:
        if (there := self.objects.pop(key, None)) is not None:
            self._tags.pop(id(there[0]), None)
            del self._keys[bisect.bisect_left(self._keys, key)]

    def upload(self, key: str) -> AbstractAsyncContextManager[Upload]:
        return _MemoryUpload(self, key)

    async def stale_uploads(self, prefix: str) -> builtins.list[StaleUpload]:
        return []

    async def abort_upload(self, stale: StaleUpload) -> None:
        raise NotImplementedError

    async def takes_damage(self, key: str) -> bool | None:
        return None

    async def now(self) -> float:
        return self.clock()

    async def close(self) -> None:
        """Nothing."""


class _MemoryUpload:
    """See Upload."""

    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store, self._key = store, key
        self._data = bytearray()
        self.crc32c = 0

    @property
    def bytes(self) -> int:
        return len(self._data)

    async def __aenter__(self) -> Self:
        return self

    async def write(self, part: builtins.bytes | bytearray | memoryview) -> None:
        await self._store._asked("part", self._key)
        self._data += part
        self.crc32c = crc32c(builtins.bytes(part), self.crc32c)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._store._asked("complete", self._key)
            if self._key in self._store.objects:
                raise StoreError("another object stands under the key of an upload", where=self._key)
            self._store.keep(self._key, builtins.bytes(self._data))
