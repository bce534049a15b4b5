"""How long a request is worth trying and how long to wait between two tries, or for a store; knows no request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from warmspare.errors import StoreError

T = TypeVar("T")


class Again(Enum):
    """What a failure says of another try."""

    NEVER = "it would fail in the same way"
    FEW = "it may help, but not for ever: something damages bytes, and a large request is sent for nothing each time"
    ALWAYS = "it will help as soon as the network and the server are well"


@dataclass(frozen=True, slots=True)
class Patience:
    """deadline_s: from a request's first failure to the last try, and from the first failure of any: what is begun
    while the store is down does not wait as long again. first_s: the same while the server has never answered, so that
    a wrong address is told soon. few: tries of what arrives damaged. stall_s: how long a request may
    make no progress before it is cut off and counts as failed. connect_s: for making a connection.
    The wait before another try is random, up to pause_s at first, twice as long each time, up to most_s.
    """

    deadline_s: float = 600.0
    first_s: float = 20.0
    few: int = 5
    stall_s: float = 60.0
    connect_s: float = 10.0
    pause_s: float = 0.4
    most_s: float = 10.0


class Tries:
    """The tries of one request. count: failed ones so far. failing_s: how long it has been failing."""

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._patience, self._clock = patience, clock
        self._damaged = 0
        self._first = 0.0

    @property
    def failing_s(self) -> float:
        return self._clock() - self._first if self.count else 0.0

    def failed(self, again: Again, *, known: bool, down_s: float = 0.0) -> float | None:
        """The wait before the next try, None if there is none to be. known: the server has answered before. down_s: for
        how long no request at all has succeeded."""
        if not self.count:
            self._first = self._clock()
        self.count += 1
        self._damaged += again is Again.FEW
        if again is Again.NEVER or self._damaged >= self._patience.few:
            return None
        most = min(self._patience.most_s, self._patience.pause_s * 2 ** min(self.count - 1, 30))
        # Half of it is certain: those that were cut off in the same moment spread, and none comes back at once.
        pause_s = most * (0.5 + random.random() / 2)  # noqa: S311
        deadline_s = self._patience.deadline_s if known else self._patience.first_s
        return pause_s if max(self.failing_s, down_s) + pause_s <= deadline_s else None


async def outlasted(look: Callable[[], Awaitable[T]], told: Callable[[StoreError], None], poll_s: float) -> T:
    """What `look` gives once the store answers, however long that takes. told: why it does not, each time. Every error
    that can't pass is raised."""
    while True:
        try:
            return await look()
        except StoreError as error:
            if not error.retryable:
                raise
            told(error)
        await asyncio.sleep(poll_s)
