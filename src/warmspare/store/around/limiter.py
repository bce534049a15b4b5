"""Keeps what a store is sent to a rate, smooth at a scale of a second and shared by all senders of the host.

Counts bodies: objects, parts and leases alike, each time that they are sent. What is read is not limited.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from warmspare.state.bucket import SharedBucket
from warmspare.store.around.passing import PassingStore, PassingUpload
from warmspare.store.contract import ObjectInfo, Pace, Paced, Store, Upload, paced

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
        self,
        bucket: SharedBucket,
        rate: Callable[[], float | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
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


class _LimitedUpload(PassingUpload):
    def __init__(self, upload: Upload, pace: Pace) -> None:
        super().__init__(upload)
        self._pace = pace

    async def write(self, part: bytes | bytearray | memoryview) -> None:
        await paced(self._pace, memoryview(part).nbytes)
        await super().write(part)


class LimitedStore(PassingStore):
    """A store that hands on each body once all of it may have gone: right in the long run, but a part goes out as fast
    as the link takes it, and one that is sent again is counted once."""

    def __init__(self, store: Store, pace: Pace) -> None:
        super().__init__(store)
        self._pace = pace

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        await paced(self._pace, len(data))
        return await super().put(key, data)

    async def create(self, key: str, data: bytes) -> bool:
        await paced(self._pace, len(data))
        return await super().create(key, data)

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        await paced(self._pace, len(data))
        return await super().replace(key, data, etag=etag)

    def _passing(self, upload: Upload) -> Upload:
        return _LimitedUpload(upload, self._pace)
