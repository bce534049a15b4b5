"""Real file systems for tests: small ones that fill up, read-only ones, block devices; where this user may have them.

A test that needs one is skipped where none can be mounted: nothing stands in for it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def tmpfs(place: Path, options: str) -> Iterator[Path]:
    """options: of tmpfs, "size=12m" or "size=1m,nr_inodes=4"."""
    place.mkdir(exist_ok=True)
    with _mounted(place, "-t", "tmpfs", "-o", options, "tmpfs"):
        yield place


@contextlib.contextmanager
def ext4(place: Path, size: int, *options: str) -> Iterator[Path]:
    """An ext4 of its own in a sparse file beside `place`. options: of mkfs.ext4."""
    place.mkdir(exist_ok=True)
    image = place.with_name(place.name + ".ext4")
    with image.open("xb") as file:
        file.truncate(size)
    mkfs = ["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", *options, image]
    subprocess.run(mkfs, check=True)
    with _mounted(place, "-o", "loop", str(image)):
        yield place


@contextlib.contextmanager
def bound(place: Path, again: Path) -> Iterator[Path]:
    """A directory at a second path, as another mount shows it."""
    with _mounted(again, "--bind", str(place)):
        yield again


class Removable:
    """A directory of `inside`'s, mounted at `place`; away and back again as a stick, a share or an automount is."""

    def __init__(self, inside: Path, place: Path) -> None:
        self._inside, self.place = inside, place
        self.there = False

    def back(self) -> None:
        done = subprocess.run(["mount", "--bind", self._inside, self.place], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        self.there = True

    def away(self) -> None:
        """At once, whoever uses it."""
        if self.there:
            subprocess.run(["umount", "-l", self.place], check=True)
        self.there = False


@contextlib.contextmanager
def removable(place: Path) -> Iterator[Removable]:
    """What is mounted at `place`, which is an empty directory otherwise."""
    inside = place.with_name(place.name + "-inside")
    inside.mkdir()
    place.mkdir()
    made = Removable(inside, place)
    made.back()
    try:
        yield made
    finally:
        made.away()


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    """A directory and all below it, seen through a mount that nothing can be written through."""
    with _mounted(place, "--bind", str(place)):
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        yield


@contextlib.contextmanager
def device(backing: Path, *options: str) -> Iterator[Path]:
    """A loop device over a file. options: of losetup, "--read-only"."""
    done = subprocess.run(["losetup", "-f", "--show", *options, backing], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no loop device can be made here: {done.stderr.strip()}")
    path = Path(done.stdout.strip())
    try:
        with path.open("rb"):  # or the kernel would forget its pages whenever nobody has it open
            yield path
    finally:
        subprocess.run(["losetup", "-d", path], check=True)


def break_from(device: Path, backing: Path, offset: int, *, kept_bytes: int = 0) -> None:
    """From there on the device gives errors: its file ends there, and only its last bytes are remembered."""
    fd = os.open(device, os.O_RDWR)
    try:
        os.fsync(fd)
        size = os.lseek(fd, 0, os.SEEK_END)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no reading ahead
        os.pread(fd, kept_bytes, size - kept_bytes)
        os.truncate(backing, offset)
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(fd, 4096, offset)
    finally:
        os.close(fd)


def free_bytes(place: Path) -> int:
    """What a user may still write there."""
    there = os.statvfs(place)
    return there.f_bavail * there.f_frsize


def fill(place: Path, *, left_bytes: int = 0) -> Path:
    """Take the room of a file system, but for so much, by a file that is returned; without writing it."""
    filler = place / "filler"
    with filler.open("ab") as file:
        for step in (1 << 20, 4096):
            while (more := free_bytes(place) - left_bytes) >= step:
                with contextlib.suppress(OSError):
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, more // step * step)
                    continue
                break
    return filler


@contextlib.contextmanager
def _mounted(place: Path, *words: str) -> Iterator[None]:
    done = subprocess.run(["mount", *words, place], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)
