"""A store that hands everything on to the one it wraps; whatever decorates a store begins with it."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from warmspare.store.contract import ObjectInfo, StaleUpload, Store, Upload


class PassingUpload:
    """An upload that hands its parts on."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    async def write(self, part: bytes | bytearray | memoryview) -> None:
        await self._upload.write(part)

    @property
    def crc32c(self) -> int:
        return self._upload.crc32c

    @property
    def bytes(self) -> int:
        return self._upload.bytes


class PassingStore:
    """See Store for each call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.uri = store.uri

    @property
    def server(self) -> str:
        return self._store.server

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        return await self._store.get(key, max_bytes=max_bytes)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return await self._store.get_range(key, offset, length)

    async def head(self, key: str) -> ObjectInfo | None:
        return await self._store.head(key)

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        return await self._store.put(key, data)

    async def create(self, key: str, data: bytes) -> bool:
        return await self._store.create(key, data)

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        return await self._store.replace(key, data, etag=etag)

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        return self._store.list(prefix, start_after=start_after)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._store.delete(keys)

    def upload(self, key: str) -> AbstractAsyncContextManager[Upload]:
        return self._upload(key)

    @asynccontextmanager
    async def _upload(self, key: str) -> AsyncIterator[Upload]:
        async with self._store.upload(key) as upload:
            yield self._passing(upload)

    def _passing(self, upload: Upload) -> Upload:
        """What stands between the caller and the wrapped store's upload."""
        return PassingUpload(upload)

    async def stale_uploads(self, prefix: str) -> builtins.list[StaleUpload]:
        return await self._store.stale_uploads(prefix)

    async def abort_upload(self, stale: StaleUpload) -> None:
        await self._store.abort_upload(stale)

    async def takes_damage(self, key: str) -> bool | None:
        return await self._store.takes_damage(key)

    async def now(self) -> float:
        return await self._store.now()

    async def close(self) -> None:
        await self._store.close()
