"""How fast requests of a kind go out: at a given rate, less when AWS asks for less; refuses to send anything itself."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

CATCH_UP_S = 0.1  # of late wake-ups that may be made up for
CUT_EVERY_S = 0.5  # throttled answers nearer than this to each other have one cause
CUT = 0.97  # of what AWS took in the last second
TOLERATED = 0.08  # of the last second's requests: so many refusals cost less than going slower would
GROWTH_S = 0.15  # a second, up to the rate that was given
LEAST = 1.0


class Pace:
    """A gate (aws.Gate) that lets `rate` requests through a second, evenly, the retries among them.

    Throttled more than now and then, it goes down to a little less than what AWS took in the last second, and grows
    again slowly: so it stays near a quota that it does not know.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = self.rate = rate
        self._clock = clock
        self._next_s = float("-inf")
        self._cut_s = float("-inf")
        self._grown_s = clock()
        self._taken: deque[float] = deque()
        self._refused: deque[float] = deque()
        self.throttles = 0

    async def turn(self) -> None:
        """Wait for this request's time."""
        now = self._clock()
        self._next_s = max(self._next_s, now - CATCH_UP_S) + 1 / self.rate
        if self._next_s > now:
            await asyncio.sleep(self._next_s - now)

    def succeeded(self) -> None:
        """One was taken."""
        now = self._clock()
        self._taken.append(now)
        self._forget(now)
        elapsed, self._grown_s = min(now - self._grown_s, 1.0), now
        self.rate = min(self._most, self.rate * (1 + GROWTH_S * elapsed))

    def throttled(self) -> None:
        """One was refused for being too many."""
        now = self._clock()
        self.throttles += 1
        self._refused.append(now)
        self._forget(now)
        share = len(self._refused) / (len(self._refused) + len(self._taken))
        if now - self._cut_s < CUT_EVERY_S or share <= TOLERATED:
            return
        self._cut_s = now
        measured = len(self._taken) / min(1.0, max(0.1, now - self._taken[0])) if self._taken else self.rate / 2
        self.rate = max(LEAST, min(self.rate, measured * CUT))

    def _forget(self, now: float) -> None:
        for times in (self._taken, self._refused):
            while times and times[0] < now - 1.0:
                times.popleft()
