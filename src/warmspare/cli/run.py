"""Runs a command's coroutine: event loop, signals, progress, and the way from an error to an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import msgspec

from warmspare.cli.telling.output import complain, open_output
from warmspare.ending import INTERRUPTED, PROCESS, error_of, text_of
from warmspare.errors import (
    ConfigError,
    IntegrityError,
    LeaseError,
    RecoverError,
    SourceError,
    StoreError,
    WarmspareError,
)
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.run import Error, Interrupted, StoreRetry
from warmspare.outside.text import shown
from warmspare.ticker import every

# Where several stages failed together, the most telling error is the one to show.
_TELLING = (IntegrityError, SourceError, LeaseError, ConfigError, RecoverError, StoreError, WarmspareError)

Work = Callable[[Events, Meter], Awaitable[int]]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group of groups, cancellations left out."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    elif not isinstance(error, asyncio.CancelledError):
        yield error


def telling(error: BaseException) -> BaseException:
    """The one error of a group that says most."""
    found = list(leaves(error))
    for kind in _TELLING:
        for one in found:
            if isinstance(one, kind):
                return one
    return found[0] if found else error


def retrying(events: Events) -> Callable[[str, int, float], None]:
    """What a store tells of requests that keep failing, as events; see open_store."""

    def tell(message: str, attempt: int, wait_s: float) -> None:
        events.emit(StoreRetry(message=message, attempt=attempt, seconds=round(wait_s, 3)))

    return tell


def ticking(events: Events, meter: Meter, names: tuple[str, ...], period_s: float) -> AbstractAsyncContextManager[None]:
    """Emit the meter's progress now and then for as long as the context lasts."""

    def tick() -> None:
        if not events.ended:  # closing the store takes a moment, in which no progress is told
            events.emit(meter.progress(*names))

    return every(period_s, tick)


async def _supervised(work: Work, events: Events, meter: Meter, names: tuple[str, ...], period_s: float) -> int:
    task = asyncio.current_task()
    assert task

    def tell(what: str, seconds: float, within_s: float) -> None:
        # The event first: whoever reads the sentence may end this process the next moment.
        events.emit(Interrupted(what=what, seconds=round(seconds, 1), within_seconds=within_s))
        complain(f"interrupted: taking back {what}, for at most {within_s:.0f} s; a second signal leaves it")

    PROCESS.watch(asyncio.get_running_loop(), task, tell)
    try:
        async with ticking(events, meter, names, period_s) if names else contextlib.nullcontext():
            return await work(events, meter)
    except (asyncio.CancelledError, WarmspareError, BaseExceptionGroup) as caught:
        if not PROCESS.asked:
            raise
        error = telling(caught)
        if not isinstance(error, (WarmspareError, asyncio.CancelledError, BaseExceptionGroup)):
            raise  # a bug
        if isinstance(error, WarmspareError):  # that it was cut short, or what came of that
            complain(error.sentence)
        return INTERRUPTED


def execute(work: Work, *, as_json: bool, debug: bool, names: tuple[str, ...] = ()) -> int:
    """Run it to its exit code. names: the meter's totals that its progress shows."""
    import uvloop  # here: --help need not pay for it

    if not gc.isenabled():  # __main__.py
        gc.freeze()  # the modules stay to the end: no collection looks at them again
        gc.enable()
    output = open_output(as_json)
    events = Events(output.event)

    def say(left: list[str]) -> None:
        output.close()
        complain(text_of(left))
        if as_json:
            events.emit(msgspec.convert(error_of(left), Error))

    PROCESS.speak(say)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_supervised(work, events, Meter(), names, output.tick_s))
            if code == INTERRUPTED and PROCESS.speaks():
                say(PROCESS.left)
                PROCESS.leave()
            PROCESS.over(code)
        return code
    except KeyboardInterrupt:  # where this is not the console command's process
        say(PROCESS.left)
        return INTERRUPTED
    except BaseException as caught:
        output.close()
        error = telling(caught)
        if debug:
            sys.stderr.write(shown("".join(traceback.format_exception(caught)), lines=True))
        return report(error, events if as_json else None)
    finally:
        output.close()


def report(error: BaseException, events: Events | None) -> int:
    """Say what went wrong, in one sentence; the exit code for it."""
    if isinstance(error, WarmspareError):
        complain(error.sentence)
        if events:
            events.emit(Error.of(error))
        return error.exit_code
    text = f"this is a bug: {type(error).__name__}: {error}; run it again with --debug and report what it shows"
    complain(text)
    if events:
        events.emit(Error(kind="bug", exit_code=1, message=text, retryable=False))
    return 1
