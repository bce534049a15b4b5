"""Runs the programs that look into disks, each in a process with limits; refuses their output beyond a bound.

What they read is whatever a guest wrote, so they get a descriptor that is open for reading, no terminal, a bounded
address space and CPU time, and a time limit; all of a run have a bound together. A program that comes to a limit, or
dies, has said nothing: that is an error, and never taken for a file that is not there. Missing programs are a
ConfigError that names Debian's package.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from warmspare import children
from warmspare.errors import ConfigError, RecoverError, by_hand
from warmspare.recover.disks.confined import Spent

PACKAGES = {
    "blkid": "util-linux",
    "prlimit": "util-linux",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "grub-fstest": "grub-common",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "fusermount3": "fuse3",
}
TIMEOUT_S = 120.0
CPU_S = 10
ALL_CPU_S = 25.0
ADDRESS_SPACE_BYTES = 1 << 30
OUTPUT_BYTES = 4 << 20
_COMPLAINT_BYTES = 1 << 14
_READ_BYTES = 1 << 16
_ELSEWHERE = "/usr/sbin:/sbin"
_NO_MEMORY = "out of memory"


@dataclass(frozen=True, slots=True)
class Done:
    """What a program did. output, complaint: stdout and stderr. cut: stdout went on beyond the bound, and the program
    was ended; its code is 0 then."""

    code: int
    output: bytes
    complaint: str
    cut: bool = False


class Exceeded(RecoverError):
    """A program came to a limit, or died; what it was to read can't be judged."""


class Failed(OSError):
    """A program ended with an error of its own, after what it said."""


class Budget:
    """What the programs of one run may take together: CPU time of this process's children, from here on. each_s: what
    one of them may."""

    def __init__(self, cpu_s: float = ALL_CPU_S, each_s: int = CPU_S) -> None:
        self._cpu_s, self._until_s, self._each_s = cpu_s, _children_s() + cpu_s, each_s

    def next(self) -> int:
        """Seconds of CPU that the next program may take. Spent."""
        left = self._until_s - _children_s()
        if left <= 0:
            raise Spent(f"the {self._cpu_s:.0f} s of CPU that the programs of a check may take are used up")
        return max(1, min(self._each_s, round(left)))


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def found(program: str) -> str:
    """Where a program is. ConfigError if it is not installed. It may stand outside a user's PATH."""
    path = shutil.which(program) or shutil.which(program, path=_ELSEWHERE)
    if path is None:
        hint = by_hand(f"install the package {PACKAGES.get(program, program)}")
        raise ConfigError(f"{program} is not installed", hint=hint)
    return path


def run(
    program: str,
    *arguments: str,
    fds: Sequence[int] = (),
    output_bytes: int = OUTPUT_BYTES,
    budget: Budget | None = None,
) -> Done:
    """Run one to its end, and wait for it. fds: descriptors that it may use as /proc/self/fd/N. Exceeded when it comes
    to a limit; killed on every way out."""
    with _started(program, arguments, fds, budget, subprocess.PIPE) as (child, cpu_s):
        assert child.stdout and child.stderr
        output, complaint = _Kept(output_bytes), _Kept(_COMPLAINT_BYTES)
        deadline = time.monotonic() + TIMEOUT_S
        with selectors.PollSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ, output)
            selector.register(child.stderr, selectors.EVENT_READ, complaint)
            while selector.get_map() and not output.cut:
                ready = selector.select(max(deadline - time.monotonic(), 0))
                if not ready:
                    raise Exceeded(f"{program} was ended after {TIMEOUT_S:.0f} s")
                for key, _ in ready:
                    if piece := os.read(key.fd, _READ_BYTES):
                        key.data.take(piece)
                    else:
                        selector.unregister(key.fileobj)
        if output.cut:
            return Done(0, bytes(output.data), "", cut=True)
        _wait(child, program, deadline)
        said = complaint.data.decode(errors="replace").strip()
        _judge(child.returncode, program, cpu_s, said)
        return Done(child.returncode, bytes(output.data), said)


@contextlib.contextmanager
def output_of(
    program: str, *arguments: str, fds: Sequence[int] = (), budget: Budget | None = None
) -> Iterator[BinaryIO]:
    """What one says, as it says it. Exceeded at the end where it came to a limit; Failed where it failed, unless the
    block raised already. Killed on every way out."""
    with _started(program, arguments, fds, budget, subprocess.DEVNULL) as (child, cpu_s):
        assert child.stdout
        yield child.stdout  # type: ignore[misc]
        if child.stdout.read(1):  # not read to its end, which is its reader's choice
            return
        _wait(child, program, time.monotonic() + TIMEOUT_S)
        _judge(child.returncode, program, cpu_s, "")
        if child.returncode:
            raise Failed(f"{program} can't read it")


@contextlib.contextmanager
def _started(
    program: str, arguments: Sequence[str], fds: Sequence[int], budget: Budget | None, complaints: int
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    cpu_s = budget.next() if budget else CPU_S
    limits = [f"--as={ADDRESS_SPACE_BYTES}", f"--data={ADDRESS_SPACE_BYTES}:", f"--cpu={cpu_s}:{cpu_s + 1}", "--core=0"]
    child = children.start(
        [found("prlimit"), *limits, found(program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=complaints,
        pass_fds=tuple(fds),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )
    try:
        yield child, cpu_s
    finally:
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()
        children.kill(child)
        child.wait()
        children.forget(child)


def _wait(child: subprocess.Popen[bytes], program: str, deadline: float) -> None:
    try:
        child.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise Exceeded(f"{program} was ended after {TIMEOUT_S:.0f} s") from None


def _judge(code: int, program: str, cpu_s: int, complaint: str) -> None:
    """Raise where it did not come to an end of its own."""
    if code == -signal.SIGXCPU:
        raise Exceeded(f"{program} used up the {cpu_s} s of CPU that it may take")
    if code < 0:
        raise Exceeded(f"{program} died of signal {-code}")
    if code and complaint.startswith("prlimit:"):
        raise Exceeded(f"{program} can't be started with its limits: {complaint}")
    if code and _NO_MEMORY in complaint:
        raise Exceeded(f"{program} wants more than the {ADDRESS_SPACE_BYTES >> 20} MiB that it may take")


class _Kept:
    """The first bytes of a stream, up to a bound."""

    def __init__(self, most: int) -> None:
        self._most, self.data, self.cut = most, bytearray(), False

    def take(self, piece: bytes) -> None:
        room = self._most - len(self.data)
        self.cut = self.cut or len(piece) > room
        self.data += piece[:room]
