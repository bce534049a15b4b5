"""A store whose uploads are counted and dropped; for runs that only want to know how much there would be to send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from warmspare.store.around.counting import CountingStore
from warmspare.store.contract import Upload


class _Dropped:
    """An upload that keeps nothing; its checksum is never looked at, for nothing names it."""

    crc32c = 0

    def __init__(self, store: DiscardingStore) -> None:
        self._store, self.bytes = store, 0

    async def write(self, part: bytes | bytearray | memoryview) -> None:
        self.bytes += len(part)
        self._store.count(len(part))


class DiscardingStore(CountingStore):
    """Reads like the store it is given. sent_bytes: what uploads would have sent."""

    def count(self, size: int) -> None:
        self._count(size)

    @asynccontextmanager
    async def _upload(self, key: str) -> AsyncIterator[Upload]:
        yield _Dropped(self)
