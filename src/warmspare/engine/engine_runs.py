"""Runs what is asked for: within one budget, its events to whoever wants them, its errors as they are.

No printing, no handlers of signals, nothing global: a program may have several engines, on several loops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Generic, Self, TypeVar

from warmspare.engine.budget import BUDGET, Share, Turns
from warmspare.engine.error_groups import telling
from warmspare.engine.host_places import HostPlaces
from warmspare.engine.request import Request, RunContext
from warmspare.observe.event import Event
from warmspare.observe.events import Events, Meter
from warmspare.store.s3.session.session_shelf import SessionShelf, shelving

T = TypeVar("T")
OnEvent = Callable[[Event], None]


class Engine:
    """Many requests at once on one event loop, of asyncio or of uvloop. As a context (`async with Engine() as engine:`)
    it keeps the connections to S3 that its runs are done with, for a minute and at most until the end of the block: a
    run of little work takes half as long then.

    state: the state directory of this host; None: the usual one. budget: what all runs together may use; who finds no
    room waits for its turn (budget.py).
    """

    def __init__(self, *, state: Path | None = None, budget: Share = BUDGET) -> None:
        self._host = HostPlaces(state)
        self._turns = Turns(budget)
        self._shelf: SessionShelf | None = None

    async def __aenter__(self) -> Self:
        self._shelf = SessionShelf()
        return self

    async def __aexit__(self, *_: object) -> None:
        shelf, self._shelf = self._shelf, None
        if shelf is not None:
            await shelf.close()

    @property
    def free(self) -> Share:
        """What of the budget nobody has now."""
        return self._turns.free

    async def run(
        self,
        request: Request[T],
        on_event: OnEvent | None = None,
        *,
        period_s: float = 1.0,
        on_begin: Callable[[], None] = lambda: None,
    ) -> T:
        """Do it; its value (see the request). on_event hears each event, in order; it must not raise and must not take
        long. period_s: how often progress is told. on_begin: hears that it has waited long enough for its turn.

        One error of the package comes alone, and the most telling of several; anything else is a bug. A cancel leaves
        what a signal leaves: what must be taken back (a snapshot, a lease, instances) is, before it is raised, and the
        next run goes on.
        """
        events = Events() if on_event is None else Events(on_event)
        context = RunContext(events, Meter(), self._host, period_s)
        async with self._turns.taken(type(request).__name__, request.share()):
            on_begin()
            with shelving(self._shelf):
                return await performed(request, context)

    @asynccontextmanager
    async def start(self, request: Request[T], *, period_s: float = 1.0) -> AsyncIterator[Running[T]]:
        """The same as something that goes on: iterate over it for its events, then await its `result`. Leaving the
        block early cancels it, and waits until it has unwound."""
        running: Running[T] = Running()
        task = asyncio.ensure_future(self.run(request, running.hear, period_s=period_s))
        task.add_done_callback(running.end)
        running.task = task
        try:
            yield running
        finally:
            task.cancel()
            await asyncio.wait([task])


class Running(Generic[T]):
    """A request on its way."""

    def __init__(self) -> None:
        self.task: asyncio.Future[T] | None = None
        self._told: asyncio.Queue[Event | None] = asyncio.Queue()

    def hear(self, event: Event) -> None:
        self._told.put_nowait(event)

    def end(self, task: asyncio.Future[T]) -> None:
        if not task.cancelled():
            task.exception()  # whoever does not ask for the result has said that it does not matter
        self._told.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while (event := await self._told.get()) is not None:
            yield event
        self._told.put_nowait(None)  # for whoever asks again

    async def result(self) -> T:
        """Its value, or its error."""
        assert self.task is not None
        return await asyncio.shield(self.task)


async def performed(request: Request[T], context: RunContext) -> T:
    """The work of a request with its progress; the most telling error of several."""
    names = request.progress
    try:
        async with context.ticking(names) if names else nullcontext():
            return await request.located(context).perform(context)
    except BaseExceptionGroup as group:
        error = telling(group)
        if error is group:
            raise
        raise error from group
