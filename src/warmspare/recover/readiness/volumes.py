"""The volumes on a VM's disks and the files in them, read by the boot loader's own code; mounts and writes nothing.

`grub-fstest` reads ext2/3/4, XFS, Btrfs, FAT, NTFS and more, on partitions, LVM, and Linux RAID, over any number of
disks; `blkid` tells what each partition holds, also what nobody can read. Both get read-only descriptors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from warmspare.recover.disks import programs
from warmspare.recover.disks.base import OpenDisk
from warmspare.recover.disks.programs import Budget, Exceeded
from warmspare.recover.readiness.tables import Partition

_LINE = re.compile(r"^\s*(?:Device|Partition) ([^:]+): (.*)$")
_UUID = re.compile(r"UUID ([0-9A-Za-z-]+)")
_LABEL = re.compile(r"Label `(.*?)'")
_OURS = re.compile(r"(?:loop([0-9]{1,4})(?:,[a-z0-9,]+)?|(?:lvm|md|ldm)/[^\x00-\x1f()]+)")
_SAFE = re.compile(r"/[^\x00-\x1f()]*")
MAX_FILE_BYTES = 1 << 20
MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class Volume:
    """What GRUB sees: device is its name for it (`loop0,gpt1`, `lvm/vg-root`). filesystem: "" where it knows none."""

    device: str
    filesystem: str
    uuid: str
    label: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What blkid says of one partition. kind: its TYPE (`ext4`, `BitLocker`, `LVM2_member`, …), "" if it knows none."""

    kind: str
    uuid: str
    label: str


class Volumes:
    """Everything on these disks, in the VM's order. Reads anew each time; keeps nothing. Where a program comes to a
    limit, or dies of what it reads, each of these raises Exceeded, or Spent."""

    def __init__(self, disks: Sequence[OpenDisk], budget: Budget) -> None:
        self._fds = [disk.fd for disk in disks]
        self._images = [f"/proc/self/fd/{fd}" for fd in self._fds]
        self._budget = budget

    def _grub(self, *command: str, output_bytes: int = programs.OUTPUT_BYTES) -> programs.Done:
        arguments = ("-c", str(len(self._images)), *self._images, *command)
        return programs.run(
            "grub-fstest", *arguments, fds=self._fds, output_bytes=output_bytes, budget=self._budget
        )

    def all(self) -> list[Volume]:
        """Every volume that GRUB sees, whole disks too."""
        done = self._grub("ls", "--", "-l")
        if done.cut:
            raise Exceeded(f"the list of volumes is longer than {programs.OUTPUT_BYTES >> 20} MiB")
        out = []
        for line in done.output.decode(errors="replace").splitlines():
            match = _LINE.match(line)
            # Labels stand there as they are, line ends too: a line need not be one of GRUB's.
            ours = _OURS.fullmatch(match[1]) if match else None
            if match is None or ours is None or int(ours[1] or 0) >= len(self._images):
                continue
            kind = re.search(r"Filesystem type (\S+?)[, ]", match[2] + " ")
            uuid, label = _UUID.search(match[2]), _LABEL.search(match[2])
            out.append(Volume(match[1], kind[1] if kind else "", uuid[1] if uuid else "", label[1] if label else ""))
        return out

    def read(self, volume: Volume, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> bytes | None:
        """A file's bytes; None where there is no such file. Exceeded where it is larger."""
        done = self._cat(volume, path, most_bytes)
        if done is not None and done.cut:
            raise Exceeded(f"{path} is larger than {most_bytes >> 10} KiB")
        return done.output if done else None

    def head(self, volume: Volume, path: str, count: int) -> bytes | None:
        """The first bytes of a file; None where there is no such file."""
        done = self._cat(volume, path, count)
        return done.output if done else None

    def _cat(self, volume: Volume, path: str, most_bytes: int) -> programs.Done | None:
        if not _is_safe(path):
            return None
        done = self._grub("cat", f"({volume.device}){path}", output_bytes=most_bytes)
        return done if done.code == 0 else None

    @contextmanager
    def stream(self, volume: Volume, path: str) -> Iterator[BinaryIO]:
        """A file's bytes, as they come. OSError at the end where there is no such file, or it can't be read."""
        if not _is_safe(path):
            raise OSError("this is no path")
        command = ("-c", str(len(self._images)), *self._images, "cat", f"({volume.device}){path}")
        with programs.output_of("grub-fstest", *command, fds=self._fds, budget=self._budget) as file:
            yield file

    def names(self, volume: Volume, path: str) -> list[str]:
        """What a directory holds; folders end in a slash. Empty where there is none."""
        done = self._grub("ls", f"({volume.device}){path.rstrip('/')}/") if _is_safe(path) else None
        if done and done.cut:
            raise Exceeded(f"the list of {path} is longer than {programs.OUTPUT_BYTES >> 20} MiB")
        # Names are separated by spaces, and may hold some: those are of no interest here.
        words = done.output.decode(errors="replace").split() if done and done.code == 0 else []
        return [word for word in words if word not in ("./", "../")]

    def contents(self, number: int, partition: Partition | None) -> Contents:
        """What a partition, or a whole disk, holds."""
        fd = self._fds[number]
        place = ["-O", str(partition.offset), "-S", str(partition.bytes)] if partition else []
        command = ("-p", "-o", "export", *place, f"/proc/self/fd/{fd}")
        done = programs.run("blkid", *command, fds=[fd], budget=self._budget)
        found = dict(line.split("=", 1) for line in done.output.decode(errors="replace").splitlines() if "=" in line)
        return Contents(found.get("TYPE", ""), found.get("UUID", ""), _unescaped(found.get("LABEL", "")))


def _is_safe(path: str) -> bool:
    return len(path) <= MAX_PATH and _SAFE.fullmatch(path) is not None


def _unescaped(text: str) -> str:
    """A value as blkid's export format escapes it."""
    return re.sub(r"\\(.)", r"\1", text)
