"""A store that counts every byte put into it and read from it; otherwise the store it wraps."""

from __future__ import annotations

from collections.abc import Callable

from warmspare.store.around.passing import PassingStore, PassingUpload
from warmspare.store.contract import ObjectInfo, Store, Upload


class _CountingUpload(PassingUpload):
    def __init__(self, upload: Upload, count: Callable[[int], None]) -> None:
        super().__init__(upload)
        self._count = count

    async def write(self, part: bytes | bytearray | memoryview) -> None:
        size = len(part)
        await super().write(part)
        self._count(size)


class CountingStore(PassingStore):
    """sent_bytes: payload bytes handed to the store so far; objects, parts and leases alike. read_bytes: of objects,
    that it gave."""

    def __init__(self, store: Store, on_bytes: Callable[[int], None] | None = None) -> None:
        super().__init__(store)
        self._on_bytes = on_bytes
        self.sent_bytes = self.read_bytes = 0

    def _count(self, size: int) -> None:
        self.sent_bytes += size
        if self._on_bytes:
            self._on_bytes(size)

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        data = await super().get(key, max_bytes=max_bytes)
        self.read_bytes += len(data)
        return data

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        data = await super().get_range(key, offset, length)
        self.read_bytes += len(data)
        return data

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        self._count(len(data))
        return await super().put(key, data)

    async def create(self, key: str, data: bytes) -> bool:
        self._count(len(data))
        return await super().create(key, data)

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        self._count(len(data))
        return await super().replace(key, data, etag=etag)

    def _passing(self, upload: Upload) -> Upload:
        return _CountingUpload(upload, self._count)
