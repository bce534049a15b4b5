"""The volumes of a VM's disks by names that people can type, and which reader reads each; owns these names.

`disk1p2` is the second partition of the first disk, `disk1` a disk without partitions, `vg/root` a logical volume,
`md/0` an array. `UUID=…` and `LABEL=…` name one by its file system.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from warmspare.recover.files.file_lines import NoteLine
from warmspare.recover.files.grub_reader import LINUX, GrubReader
from warmspare.recover.files.guest_entry import GuestEntry, UnreadGuestError
from warmspare.recover.files.linux_reader import LinuxReader
from warmspare.recover.readiness.answers import Absent, Unknown
from warmspare.recover.readiness.devices.blocks import Device, DeviceKind
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.readers.appliance.appliance_files import Appliance


class VolumeReader(Protocol):
    """Reads a volume from its own top; paths are absolute, and may lead through links on it. any_case: names of files
    are the same in any case there, which need not mean that the reader finds them so."""

    @property
    def any_case(self) -> bool: ...

    def entries(self, path: str) -> Iterator[GuestEntry]:
        """What a folder holds, in its own order, without `.` and `..`. MissingGuestError, UnreadGuestError, the latter
        at the end too."""

    def ahead(self, folder: str, files: Sequence[GuestEntry]) -> None:
        """These files of a folder, which are small, are the next to be read."""

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file's bytes, as they come. UnreadGuestError, at the end too: then not all came."""


class GuestVolumes:
    """Of these disks. appliance: the second reader, which reads Linux's own file systems where there is what it takes.
    notes: what should be known of who reads."""

    def __init__(self, machine: GuestDisks, appliance: Appliance) -> None:
        self.machine = machine
        self._appliance = appliance
        self._readers: dict[str, VolumeReader] = {}
        self.notes: list[NoteLine] = []

    def called(self, device: Device) -> str:
        """A volume's name."""
        match device.kind:
            case DeviceKind.PARTITION:
                return f"disk{device.disk + 1}p{device.number}"
            case DeviceKind.DISK:
                return f"disk{device.disk + 1}"
            case DeviceKind.LOGICAL:
                return f"{device.group}/{device.name}"
        return f"md/{device.name.rpartition(':')[2]}"

    def named(self, name: str) -> Device:
        """The volume that is called so. UnreadGuestError where none is, or several are."""
        word, equals, value = name.partition("=")
        found = [device for device in self.machine.devices if self.called(device) == name]
        if not found and equals and word.upper() in ("UUID", "LABEL"):
            held = [(device, device.contents) for device in self.machine.devices]
            found = [
                device
                for device, has in held
                if has
                and value
                and (has.uuid.lower() == value.lower() if word.upper() == "UUID" else has.label == value)
            ]
        if len(found) > 1:
            raise UnreadGuestError(f"{len(found)} volumes are called so")
        if not found:
            names = ", ".join(self.called(device) for device in self.machine.devices)
            raise UnreadGuestError(f"there is no volume {name!r}; there are {names or 'none'}")
        return found[0]

    def reader(self, device: Device) -> VolumeReader:
        """Who reads a volume. UnreadGuestError where nobody does."""
        if device.grub not in self._readers:
            self._readers[device.grub] = self._opened(device)
        return self._readers[device.grub]

    def _opened(self, device: Device) -> VolumeReader:
        files = self.machine.files(device)
        if isinstance(files, Absent | Unknown):
            raise UnreadGuestError(files.why if isinstance(files, Unknown) else "it is not there")
        kind = device.contents.kind if device.contents else None
        why = ""
        if kind is None or kind in LINUX:
            linux = LinuxReader(self._appliance, device.grub, kind, self.machine.also_on(device))
            why = linux.opens()
            if not why:
                return linux
        grub = GrubReader(self.machine.volumes.grub, device.grub, kind or "")
        if grub.untold:
            because = f"; Linux does not read it: {why}" if why else ""
            self.notes.append(NoteLine(self.called(device), f"{grub.name} reads it, which {grub.untold}{because}"))
        return grub

    def size_bytes(self, device: Device) -> int | None:
        """None where that is not known."""
        if device.kind is DeviceKind.DISK:
            return self.machine.disks[device.disk].capacity_bytes
        if device.kind is DeviceKind.PARTITION:
            parts = self.machine.tables[device.disk].partitions
            return next((each.bytes for each in parts if each.number == device.number), None)
        for group in self.machine.inventory.groups:
            if device.kind is DeviceKind.LOGICAL and group.name == device.group and device.name in group.volumes:
                return sum(each.count for each in group.volumes[device.name].segments) * group.extent_bytes
        return None
