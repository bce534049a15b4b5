"""The volumes on a VM's disks: which GRUB sees, and what `blkid` says each holds; reads no files of theirs.

Both programs get read-only descriptors; nothing is mounted or written. `blkid` tells also what nobody can read.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from warmspare.recover.disks import programs
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.disks.programs import Budget, Exceeded
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.readers import btrfs
from warmspare.recover.readiness.readers.appliance.appliance_files import Appliance, ApplianceFiles
from warmspare.recover.readiness.readers.fallback import Fallback
from warmspare.recover.readiness.readers.grub import MAX_RAW_BYTES, Grub
from warmspare.recover.readiness.readers.grubfiles import GrubFiles

_LINE = re.compile(r"^\s*(?:Device|Partition) ([^:]+): (.*)$")
_UUID = re.compile(r"UUID ([0-9A-Za-z-]+)")
_LABEL = re.compile(r"Label `(.*?)'")
_SIZE = re.compile(r"Total size (\d{1,15})(?:\.(5))?KiB")
_OURS = re.compile(r"(?:loop([0-9]{1,4})(?:,[a-z0-9,]+)?|(?:lvm|md|ldm)/[^\x00-\x1f()]+)")


@dataclass(frozen=True, slots=True)
class Volume:
    """What GRUB sees: device is its name for it (`loop0,gpt1`, `lvm/vg-root`). filesystem: "" where it knows none.
    size_bytes: 0 where it does not say."""

    device: str
    filesystem: str
    uuid: str
    label: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Contents:
    """What blkid says of one volume. kind: its TYPE (`ext4`, `BitLocker`, `LVM2_member`, …), "" if it knows none."""

    kind: str
    uuid: str
    label: str


class Volumes:
    """Everything on these disks, in the VM's order. Reads anew each time; keeps nothing. Where a program comes to a
    limit, or dies of what it reads, each of these raises Exceeded, or Spent, unless it has an `Unknown` to give."""

    def __init__(self, disks: Sequence[OpenDisk], budget: Budget, appliance: Appliance | None = None) -> None:
        self._fds = [disk.fd for disk in disks]
        self._budget = budget
        self._appliance = appliance
        self.grub = Grub(disks, budget)

    def all(self) -> list[Volume]:
        """Every volume that GRUB sees, whole disks too."""
        done = self.grub.run("ls", "--", "-l")
        if done.cut:
            raise Exceeded(f"the list of volumes is longer than {programs.OUTPUT_BYTES >> 20} MiB")
        out = []
        for line in done.output.decode(errors="replace").splitlines():
            match = _LINE.match(line)
            # Labels stand there as they are, line ends too: a line need not be one of GRUB's.
            ours = _OURS.fullmatch(match[1]) if match else None
            if match is None or ours is None or int(ours[1] or 0) >= len(self._fds):
                continue
            kind = re.search(r"Filesystem type (\S+?)[, ]", match[2] + " ")
            uuid, label, size = _UUID.search(match[2]), _LABEL.search(match[2]), _SIZE.search(match[2])
            out.append(
                Volume(
                    match[1],
                    kind[1] if kind else "",
                    uuid[1] if uuid else "",
                    label[1] if label else "",
                    int(size[1]) * 1024 + (512 if size[2] else 0) if size else 0,
                )
            )
        return out

    def files(self, volume: Volume, prefix: str = "", others: Sequence[Volume] = ()) -> Fallback:
        """A volume's files. prefix: the folder that is the root. others: those that its Btrfs is on, too. Also of a
        logical volume that GRUB does not see, by its name (`lvm/vg-root`)."""

        first = GrubFiles(self.grub, volume.device, volume.filesystem)
        appliance = self._appliance
        if appliance is None:
            return Fallback(first, None, prefix)

        @cache
        def second() -> ApplianceFiles:
            held = self.held(volume)
            kind = None if isinstance(held, Unknown) else held.kind
            return appliance.files(volume.device, kind, others=[each.device for each in others])

        return Fallback(first, second, prefix)

    def range(self, disk: int, offset: int, size: int) -> Contents:
        """What a range of a disk's bytes holds."""
        return self._probed(self._fds[disk], "-O", str(offset), "-S", str(size))

    def held(self, volume: Volume) -> Contents | Unknown:
        """What any volume holds that GRUB sees, a logical volume or an array too, by how it begins."""
        head = self.grub.raw(volume.device, 0, MAX_RAW_BYTES)
        if isinstance(head, Unknown):
            return head
        fd = os.memfd_create("volume")
        try:
            with contextlib.suppress(OSError):  # a size that no file has: then as much as was read
                os.ftruncate(fd, volume.size_bytes)
            os.pwrite(fd, head, 0)
            return self._probed(fd)
        except Exceeded as error:
            return Unknown(error.what)
        finally:
            os.close(fd)

    def subvolumes(self, volume: Volume, every: Sequence[Volume]) -> btrfs.BtrfsSubvolumes | Unknown:
        """The subvolumes of a Btrfs. every: the volumes among which its other devices are."""
        same = [each for each in every if each.filesystem == "btrfs" and each.uuid == volume.uuid]

        def of(device: str) -> btrfs.Read:
            return lambda offset, count: self.grub.raw(device, offset, count)

        return btrfs.opened([of(each.device) for each in same or [volume]])

    def _probed(self, fd: int, *place: str) -> Contents:
        command = ("-p", "-o", "export", *place, f"/proc/self/fd/{fd}")
        done = programs.run("blkid", *command, fds=[fd], budget=self._budget)
        found = dict(line.split("=", 1) for line in done.output.decode(errors="replace").splitlines() if "=" in line)
        return Contents(found.get("TYPE", ""), found.get("UUID", ""), _unescaped(found.get("LABEL", "")))


def _unescaped(text: str) -> str:
    """A value as blkid's export format escapes it."""
    return re.sub(r"\\(.)", r"\1", text)
