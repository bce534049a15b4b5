"""Has a request done by the daemon of this host, if there is one that would do the same; owns that the caller cannot
tell: events, what is owed, result and error are as if it were done here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmspare import debts
from warmspare.daemon.carrying import NotCarriedError, event_of, plain, taken
from warmspare.daemon.errors_carried import error_of
from warmspare.daemon.frames import BrokenOffError, Frames
from warmspare.daemon.messages import (
    MOST_ASKED_BYTES,
    MOST_TOLD_BYTES,
    PROTOCOL,
    Ask,
    Begins,
    Begun,
    Cancel,
    Declined,
    EventTold,
    FromDaemon,
    Greeting,
    Owes,
    RunEnded,
    RunFailed,
    Settles,
)
from warmspare.daemon.socket_place import SocketPlace
from warmspare.daemon.surroundings import Surroundings
from warmspare.debts import Owed
from warmspare.engine.request import Request, RunContext
from warmspare.engine.whole_paths import paths_of
from warmspare.errors import StoreError
from warmspare.observe.kinds.daemon_events import DaemonUnused, DaemonUsed
from warmspare.observe.kinds.run_events import Progress

MOST_LINKS = 40
ANSWER_S = 10.0  # that the daemon has to begin


@dataclass(frozen=True, slots=True)
class DoneThere:
    """A request was done there. result: None unless a command needs it at its end (Request.carried)."""

    exit_code: int
    result: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """It was not; nothing was begun. why: in words."""

    why: str


async def asked(request: Request[Any], run: RunContext, *, traceback: bool = False) -> DoneThere | None:
    """The same, and whether is told; None where it was not done there."""
    answer = await ask(request, run, traceback=traceback)
    if isinstance(answer, DoneThere):
        return answer
    run.events.emit(DaemonUnused(why=answer.why))
    return None


async def ask(request: Request[Any], run: RunContext, *, traceback: bool = False) -> DoneThere | Refused:
    """Have it done there. Its errors are raised as here; where the daemon goes away on the way, StoreError, and the
    same command may be run again. A cancel ends the run there, and is raised once that has unwound; not where it was
    done already. traceback: an error brings that of over there, as a note."""
    why = request.apart() or _own(request)
    if why:
        return Refused(why)
    place = SocketPlace(run.host.daemon_socket)
    try:
        connection = place.connected()
    except BlockingIOError:
        return Refused("more wait for it than may")
    except OSError as error:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError | NotADirectoryError):
            return Refused("none is at work")
        return Refused(f"it can't be reached: {error.strerror or error}")
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    frames: Frames[FromDaemon] = Frames(reader, writer, FromDaemon, MOST_TOLD_BYTES)
    try:
        refused = await _asked(frames, request, run.period_s, traceback=traceback)
        if refused is not None:
            return refused
        run.events.emit(DaemonUsed(socket=str(place.path)))
        return await _Relay(frames, request, run, str(place.path)).ended()
    finally:
        await frames.drop()  # all that matters was heard; who does not read must not keep this process


def _own(request: Request[Any]) -> str:
    """Why it can't be done elsewhere: a path of it is one of this process's own descriptors."""
    own = [path for path in paths_of(request) if _through_proc(Path(path))]
    return f"{own[0]} is this process's alone" if own else ""


def _through_proc(path: Path) -> bool:
    """Whether it leads through /proc. Where it ends is not enough: what is a descriptor may be one of a file."""
    for _ in range(MOST_LINKS):
        folder = path.parent.resolve()
        if Path("/proc") in (folder, *folder.parents):
            return True
        try:
            path = folder / (folder / path.name).readlink()
        except OSError:
            return False
    return True


async def _asked(
    frames: Frames[FromDaemon], request: Request[Any], period_s: float, *, traceback: bool
) -> Refused | None:
    """Nothing once it has begun there."""
    try:
        async with asyncio.timeout(ANSWER_S):
            greeting = await frames.hear()
            if not isinstance(greeting, Greeting) or greeting.protocol != PROTOCOL:
                return Refused("it is of another version")
            around = Surroundings.here(bytes.fromhex(greeting.nonce))
            message = Ask(plain(request), around, period_s, traceback)
            if not frames.fits(message, MOST_ASKED_BYTES):
                return Refused("the request is too long for it")
            frames.say(message)
            answer = await frames.hear()
    except NotCarriedError as error:
        return Refused(str(error))
    except (BrokenOffError, ValueError):
        return Refused("it went away, or is of another version")
    except TimeoutError:
        return Refused("it does not answer")
    if isinstance(answer, Declined):
        return Refused(answer.why)
    return None if isinstance(answer, Begun) else Refused("it is of another version")


class _Relay:
    """What comes of a request that has begun there."""

    def __init__(self, frames: Frames[FromDaemon], request: Request[Any], run: RunContext, where: str) -> None:
        self._frames, self._request, self._run, self._where = frames, request, run, where
        self._owed: dict[int, Owed[None]] = {}

    async def ended(self) -> DoneThere:
        """How it ended; see `ask`."""
        hearing = asyncio.ensure_future(self._heard())
        cancelled: asyncio.CancelledError | None = None
        while not hearing.done():
            try:
                await asyncio.wait([hearing])
            except asyncio.CancelledError as error:
                cancelled = error
                self._frames.say(Cancel())
        done = hearing.result()
        if done is None:
            if cancelled is not None:
                raise cancelled
            raise self._over("the daemon that did this was asked to end, and has ended it")
        return done

    def _over(self, what: str) -> StoreError:
        hint = "run the same command again, it goes on from here"
        return StoreError(what, where=self._where, hint=hint, retryable=True)

    async def _heard(self) -> DoneThere | None:
        """None where it was cancelled there, by whomever."""
        try:
            while True:
                match await self._frames.hear():
                    case EventTold(kind, fields):
                        event = event_of(kind, fields)
                        if not (self._run.events.ended and isinstance(event, Progress)):  # its last words were said
                            self._run.events.emit(event)
                    case Owes(number, what, within_s, last):
                        self._owed[number] = debts.current().owe(what, within_s, None, last=last)
                    case Begins(number):
                        self._owed[number].begun()
                    case Settles(number, stays):
                        self._owed.pop(number).drop(stays=stays)
                    case RunEnded(exit_code, result):
                        carried = self._request.carried
                        return DoneThere(exit_code, None if carried is None else taken(result, carried))
                    case RunFailed(None):
                        return None
                    case RunFailed(error, text) if error is not None:
                        raised = error_of(error)
                        if text:
                            raised.add_note(text)
                        raise raised
                    case _:
                        raise BrokenOffError("it says what it should not")
        except (BrokenOffError, NotCarriedError, KeyError) as error:
            raise self._over(f"the daemon that did this went away, or is not itself: {error}") from None
