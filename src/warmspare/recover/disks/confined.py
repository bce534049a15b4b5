"""Runs what is made of a guest's files in a process of its own, with limits that the kernel holds; owns its end.

Forked from this one, so that nothing has to be loaded again. It gets the descriptors that it is given and no other, can
only say lines, and refuses nothing that it reads: what that costs is bounded here. It and the programs that it started
are gone when the call returns, however it returns, and soon after this process if that is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from warmspare import children
from warmspare.errors import RecoverError, by_hand
from warmspare.threads import in_thread

_READ_BYTES = 1 << 16
_LOOK_S = 0.5  # how often it is asked whether it is enough
_GRACE_S = 2  # of CPU: from the limit that work can still answer to, to the one that kills
_STACK_BYTES = 1 << 18

Say = Callable[[bytes], None]


class Spent(BaseException):
    """All that a whole run may take is taken: the work ends here. str: what of, as a clause. Not an Exception, for
    nothing that deals with one file may go on after it."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """memory_bytes: what the process may take beyond what it begins with, and cpu_s: of its CPU time, both held by the
    kernel. wall_s: until it is ended; it may have to wait for a store. output_bytes: of all that it says."""

    memory_bytes: int = 136 << 20  # a window of zstd as large as Linux takes, and some
    cpu_s: int = 20
    wall_s: float = 600.0
    output_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class ConfinedAnswer:
    """What the process said, whole lines; and why it ended before its work did, as a clause, "" where it did not."""

    lines: list[bytes]
    ended: str


async def confined(
    work: Callable[[Say], None],
    fds: Sequence[int],
    limits: ProcessLimits,
    enough: Callable[[], str] = lambda: "",
    before: Callable[[], None] = lambda: None,
    heard: Callable[[bytes], None] | None = None,
) -> ConfinedAnswer:
    """Do `work` over there. It is given a function that says a line; MemoryError and `Spent` reach it as they come.

    fds: what it may use. before: done there before its limits hold, for what it starts then has none of them. enough:
    asked now and then; ended for the reason that it gives. heard: is given each line as it comes, and the answer has
    none then; `limits.output_bytes` bounds what has come of one. RecoverError where no process can be started. On a
    cancel the process and all of its programs are killed and awaited; where they read files that this process serves,
    let go of these first.
    """
    near, far = socket.socketpair()
    with near:
        with far:
            pid = _forked(work, before, far, fds, limits)
        near.setblocking(False)
        data, ended = bytearray(), ""
        try:
            ended = await _hear(near, data, limits, enough, heard)
        finally:
            near.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            status = await in_thread(_collected, pid)
    return ConfinedAnswer(bytes(data).split(b"\n")[:-1], ended or _end(status, limits))


async def _hear(
    near: socket.socket,
    data: bytearray,
    limits: ProcessLimits,
    enough: Callable[[], str],
    heard: Callable[[bytes], None] | None,
) -> str:
    """Collect what it says until it has ended; why it is to be ended, else."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.wall_s
    hearing: asyncio.Task[bytes] | None = None
    try:
        while True:
            hearing = hearing or loop.create_task(_next(near))
            done, _ = await asyncio.wait({hearing}, timeout=_LOOK_S)
            if done:
                piece, hearing = hearing.result(), None
                if not piece:
                    return ""
                data += piece
                if heard is not None:
                    *lines, rest = bytes(data).split(b"\n")
                    data[:] = rest
                    for line in lines:
                        heard(line)
                if len(data) > limits.output_bytes:
                    del data[limits.output_bytes :]
                    return f"it says more than {limits.output_bytes >> 10} KiB"
            if loop.time() > deadline:
                return f"it was ended after {limits.wall_s:.0f} s"
            if reason := enough():
                return reason
    finally:
        if hearing is not None:
            hearing.cancel()
            await asyncio.wait({hearing})


async def _next(near: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(near, _READ_BYTES)
    except ConnectionError:
        return b""


def _collected(pid: int) -> int:
    """Its status, once it has ended; from then on its number may be another's."""
    _, status = os.waitpid(pid, 0)
    children.gone(pid)
    return status


def _end(status: int, limits: ProcessLimits) -> str:
    """Why the process ended, "" if its work was done."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return ""
    if code == -signal.SIGKILL:
        return f"it was killed: by the kernel after {limits.cpu_s + _GRACE_S} s of CPU, or by somebody"
    return f"it died of signal {-code}" if code < 0 else f"it ended with {code}"


def _forked(
    work: Callable[[Say], None],
    before: Callable[[], None],
    far: socket.socket,
    fds: Sequence[int],
    limits: ProcessLimits,
) -> int:
    """Its process ID. Signals wait meanwhile: a handler of this process must not run over there. RecoverError."""
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        with children.being_started():
            pid = os.fork()
            if pid == 0:
                _child(work, before, far, fds, limits)
            with contextlib.suppress(OSError):  # it does the same, whoever is first
                os.setpgid(pid, pid)
            children.forked(pid)
        return pid
    except OSError as error:
        hint = by_hand("free memory, or allow more processes")
        raise RecoverError(f"no process can be started: {error.strerror}", hint=hint, retryable=True) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _child(
    work: Callable[[Say], None],
    before: Callable[[], None],
    far: socket.socket,
    fds: Sequence[int],
    limits: ProcessLimits,
) -> NoReturn:
    """The other process, to its end. Nothing of this one's may be finished there, no finalizer and no handler."""
    code = 1
    try:
        gc.freeze()
        os.setpgid(0, 0)
        children.keep_together()
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
            signal.signal(number, signal.SIG_DFL)
        _keep_only({far.fileno(), *fds})
        _ends_with(far)
        before()
        _limit(limits)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        far.setblocking(True)
        work(lambda line: far.sendall(line + b"\n"))
        code = 0
    except BaseException:  # the other end sees the code; here is nobody to be told
        code = 1
    finally:
        os._exit(code)


def _keep_only(fds: set[int]) -> None:
    """Close all others: a lock, a mount or a connection must not live on in here."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    start = 3
    for fd in sorted(fds):
        os.closerange(start, fd)
        start = max(start, fd + 1)
    os.closerange(start, resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def _ends_with(far: socket.socket) -> None:
    """Have this process and its programs end once nobody is at the other end."""

    def watch() -> None:
        far.recv(1)
        os.killpg(0, signal.SIGKILL)

    threading.stack_size(_STACK_BYTES)
    threading.Thread(target=watch, daemon=True).start()


def _limit(limits: ProcessLimits) -> None:
    """Memory beyond what there is, for what was there is shared with the other process. The kernel holds the soft
    limits; the programs that are started here have their own."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    held = pages * resource.getpagesize() + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (held, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def spent(number: int, frame: FrameType | None) -> None:
        raise Spent(f"the {limits.cpu_s} s of CPU that a check may take are used up")

    signal.signal(signal.SIGXCPU, spent)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + _GRACE_S))
