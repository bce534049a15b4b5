"""GRUB's own readers as a program (`grub-fstest`), over all disks of a VM; refuses to say what its answers mean.

It reads ext2/3/4, XFS, Btrfs, FAT, NTFS and more, on partitions, LVM and Linux RAID over any number of disks, and gets
read-only descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import BinaryIO

from warmspare.recover.disks import programs
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.disks.programs import Budget, Exceeded
from warmspare.recover.readiness.answers import Unknown

PROGRAM = "grub-fstest"
SECTOR_BYTES = 512
MAX_RAW_BYTES = 1 << 20


class Grub:
    """A run for every question; keeps nothing. Where a run comes to a limit, or dies of what it reads, that is
    Exceeded, or Spent."""

    def __init__(self, disks: Sequence[OpenDisk], budget: Budget) -> None:
        self._fds = [disk.fd for disk in disks]
        self._images = [f"/proc/self/fd/{fd}" for fd in self._fds]
        self._budget = budget

    @property
    def disks(self) -> int:
        return len(self._fds)

    @cached_property
    def version(self) -> str:
        """Which GRUB this is, for people: what it can read depends on it."""
        done = programs.run(PROGRAM, "--version", budget=self._budget)
        return "GRUB " + (done.output.decode(errors="replace").rpartition(") ")[2].strip()[:40] or "of this host")

    def run(self, *command: str, output_bytes: int = programs.OUTPUT_BYTES) -> programs.Done:
        return programs.run(
            PROGRAM, *self._arguments(*command), fds=self._fds, output_bytes=output_bytes, budget=self._budget
        )

    def stream(self, file: str) -> AbstractContextManager[BinaryIO]:
        """A file's bytes, as they come; file: in GRUB's words. OSError, Exceeded as `programs.output_of`."""
        return programs.output_of(PROGRAM, *self._arguments("cat", file), fds=self._fds, budget=self._budget)

    def listed(self, folder: str) -> AbstractContextManager[BinaryIO]:
        """What a folder holds that can be opened, a line each: size, time, name. folder: in GRUB's words."""
        return programs.output_of(
            PROGRAM, *self._arguments("ls", "--", "-l", "-a", folder), fds=self._fds, budget=self._budget
        )

    def raw(self, device: str, offset: int, count: int) -> bytes | Unknown:
        """Bytes of a device itself, whatever is on it; fewer where it ends. offset: of whole sectors."""
        if not 0 < count <= MAX_RAW_BYTES or offset < 0 or offset % SECTOR_BYTES:
            raise ValueError("whole sectors, a MiB at most")
        place = f"({device}){offset // SECTOR_BYTES}+{-(-count // SECTOR_BYTES)}"
        try:
            done = self.run("cat", place, output_bytes=count)
        except Exceeded as error:
            return Unknown(error.what)
        if done.code and not done.output:
            return Unknown(f"{self.version} can't read the device: {reason(done.complaint, place)}")
        return done.output

    def _arguments(self, *command: str) -> tuple[str, ...]:
        return ("-c", str(len(self._images)), *self._images, *command)


def reason(complaint: str, file: str) -> str:
    """What the program says of a file, without its own name and the file's, which may hold anything."""
    text = complaint.partition(": error: ")[2].removeprefix(f"cannot open `{file}': ")
    return text.splitlines()[0].rstrip(".") if text else "no reason is given"
