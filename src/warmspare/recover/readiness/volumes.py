"""The volumes on a VM's disks and the files in them, read by the boot loader's own code; mounts and writes nothing.

`grub-fstest` reads ext2/3/4, XFS, Btrfs, FAT, NTFS and more, on partitions, LVM, and Linux RAID, over any number of
disks; `blkid` tells what each partition holds, also what nobody can read. Both get read-only descriptors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from warmspare.recover.disks import programs
from warmspare.recover.disks.base import OpenDisk
from warmspare.recover.readiness.tables import Partition

_LINE = re.compile(r"^\s*(?:Device|Partition) ([^:]+): (.*)$")
_UUID = re.compile(r"UUID ([0-9A-Za-z-]+)")
_LABEL = re.compile(r"Label `(.*?)'")
_OURS = re.compile(r"(?:loop|lvm/|md/|ldm/)")
_SAFE = re.compile(r"/[^\x00-\x1f()]*")


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
    """Everything on these disks, in the VM's order. Reads anew each time; keeps nothing."""

    def __init__(self, disks: Sequence[OpenDisk]) -> None:
        self._disks = disks
        self._fds = [disk.fd for disk in disks]

    async def _grub(
        self, *command: str, output_bytes: int = programs.OUTPUT_BYTES, target: int | None = None
    ) -> programs.Done:
        images = [f"/proc/self/fd/{fd}" for fd in self._fds]
        return await programs.run(
            "grub-fstest", "-c", str(len(images)), *images, *command, fds=self._fds, output_bytes=output_bytes,
            target=target,
        )  # fmt: skip

    async def all(self) -> list[Volume]:
        """Every volume that GRUB sees, whole disks too."""
        done = await self._grub("ls", "--", "-l")
        out = []
        for line in done.output.decode(errors="replace").splitlines():
            match = _LINE.match(line)
            if match is None or not _OURS.match(match[1]):
                continue
            kind = re.search(r"Filesystem type (\S+?)[, ]", match[2] + " ")
            uuid, label = _UUID.search(match[2]), _LABEL.search(match[2])
            out.append(Volume(match[1], kind[1] if kind else "", uuid[1] if uuid else "", label[1] if label else ""))
        return out

    async def read(self, volume: Volume, path: str, *, most_bytes: int = 1 << 20) -> bytes | None:
        """A file's bytes, the first of them; None where there is no such file."""
        if not _SAFE.fullmatch(path):
            return None
        done = await self._grub("cat", f"({volume.device}){path}", output_bytes=most_bytes)
        return done.output if done.code == 0 else None

    async def copy(self, volume: Volume, path: str, target: int, *, most_bytes: int) -> bool:
        """Write a file's bytes to a descriptor; False where there is no such file, or it is larger."""
        if not _SAFE.fullmatch(path):
            return False
        done = await self._grub("cat", f"({volume.device}){path}", output_bytes=most_bytes, target=target)
        return done.code == 0 and not done.cut

    async def names(self, volume: Volume, path: str) -> list[str]:
        """What a directory holds; folders end in a slash. Empty where there is none."""
        done = await self._grub("ls", f"({volume.device}){path.rstrip('/')}/") if _SAFE.fullmatch(path) else None
        # Names are separated by spaces, and may hold some: those are of no interest here.
        words = done.output.decode(errors="replace").split() if done and done.code == 0 else []
        return [word for word in words if word not in ("./", "../")]

    async def contents(self, number: int, partition: Partition | None) -> Contents:
        """What a partition, or a whole disk, holds."""
        fd = self._fds[number]
        place = ["-O", str(partition.offset), "-S", str(partition.bytes)] if partition else []
        done = await programs.run("blkid", "-p", "-o", "export", *place, f"/proc/self/fd/{fd}", fds=[fd])
        found = dict(line.split("=", 1) for line in done.output.decode(errors="replace").splitlines() if "=" in line)
        return Contents(found.get("TYPE", ""), found.get("UUID", ""), _unescaped(found.get("LABEL", "")))


def _unescaped(text: str) -> str:
    """A value as blkid's export format escapes it."""
    return re.sub(r"\\(.)", r"\1", text)
