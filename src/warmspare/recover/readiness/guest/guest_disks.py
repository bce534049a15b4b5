"""A VM's disks as a check knows them: tables, what stands on them, and the files of each volume; judges nothing.

Everything is asked once: what was read stays known for the run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial

from warmspare.outside import diskimages
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.disks.programs import Budget, Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.devices import inventory
from warmspare.recover.readiness.devices.blocks import MEMBERS, Device, DeviceKind
from warmspare.recover.readiness.devices.inventory import DeviceInventory
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.guest.kept import KeptFiles
from warmspare.recover.readiness.guest.partition_tables import SECTOR_BYTES, PartitionTable
from warmspare.recover.readiness.guest.tree import Folder
from warmspare.recover.readiness.guest.volumes import Contents, Volume, Volumes
from warmspare.recover.readiness.loaders.uki import Inside
from warmspare.recover.readiness.readers.appliance.appliance_files import Appliance
from warmspare.recover.readiness.readers.btrfs import BtrfsSubvolumes
from warmspare.recover.readiness.readers.grubfiles import GrubFiles
from warmspare.recover.readiness.readers.rootfolder import RootFolder, root_folder, stated_folder

# What GRUB calls blkid's types, where it calls them otherwise.
_GRUBS_NAMES = {"ext2": "ext*", "ext3": "ext*", "ext4": "ext*", "vfat": "fat"}
_NO_FILES = frozenset({"swap", "swsuspend", "crypto_LUKS", "jbd"}) | MEMBERS
BTRFS = "btrfs"


class GuestDisks:
    """disks: in the order of the VM. firmware: bios or uefi. tables: one a disk. appliance: the second reader."""

    def __init__(
        self,
        disks: Sequence[OpenDisk],
        tables: Sequence[PartitionTable],
        firmware: str,
        budget: Budget,
        appliance: Appliance | None = None,
    ) -> None:
        self.disks, self.tables, self.firmware = disks, tables, firmware
        self.boots = 0  # the number of the disk that boots
        self.volumes = Volumes(disks, budget, appliance)
        self._appliance = appliance
        self._files: dict[str, Answer[GuestFiles]] = {}
        self._subvolumes: dict[str, BtrfsSubvolumes | Unknown] = {}

    @cached_property
    def inventory(self) -> DeviceInventory:
        """All that can hold a file system."""
        ids, read = [disk.id for disk in self.disks], [_read(table) for table in self.tables]
        found = inventory.take(ids, read, self._bytes, self._probed)
        # GRUB is asked for its list only where it may know what was not told here: a list reads every volume.
        if any(isinstance(one.holds, Unknown) and not one.lacks for one in found.devices):
            try:
                return found.seen(self.volumes.all())
            except Exceeded:
                return found
        return found

    @cached_property
    def images(self) -> dict[int, str]:
        """The disks that are none but an image of one, by their numbers: which kind."""
        found = {}
        for number, disk in enumerate(self.disks):
            read = partial(self._bytes, number)
            if image := diskimages.recognised(read, disk.capacity_bytes):
                found[number] = image.what
        return found

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.inventory.devices

    def where(self, device: Device) -> tuple[str, str]:
        """(disk's ID, place), in words that people know."""
        disk = self.disks[device.disk].id
        if device.kind is DeviceKind.PARTITION:
            return disk, f"partition {device.number}"
        if device.kind is DeviceKind.DISK:
            return disk, "the whole disk"
        if device.kind is DeviceKind.LOGICAL:
            return disk, f"logical volume {device.mapped}"
        return disk, device.place

    def named(self, grub: str) -> Device | None:
        """The device that has this name of GRUB's."""
        return next((one for one in self.devices if one.grub == grub), None)

    def files(self, device: Device) -> Answer[GuestFiles]:
        """A volume's files, from its own top. Unknown where it can have none that are read."""
        if device.grub not in self._files or not device.grub:
            self._files[device.grub] = self._opened(device)
        return self._files[device.grub]

    def root(self, device: Device, options: Sequence[str]) -> Answer[tuple[GuestFiles, RootFolder]]:
        """The files of a root on a volume, and the folder that it is in. options: rootflags=, apart."""
        top = self.files(device)
        if isinstance(top, Absent | Unknown):
            return top
        if not self.is_btrfs(device):
            return top, RootFolder("", True)
        folder = root_folder(top, options, lambda: self.subvolumes(device))
        if isinstance(folder, Absent | Unknown):
            return folder
        return self.within(device, folder.prefix), folder

    def mounted(self, device: Device, options: Sequence[str]) -> Answer[GuestFiles]:
        """A volume's files as a mount with these options shows them."""
        top = self.files(device)
        if isinstance(top, Absent | Unknown) or not self.is_btrfs(device):
            return top
        folder = stated_folder(options, lambda: self.subvolumes(device))
        return self.within(device, folder) if isinstance(folder, str) else folder

    def within(self, device: Device, prefix: str) -> GuestFiles:
        """The files of a folder of a volume that can be read."""
        top = self.files(device)
        assert not isinstance(top, Absent | Unknown), "asked only of what is read"
        return Folder(top, prefix) if prefix else top

    def subvolumes(self, device: Device) -> BtrfsSubvolumes | Unknown:
        """Of a Btrfs."""
        if device.grub not in self._subvolumes:
            volume = self._volume(device)
            self._subvolumes[device.grub] = self.volumes.subvolumes(volume, [volume, *self._same(device)])
        return self._subvolumes[device.grub]

    def also_on(self, device: Device) -> list[str]:
        """GRUB's names of the other devices that its Btrfs is on."""
        return [volume.device for volume in self._same(device)]

    def _same(self, device: Device) -> list[Volume]:
        """The other devices that a Btrfs is on."""
        if not self.is_btrfs(device):
            return []
        return [self._volume(one) for one in self.devices if one != device and one.contents == device.contents]

    @staticmethod
    def is_btrfs(device: Device) -> bool:
        return device.contents is not None and device.contents.kind == BTRFS

    def readable(self) -> list[Device]:
        """The devices that hold a file system that may be read."""
        known = (one for one in self.devices if one.contents is not None)
        return [one for one in known if not isinstance(self.files(one), Absent | Unknown)]

    def at_once(self, device: Device) -> bool:
        """Whether the first reader reads it, so that to look there costs little."""
        files = GrubFiles(self.volumes.grub, device.grub, "")
        return not isinstance(files.names("/"), Absent | Unknown)

    def _volume(self, device: Device) -> Volume:
        held = device.contents
        return Volume(device.grub, held.kind if held else "", held.uuid if held else "", held.label if held else "")

    def _opened(self, device: Device) -> Answer[GuestFiles]:
        held = device.contents
        if device.lacks:
            why = device.lacks if isinstance(device.lacks, str) else device.lacks.why
            return Unknown(f"{device.place} does not come up: {why}")
        if held is None and device.kind is DeviceKind.LOGICAL and device.grub and self._appliance:
            return KeptFiles(self.volumes.files(self._volume(device)))  # a thin one, which only the second reader reads
        if held is None:
            why = device.holds.why if isinstance(device.holds, Unknown) else "it holds no file system that is known"
            return Unknown(f"{device.place}: {why}")
        if not device.grub or held.kind in _NO_FILES:
            return Unknown(f"{device.place} holds {held.kind or 'no file system'}")
        kind = _GRUBS_NAMES.get(held.kind, held.kind)
        files = self.volumes.files(replace(self._volume(device), filesystem=kind), others=self._same(device))
        return KeptFiles(Inside(files) if kind == "fat" else files)

    def _bytes(self, disk: int, offset: int, count: int) -> bytes:
        return os.pread(self.disks[disk].fd, count, offset)

    def _probed(self, disk: int, offset: int, size: int) -> Answer[Contents]:
        held = self.volumes.range(disk, offset, size)
        return held if held.kind else ABSENT


def _read(table: PartitionTable) -> PartitionTable | Unknown:
    """A table, where its partitions are known."""
    if table.sector_bytes == SECTOR_BYTES:
        return table
    return Unknown(f"it counts in sectors of {table.sector_bytes} bytes")
