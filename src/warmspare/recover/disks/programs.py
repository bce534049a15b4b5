"""Runs the programs that look into disks, each in a process with limits; refuses their output beyond a bound.

What they read is whatever a guest wrote, so they get a descriptor that is open for reading, no terminal, a bounded
address space and CPU time, and a time limit. Missing programs are a ConfigError that names Debian's package.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from warmspare import children
from warmspare.errors import ConfigError, RecoverError

PACKAGES = {
    "blkid": "util-linux", "prlimit": "util-linux", "setpriv": "util-linux", "sfdisk": "fdisk",
    "grub-fstest": "grub-common", "qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils",
    "fusermount3": "fuse3",
}  # fmt: skip
TIMEOUT_S = 120.0
CPU_S = 60
ADDRESS_SPACE_BYTES = 1 << 30
OUTPUT_BYTES = 4 << 20
_READ_BYTES = 1 << 16
_ELSEWHERE = "/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Done:
    """What a program did. output, complaint: stdout and stderr. cut: stdout went on beyond the bound."""

    code: int
    output: bytes
    complaint: str
    cut: bool = False


def found(program: str) -> str:
    """Where a program is. ConfigError if it is not installed. It may stand outside a user's PATH."""
    path = shutil.which(program) or shutil.which(program, path=_ELSEWHERE)
    if path is None:
        raise ConfigError(f"{program} is not installed", hint=f"install the package {PACKAGES.get(program, program)}")
    return path


async def run(
    program: str, *arguments: str, fds: Sequence[int] = (), output_bytes: int = OUTPUT_BYTES, target: int | None = None
) -> Done:
    """Run one to its end. fds: descriptors that it may use as /proc/self/fd/N. target: a descriptor that takes stdout
    instead (bounded too). RecoverError when it takes too long; killed on every way out."""
    limits = [f"--as={ADDRESS_SPACE_BYTES}", f"--cpu={CPU_S}", "--core=0"]
    child = await children.start_beside(
        found("prlimit"), *limits, found(program), *arguments, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, pass_fds=tuple(fds),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )  # fmt: skip
    assert child.stdout and child.stderr
    try:
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
            complaint = group.create_task(_all_of(child.stderr, 1 << 14))
            output = group.create_task(_all_of(child.stdout, output_bytes, target))
        await child.wait()
    except TimeoutError:
        raise RecoverError(f"{program} was ended after {TIMEOUT_S:.0f} s", where=" ".join(arguments)) from None
    finally:
        await children.end(child)
    data, cut = output.result()
    return Done(child.returncode or 0, data, complaint.result()[0].decode(errors="replace").strip(), cut)


async def _all_of(stream: asyncio.StreamReader, most: int, target: int | None = None) -> tuple[bytes, bool]:
    """Up to `most` bytes of it, kept or written to `target`; the rest is read and dropped."""
    kept, taken, cut = bytearray(), 0, False
    while piece := await stream.read(_READ_BYTES):
        room = most - taken
        cut = cut or len(piece) > room
        piece = piece[: max(room, 0)]
        taken += len(piece)
        if target is None:
            kept += piece
        elif piece:
            os.write(target, piece)
    return bytes(kept), cut
