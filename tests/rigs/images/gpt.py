"""Owns the partition table of a bench image: one GPT partition at 1 MiB. Refuses smaller disks."""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from random import Random

SECTOR_BYTES = 512
PARTITION_START_BYTES = 1 << 20
"""Where the one partition begins, as every installer of the last fifteen years aligns it."""

LINUX_FILESYSTEM = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ENTRY_BYTES = 128
ENTRY_COUNT = 128
ENTRIES_SECTORS = ENTRY_BYTES * ENTRY_COUNT // SECTOR_BYTES


def partition_bytes(disk_bytes: int) -> int:
    """The size of the partition on a disk of `disk_bytes`: from 1 MiB up to 1 MiB before the end.

    Raises ValueError where the disk is not a whole number of MiB or holds fewer than 4 MiB.
    """
    if disk_bytes % (1 << 20) or disk_bytes < 4 << 20:
        raise ValueError(f"a partitioned image needs a whole number of MiB, at least 4; got {disk_bytes} bytes")
    return disk_bytes - 2 * PARTITION_START_BYTES


def write_gpt(path: str | os.PathLike[str], *, seed: int) -> tuple[int, int]:
    """Write protective MBR, primary and backup GPT with one Linux partition into an existing raw file.

    The file keeps its size; only its first 34 and its last 33 sectors are touched. The GUIDs come from
    `seed`. Returns (offset, length) of the partition in bytes. Raises ValueError as `partition_bytes` does,
    OSError. Source: UEFI specification, section 5 (GUID Partition Table).
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk_bytes = os.fstat(fd).st_size
        length = partition_bytes(disk_bytes)
        sectors = disk_bytes // SECTOR_BYTES
        first = PARTITION_START_BYTES // SECTOR_BYTES
        last = first + length // SECTOR_BYTES - 1
        random = Random(seed)
        disk_guid = uuid.UUID(int=random.getrandbits(128), version=4)
        part_guid = uuid.UUID(int=random.getrandbits(128), version=4)

        entry = struct.pack(
            "<16s16sQQQ72s",
            LINUX_FILESYSTEM.bytes_le,
            part_guid.bytes_le,
            first,
            last,
            0,
            "root".encode("utf-16-le"),
        )
        entries = entry.ljust(ENTRY_BYTES * ENTRY_COUNT, b"\0")
        os.pwrite(fd, _protective_mbr(sectors), 0)
        os.pwrite(fd, _header(1, sectors - 1, 2, sectors, disk_guid, entries), SECTOR_BYTES)
        os.pwrite(fd, entries, 2 * SECTOR_BYTES)
        backup_entries = sectors - 1 - ENTRIES_SECTORS
        os.pwrite(fd, entries, backup_entries * SECTOR_BYTES)
        os.pwrite(
            fd,
            _header(sectors - 1, 1, backup_entries, sectors, disk_guid, entries),
            (sectors - 1) * SECTOR_BYTES,
        )
    finally:
        os.close(fd)
    return PARTITION_START_BYTES, length


def find_partition(path: str | os.PathLike[str]) -> int:
    """The byte offset of the file system in an image: that of its first GPT partition, or 0 without a GPT.

    Checks both CRCs of the primary header. Raises ValueError where a header is there but damaged, OSError.
    """
    with open(path, "rb") as file:
        file.seek(SECTOR_BYTES)
        header = bytearray(file.read(SECTOR_BYTES))
        if header[:8] != b"EFI PART":
            return 0
        size, stated = struct.unpack_from("<II", header, 12)
        header[16:20] = bytes(4)
        entries_lba, count, entry_bytes, entries_crc = struct.unpack_from("<QIII", header, 72)
        if not 92 <= size <= SECTOR_BYTES or zlib.crc32(header[:size]) != stated:
            raise ValueError(f"{path}: the GPT header does not match its checksum")
        if (count, entry_bytes) != (ENTRY_COUNT, ENTRY_BYTES):
            raise ValueError(f"{path}: GPT with {count} entries of {entry_bytes} bytes; expected 128 of 128")
        file.seek(entries_lba * SECTOR_BYTES)
        entries = file.read(count * entry_bytes)
    if zlib.crc32(entries) != entries_crc:
        raise ValueError(f"{path}: the GPT entries do not match their checksum")
    return int(struct.unpack_from("<Q", entries, 32)[0]) * SECTOR_BYTES


def _protective_mbr(sectors: int) -> bytes:
    # One 0xEE entry over the whole disk keeps tools that know no GPT from seeing free space.
    entry = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF))
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def _header(own: int, other: int, entries_lba: int, sectors: int, guid: uuid.UUID, entries: bytes) -> bytes:
    first_usable, last_usable = 2 + ENTRIES_SECTORS, sectors - 2 - ENTRIES_SECTORS

    def build(crc: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x00010000,
            92,
            crc,
            0,
            own,
            other,
            first_usable,
            last_usable,
            guid.bytes_le,
            entries_lba,
            ENTRY_COUNT,
            ENTRY_BYTES,
            zlib.crc32(entries),
        )

    return build(zlib.crc32(build(0))).ljust(SECTOR_BYTES, b"\0")
