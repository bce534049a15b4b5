"""A disk's partition table: its MBR, its GPT's two headers, and its partitions; refuses to judge them.

sfdisk reads the partitions. What it does not tell apart is read here: the boot code, the protective MBR, where the
GPT's backup header stands, which is wrong once the medium has grown (UEFI specification 2.10, 5.3), and whether the
table counts in sectors of 4096 bytes, which EBS volumes have not.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from warmspare.recover.disks import programs
from warmspare.recover.disks.programs import Budget, Exceeded

SECTOR_BYTES, LARGE_SECTOR_BYTES = 512, 4096
MBR_BYTES = 2 << 40  # as far as the 32 bits of an MBR reach
MAX_PARTITIONS = 128  # as many as a GPT has room for, unless somebody made it larger
_JSON_BYTES = 1 << 18
ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
LDM_DATA, LDM_METADATA = "af9b60a0-1431-4f62-bc68-3311714a69ad", "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3"
MBR_LDM, MBR_PROTECTIVE, MBR_ESP = "42", "ee", "ef"
_BOOT_CODE_BYTES = 440
_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")  # signature, revision, size, CRC, reserved, mine, other, first, last, …
_MAX_HEADER_BYTES = 512
_SIGNATURE = b"EFI PART"


@dataclass(frozen=True, slots=True)
class Partition:
    """number: as the table counts, from 1. kind: a GUID of GPT, or one or two hex digits of MBR; in lower case. uuid:
    its PARTUUID, in lower case; an MBR's is made of the disk's and the number. label: its PARTLABEL, of GPT."""

    number: int
    offset: int
    bytes: int
    kind: str
    active: bool
    uuid: str = ""
    label: str = ""

    @property
    def is_esp(self) -> bool:
        return self.kind in (ESP, MBR_ESP)


@dataclass(frozen=True, slots=True)
class Gpt:
    """A GPT's two headers. primary: the one at sector 1 is sound. backup_at: the byte offset that it names for the
    other. backup: the one there is sound. at_end: that is the medium's last sector."""

    primary: bool
    backup_at: int | None
    backup: bool
    at_end: bool


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """kind: "gpt", "dos", or "" where there is none. signature: the MBR ends in 55 AA. boot_code: its first 440 bytes
    are not all zero. protective: it has a partition of the type EE. gpt: None where sector 1 names none. partitions:
    the first MAX_PARTITIONS. more: there are others. capacity_bytes: of the disk. sector_bytes: that it counts in; its
    partitions are not known where these are 4096. hybrid: the protective MBR names partitions of the GPT too."""

    kind: str
    signature: bool
    boot_code: bool
    protective: bool
    gpt: Gpt | None
    partitions: tuple[Partition, ...]
    more: bool = False
    capacity_bytes: int = 0
    sector_bytes: int = SECTOR_BYTES
    hybrid: bool = False

    @property
    def beyond_mbr(self) -> bool:
        """Whether the disk is larger than its MBR can say: EC2 starts nothing from such a volume."""
        return self.kind == "dos" and self.capacity_bytes > MBR_BYTES

    @property
    def beyond_end(self) -> tuple[Partition, ...]:
        """The partitions that end where the disk does not reach."""
        return tuple(each for each in self.partitions if each.offset + each.bytes > self.capacity_bytes)

    @property
    def firmware(self) -> str:
        """What the disk looks as if made for, bios or uefi. With both, boot code decides: that is how they are made."""
        has_esp = any(each.is_esp for each in self.partitions)
        bios = self.boot_code and (self.kind == "dos" or any(each.kind == BIOS_BOOT for each in self.partitions))
        return "uefi" if has_esp and not bios else "bios"


def read(fd: int, capacity_bytes: int, budget: Budget) -> PartitionTable:
    """The table of the disk behind a descriptor. Exceeded where it can't be read within the limits."""
    mbr = os.pread(fd, SECTOR_BYTES, 0).ljust(SECTOR_BYTES, b"\0")
    done = programs.run("sfdisk", "--json", f"/proc/self/fd/{fd}", fds=[fd], output_bytes=_JSON_BYTES, budget=budget)
    label, partitions, more = "", [], False
    if done.code == 0:
        table = _parsed(done.output, cut=done.cut)
        label = table["label"]
        size = int(table.get("sectorsize", SECTOR_BYTES))
        listed = table.get("partitions", [])
        more = done.cut or len(listed) > MAX_PARTITIONS
        mbr_id = str(table.get("id", "")).lower().removeprefix("0x") if label == "dos" else ""
        partitions = [_partition(each, size, mbr_id) for each in listed[:MAX_PARTITIONS]]
    gpt = _gpt(fd, capacity_bytes)
    entries = [mbr[at : at + 16] for at in range(446, 510, 16)]
    protective = any(entry[4] == 0xEE for entry in entries)
    return PartitionTable(
        label,
        mbr[510:] == b"\x55\xaa",
        any(mbr[:_BOOT_CODE_BYTES]),
        protective,
        gpt,
        tuple(partitions),
        more,
        capacity_bytes,
        _sector_bytes(fd, gpt, label, partitions),
        protective and gpt is not None and any(entry[4] not in (0, 0xEE) and any(entry[12:]) for entry in entries),
    )


def _parsed(output: bytes, *, cut: bool) -> dict[str, Any]:
    """What sfdisk says, of which the end may be missing. A partition's name is written as it stands in the table, so
    not all of it need be JSON."""
    if cut:
        output = output[: max(output.rfind(b"},{"), 0)] + b"}]}}"
    try:
        table: dict[str, Any] = json.loads(output.decode(errors="replace"), strict=False)["partitiontable"]
    except (ValueError, KeyError) as error:
        raise Exceeded(f"sfdisk's answer can't be understood: {error}") from None
    return table


def _partition(found: dict[str, Any], sector_bytes: int, mbr_id: str) -> Partition:
    number = int(found["node"].removeprefix("/proc/self/fd/").partition("p")[2])
    uuid = f"{mbr_id}-{number:02x}" if mbr_id else str(found.get("uuid", "")).lower()
    return Partition(
        number,
        found["start"] * sector_bytes,
        found["size"] * sector_bytes,
        found["type"].lower(),
        bool(found.get("bootable")) or "LegacyBIOSBootable" in found.get("attrs", ""),
        uuid,
        found.get("name", ""),
    )


def _sector_bytes(fd: int, gpt: Gpt | None, label: str, partitions: list[Partition]) -> int:
    """What the table counts in: a GPT's header stands in the second sector, and an MBR's partitions begin with what
    they hold."""
    if gpt is None and _header(fd, LARGE_SECTOR_BYTES) is not None:
        return LARGE_SECTOR_BYTES
    if label != "dos":
        return SECTOR_BYTES
    ratio = LARGE_SECTOR_BYTES // SECTOR_BYTES
    found = [each for each in partitions if each.number <= 4]
    here = any(_begins_something(fd, each.offset) for each in found)
    there = any(_begins_something(fd, each.offset * ratio) for each in found)
    return LARGE_SECTOR_BYTES if there and not here else SECTOR_BYTES


# What file systems, swap and members have at an offset from where they begin.
_MARKS = (
    (0, b"XFSB"),
    (0, b"LUKS\xba\xbe"),
    (3, b"NTFS    "),
    (3, b"-FVE-FS-"),
    (54, b"FAT1"),
    (82, b"FAT32"),
    (512, b"LABELONE"),
    (1080, b"\x53\xef"),
    (4086, b"SWAPSPACE2"),
    (4096, b"\xfc\x4e\x2b\xa9"),
    (65600, b"_BHRfS_M"),
)


def _begins_something(fd: int, offset: int) -> bool:
    return any(os.pread(fd, len(mark), offset + at) == mark for at, mark in _MARKS)


def _gpt(fd: int, capacity_bytes: int) -> Gpt | None:
    primary = _header(fd, SECTOR_BYTES)
    last = (capacity_bytes // SECTOR_BYTES - 1) * SECTOR_BYTES
    if primary is None:
        # A lost primary header is found by its backup in the last sector.
        backup = _header(fd, last)
        return None if backup is None else Gpt(False, last, True, True)
    at = primary * SECTOR_BYTES
    other = _header(fd, at) if at < capacity_bytes else None
    return Gpt(True, at, other is not None, at == last)


def _header(fd: int, at: int) -> int | None:
    """The sector of the other header, as a sound header at this offset names it; None if it is none."""
    data = os.pread(fd, _MAX_HEADER_BYTES, at) if at >= 0 else b""
    if len(data) < _HEADER.size or data[:8] != _SIGNATURE:
        return None
    _, _, size, crc, _, _, other, *_ = _HEADER.unpack_from(data)
    if not _HEADER.size <= size <= len(data):
        return None
    return other if zlib.crc32(data[:16] + bytes(4) + data[20:size]) == crc else None
