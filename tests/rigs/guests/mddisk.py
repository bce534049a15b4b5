"""Members of Linux's software RAID, written byte by byte: mdadm wants block devices. md(4), and the kernel's md_p.h."""

from __future__ import annotations

import struct

SECTOR_BYTES = 512
CHUNK_BYTES = 512 << 10
DATA_AT = 1 << 20


def superblock(
    size: int,
    *,
    uuid: bytes,
    level: int,
    width: int,
    role: int,
    version: str = "1.2",
    name: str = "host:0",
    layout: int = 0,
    events: int = 9,
) -> tuple[int, bytes]:
    """Where on a member of so many bytes its superblock of a version 1 stands, and that. role: 0xFFFF of a spare."""
    at = {"1.0": (size // SECTOR_BYTES - 16 & ~7) * SECTOR_BYTES, "1.1": 0, "1.2": 4096}[version]
    data_at, data_size = (0, at) if version == "1.0" else (DATA_AT, size - DATA_AT)
    number, most = (width if role == 0xFFFF else role), 128
    roles = [*range(width), *[0xFFFF] * (most - width)]
    block = struct.pack(
        "<IIII16s32sQiIQII",
        0xA92B4EFC,
        1,
        0,
        0,
        uuid,
        name.encode(),
        1,
        level,
        layout,
        data_size // SECTOR_BYTES,
        CHUNK_BYTES // SECTOR_BYTES,
        width,
    ).ljust(128, b"\0")
    block += struct.pack(
        "<QQQQII16s", data_at // SECTOR_BYTES, data_size // SECTOR_BYTES, at // SECTOR_BYTES, 0, number, 0, uuid
    ).ljust(64, b"\0")
    block += struct.pack("<QQQII", 1, events, 0, 0, most).ljust(64, b"\0")
    block += struct.pack(f"<{most}H", *roles)
    words = sum(struct.unpack(f"<{len(block) // 4}I", block))
    crc = (words & 0xFFFFFFFF) + (words >> 32)
    return at, block[:216] + struct.pack("<I", crc & 0xFFFFFFFF) + block[220:]


def old(
    size: int, *, uuid: bytes, level: int, width: int, role: int, minor: int = 0, events: int = 9
) -> tuple[int, bytes]:
    """The same of the version 0.90."""
    at = size // (64 << 10) * (64 << 10) - (64 << 10)
    parts = struct.unpack(">IIII", uuid)
    words = [0] * 1024
    words[:12] = [0xA92B4EFC, 0, 90, 0, 0, parts[0], 1, level & 0xFFFFFFFF, at >> 10, width, width, minor]
    words[13:16] = parts[1:]
    words[32:42] = [1, 1, width, width, 0, 0, 0, events, 0, events]
    words[39], words[40] = events, 0
    words[64:66] = [0, CHUNK_BYTES]
    for one in range(width):
        words[128 + 32 * one : 133 + 32 * one] = [one, 8, one, one, 6]
    words[992:997] = [role, 8, role, role, 6]
    words[38] = sum(words) & 0xFFFFFFFF
    return at, struct.pack("<1024I", *words)
