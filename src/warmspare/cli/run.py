"""Runs what a command asks for: event loop, signals, progress, and the way from an error to an exit code."""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from warmspare.cli.environment import daemon_wanted
from warmspare.cli.telling.output import Output, Show, ShownOutput, complain, open_output
from warmspare.ending import INTERRUPTED, PROCESS, error_of, text_of
from warmspare.errors import ConfigError, WarmspareError
from warmspare.outside.text import shown

if TYPE_CHECKING:
    from warmspare.cli.options import Told
    from warmspare.config.problems import SettingsError
    from warmspare.daemon.daemon_client import DoneThere
    from warmspare.engine.request import Request, RunContext
    from warmspare.observe.events import Events

T = TypeVar("T")
Work = Callable[["RunContext"], Awaitable[int]]


class AllProblems:
    """How all that is wrong in a file is said. what: the file, in words. hint: what to do about several. events: each
    is an event too, which is enough for a program."""

    def __init__(self, what: str, *, hint: str, events: bool = False) -> None:
        self._what, self._hint, self._events = what, hint, events

    def told(self, error: SettingsError, *, as_json: bool) -> ConfigError:
        """A sentence each goes to stderr; the error that stands for all of them."""
        problems = error.problems
        for problem in [] if self._events and as_json else problems:
            complain(problem.sentence)
        where = problems[0].place.file
        return ConfigError(f"{self._what} has {len(problems)} errors", where=where, hint=self._hint)


def act(
    build: Callable[[], Request[T]], given: Told, show: Show | None = None, *, problems: AllProblems | None = None
) -> int:
    """Ask for it, and tell what comes of it; the exit code. build: makes the request of the options; ConfigError where
    they are wrong. show: how what this command tells is shown to a person. problems: where all that is wrong
    in a file is said, and not only the first."""

    tone = given.tone()

    async def work(run: RunContext) -> int:
        from warmspare.engine.engine_runs import performed

        if tone.verbose:
            for using in given.used():
                run.events.emit(using)
        try:
            request = _from_here(build())
            done = await _by_daemon(request, run, debug=given.debug)
            result = await performed(request, run) if done is None else done.result
        except ConfigError as error:
            from warmspare.config.problems import SettingsError  # here: what nothing is wrong with need not pay for it

            if not isinstance(error, SettingsError):
                raise
            if len(error.problems) == 1:
                raise error.problems[0] from None
            if problems is None:
                raise
            raise problems.told(error, as_json=tone.as_json) from None
        output.result(result)
        return request.exit_code(result) if done is None else done.exit_code

    output = ShownOutput(open_output(tone), None if tone.as_json else show, tone)
    return execute(work, output, as_json=tone.as_json, debug=given.debug)


def _from_here(request: Request[T]) -> Request[T]:
    """What it says of places, for who is in another directory too."""
    from warmspare.engine.whole_paths import whole

    try:
        return whole(request, Path.cwd())
    except OSError:  # the directory is gone
        return request


async def _by_daemon(request: Request[T], run: RunContext, *, debug: bool) -> DoneThere | None:
    """None where there is no daemon, or it does not do it."""
    try:
        there = daemon_wanted() and run.host.daemon_socket.exists()
    except (ConfigError, OSError):
        there = False
    if not there:
        return None
    from warmspare.daemon.daemon_client import asked

    return await asked(request, run, traceback=debug)


async def _supervised(work: Work, run: RunContext) -> int:
    from warmspare.engine.error_groups import telling
    from warmspare.observe.kinds.run_events import Interrupted

    task = asyncio.current_task()
    assert task

    def tell(what: str, seconds: float, within_s: float) -> None:
        # The event first: whoever reads the sentence may end this process the next moment.
        run.events.emit(Interrupted(what=what, seconds=round(seconds, 1), within_seconds=within_s))
        complain(f"interrupted: taking back {what}, for at most {within_s:.0f} s; a second signal leaves it")

    PROCESS.watch(asyncio.get_running_loop(), task, tell)
    try:
        return await work(run)
    except (asyncio.CancelledError, WarmspareError, BaseExceptionGroup) as caught:
        if not PROCESS.asked:
            raise
        error = telling(caught)
        if not isinstance(error, (WarmspareError, asyncio.CancelledError, BaseExceptionGroup)):
            raise  # a bug
        if isinstance(error, WarmspareError):  # that it was cut short, or what came of that
            complain(error.sentence)
        return INTERRUPTED


def execute(work: Work, output: Output, *, as_json: bool, debug: bool) -> int:
    """Run it to its exit code. as_json: the output is a program's, whose events have the error too."""
    import msgspec  # here, as the next: --help need not pay for it
    import uvloop

    from warmspare.engine.error_groups import telling
    from warmspare.engine.host_places import HostPlaces
    from warmspare.engine.request import RunContext
    from warmspare.observe.events import Events, Meter
    from warmspare.observe.kinds.run_events import Error

    if not gc.isenabled():  # __main__.py
        gc.freeze()  # the modules stay to the end: no collection looks at them again
        gc.enable()
    events = Events(output.event)

    def say(left: list[str]) -> None:
        output.close()
        complain(text_of(left))
        if as_json:
            events.emit(msgspec.convert(error_of(left), Error))
        output.end()

    PROCESS.speak(say)
    try:
        context = RunContext(events, Meter(), HostPlaces(), output.tick_s)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_supervised(work, context))
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
        output.end()


def report(error: BaseException, events: Events | None) -> int:
    """Say what went wrong, in one sentence; the exit code for it."""
    from warmspare.observe.kinds.run_events import Error

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
