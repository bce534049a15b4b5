"""Keeps what a store is sent to a rate, smooth at a scale of a second and shared by all senders of the host.

Counts bodies: objects, parts and leases alike, each time that they are sent. What is read is not limited.
"""

from __future__ import annotations

import asyncio
import builtins
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from warmspare.state.bucket import SharedBucket
from warmspare.store.base import ObjectInfo, Pace, Paced, StaleUpload, Store, Upload, paced

PIECE_S = 0.025  # what goes at once takes this long at the rate; with the bucket's burst no second is 20 % over
LEAST_BYTES = 1024
BUSY_S = 1.0  # how long a process may be at the bucket before it is taken for a stopped one


class Limiter:
    """The rate of one sender. `take` is its `Pace`.

    rate: asked before each piece; bytes a second, None for no limit just now. A sender has one reservation in the
    bucket at a time, however many parts it has under way, so each gets the same share: with N senders, 1/N of its
    own rate.
    """

    def __init__(
        self, bucket: SharedBucket, rate: Callable[[], float | None], *,
        clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self._bucket, self._rate, self._clock, self._sleep = bucket, rate, clock, sleep
        self._turn = asyncio.Lock()
        self._patience_s = BUSY_S

    async def take(self, most: int) -> int:
        """Wait until some of `most` bytes may go; how many. A cancel costs the piece's time and nothing else."""
        async with self._turn:
            rate = self._rate()
            if rate is None:
                return most
            count = min(most, max(LEAST_BYTES, int(rate * PIECE_S)))
            wait_s = await self._reserve(count / rate) - self._clock()
            if wait_s > 0:
                await self._sleep(wait_s)
            return count

    async def _reserve(self, seconds: float) -> float:
        given_up, pause_s = self._clock() + self._patience_s, 0.001
        while (begins := self._bucket.reserve(seconds)) is None:
            if self._clock() >= given_up:
                self._patience_s = 0.0  # until the bucket can be had again
                return self._bucket.reserve_alone(seconds)
            await self._sleep(pause_s)
            pause_s = min(pause_s * 2, 0.02)
        self._patience_s = BUSY_S
        return begins


def limited(store: Store, pace: Pace) -> Store:
    """The store, kept to a pace: by itself if it is `Paced`, which is smooth inside a part too, else from outside."""
    if isinstance(store, Paced):
        store.pace = pace
        return store
    return LimitedStore(store, pace)


class _LimitedUpload:
    def __init__(self, upload: Upload, pace: Pace) -> None:
        self._upload, self._pace = upload, pace

    async def write(self, part: bytes | bytearray | memoryview) -> None:
        await paced(self._pace, memoryview(part).nbytes)
        await self._upload.write(part)

    @property
    def crc32c(self) -> int:
        return self._upload.crc32c

    @property
    def bytes(self) -> int:
        return self._upload.bytes


class LimitedStore:
    """A store that hands on each body once all of it may have gone: right in the long run, but a part goes out as fast
    as the link takes it, and one that is sent again is counted once."""

    def __init__(self, store: Store, pace: Pace) -> None:
        self._store, self._pace = store, pace
        self.uri = store.uri

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        return await self._store.get(key, max_bytes=max_bytes)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        return await self._store.get_range(key, offset, length)

    async def head(self, key: str) -> ObjectInfo | None:
        return await self._store.head(key)

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        await paced(self._pace, len(data))
        return await self._store.put(key, data)

    async def create(self, key: str, data: bytes) -> bool:
        await paced(self._pace, len(data))
        return await self._store.create(key, data)

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        await paced(self._pace, len(data))
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
            yield _LimitedUpload(upload, self._pace)

    async def stale_uploads(self, prefix: str) -> builtins.list[StaleUpload]:
        return await self._store.stale_uploads(prefix)

    async def abort_upload(self, stale: StaleUpload) -> None:
        await self._store.abort_upload(stale)

    async def now(self) -> float:
        return await self._store.now()

    async def close(self) -> None:
        await self._store.close()
