"""From a raw file to a stream-optimised VMDK by qemu-img, and the proof that both hold the same; owns its command line.
What the VMDK says of itself is vmdk.py's.

The format that vSphere's import and OVF take. qemu-img is Debian's qemu-utils. It runs without input, and is ended when
whoever waits for it is.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from warmspare import children
from warmspare.errors import ConfigError, IntegrityError, NoRoomError, StoreError, by_hand
from warmspare.recover.failback.vmdk import describe
from warmspare.threads import in_thread

_LITTLE_BYTES = 1 << 20
_AGAIN = "run again: it is written anew"
_SAME, _DIFFERENT = 0, 1  # exit codes of `qemu-img compare`


def find_qemu_img() -> str:
    """Where it is. ConfigError if it is not installed."""
    found = shutil.which("qemu-img")
    if found is None:
        raise ConfigError("qemu-img is not installed", hint="give --format raw, or install qemu-utils")
    return found


async def to_vmdk(raw: Path, vmdk: Path, name: str) -> None:
    """Write the VMDK anew, durably. name: what the file is called in the end. StoreError, IntegrityError if that fails;
    a cancel leaves a file that is no VMDK."""
    code, said = await _run("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, vmdk)
    if code and shutil.disk_usage(vmdk.parent).free < _LITTLE_BYTES:  # it says "Invalid argument"
        hint = "make room for it in --to, and run again"
        raise NoRoomError("no space is left for the VMDK", where=str(vmdk), hint=hint)
    if code:
        hint = by_hand("look at the medium of --to")
        raise StoreError(f"qemu-img could not write the VMDK: {said}", where=str(vmdk), hint=hint)
    await in_thread(describe, vmdk, name)


async def demand_same(raw: Path, vmdk: Path) -> None:
    """Read both and compare. IntegrityError if they differ; StoreError if one can't be read."""
    code, said = await _run("compare", "-f", "raw", "-F", "vmdk", raw, vmdk)
    if code == _DIFFERENT:
        raise IntegrityError(f"the VMDK does not read back as written: {said}", where=str(vmdk), hint=_AGAIN)
    if code != _SAME:
        raise StoreError(f"qemu-img could not compare: {said}", where=str(vmdk), hint=_AGAIN)


async def _run(command: str, *arguments: str | Path) -> tuple[int, str]:
    """(exit code, its last line)."""
    child = await children.start_beside(
        find_qemu_img(),
        command,
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await child.communicate()
    finally:
        await children.end(child)
    lines = output.decode(errors="replace").strip().splitlines()
    return child.returncode or 0, lines[-1][:200] if lines else "it says nothing"
