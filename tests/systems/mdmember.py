"""Superblocks of Linux RAID, written byte by byte: mdadm takes block devices only; owns no array's data but stripes.

The kernel's include/uapi/linux/raid/md_p.h: version 0.90 (64 KiB before the end), 1.0 (8 KiB before it), 1.2 (at
4 KiB).
"""

from __future__ import annotations

import errno
import os
import struct
import uuid as uuids
from pathlib import Path

from systems.machine import Array

SECTOR_BYTES = 512
CHUNK_BYTES = 64 << 10
_MAGIC = 0xA92B4EFC
_DATA_AT = 1 << 20  # of 1.2
_RESERVED = 64 << 10  # of 0.90, at the end


def data_at(metadata: str) -> int:
    return _DATA_AT if metadata == "1.2" else 0


def room(metadata: str, size: int) -> int:
    """How much of a member of so many bytes is the array's."""
    usable = size - _DATA_AT if metadata == "1.2" else (size & -_RESERVED) - _RESERVED
    return usable // CHUNK_BYTES * CHUNK_BYTES


def write(path: Path, at: int, size: int, array: Array, number: int) -> None:
    """The superblock of a member: of [at, at + size) of a disk."""
    if array.metadata == "0.90":
        place, data = (size & -_RESERVED) - _RESERVED, _old(size, array, number)
    else:
        place = 4096 if array.metadata == "1.2" else (size // SECTOR_BYTES - 16 & -8) * SECTOR_BYTES
        data = _new(size, place, array, number)
    with path.open("r+b") as disk:
        disk.seek(at + place)
        disk.write(data)


def stripe(image: Path, path: Path, at: int, number: int, devices: int) -> None:
    """A member's part of a stripe without redundancy."""
    with image.open("rb") as source, path.open("r+b") as target:
        for chunk in _filled(source.fileno(), image.stat().st_size):
            if chunk % devices == number:
                data = os.pread(source.fileno(), CHUNK_BYTES, chunk * CHUNK_BYTES)
                os.pwrite(target.fileno(), data, at + chunk // devices * CHUNK_BYTES)


def _filled(fd: int, size: int) -> list[int]:
    """The chunks of a file that are not within its holes."""
    out, place = list[int](), 0
    while place < size:
        try:
            place = os.lseek(fd, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole
                break
            raise
        out.append(place // CHUNK_BYTES)
        place = (out[-1] + 1) * CHUNK_BYTES
    return out


def _new(size: int, place: int, array: Array, number: int) -> bytes:
    sectors = room(array.metadata, size) // SECTOR_BYTES
    chunk = 0 if array.level == 1 else CHUNK_BYTES // SECTOR_BYTES
    head = struct.pack(
        "<IIII16s32sQIIQII",
        _MAGIC,
        1,
        0,
        0,
        uuids.UUID(array.uuid).bytes,
        array.name.encode(),
        1,
        array.level,
        0,
        sectors,
        chunk,
        array.devices,
    )
    head += struct.pack("<I", 0) + bytes(28)  # no bitmap, no reshape
    head += struct.pack(
        "<QQQQII", data_at(array.metadata) // SECTOR_BYTES, sectors, place // SECTOR_BYTES, 0, number, 0
    )
    head += bytes([number + 1]) * 16 + bytes(8)  # the device's own UUID; flags, bad blocks
    head = head.ljust(192, b"\0") + struct.pack("<QQQII", 1, 1, (1 << 64) - 1, 0, array.devices)
    head = head.ljust(256, b"\0") + b"".join(struct.pack("<H", role) for role in range(array.devices))
    words = head.ljust(len(head) + (-len(head) % 4), b"\0")
    total = sum(struct.unpack(f"<{len(head) // 4}I", words[: len(head) // 4 * 4]))
    if len(head) % 4:
        total += struct.unpack("<H", head[-2:])[0]
    total = (total & 0xFFFFFFFF) + (total >> 32)
    return (head[:216] + struct.pack("<I", total & 0xFFFFFFFF) + head[220:]).ljust(SECTOR_BYTES, b"\0")


def _old(size: int, array: Array, number: int) -> bytes:
    identity = struct.unpack("<4I", uuids.UUID(array.uuid).bytes)
    block = bytearray(4096)
    kib = room("0.90", size) >> 10
    struct.pack_into(
        "<12I", block, 0, _MAGIC, 0, 90, 0, 0, identity[0], 1, array.level, kib, array.devices, array.devices, 0
    )
    struct.pack_into("<5I", block, 48, 0, *identity[1:], 0)
    struct.pack_into("<7I", block, 128, 1, 1, array.devices, array.devices, 0, 0, 0)  # clean; devices: active, working
    struct.pack_into("<2I", block, 256, 0, CHUNK_BYTES if array.level != 1 else 0)
    for each in range(array.devices):
        struct.pack_into("<5I", block, 512 + each * 128, each, 8, each * 16 + 1, each, 6)  # active, in sync
    struct.pack_into("<5I", block, 4096 - 128, number, 8, number * 16 + 1, number, 6)
    total = sum(struct.unpack("<1024I", block))
    struct.pack_into("<I", block, 152, (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF)
    return bytes(block)
