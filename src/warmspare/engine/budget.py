"""What all runs of a process may use together, and who waits for it; owns the order of those that wait.

A run takes its share before it begins and gives it back at its end, so that what runs at once stays within the budget
whatever is asked for. Each kind of request has a queue of its own, and the queues take turns: many of one kind do not
keep the few of another waiting. Within a kind it is first come, first served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Share:
    """The most that a run uses. memory_bytes: of buffers, beside what the program itself takes. connections: to
    servers."""

    memory_bytes: int = 32 * MIB
    threads: int = 8
    connections: int = 16

    def plus(self, other: Share) -> Share:
        """Both together."""
        return Share(
            self.memory_bytes + other.memory_bytes, self.threads + other.threads, self.connections + other.connections
        )

    def minus(self, other: Share) -> Share:
        """Without the other."""
        return Share(
            self.memory_bytes - other.memory_bytes, self.threads - other.threads, self.connections - other.connections
        )

    def within(self, other: Share) -> bool:
        """Whether the other has room for it in everything."""
        return (
            self.memory_bytes <= other.memory_bytes
            and self.threads <= other.threads
            and self.connections <= other.connections
        )

    def at_most(self, other: Share) -> Share:
        """As much of it as the other has."""
        return Share(
            min(self.memory_bytes, other.memory_bytes),
            min(self.threads, other.threads),
            min(self.connections, other.connections),
        )


# Of all runs of an engine together. A run that would want more than all of it gets all of it, and runs alone.
BUDGET = Share(384 * MIB, 64, 128)


@dataclass(slots=True, eq=False)
class _Waiting:
    share: Share
    turn: asyncio.Future[None]


class Turns:
    """Who may run. All on one event loop."""

    def __init__(self, budget: Share) -> None:
        self._budget = self._free = budget
        self._queues: dict[str, deque[_Waiting]] = {}  # in the order of their turns

    @property
    def free(self) -> Share:
        """What nobody has taken."""
        return self._free

    @asynccontextmanager
    async def taken(self, kind: str, share: Share) -> AsyncIterator[None]:
        """The share is the caller's for as long as the block lasts; it waits until it is its turn."""
        share = share.at_most(self._budget)
        waiting = _Waiting(share, asyncio.get_running_loop().create_future())
        self._queues.setdefault(kind, deque()).append(waiting)
        self._serve()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.cancelled():
                self._serve()  # it may have stood before one that fits
            else:
                self._give_back(share)  # it was our turn already
            raise
        try:
            yield
        finally:
            self._give_back(share)

    def _give_back(self, share: Share) -> None:
        self._free = self._free.plus(share)
        self._serve()

    def _serve(self) -> None:
        """Let in whoever is next, as long as there is room. One that does not fit is waited for: smaller ones that came
        later must not keep it out for ever. Of those that were cancelled some have not noticed it yet."""
        while self._queues:
            kind, queue = next(iter(self._queues.items()))
            while queue and queue[0].turn.cancelled():
                queue.popleft()
            if queue:
                waiting = queue[0]
                if not waiting.share.within(self._free):
                    return
                queue.popleft()
                self._free = self._free.minus(waiting.share)
                waiting.turn.set_result(None)
            del self._queues[kind]
            if queue:
                self._queues[kind] = queue  # behind the others
