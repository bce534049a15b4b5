"""How many transfers may be under way to a server at once: more while that brings more, half as many at a sign of
congestion (additive increase, multiplicative decrease); refuses to exceed what memory was granted for.

A thin link is filled by two transfers, and each more only has more to send again when the link drops; a long, fat one
wants many. So the window grows by one as long as the one before brought at least half of what it could; where it did
not, the window goes back and looks again later. It learns only while it is what transfers wait for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

START = 2
ROUND_S = 1.0  # a throughput is measured over at least this long
ROUND_BYTES = 4 << 20  # and over at least this much, so that a chunk more or less does not tell
SETTLE_ROUNDS = 1  # after a change: connections are made, their own windows grow
REST_ROUNDS = 20  # until a transfer that did not pay is tried again


class CongestionWindow:
    """most: transfers whose buffers fit the memory. clock: seconds; for tests.

    `async with window.slot():` is one transfer; `moved` tells of bytes that the network took or gave, `congested` of a
    request that failed in a way that congestion explains.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        if most < 1:
            raise ValueError("a window has room for one transfer at least")
        self.most, self.size = most, min(START, most)
        self.epoch = 0  # goes up with every halving
        self._clock = clock
        self._busy = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._before: float | None = None  # bytes a second with one transfer less; None: not known
        self._rest = SETTLE_ROUNDS
        self._since, self._bytes, self._full = clock(), 0, True  # of this round

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for room, first come, first served."""
        await self.acquire()
        try:
            yield
        finally:
            self.release()

    async def acquire(self) -> None:
        """As `slot`; each acquire needs one release."""
        if self._busy < self.size and not self._waiters:
            self._busy += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:  # it was given room in the same moment
                self.release()
            raise

    def release(self) -> None:
        """Give the room back."""
        self._busy -= 1
        self._admit()

    def moved(self, count: int) -> None:
        """The network took or gave `count` bytes more, of any transfer."""
        self._bytes += count
        self._full = self._full and (self._busy >= self.size or bool(self._waiters))
        elapsed = self._clock() - self._since
        if elapsed >= ROUND_S and self._bytes >= ROUND_BYTES:
            rate, full = self._bytes / elapsed, self._full
            self._since, self._bytes, self._full = self._clock(), 0, True
            if full:
                self._judge(rate)

    def congested(self, epoch: int) -> None:
        """A request that was begun in that epoch failed by congestion; of all that do, the first halves."""
        if epoch == self.epoch:
            self.epoch += 1
            self._resize(max(1, self.size // 2), before=None, rest=SETTLE_ROUNDS)

    def _judge(self, rate: float) -> None:
        if self._rest:
            self._rest -= 1
        elif self._before is not None and rate < self._before * (1 + 0.5 / (self.size - 1)):
            self._resize(self.size - 1, before=None, rest=REST_ROUNDS)
        elif self.size < self.most:
            self._resize(self.size + 1, before=rate, rest=SETTLE_ROUNDS)
        else:
            self._before = None

    def _resize(self, size: int, *, before: float | None, rest: int) -> None:
        self.size, self._before, self._rest = size, before, rest
        self._since, self._bytes, self._full = self._clock(), 0, True
        self._admit()

    def _admit(self) -> None:
        while self._waiters and self._busy < self.size:
            self._busy += 1
            waiter = self._waiters.popleft()
            if waiter.cancelled():
                self._busy -= 1
            else:
                waiter.set_result(None)
