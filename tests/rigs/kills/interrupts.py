"""Commands as processes of their own that are in some call that doesn't come back, and a signal at a random moment.

How long the end takes is held against a yardstick: a process that does nothing but end a known time after the same
signal. What it takes longer is the machine's load and not ours.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MOST_S = 2.0  # from the signal to the end, where nothing is to be taken back
INTERRUPTED = 130
HANGING = "HANGING"  # what HUNG and WAITING say
YARD_S = 1.0
HEARD_S = 0.08  # from the start until it hears signals, on a machine that is idle
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HEARD = sum(1 << (number - 1) for number in (signal.SIGTERM, signal.SIGINT))  # whatever is ignored; as /proc has it

_YARDSTICK = f"""
import os, signal, time
numbers = {set(map(int, SIGNALS))}
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
os.write(1, b"x")
signal.sigwait(numbers)
time.sleep({YARD_S})
os._exit(0)
"""

# The store of a file system whose server is gone: a call in a thread that nobody can end. HANG_AT: the number of the
# call, or what its function is called. HANG: one, or all that follow too.
# Said at once: whoever reads it may close the terminal before a line that is printed in parts has its end.
HUNG = """
import os, time
from warmspare.__main__ import main
from warmspare.threads import Threads
run, at, hung, count = Threads.run, os.environ["HANG_AT"], [], []
def hang():
    os.write(2, b"HANGING\\n")
    time.sleep(1e6)
async def running(self, call, /, *args, **kwargs):
    if self._name == "store":
        count.append(call)
        if (hung and os.environ["HANG"] == "all") or (not hung and at in (str(len(count)), call.__qualname__)):
            hung.append(call)
            return await run(self, hang)
    return await run(self, call, *args, **kwargs)
Threads.run = running
main()
"""


# A call that comes back when a file is there, COME.
WAITING = """
import os, time
from warmspare.__main__ import main
from warmspare.threads import Threads
run = Threads.run
def wait(call, *args, **kwargs):
    os.write(2, b"HANGING\\n")
    while not os.path.exists(os.environ["COME"]):
        time.sleep(0.02)
    return call(*args, **kwargs)
async def running(self, call, /, *args, **kwargs):
    return await run(self, wait, call, *args, **kwargs)
Threads.run = running
main()
"""


_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Case:
    """A command that waits. owed_s: what the docs give it for taking back. ends: the exit codes with which it may come
    to its own end before the signal, for what it waits for may be refused or come. prepared: for the time of each
    run. before: what runs it."""

    name: str
    words: Sequence[object]
    owed_s: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    program: Sequence[str] = ("-m", "warmspare")
    ends: frozenset[int] = frozenset()
    prepared: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    stdin: int = subprocess.DEVNULL
    stdout: int = subprocess.DEVNULL
    stderr: int = subprocess.PIPE
    before: Sequence[str] = ("env", "--default-signal=HUP")  # whoever started the tests may have it ignored


@dataclass(frozen=True, slots=True)
class Ended:
    """took_s: from the signal on; 0 where it had ended by itself before. lag_s: of the yardstick. made: what stands
    beside the command's temporary files since it began."""

    code: int
    took_s: float
    lag_s: float
    stderr: str
    made: frozenset[str]


def started(case: Case, home: Path) -> subprocess.Popen[bytes]:
    """The command, as soon as it hears signals."""
    environment = {**os.environ, "TMPDIR": str(temporary(home)), **case.environment}
    child = subprocess.Popen(
        [*case.before, sys.executable, *case.program, *map(str, case.words)],
        env=environment,
        cwd=home,
        stdin=case.stdin,
        stdout=case.stdout,
        stderr=case.stderr,
    )
    _started.append(child)
    status = Path(f"/proc/{child.pid}/status")
    while child.poll() is None:
        found = re.search(r"^SigBlk:\s*(\w+)$", status.read_text(), re.MULTILINE)
        if found and int(found[1], 16) & HEARD == HEARD:
            break
        time.sleep(0.002)
    return child


def end_all() -> None:
    """What a test that failed left running."""
    while _started:
        child = _started.pop()
        if child.poll() is None:
            child.kill()
            child.wait()


def temporary(home: Path) -> Path:
    """Where the command's temporary files go."""
    folder = home / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def interrupted(case: Case, home: Path, moment_s: float, number: signal.Signals = signal.SIGTERM) -> Ended:
    """Start it, and send it a signal so long after it hears any; later where the machine is slower."""
    yardstick = subprocess.Popen([sys.executable, "-I", "-S", "-c", _YARDSTICK], stdout=subprocess.PIPE)
    assert yardstick.stdout
    try:
        with case.prepared():
            before = standing(home)
            began = time.monotonic()
            child = started(case, home)
            slower = min(max((time.monotonic() - began) / HEARD_S, 1.0), 3.0)
            try:
                yardstick.stdout.read(1)
                time.sleep(moment_s * slower)
                took, yard = 0.0, YARD_S
                if child.poll() is None:
                    began = time.monotonic()
                    child.send_signal(number)
                    yardstick.send_signal(number)
                    took, yard = _ends(child.pid, yardstick.pid, began)
                stderr = child.communicate()[1].decode(errors="replace")
                lag = max(yard - YARD_S, 0.0)
                return Ended(child.returncode, took, lag, stderr, standing(home) - before)
            finally:
                child.kill()
                child.wait()
    finally:
        yardstick.kill()
        yardstick.wait()


def _ends(first: int, second: int, began: float) -> tuple[float, float]:
    """When both processes have ended, in seconds."""
    files = {os.pidfd_open(pid): pid for pid in (first, second)}
    took: dict[int, float] = {}
    deadline = began + 120
    while len(took) < 2 and time.monotonic() < deadline:
        for fd in select.select([fd for fd, pid in files.items() if pid not in took], [], [], 1.0)[0]:
            took[files[fd]] = time.monotonic() - began
    for fd in files:
        os.close(fd)
    assert first in took, "it goes on two minutes after the signal"
    return took[first], took.get(second, 120.0)


def demand_ended(case: Case, home: Path, ended: Ended) -> None:
    """In time, with 130 and a word about it, or as far as it may come, by its own code and as that demands; and with
    nothing left running or lying about."""
    print(f"{case.name}: {ended.code} after {ended.took_s:.2f} s, the yardstick {ended.lag_s:.2f} s late")
    assert "Traceback" not in ended.stderr, (case.name, ended.stderr)
    assert ended.took_s <= MOST_S + case.owed_s + 4 * ended.lag_s + 0.25, (case.name, ended)
    if ended.code == INTERRUPTED:
        assert ended.stderr.splitlines()[-1].startswith("warmspare: interrupted"), (case.name, ended)
    else:
        demand_own_end(case, ended)
    until = time.monotonic() + 20
    while running(home) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(home), (case.name, running(home))
    assert not list(temporary(home).iterdir()), (case.name, list(temporary(home).iterdir()))


def demand_own_end(case: Case, ended: Ended) -> None:
    """It came to its end by itself: as it may, with one sentence where that is no success, and then it made nothing."""
    assert ended.code in case.ends, (case.name, ended)
    said = [line for line in ended.stderr.splitlines() if line != HANGING]
    if ended.code == 0:
        assert not said, (case.name, ended)
        return
    assert len(said) == 1 and said[0].startswith("warmspare: ") and "(" in said[0], (case.name, ended)
    assert not ended.made, (case.name, ended)


def standing(home: Path) -> frozenset[str]:
    """All that stands below the directory, but for the command's temporary files."""
    found = {str(path.relative_to(home)) for path in home.rglob("*")}
    return frozenset(name for name in found if name.partition("/")[0] != temporary(home).name)


def running(home: Path) -> list[list[str]]:
    """Programs that were started with a name below the directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if int(process.name) != os.getpid() and any(word.startswith(str(home)) for word in words):
                found.append(words)
    return found


def moments(seed: int, count: int) -> list[float]:
    """When, after it begins to hear: while it still starts, and later."""
    rng = random.Random(seed)
    return [rng.uniform(0, 0.4) if rng.random() < 0.4 else rng.uniform(0.4, 1.6) for _ in range(count)]


def until(child: subprocess.Popen[bytes], word: str) -> str:
    """Read its stderr up to a line that has the word; what was read. AssertionError where it ends before."""
    assert child.stderr
    read = ""
    while line := child.stderr.readline().decode(errors="replace"):
        read += line
        if word in line:
            return read
    raise AssertionError(f"{word!r} does not come: {read}")


def left(child: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code, and the rest of stderr."""
    try:
        rest = child.communicate(timeout=120)[1].decode(errors="replace")
    finally:
        child.kill()
        child.wait()
    assert "Traceback" not in rest, rest
    return child.returncode, rest


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections, reads, and never answers; its port."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for each in kept:
                each.close()


@contextlib.contextmanager
def full_pipe() -> Iterator[int]:
    """A pipe that takes nothing any more, and that nobody reads; its end to write to."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, bytes(1 << 12))
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b"x")
    os.set_blocking(theirs, True)
    try:
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)
