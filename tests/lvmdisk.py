"""A physical volume of LVM2 with logical volumes, written byte by byte: LVM's own tools take block devices only.

LVM2's on-disk format: label, physical volume header, metadata area, metadata as text (libdm's lib/format_text).
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

SECTOR_BYTES = 512
EXTENT_BYTES = 4 << 20
DATA_AT = 1 << 20
_MDA_AT, _MDA_BYTES = 4096, DATA_AT - 4096
_MAGIC = b" LVM2 x[5A%r0N*>"
_CRC_SEED = 0xF597A6CF


def _uuid(letter: str) -> str:
    return letter * 6 + "-" + "-".join([letter * 4] * 5) + "-" + letter * 6


def _crc(data: bytes) -> int:
    # LVM's is the usual polynomial with another seed, and without the inversions.
    return zlib.crc32(data, _CRC_SEED ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def write(disk: Path, offset: int, size: int, volumes: dict[str, int], *, group: str = "vg", missing: bool = False) -> (
    dict[str, int]
):
    """Make [offset, offset + size) a physical volume; where each logical volume (name: bytes) begins on the disk.

    missing: the group has another physical volume, on which the logical volumes are.
    """
    owner = "pv1" if missing else "pv0"
    places, extent, texts = {}, 0, []
    for name, length in volumes.items():
        count = -(-length // EXTENT_BYTES)
        places[name] = offset + DATA_AT + extent * EXTENT_BYTES
        texts.append(
            f'{name} {{\nid = "{_uuid(name[0])}"\nstatus = ["READ", "WRITE", "VISIBLE"]\nflags = []\n'
            "segment_count = 1\n"
            f"segment1 {{\nstart_extent = 0\nextent_count = {count}\ntype = \"striped\"\nstripe_count = 1\n"
            f'stripes = [\n"{owner}", {extent}\n]\n}}\n}}\n'
        )
        extent += count
    extents = (size - DATA_AT) // EXTENT_BYTES

    def physical(name: str, letter: str) -> str:
        return (
            f'{name} {{\nid = "{_uuid(letter)}"\ndevice = "/dev/sda2"\nstatus = ["ALLOCATABLE"]\nflags = []\n'
            f"dev_size = {size // SECTOR_BYTES}\npe_start = {DATA_AT // SECTOR_BYTES}\npe_count = {extents}\n}}\n"
        )

    text = (
        f'{group} {{\nid = "{_uuid("G")}"\nseqno = 1\nformat = "lvm2"\nstatus = ["RESIZEABLE", "READ", "WRITE"]\n'
        "flags = []\n"
        f"extent_size = {EXTENT_BYTES // SECTOR_BYTES}\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n"
        f"physical_volumes {{\n{physical('pv0', 'P')}{physical('pv1', 'Q') if missing else ''}}}\n"
        f"logical_volumes {{\n{''.join(texts)}}}\n}}\n"
        'contents = "Text Format Volume Group"\nversion = 1\ndescription = ""\ncreation_host = "test"\n'
        "creation_time = 1\n"
    ).encode() + b"\0"
    header = _uuid("P").replace("-", "").encode() + struct.pack("<Q", size)
    header += struct.pack("<QQQQ", DATA_AT, 0, 0, 0) + struct.pack("<QQQQ", _MDA_AT, _MDA_BYTES, 0, 0)
    label = b"LABELONE" + struct.pack("<Q", 1)
    rest = struct.pack("<I", 32) + b"LVM2 001" + header
    rest = rest.ljust(SECTOR_BYTES - 20, b"\0")
    label += struct.pack("<I", _crc(rest)) + rest
    area = _MAGIC + struct.pack("<IQQ", 1, _MDA_AT, _MDA_BYTES)
    area += struct.pack("<QQII", SECTOR_BYTES, len(text), _crc(text), 0) + bytes(24)
    area = area.ljust(SECTOR_BYTES - 4, b"\0")
    area = struct.pack("<I", _crc(area)) + area
    with disk.open("r+b") as file:
        for at, data in ((SECTOR_BYTES, label), (_MDA_AT, area), (_MDA_AT + SECTOR_BYTES, text)):
            file.seek(offset + at)
            file.write(data)
    return places
