"""What all runs of a process may use together, and who waits for it; owns the order of those that wait.

A run takes its share before it begins and gives it back at its end, so that what runs at once stays within the budget
whatever is asked for. Each kind of request has a queue of its own, and large ones of a kind another, since they may
have to wait until much is free. Within a queue it is first come, first served. Between queues it is dominant resource
fairness: whoever has the least of the budget now, by the resource of which it has most, comes next. So as long as all
wait each has its even part over time, however many a queue holds and however long each of them takes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

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

    def part_of(self, whole: Share) -> float:
        """How much of the whole it is, by the resource of which it has most."""
        return max(
            self.memory_bytes / max(1, whole.memory_bytes),
            self.threads / max(1, whole.threads),
            self.connections / max(1, whole.connections),
        )


# Of all runs of an engine together. A run that would want more than all of it gets all of it, and runs alone.
BUDGET = Share(384 * MIB, 64, 128)
LARGE = 1 / 4  # of the budget: from there on a run has to wait until several others have ended
_NOTHING = Share(0, 0, 0)


@dataclass(slots=True, eq=False)
class _Queue:
    """Those of one kind and like size. taken: what those of it that run have. turn: the number of its last one."""

    waiting: OrderedDict[_Waiting, None] = field(default_factory=OrderedDict)  # one that leaves is found at once
    taken: Share = _NOTHING
    turn: int = 0

    def first(self) -> _Waiting | None:
        """Who has waited longest. Of those that were cancelled some have not noticed it yet."""
        while self.waiting:
            waiting = next(iter(self.waiting))
            if not waiting.turn.cancelled():
                return waiting
            del self.waiting[waiting]
        return None


@dataclass(slots=True, eq=False)
class _Waiting:
    """passed: the one that was next, and waited for room, when this was let in before it."""

    share: Share
    queue: _Queue
    turn: asyncio.Future[None]
    passed: _Waiting | None = None


class Turns:
    """Who may run. All on one event loop."""

    def __init__(self, budget: Share) -> None:
        self._budget = self._free = budget
        self._queues: dict[tuple[str, bool], _Queue] = {}
        self._turn = 0
        # Who was next, did not fit and was passed; and what those have that passed it, and run.
        self._held: _Waiting | None = None
        self._passing = _NOTHING

    @property
    def free(self) -> Share:
        """What nobody has taken."""
        return self._free

    @asynccontextmanager
    async def taken(self, kind: str, share: Share) -> AsyncIterator[None]:
        """The share is the caller's for as long as the block lasts; it waits until it is its turn."""
        share = share.at_most(self._budget)
        queue = self._queues.setdefault((kind, share.part_of(self._budget) > LARGE), _Queue())
        waiting = _Waiting(share, queue, asyncio.get_running_loop().create_future())
        queue.waiting[waiting] = None
        self._serve()
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.cancelled():
                queue.waiting.pop(waiting, None)
                self._serve()  # it may have stood before one that fits
            else:
                self._give_back(waiting)  # it was our turn already
            raise
        try:
            yield
        finally:
            self._give_back(waiting)

    def _give_back(self, run: _Waiting) -> None:
        self._free = self._free.plus(run.share)
        run.queue.taken = run.queue.taken.minus(run.share)
        if run.passed is not None and run.passed is self._held:
            self._passing = self._passing.minus(run.share)
        self._serve()

    def _serve(self) -> None:
        """Let in whoever is next, as long as there is room."""
        while (run := self._next()) is not None:
            del run.queue.waiting[run]
            self._turn += 1
            run.queue.turn = self._turn
            run.queue.taken = run.queue.taken.plus(run.share)
            self._free = self._free.minus(run.share)
            if run is self._held:
                self._held = None
            elif run.passed is not None:
                self._passing = self._passing.plus(run.share)
            run.turn.set_result(None)

    def _next(self) -> _Waiting | None:
        """Who may go now. One that is next and does not fit may be passed, but only as far as that leaves it room; and
        it goes before all others then. So it waits for those that ran already, never for who came later, and what it
        can't use meanwhile is used."""
        if self._held is not None and self._held.turn.cancelled():
            self._held = None
        if self._held is not None and self._held.share.within(self._free):
            return self._held
        before = self._held
        for waiting in self._in_order():
            if not waiting.share.within(self._free):
                before = before or waiting
            elif before is None:
                return waiting
            else:
                passing = self._passing if before is self._held else _NOTHING
                if passing.plus(waiting.share).within(self._budget.minus(before.share)):
                    self._held, self._passing, waiting.passed = before, passing, before
                    return waiting
        return None

    def _in_order(self) -> list[_Waiting]:
        """The first of each queue; whose queue has least, and then whose had no turn for longest, comes first."""
        first = [waiting for queue in self._queues.values() if (waiting := queue.first()) is not None]
        return sorted(first, key=lambda one: (one.queue.taken.part_of(self._budget), one.queue.turn))
