"""What must be taken back however some work ends: a snapshot, a lease, instances; refuses to begin any of it twice.

Work that unwinds takes back its own. It may be stuck in a call that nothing can stop, though, so whoever ends it (a
signal, ending.py; a daemon whose client went away) has the list of what is owed, and takes that back beside it. A
process has one list. Work that may end apart from all else in its process has one of its own, below that; which list
is meant is known by the context of the task that owes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

GRACE_S = 1.0  # for the unwinding, before what is owed is taken back beside it
LEAVE_S = 1.5  # when nothing is owed
SETTLE_S = 0.5  # for what comes after the last of it
TELL_S, TELL_EVERY_S = 0.5, 10.0
LOOK_S = 0.1

Tell = Callable[[str, float, float], None]  # what is being taken back, for how many seconds, of how many


class Owed(Generic[T]):
    """Something to be taken back however the work ends. within_s: how long that may keep one that was asked to end.
    act: gives None once it is taken back; where it gives anything else or fails, that stays and is named as left.
    Settle it, or drop it where it was not made or is gone."""

    def __init__(
        self, debts: Debts, what: str, within_s: float, act: Callable[[], Awaitable[T]] | None, *, last: bool
    ) -> None:
        self.what, self.within_s, self.last = what, within_s, last
        self.begun_s: float | None = None
        self._debts, self._act = debts, act
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> asyncio.Task[T] | None:
        """Take it back, once, whoever asks for it."""
        if self._task is None and self._act is not None:
            import asyncio

            self.begun()
            self._task = asyncio.ensure_future(self._run(self._act))
            self._task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen
        return self._task

    def begun(self) -> None:
        """It is being taken back from now on."""
        self.begun_s = time.monotonic()
        self._debts.begun(cast(Owed[object], self))

    async def _run(self, act: Callable[[], Awaitable[T]]) -> T:
        stays = True
        try:
            result = await act()
            stays = result is not None
            return result
        finally:
            self.drop(stays=stays)

    async def settle(self) -> T:
        """The result of taking it back, or its error; a cancel is raised once it is done."""
        import asyncio

        task = self.begin()
        assert task is not None
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        return task.result()

    def drop(self, *, stays: bool = False) -> None:
        """Nothing is owed any more. stays: it could not be taken back."""
        self._debts.settled(cast(Owed[object], self), stays=stays)

    def ends_s(self, asked_s: float, begins_s: float) -> float:
        """When its time is over; begins_s: when it is begun, if it was not yet."""
        return (begins_s if self.begun_s is None else max(self.begun_s, asked_s)) + self.within_s


class Listener(Protocol):
    """Hears what becomes of what is owed."""

    def owes(self, owed: Owed[object]) -> None: ...

    def begins(self, owed: Owed[object]) -> None: ...

    def settles(self, owed: Owed[object], *, stays: bool) -> None: ...


class Debts:
    """What some work owes. above: the list that it is a part of. listener: hears of each change."""

    def __init__(self, above: Debts | None = None, listener: Listener | None = None) -> None:
        self._above, self._listener = above, listener
        self._owed: dict[Owed[object], None] = {}
        self._stays: list[str] = []  # what could not be taken back
        self._settled_s = 0.0

    def owe(self, what: str, within_s: float, act: Callable[[], Awaitable[T]] | None, *, last: bool = False) -> Owed[T]:
        """Register what must be taken back, by `act`, which may run beside whatever the work is stuck in; None where
        somebody else takes it back. last: after what is not."""
        owed = Owed(self, what, within_s, act, last=last)
        self._take_up(cast(Owed[object], owed))
        return owed

    def restart(self) -> None:
        """Work begins: nothing of it stayed yet."""
        self._stays = []

    @property
    def left(self) -> list[str]:
        """What is not taken back, as things stand: each once, the last of it last."""
        owed = sorted(self._owed, key=lambda one: one.last)
        return list(dict.fromkeys([*self._stays, *(one.what for one in owed)]))

    def until(self, asked_s: float) -> float:
        """When whoever was asked at that moment to end does so, as things stand. From any thread."""
        owed, begins_s = list(self._owed), asked_s + GRACE_S  # also where the event loop's own thread is in a call
        first = [one.ends_s(asked_s, begins_s) for one in owed if not one.last]
        last = [one.ends_s(asked_s, max(first, default=begins_s)) for one in owed if one.last]
        return max(asked_s + LEAVE_S, self._settled_s + SETTLE_S, *first, *last)

    async def take_back(self, asked_s: float, tell: Tell) -> None:
        """What is owed, also where the unwinding does not come to it; and say so while it goes on. Ends by a cancel."""
        import asyncio

        told: dict[Owed[object], float] = {}
        while True:
            now_s = time.monotonic()
            owed = list(self._owed)
            if now_s - asked_s >= GRACE_S:
                # What is last waits for the others, but no longer than their time.
                first = [one for one in owed if not one.last and now_s < one.ends_s(asked_s, now_s)]
                for one in first or owed:
                    one.begin()
            for one in owed:
                if one.begun_s is None:
                    continue
                began_s = max(one.begun_s, asked_s)
                if now_s >= told.get(one, began_s + TELL_S - TELL_EVERY_S) + TELL_EVERY_S:
                    told[one] = now_s
                    tell(one.what, now_s - began_s, one.within_s)
            await asyncio.sleep(LOOK_S)

    # -- what an Owed says ----------------------------------------------------------------------------------------

    def begun(self, owed: Owed[object]) -> None:
        """See Owed."""
        for debts in self._upwards():
            if debts._listener is not None:
                debts._listener.begins(owed)

    def settled(self, owed: Owed[object], *, stays: bool) -> None:
        """See Owed."""
        for debts in self._upwards():
            if debts._owed.pop(owed, owed) is None:
                debts._settled_s = time.monotonic()
                if stays:
                    debts._stays.append(owed.what)
                if debts._listener is not None:
                    debts._listener.settles(owed, stays=stays)

    def _take_up(self, owed: Owed[object]) -> None:
        for debts in self._upwards():
            debts._owed[owed] = None
            if debts._listener is not None:
                debts._listener.owes(owed)

    def _upwards(self) -> Iterator[Debts]:
        debts: Debts | None = self
        while debts is not None:
            yield debts
            debts = debts._above


PROCESS_DEBTS = Debts()
_current: ContextVar[Debts] = ContextVar("debts", default=PROCESS_DEBTS)


@contextlib.contextmanager
def owing(debts: Debts) -> Iterator[None]:
    """What the block, and the tasks that it starts, owe is owed there."""
    token = _current.set(debts)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> Debts:
    """Where what is going on here owes."""
    return _current.get()


def owe(what: str, within_s: float, act: Callable[[], Awaitable[T]], *, last: bool = False) -> Owed[T]:
    """Register what the work that is going on must take back; see Debts."""
    return _current.get().owe(what, within_s, act, last=last)


@contextlib.contextmanager
def holding(what: str, within_s: float) -> Iterator[None]:
    """What goes on in this block is not cut short for so long."""
    held: Owed[None] = _current.get().owe(what, within_s, None)
    held.begun()
    try:
        yield
    finally:
        held.drop()
