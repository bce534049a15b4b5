"""The way in by the BIOS: whose boot code stands in the first sector, or in the active partition's; runs none of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from warmspare.recover.readiness.answers import ABSENT, Absent, Unknown
from warmspare.recover.readiness.loaders import syslinux
from warmspare.recover.readiness.loaders.devices import LoaderDevices
from warmspare.recover.readiness.loaders.grub import core as cores
from warmspare.recover.readiness.loaders.grub.core import SECTOR_BYTES, Read
from warmspare.recover.readiness.loaders.grub.start import Core
from warmspare.recover.readiness.loaders.grub.start import start as start_grub
from warmspare.recover.readiness.loaders.started import Started

_CODE_BYTES = 440
_BOOTABLE = 1 << 2  # of a GPT partition's attributes
_MAX_GPT = 128


class BiosEnd(Enum):
    """Whose code it is. ACTIVE: a plain boot record's, that starts the active partition, and there is none."""

    GRUB = "GRUB 2"
    GRUB_LEGACY = "GRUB legacy"
    SYSLINUX = "SYSLINUX"
    WINDOWS = "Windows' boot manager"
    FREEDOS = "FreeDOS"
    EMPTY = "no boot code"
    ACTIVE = "no active partition"
    UNREAD = "not known"


@dataclass(frozen=True, slots=True)
class BiosWay:
    """why: for all but GRUB 2 and SYSLINUX, as a clause; for GRUB 2 as well where its core image can't be read (core is
    None then). partition: the offset in bytes of the one whose boot sector counts; None where the first sector does."""

    end: BiosEnd
    why: str = ""
    core: Core | None = None
    partition: int | None = None

    def started(self, devices: LoaderDevices) -> Started:
        """What it starts by itself. devices: for SYSLINUX, the partition's own first."""
        if self.end is BiosEnd.GRUB and self.core:
            return start_grub(devices, self.core)
        if self.end is BiosEnd.SYSLINUX:
            config = syslinux.found(devices)
            if isinstance(config, Absent | Unknown):
                return Started(config, "SYSLINUX finds no configuration in the folders where it looks for one")
            return syslinux.by_config(devices, config.path)
        nothing = self.end in (BiosEnd.EMPTY, BiosEnd.ACTIVE)
        return Started(ABSENT if nothing else Unknown(self.why), self.why)


def look(read: Read) -> BiosWay:
    """read: bytes of the disk that boots, by offset and count; fewer at its end. OSError passes through."""
    sector = read(0, SECTOR_BYTES)
    if len(sector) < SECTOR_BYTES or sector[510:512] != b"\x55\xaa":
        return BiosWay(BiosEnd.EMPTY, "the first sector is no boot sector")
    if not any(sector[:_CODE_BYTES]):
        return BiosWay(BiosEnd.EMPTY, "the first sector has no boot code")
    way = _told(read, sector, None)
    if way is not None:
        return way
    plain = _starts_active(sector)
    if plain is None:
        return BiosWay(BiosEnd.UNREAD, "the boot code in the first sector is not known here")
    active = _bootable(read) if plain == "gpt" else _active(sector)
    if len(active) != 1:
        many = f"{len(active)} partitions are" if active else "no partition is"
        return BiosWay(
            BiosEnd.ACTIVE, f"the boot code in the first sector starts the active partition, and {many} that"
        )
    inner = read(active[0], SECTOR_BYTES)
    if len(inner) < SECTOR_BYTES or inner[510:512] != b"\x55\xaa":
        return BiosWay(BiosEnd.EMPTY, "the active partition has no boot sector", partition=active[0])
    way = _told(read, inner, active[0])
    return way or BiosWay(
        BiosEnd.UNREAD, "the boot code of the active partition is not known here", partition=active[0]
    )


def _told(read: Read, sector: bytes, partition: int | None) -> BiosWay | None:
    """Whose a boot sector is; None where that can't be told by it alone."""
    if cores.is_boot_sector(sector):
        objects = cores.core(read, sector)
        if isinstance(objects, str):
            return BiosWay(BiosEnd.GRUB, f"GRUB's core image is not known: {objects}", partition=partition)
        core = Core(objects.prefix, objects.config, "pc", memdisk=objects.memdisk, normal=objects.normal)
        return BiosWay(BiosEnd.GRUB, core=core, partition=partition)
    if cores.is_legacy(sector):
        return BiosWay(
            BiosEnd.GRUB_LEGACY, "it is GRUB legacy, whose configuration is not followed", partition=partition
        )
    name = sector[3:11]
    if name in (b"EXTLINUX", b"SYSLINUX"):
        return BiosWay(BiosEnd.SYSLINUX, partition=partition)
    if b"FreeDOS" in sector or name.startswith(b"FRDOS"):
        return BiosWay(BiosEnd.FREEDOS, "it starts FreeDOS", partition=partition)
    if partition is not None and (b"BOOTMGR" in sector or b"NTLDR" in sector or b"B\0O\0O\0T\0M\0G\0R\0" in sector):
        return BiosWay(BiosEnd.WINDOWS, "it starts Windows", partition=partition)
    if partition is not None and name == b"NTFS    ":
        return BiosWay(BiosEnd.WINDOWS, "it starts Windows", partition=partition)
    return None


def _starts_active(sector: bytes) -> str | None:
    """Whether it is a plain boot record, for which partition table; None where it is none that is known."""
    code = sector[:_CODE_BYTES]
    if b"Missing OS" in code and b"!GPT" in code:
        return "gpt"
    words = (
        b"Missing operating system",
        b"Invalid partition table",
        b"No active partition",
        b"Operating system load error",
    )
    return "mbr" if any(word in code for word in words) else None


def _active(sector: bytes) -> list[int]:
    """Offsets of the partitions of an MBR that are marked active."""
    found = list[int]()
    for at in range(446, 510, 16):
        start, count = struct.unpack_from("<II", sector, at + 8)
        if sector[at] == 0x80 and start and count:
            found.append(start * SECTOR_BYTES)
    return found


def _bootable(read: Read) -> list[int]:
    """Offsets of the partitions of a GPT that are marked for starts by the BIOS."""
    head = read(SECTOR_BYTES, SECTOR_BYTES)
    if len(head) < SECTOR_BYTES or head[:8] != b"EFI PART":
        return []
    table, count, size = struct.unpack_from("<QII", head, 72)
    if table >= 1 << 40 or size not in (128, 256, 512):
        return []
    entries, found = read(table * SECTOR_BYTES, min(count, _MAX_GPT) * size), list[int]()
    for at in range(0, len(entries) - size + 1, size):
        first, attributes = struct.unpack_from("<Q", entries, at + 32)[0], struct.unpack_from("<Q", entries, at + 48)[0]
        if any(entries[at : at + 16]) and attributes & _BOOTABLE:
            found.append(first * SECTOR_BYTES)
    return found
