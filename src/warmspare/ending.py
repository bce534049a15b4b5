"""How this process ends on SIGINT, SIGTERM and SIGHUP, and what it owes then; refuses to let any call keep it.

The signals are blocked in all threads but for one that waits for them, so nothing that another thread is in keeps them
from being heard: neither a read of a pipe that nobody writes to, nor a server that hangs, nor the time before there is
an event loop. On the first one the work is cancelled, and unwinds as far as it gets. A thread can't be stopped, and
nothing may close its files under it, so an unwinding may wait for one for ever; therefore what must be taken back (a
snapshot, a lease, instances) is registered (debts.py), and taken back beside an unwinding that does not come to it. The
process leaves once nothing is owed any more, or the bounds have passed, whatever is still in a call. A second signal
leaves the rest to the next run. docs/operations.md, "Interrupting".
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from warmspare import children
from warmspare.debts import LEAVE_S, LOOK_S, PROCESS_DEBTS

if TYPE_CHECKING:
    import asyncio

    from warmspare.debts import Tell

INTERRUPTED = 130
SAME_S = 0.25  # a terminal, `timeout` and service managers send several: nearer to the first, it is the same one
_WORDS_S = 0.3
TEXT = "interrupted; run the same command again, it goes on from here"


class Ending:
    """The end of one process. `asked` once a signal came."""

    def __init__(self) -> None:
        self._debts = PROCESS_DEBTS
        self._asked_s: float | None = None
        self._heard = children.ASKING
        self._listener: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None
        self._back: asyncio.Task[None] | None = None
        self._tell: Tell | None = None
        self._say: Callable[[list[str]], None] = _say_plainly
        self._words = _thread.allocate_lock()  # of who says the last ones
        self._said = _thread.allocate_lock()  # until they are said
        self._said.acquire()
        self._code: int | None = None

    # -- what the work says ---------------------------------------------------------------------------------------

    @property
    def asked(self) -> bool:
        """Whether the process was asked to end."""
        return self._asked_s is not None

    @property
    def left(self) -> list[str]:
        """What is not taken back, as things stand: each once, the last of it last."""
        return self._debts.left

    # -- what the command line says -------------------------------------------------------------------------------

    def listen(self) -> None:
        """From here on signals are heard. Call it in the main thread, before any other is started.

        A hang-up that was ignored when this process began, as nohup has it, stays ignored.
        """
        if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            self._heard -= {signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, self._heard)
        for number in self._heard:
            signal.signal(number, self._pass_on)
        self._listener = _thread.start_new_thread(self._listen, ())

    def speak(self, say: Callable[[list[str]], None]) -> None:
        """What the last words are said with; they get what is left undone."""
        self._say = say

    def watch(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[object], tell: Tell) -> None:
        """From here on a signal cancels the task, which runs all there is."""
        self._debts.restart()
        self._tell, self._task, self._loop = tell, task, loop

    def over(self, code: int) -> None:
        """The work is done, and only has to be closed: a signal changes nothing of that but how long it may take."""
        self._code = code

    def leave(self) -> None:
        """The work has unwound and its last words were said: what threads are still in is not waited for. Returns where
        this process is not ours to end."""
        if self._listener is not None:
            _flush()
            self._said.release()
            _end(INTERRUPTED)

    def close(self, code: int) -> NoReturn:
        """The end of the console command, whose work is over. To take a program of this size apart, object by object,
        would cost a tenth of a second. Last words that are being said are waited for."""
        if self._words.locked():
            self._said.acquire(timeout=_WORDS_S)
        _flush()
        if self._listener is None:
            sys.exit(code)
        _end(code)

    def speaks(self) -> bool:
        """Whether it is the caller's to say the last words, which are said once."""
        return self._words.acquire(blocking=False)

    # -- the thread that hears ------------------------------------------------------------------------------------

    def _pass_on(self, number: int, _: object) -> None:
        """Where a signal met a thread that let it through (children.py)."""
        if self._listener is not None:
            signal.pthread_kill(self._listener, number)

    def _listen(self) -> None:
        signal.sigwait(self._heard)
        self._asked_s = time.monotonic()
        if self._loop is None and self._code is None:
            self._exit()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed: the work is over
                self._loop.call_soon_threadsafe(self._begin)
        while (left_s := self._until(self._asked_s) - time.monotonic()) > 0:
            again = signal.sigtimedwait(self._heard, min(left_s, LOOK_S))
            if again is not None and time.monotonic() - self._asked_s > SAME_S:
                break
        self._exit()

    def _until(self, asked_s: float) -> float:
        """When the process leaves, as things stand."""
        return asked_s + LEAVE_S if self._code is not None else self._debts.until(asked_s)

    def _exit(self) -> None:
        if self._code is None:
            left = self.left

            def say() -> None:  # in a thread: it may be kept by a write to a pipe that nobody reads
                with contextlib.suppress(Exception):
                    self._say(left)
                self._said.release()

            if self.speaks():
                _thread.start_new_thread(say, ())
            if not self._said.acquire(timeout=_WORDS_S):  # also where the main thread came to them just now
                _say_plainly(left)
        _end(INTERRUPTED if self._code is None else self._code)

    # -- on the event loop ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        import asyncio

        assert self._task is not None and self._asked_s is not None and self._tell is not None
        self._back = asyncio.ensure_future(self._debts.take_back(self._asked_s, self._tell))
        self._task.cancel()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _end(code: int) -> NoReturn:
    """This process, and whatever it started until now."""
    children.close()
    os._exit(code)


def text_of(left: list[str]) -> str:
    """The last words. left: what could not be taken back."""
    if not left:
        return TEXT
    return f"interrupted; left to the next run: {', '.join(left)}; run the same command again, it goes on from here"


def error_of(left: list[str]) -> dict[str, object]:
    """The last event."""
    return {
        "event": "error",
        "kind": "interrupted",
        "exit_code": INTERRUPTED,
        "message": text_of(left),
        "retryable": True,
        "left": left,
    }


def json_asked(words: Sequence[str]) -> str:
    """Which JSON a command line wants, `json` or `jsonl`, also one that is wrong otherwise; "" for none."""
    for index, word in reversed(list(enumerate(words))):
        name, equals, value = word.partition("=")
        if name == "--json":
            return "jsonl"
        if name == "--output":
            value = value if equals else "".join(words[index + 1 : index + 2])
            return value if value in ("json", "jsonl") else ""
    return ""


def _say_plainly(left: list[str]) -> None:
    """Before there is an output, and without waiting for any reader."""
    lines = {2: f"warmspare: {text_of(left)}\n"}
    if asked := json_asked(sys.argv):
        lines[1] = json.dumps([error_of(left)] if asked == "json" else error_of(left)) + "\n"
    for number, line in lines.items():
        with contextlib.suppress(OSError):
            ready = select.poll()
            ready.register(number, select.POLLOUT)
            if ready.poll(0):
                os.write(number, line.encode())


PROCESS = Ending()
