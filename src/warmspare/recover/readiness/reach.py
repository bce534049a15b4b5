"""The file systems that a boot loader reaches, by its own names for them; owns the names, reads no configuration."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO

from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Beyond, T, Unknown
from warmspare.recover.readiness.devices.blocks import Device, DeviceKind
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES, GuestFiles
from warmspare.recover.readiness.loaders.devices import block_list
from warmspare.recover.readiness.readers.grub import SECTOR_BYTES

_TAGS = {"uuid": "UUID", "label": "LABEL", "partuuid": "PARTUUID"}
_PART = re.compile(r"(?:hd([0-9]{1,3}))?(?:,(?:(msdos|gpt)?([0-9]{1,3})))?")


class Reach:
    """`loaders.devices.Devices`. own: the file system that the first configuration is on; None where the loader's image
    names it by itself."""

    def __init__(self, machine: GuestDisks, own: Device | None) -> None:
        self._machine, self._own = machine, own
        self._found: dict[str, Answer[Device]] = {}

    def files(self, device: str) -> Answer[GuestFiles]:
        found = self.device(device)
        if isinstance(found, Absent | Unknown):
            return found
        return self.files_of(found)

    def device(self, name: str) -> Answer[Device]:
        """ABSENT only if all that could be it was read."""
        if name not in self._found:
            self._found[name] = self._named(name)
        return self._found[name]

    def _named(self, name: str) -> Answer[Device]:
        if not name:
            return self._own or Unknown("which file system the boot loader itself is on is not known")
        kind, _, value = name.partition(":")
        if kind in _TAGS:
            return self._machine.inventory.names.any_case(f"{_TAGS[kind]}={value}").target
        if kind == "file":
            return self._holding(value)
        return self._of_grub(value)

    def _holding(self, path: str) -> Answer[Device]:
        """The file system that has this file. Several may: GRUB takes the first that it comes to."""
        unread: Unknown | None = None
        holders = list[Device]()
        for device in self._machine.devices:
            if device.contents is None:
                unread = device.holds if isinstance(device.holds, Unknown) else unread
                continue
            files = self.files_of(device)
            head = files.head(path, 1) if not isinstance(files, Absent | Unknown) else ABSENT
            if isinstance(head, bytes):
                holders.append(device)
            elif isinstance(head, Unknown):
                unread = head
        if len(holders) == 1:
            return holders[0]
        if holders:
            return Unknown(f"{len(holders)} file systems have {path[:80]}")
        return Unknown(f"which file system has {path[:80]} is not known: {unread.why}") if unread else ABSENT

    def files_of(self, device: Device) -> Answer[GuestFiles]:
        """As a loader sees a volume."""
        files = self._machine.files(device)
        return files if isinstance(files, Absent | Unknown) else _LoaderFiles(self._machine, device, files)

    def _of_grub(self, name: str) -> Answer[Device]:
        """By GRUB's own name."""
        machine = self._machine
        if part := _PART.fullmatch(name):
            number = int(part[1]) if part[1] else machine.boots
            if part[1] and number == 0:
                number = machine.boots  # the disk that boots is the firmware's first
            elif part[1] and number and machine.boots:
                return Unknown(f"which disk GRUB calls hd{number} is not known")
            if number >= len(machine.disks):
                return ABSENT
            return self._partition(number, int(part[3] or 0))
        if name.startswith("lvmid/"):
            wanted = name.removeprefix("lvmid/").replace("-", "").replace("/", "")
            found = [one for one in machine.devices if one.kind is DeviceKind.LOGICAL and one.uuid == wanted]
            return found[0] if found else machine.inventory.names.lookup(f"/dev/disk/by-id/dm-uuid-LVM-{wanted}").target
        if name.startswith("lvm/"):
            return machine.inventory.names.lookup("/dev/mapper/" + name.removeprefix("lvm/")).target
        if name.startswith("mduuid/"):
            return machine.inventory.names.lookup("/dev/disk/by-id/md-uuid-" + name.removeprefix("mduuid/")).target
        if name.startswith("md/"):
            called = name.removeprefix("md/")
            device = f"/dev/md{called}" if called.isdigit() else f"/dev/md/{called.removeprefix('md')}"
            return machine.inventory.names.lookup(device).target
        if name.startswith("cryptouuid/"):
            return Unknown("it is encrypted")
        return Unknown(f"which device GRUB calls {name[:60]} is not known")

    def _partition(self, disk: int, number: int) -> Answer[Device]:
        """number: 0 for the whole disk."""
        for one in self._machine.devices:
            if one.disk == disk and one.number == number and one.kind in (DeviceKind.PARTITION, DeviceKind.DISK):
                return one
        if number == 0:
            return Unknown("the disk has partitions, and GRUB names the whole of it")
        return Unknown("not all of its partitions were looked at") if self._machine.tables[disk].more else ABSENT


class _LoaderFiles:
    """`GuestFiles` as a loader sees them: links lead nowhere but within the volume. Of a Btrfs by paths from its top,
    and, as SUSE has it, from its default subvolume."""

    def __init__(self, machine: GuestDisks, device: Device, top: GuestFiles) -> None:
        self._machine, self._device, self._top = machine, device, top

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        if blocks := block_list(path):
            grub = self._machine.volumes.grub
            return grub.raw(self._device.grub, blocks[0] * SECTOR_BYTES, blocks[1] * SECTOR_BYTES)
        return self._answer(lambda files: files.read(path, most_bytes=most_bytes))

    def head(self, path: str, count: int) -> Answer[bytes]:
        return self._answer(lambda files: files.head(path, count))

    def stream(self, path: str) -> AbstractContextManager[BinaryIO]:
        other = self._default()
        if other is None or isinstance(other, Unknown) or self._top.head(path, 1) is not ABSENT:
            other = self._top
        return other.stream(path)

    def names(self, path: str) -> Answer[list[str]]:
        return self._answer(lambda files: files.names(path))

    def _answer(self, ask: Callable[[GuestFiles], Answer[T]]) -> Answer[T]:
        answer = _alone(ask(self._top))
        if answer is not ABSENT or (other := self._default()) is None:
            return answer
        return other if isinstance(other, Unknown) else _alone(ask(other))

    def _default(self) -> GuestFiles | Unknown | None:
        """From the default subvolume; None where that is the top."""
        if not self._machine.is_btrfs(self._device):
            return None
        root = self._machine.root(self._device, ())
        if isinstance(root, Absent | Unknown):
            return root if isinstance(root, Unknown) else None
        return root[0] if root[1].prefix else None


def _alone(answer: Answer[T]) -> Answer[T]:
    return ABSENT if isinstance(answer, Beyond) else answer
