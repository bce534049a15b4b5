"""The programs that this process started, each in a process group of its own; refuses to leave one behind it.

Whoever starts a program ends it here, with whatever that started in turn. What is alive when this process ends by a
signal (ending.py) is ended with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import subprocess

ASKING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})  # to end
STARTING_S = 0.3  # that the end of this process waits for one that is being started
_alive: set[int] = set()
_starting: set[object] = set()  # those whose numbers are not known yet
_ended = False  # nothing is started any more
_apart = True  # whether each has a group of its own


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """As subprocess.Popen. End it with `kill`, wait for it, then `forget` it."""
    import subprocess

    with being_started():
        with _let_through():
            child: subprocess.Popen[bytes] = subprocess.Popen(command, start_new_session=_apart, **options)
        _alive.add(child.pid)
    return child


@contextlib.contextmanager
def being_started() -> Iterator[None]:
    """For the time in which a process is there and its number is not known: a fork, up to `forked`."""
    token = object()
    _starting.add(token)
    try:
        while _ended:  # whoever ended it does so this moment
            time.sleep(1)
        yield
    finally:
        _starting.discard(token)


def forked(number: int) -> None:
    """A process that is a copy of this one, and has a group of its own: ended with this one, unless it is `gone`."""
    _alive.add(number)


def gone(number: int) -> None:
    """It was waited for."""
    _alive.discard(number)


def keep_together() -> None:
    """Said in such a copy: what it starts stays in its group, and none of what there was is its own."""
    global _apart
    _apart = False
    _alive.clear()
    _starting.clear()


async def start_beside(*command: str, **options: Any) -> asyncio.subprocess.Process:
    """As asyncio.create_subprocess_exec. End it with `end`."""
    import asyncio

    async def made() -> asyncio.subprocess.Process:
        with being_started():
            child = await asyncio.create_subprocess_exec(*command, start_new_session=True, **options)
            _alive.add(child.pid)
        return child

    def unwanted(done: asyncio.Task[asyncio.subprocess.Process]) -> None:
        if not done.cancelled() and done.exception() is None:
            kill(done.result())

    making = asyncio.ensure_future(made())
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:  # in this moment it may be there already
        making.add_done_callback(unwanted)
        raise


def kill(child: subprocess.Popen[bytes] | asyncio.subprocess.Process) -> None:
    """End it and its group at once; fine if it has ended. Whoever is cancelled while it waits for it need not `forget`
    it: nothing of it is left to be ended, and its number may soon be another's."""
    if child.returncode is None and _apart:
        _kill_group(child.pid)
        _alive.discard(child.pid)
    elif child.returncode is None:
        child.kill()


def forget(child: subprocess.Popen[bytes] | asyncio.subprocess.Process) -> None:
    """It was waited for: once it has ended, its number may be another's."""
    if child.returncode is not None:
        _alive.discard(child.pid)


async def end(child: asyncio.subprocess.Process) -> None:
    """End it and its group if it has not ended by itself; returns when it is gone."""
    kill(child)
    await child.wait()
    forget(child)


def kill_all() -> None:
    """Also those that are just being started. From any thread."""
    until_s = time.monotonic() + STARTING_S
    while _starting and time.monotonic() < until_s:
        time.sleep(0.001)
    for number in list(_alive):
        _kill_group(number)


def close() -> None:
    """At the end of this process: nothing is started from here on, and all is killed. From any thread."""
    global _ended
    _ended = True
    kill_all()


def _kill_group(number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(number, signal.SIGKILL)


@contextlib.contextmanager
def _let_through() -> Iterator[None]:
    """A child inherits which signals are blocked, and here those are that ask to end (ending.py)."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, ASKING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
