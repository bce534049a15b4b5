"""The reader process, seen from its client: starts it, asks it, listens to its log, ends it; owns its ring.

A library that crashes, hangs or panics does so over there. Its environment holds LD_LIBRARY_PATH and nothing secret;
what is secret goes through a socket. docs/architecture.md, "The reader process".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmspare import children
from warmspare._native import ring as native
from warmspare.model.units import SPAN_BYTES
from warmspare.source.vddk.vddk_errors import CallFailed, ReaderDied, ReaderHung, ReaderNonsense
from warmspare.threads import finish

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH")
LOG_LINES = 50
PANIC_STATUS = 86  # vddk_api.h
END_S = 5.0


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """slots: spans of the ring. call_s: the longest a call may take. environment: what the reader gets besides."""

    slots: int = 16
    call_s: float = 180.0
    environment: Mapping[str, str] = field(default_factory=dict)


def _nothing() -> None:
    """Who listens until somebody does."""


def _ignored(line: bytes) -> None:
    """Who reads lines until somebody does."""


class _PipeLines(asyncio.Protocol):
    """Whole lines of a pipe or socket, and its end. A line of more than `most` bytes is cut."""

    def __init__(self, most: int = 1 << 20) -> None:
        self._buffer, self._most = bytearray(), most
        self.on_line: Callable[[bytes], None] = _ignored
        self.on_end: Callable[[], None] = _nothing

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self.on_line(line)
        del self._buffer[self._most :]

    def connection_lost(self, error: Exception | None) -> None:
        self.on_end()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a running process consists of, on our side."""

    process: subprocess.Popen[bytes]
    view: memoryview
    requests: int
    completions: int
    control: asyncio.WriteTransport
    log: asyncio.BaseTransport


class ReaderProcess:
    """A reader process; make it with `start`. One task at a time may `call`.

    ring: its client's half. free: slots that nobody uses. died: whether the process is gone.
    """

    def __init__(
        self, settings: ProcessSettings, secrets: list[str], parts: _Parts, answers: _PipeLines, log: _PipeLines
    ) -> None:
        self._settings, self._secrets, self._parts = settings, secrets, parts
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._on_completion = self._on_death = _nothing
        self._closed = False
        self.ring = native.Ring(parts.view)
        self.free = list(range(settings.slots))
        self.died = False
        self._sources = (answers, log)
        answers.on_line, answers.on_end, log.on_line = self._answered, self._lost, self._logged
        asyncio.get_running_loop().add_reader(parts.completions, self._completed)

    @classmethod
    async def start(cls, library_dir: Path, settings: ProcessSettings, secrets: list[str]) -> ReaderProcess:
        """library_dir: its LD_LIBRARY_PATH. secrets: what is not repeated. OSError where no process can be started."""
        loop = asyncio.get_running_loop()
        size = native.DATA_OFFSET + settings.slots * SPAN_BYTES
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            memory = os.memfd_create("warmspare-ring", os.MFD_CLOEXEC)
            theirs.callback(os.close, memory)
            os.ftruncate(memory, size)
            view = memoryview(mmap.mmap(memory, size))
            requests, completions = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
            ours.callback(os.close, requests)
            ours.callback(os.close, completions)
            near, far = socket.socketpair()
            ours.callback(near.close)
            theirs.callback(far.close)
            # Not a pipe: uvloop closes the descriptor of a file that it is given twice, and in between another thread
            # may have opened something under the same number. A socket it lets go of properly.
            log, far_log = socket.socketpair()
            ours.callback(log.close)
            theirs.callback(far_log.close)
            far_log.setblocking(False)  # a log that nobody reads must not stop the library
            native.Ring(view)  # formatted before the reader maps it
            descriptors = (far.fileno(), memory, size, requests, completions)
            process = _spawn(library_dir, settings, descriptors, far_log.fileno())
            ours.callback(process.wait)
            ours.callback(process.kill)
            log_lines, answers = _PipeLines(8192), _PipeLines()
            for ours_too in (log, near):
                ours_too.setblocking(False)
            log_transport, _ = await loop.create_unix_connection(lambda: log_lines, sock=log)
            control, _ = await loop.create_unix_connection(lambda: answers, sock=near)
            parts = _Parts(process, view, requests, completions, control, log_transport)
            self = cls(settings, [secret for secret in secrets if secret], parts, answers, log_lines)
            ours.pop_all()
        return self

    @property
    def pid(self) -> int:
        return self._parts.process.pid

    def listen(self, completed: Callable[[], None], died: Callable[[], None]) -> None:
        """Who hears of completions and of the process's death from now on."""
        self._on_completion, self._on_death = completed, died

    def _completed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._parts.completions)
        self._on_completion()

    def _lost(self) -> None:
        self.died = True
        if self._answer and not self._answer.done():
            self._answer.set_exception(ReaderDied("the reader process ended"))
        self._on_death()

    def _answered(self, line: bytes) -> None:
        if self._answer is None or self._answer.done():
            return
        try:
            found = json.loads(line)
            if not isinstance(found, dict) or not isinstance(found.get("ok"), bool):
                raise ValueError
            self._answer.set_result(found)
        except ValueError:
            self._answer.set_exception(ReaderNonsense("the reader process answered what makes no sense"))

    def _logged(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self._lines.append(text)

    def slot(self, index: int, length: int) -> memoryview:
        """The first bytes of a slot, where the reader puts them."""
        at = native.DATA_OFFSET + index * SPAN_BYTES
        return self._parts.view[at : at + length]

    def submitted(self) -> None:
        """Tell the reader that there is something to do."""
        with contextlib.suppress(BlockingIOError):  # the counter is full of earlier calls: it is awake
            os.eventfd_write(self._parts.requests, 1)

    async def call(self, operation: str, *, limit_s: float | None = None, **fields: Any) -> dict[str, Any]:
        """The reader's answer. CallFailed as the library says; ReaderDied, ReaderHung, ReaderNonsense."""
        if self.died:
            raise await self.death()
        limit_s = self._settings.call_s if limit_s is None else limit_s
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._parts.control.write(json.dumps({"op": operation, **fields}).encode() + b"\n")
        try:
            async with asyncio.timeout(limit_s):
                found = await answer
        except TimeoutError:
            raise ReaderHung(f"the library did not come back from {operation!r} within {limit_s:g} s") from None
        except ReaderDied:
            raise await self.death() from None
        finally:
            self._answer = None
        if not found["ok"]:
            try:
                raise CallFailed(str(found["call"]), int(found["code"]), str(found["text"]))
            except (KeyError, TypeError, ValueError):
                raise ReaderNonsense("the reader process answered what makes no sense") from None
        return dict(found)

    async def death(self) -> ReaderDied:
        """How it ended, with the library's last words."""
        process = self._parts.process
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, END_S)
        await asyncio.sleep(0)  # the end of its log
        status = process.returncode
        if status == PANIC_STATUS:
            text = "the library panicked and its process ended"
        elif status is not None and status < 0:
            text = f"the process that runs the library was ended by {_signal_name(-status)}"
        else:
            text = f"the process that runs the library ended with status {status}"
        words = self.last_words()
        return ReaderDied(f"{text}: {words}" if words else text)

    def last_words(self) -> str:
        """The last panic or warning of its log, or what Python said."""
        for level in ("P ", "W "):
            for line in reversed(self._lines):
                if line.startswith(level):
                    return line[2:202]
        for line in reversed(self._lines):
            if not line.startswith("L ") and line.strip():
                return line.strip()[:200]
        return ""

    async def close(self) -> None:
        """Let it close what is open and end; kill it if it doesn't. Returns when it is gone, or can't be killed."""
        await self._end(END_S)

    async def kill(self) -> None:
        """End it at once."""
        await self._end(0.0)

    async def _end(self, grace_s: float) -> None:
        if self._closed:
            return
        self._closed = True
        self._on_completion = self._on_death = _nothing
        parts = self._parts
        asyncio.get_running_loop().remove_reader(parts.completions)
        parts.control.close()
        ended = asyncio.create_task(asyncio.to_thread(_wait, parts.process, grace_s))
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            children.kill(parts.process)  # whoever cancels does not wait for the library
            await finish(ended)
            raise
        finally:
            children.forget(parts.process)
            parts.log.close()
            for source in self._sources:  # the transports live a little longer than the ring's memory need
                source.on_line, source.on_end = _ignored, _nothing
            os.close(parts.requests)
            os.close(parts.completions)


def _spawn(
    library_dir: Path, settings: ProcessSettings, numbers: tuple[int, int, int, int, int], log: int
) -> subprocess.Popen[bytes]:
    """numbers: what the reader is called with (vddk_host.py)."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment.update({"LD_LIBRARY_PATH": str(library_dir), **settings.environment})
    control, memory, _, requests, completions = numbers
    return children.start(
        [sys.executable, "-P", "-m", "warmspare.source.vddk.vddk_host", *map(str, numbers)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        close_fds=True,
        pass_fds=(control, memory, requests, completions),
        env=environment,
    )


def _wait(process: subprocess.Popen[bytes], grace_s: float) -> None:
    for patience_s in (grace_s, END_S):
        try:
            process.wait(patience_s)
            return
        except subprocess.TimeoutExpired:
            children.kill(process)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
