"""One request of a client, from its first word to the last; owns that the run ends when its client does."""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import Any

from warmspare.daemon.carrying import kind_of, plain
from warmspare.daemon.errors_carried import said_of
from warmspare.daemon.frames import BrokenOffError, Frames
from warmspare.daemon.messages import (
    Ask,
    Begins,
    Begun,
    Cancel,
    Declined,
    EventTold,
    FromClient,
    Owes,
    RunEnded,
    RunFailed,
    Settles,
)
from warmspare.debts import LOOK_S, PROCESS_DEBTS, Debts, Owed, owing
from warmspare.engine.engine_runs import Engine
from warmspare.engine.error_groups import telling
from warmspare.engine.request import Request
from warmspare.observe.event import Event

STUCK_S = 10.0  # after its time, until what was ended counts as stuck
TURN_S = 5.0  # that a run waits for its share of the budget, before the client does it without


class ServedRun:
    """Of one connection. code: the exit code of the client, once it is known. stuck: it is left behind, in a call that
    nothing can stop."""

    def __init__(self, engine: Engine, frames: Frames[FromClient]) -> None:
        self._engine, self._frames = engine, frames
        self._numbers: dict[Owed[object], int] = {}
        self._begun = False
        self._asked_s: float | None = None
        self.code: int | None = None
        self.stuck = False

    async def serve(self, ask: Ask, request: Request[Any]) -> None:
        """Do it, and say what comes of it. Returns once it has unwound, or what it owes had its time: a thread that
        nothing can stop is left behind then. A cancel ends the run as the client's word does."""
        debts = Debts(PROCESS_DEBTS, self)
        with owing(debts):
            work = asyncio.ensure_future(
                self._engine.run(request, self._tell, period_s=ask.period_s, on_begin=self._begin)
            )
        heard = asyncio.ensure_future(self._until_cancelled())
        back: asyncio.Task[None] | None = None
        cancelled: asyncio.CancelledError | None = None
        turn_s = time.monotonic() + TURN_S
        try:
            while not work.done():
                try:
                    on = {work, heard} if self._asked_s is None else {work}
                    await asyncio.wait(on, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                except asyncio.CancelledError as error:
                    cancelled = error
                late = not self._begun and time.monotonic() > turn_s
                if self._asked_s is None and (cancelled or heard.done() or late or self._frames.full):
                    self._asked_s = time.monotonic()
                    back = asyncio.ensure_future(debts.take_back(self._asked_s, lambda *_: None))
                    work.cancel()
                if self._asked_s is not None and time.monotonic() > debts.until(self._asked_s):
                    break
            self._conclude(work, request, ask)
            await asyncio.wait({work}, timeout=STUCK_S)  # a busy machine takes its time to unwind
            self.stuck = not work.done()
        finally:
            for task in (heard, back):
                if task is not None:
                    task.cancel()
        if cancelled is not None:
            raise cancelled

    def _begin(self) -> None:
        self._begun = True
        self._frames.say(Begun())

    async def _until_cancelled(self) -> None:
        try:
            while not isinstance(await self._frames.hear(), Cancel):
                pass
        except BrokenOffError:
            pass

    def _conclude(self, work: asyncio.Future[Any], request: Request[Any], ask: Ask) -> None:
        """The last word."""
        if not self._begun:
            self._frames.say(Declined("it has no room for it now"))
            return
        if not work.done() or work.cancelled():
            self._frames.say(RunFailed(None))
            return
        error = work.exception()
        if error is None:
            self.code = request.exit_code(work.result())
            self._frames.say(RunEnded(self.code, plain(work.result()) if request.carried is not None else None))
            return
        said = said_of(telling(error))
        self.code = said.exit_code
        text = "".join(traceback.format_exception(error)) if ask.traceback else ""
        self._frames.say(RunFailed(said, text))

    # -- what the client is to know ------------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        self._frames.say(EventTold(kind_of(event), plain(event)))

    def owes(self, owed: Owed[object]) -> None:
        """See debts.Listener."""
        number = self._numbers[owed] = len(self._numbers)
        self._frames.say(Owes(number, owed.what, owed.within_s, owed.last))

    def begins(self, owed: Owed[object]) -> None:
        """See debts.Listener."""
        self._frames.say(Begins(self._numbers[owed]))

    def settles(self, owed: Owed[object], *, stays: bool) -> None:
        """See debts.Listener."""
        self._frames.say(Settles(self._numbers[owed], stays))
