"""GRUB's core image for the BIOS, as it stands on a disk: where its pieces are, and what it is unpacked; runs nothing.

`boot.img` in a boot sector names the first sector of `diskboot.img`, and that the rest, in which a small unpacker is
followed by the kernel with its modules in raw LZMA.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable

from warmspare.recover.readiness.loaders.grub.core_image import CoreImage, found

SECTOR_BYTES = 512
MAX_BYTES = 1 << 21  # packed; it is loaded below 640 KiB
MAX_UNPACKED = 4 << 20
_NAMES = (b"GRUB \0", b"Geom\0", b"Read\0", b" Error")
_BLOCKS_FROM, _BLOCK_BYTES = 0x1F4, 12
_SIZES_AT = 8  # of the packed and unpacked rest, in the unpacker
_UNPACKER = range(0x400, 0x2000)  # where its end may be
_FILTERS = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
_TRIAL_BYTES = 1 << 13
_MOST_TRIES = 16

Read = Callable[[int, int], bytes]


def is_boot_sector(sector: bytes) -> bool:
    """Whether this is boot.img of GRUB 2; GRUB legacy's stage1 has the same words and another version."""
    return _has_names(sector) and sector[0x5A:0x5C] == b"\x00\x80" and sector[0x3E:0x40] != b"\x03\x02"


def is_legacy(sector: bytes) -> bool:
    return _has_names(sector) and sector[0x3E:0x40] == b"\x03\x02"


def _has_names(sector: bytes) -> bool:
    return len(sector) >= SECTOR_BYTES and all(name in sector for name in _NAMES)


def core(read: Read, sector: bytes) -> CoreImage | str:
    """What the core image says that a boot sector leads to; why it can't be read, as a clause."""
    (number,) = struct.unpack_from("<Q", sector, 0x5C)
    if not 0 < number < 1 << 40:
        return f"its boot sector names sector {number} for its core image"
    first = read(number * SECTOR_BYTES, SECTOR_BYTES)
    if len(first) < SECTOR_BYTES or b"loading" not in first or b"Geom\0Read\0" not in first:
        return f"no core image of GRUB's begins in sector {number}"
    packed = bytearray()
    for at in range(_BLOCKS_FROM, _BLOCKS_FROM - 20 * _BLOCK_BYTES, -_BLOCK_BYTES):
        start, count = struct.unpack_from("<QH", first, at)
        if not count:
            break
        if len(packed) + count * SECTOR_BYTES > MAX_BYTES or start >= 1 << 40:
            return "its core image is larger than any"
        packed += read(start * SECTOR_BYTES, count * SECTOR_BYTES)
    unpacked = _unpacked(bytes(packed))
    if unpacked is None:
        return f"the core image from sector {number} on can't be unpacked"
    return found(unpacked) or f"the core image from sector {number} on has no objects"


def _unpacked(data: bytes) -> bytes | None:
    """The kernel and what follows it. Where the unpacker ends is not said: packed data begins with a zero, and what is
    none shows it soon."""
    if len(data) < _UNPACKER.stop:
        return None
    packed, unpacked = struct.unpack_from("<II", data, _SIZES_AT)
    if not 0 < packed <= len(data) or not 0 < unpacked <= MAX_UNPACKED:
        return None
    tries = 0
    for start in _UNPACKER:
        if data[start] != 0 or start + packed > len(data) or tries >= _MOST_TRIES:
            continue
        if _part(data[start : start + _TRIAL_BYTES], min(unpacked, _TRIAL_BYTES // 2)) is not None:
            tries += 1
            if (whole := _part(data[start : start + packed], unpacked)) is not None and found(whole):
                return whole
    return None


def _part(data: bytes, count: int) -> bytes | None:
    """That many unpacked bytes; None where it can't have these."""
    try:
        made = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_FILTERS).decompress(data, max_length=count)
    except lzma.LZMAError:
        return None
    return made if len(made) == count else None
