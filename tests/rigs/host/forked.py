"""Commands as processes of their own that need not read the program anew: a server has it loaded, and forks for each.

What is forked is a real process with its own arguments, environment, files, signals and exit code. Only what comes
before the first line of a program is not as in life: tests of that start an interpreter.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from rigs.paths import as_here

# What commands load when they need it.
_LOADED = (
    "aiobotocore.httpsession",
    "warmspare.cli.commands.apply",
    "warmspare.cli.commands.copy",
    "warmspare.cli.commands.recovery.stage",
    "warmspare.cli.commands.sync",
    "warmspare.engine.engine_runs",
    "warmspare.engine.requests.audit_requests",
    "warmspare.engine.requests.recovery_requests",
    "warmspare.engine.requests.replica_requests",
    "warmspare.engine.requests.repository_requests",
    "warmspare.engine.requests.sync_requests",
    "warmspare.engine.wiring.readable_disks",
    "warmspare.recover.aws.client",
    "warmspare.recover.staging.stager",
    "warmspare.sync.sender",
    "rigs.kills.victim",
)
_REQUEST = 1 << 20
_ASKING = threading.Lock()


class Forked:
    """One such process, with its output kept. returncode: less than 0 for a signal, None while it runs."""

    def __init__(
        self,
        *words: object,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        stdout: int | None = None,
    ) -> None:
        """words: as after `python`: a file, or -m and a module, or -c and a program; and its arguments. folder: where
        it works. stdout: where that goes instead."""
        self.returncode: int | None = None
        self._words = [str(word) for word in words]
        self._said = [os.memfd_create(name) for name in ("stdout", "stderr")]
        weakref.finalize(self, _close, self._said)
        self._server, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            asked = {
                "words": self._words,
                "environment": dict(environment or os.environ),
                "folder": str(folder or Path.cwd()),
            }
            data = json.dumps(asked).encode()
            assert len(data) < _REQUEST
            fds = [stdout or self._said[0], self._said[1], theirs.fileno()]
            with _ASKING:
                socket.send_fds(_server(), [data], fds)
        self.pid = self._hear(None)
        assert self.pid is not None

    def poll(self) -> int | None:
        if self.returncode is None and (code := self._hear(0)) is not None:
            self.returncode = code
            self._server.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended."""
        if self.returncode is None:
            code = self._hear(timeout)
            if code is None:
                raise subprocess.TimeoutExpired(self._words, timeout or 0.0)
            self.returncode = code
            self._server.close()
        return self.returncode

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.poll() is None and self.pid is not None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def so_far(self, number: int) -> bytes:
        """What it said until now, to 1 (stdout) or 2 (stderr)."""
        fd = self._said[number - 1]
        return os.pread(fd, os.fstat(fd).st_size, 0)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """What it said, once it has ended. It is killed if it takes longer."""
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
            raise
        return self.so_far(1), self.so_far(2)

    def _hear(self, timeout: float | None) -> int | None:
        if not select.select([self._server], [], [], timeout)[0]:
            return None
        said = self._server.recv(64)
        assert said, "the server of forks has ended"
        return int(said)


def run(
    *words: object, env: Mapping[str, str] | None = None, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """To its end."""
    process = Forked(*words, environment=env)
    out, err = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(list(words), process.returncode, out.decode(), err.decode())


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env=as_here() | {"OPENBLAS_NUM_THREADS": "1"},  # as the program says: none of its threads may be there
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# the server


def _serve(asking: socket.socket) -> dict[str, Any] | None:
    """Forks for each that is asked for. In the server, None once nobody can ask any more; in a fork, what was asked."""
    running: dict[int, tuple[int, int]] = {}  # by the descriptor that tells of its end: PID, whom to tell
    poll = select.poll()
    poll.register(asking, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != asking.fileno():
                pid, teller = running.pop(fd)
                _, status = os.waitpid(pid, 0)
                os.write(teller, str(os.waitstatus_to_exitcode(status)).encode())
                poll.unregister(fd)
                os.close(fd)
                os.close(teller)
                continue
            data, fds, _, _ = socket.recv_fds(asking, _REQUEST, 3)
            if not data:
                for pid, _ in running.values():
                    os.kill(pid, signal.SIGKILL)
                return None
            pid = os.fork()
            if not pid:
                asking.detach()
                os.dup2(fds[0], 1)
                os.dup2(fds[1], 2)
                os.closerange(3, max(*fds, *running, 0) + 64)
                return dict(json.loads(data))
            os.write(fds[2], str(pid).encode())
            for each in fds[:2]:
                os.close(each)
            ended = os.pidfd_open(pid)
            running[ended] = pid, fds[2]
            poll.register(ended, select.POLLIN)


def _become(words: list[str], environment: dict[str, str], folder: str) -> None:
    # The server's own streams still take these descriptors for what the server has there: a file, where a pipe may be.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 (to its end)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    how, *arguments = words
    if how == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    elif how == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(how, run_name="__main__")


if __name__ == "__main__":
    for name in _LOADED:
        importlib.import_module(name)
    gc.freeze()
    if (asked := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        _become(**asked)
