"""A physical volume of LVM2 with logical volumes, written byte by byte: LVM's own tools take block devices only.

LVM2's on-disk format: label, physical volume header, metadata area, metadata as text (libdm's lib/format_text).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
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


def write(
    disk: Path, offset: int, size: int, volumes: dict[str, int], *, group: str = "vg", missing: bool = False
) -> dict[str, int]:
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
            f'segment1 {{\nstart_extent = 0\nextent_count = {count}\ntype = "striped"\nstripe_count = 1\n'
            f'stripes = [\n"{owner}", {extent}\n]\n}}\n}}\n'
        )
        extent += count
    extents = (size - DATA_AT) // EXTENT_BYTES

    def physical(name: str, letter: str) -> str:
        return (
            f'{name} {{\nid = "{_uuid(letter)}"\ndevice = "/dev/sda2"\nstatus = ["ALLOCATABLE"]\nflags = []\n'
            f"dev_size = {size // SECTOR_BYTES}\npe_start = {DATA_AT // SECTOR_BYTES}\npe_count = {extents}\n}}\n"
        )

    text = _described(
        group, _uuid("G"), f"{physical('pv0', 'P')}{physical('pv1', 'Q') if missing else ''}", "".join(texts)
    )
    _write(disk, offset, size, _uuid("P"), text)
    return places


@dataclass(frozen=True, slots=True)
class Physical:
    """A physical volume: [offset, offset + size) of a disk."""

    disk: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Logical:
    """on: the number of the physical volume that it lies on; those that are there count first. segment: the words of a
    segment of another type than `striped`, after its extent_count; such a volume has no place of its own."""

    size: int
    on: int = 0
    segment: str = ""
    visible: bool = True


def pvid(group: str, number: int) -> str:
    """The UUID of a group's physical volume, as LVM prints it."""
    text = hashlib.sha256(f"{group} {number}".encode()).hexdigest()[:32]
    return "-".join([text[:6], *(text[at : at + 4] for at in range(6, 26, 4)), text[26:]])


def write_group(
    group: str, physicals: list[Physical], volumes: dict[str, Logical], *, absent: int = 0, bare: bool = False
) -> dict[str, tuple[Path, int]]:
    """Make a group of these physical volumes and as many absent ones; where the logical volumes lie, of those that have
    a place here: (disk, offset). bare: the last alone has the metadata, as `pvcreate --metadatacopies 0` makes it."""
    used = [0] * (len(physicals) + absent)
    texts, places = [], {}
    for name, volume in volumes.items():
        count = -(-volume.size // EXTENT_BYTES)
        words = volume.segment
        if not words:
            words = f'type = "striped"\nstripe_count = 1\nstripes = [\n"pv{volume.on}", {used[volume.on]}\n]'
            if volume.on < len(physicals):
                on = physicals[volume.on]
                places[name] = on.disk, on.offset + DATA_AT + used[volume.on] * EXTENT_BYTES
            used[volume.on] += count
        status = '"READ", "WRITE"' + (', "VISIBLE"' if volume.visible else "")
        texts.append(
            f'{name} {{\nid = "{pvid(group + name, 0)}"\nstatus = [{status}]\nflags = []\nsegment_count = 1\n'
            f"segment1 {{\nstart_extent = 0\nextent_count = {count}\n{words}\n}}\n}}\n"
        )
    about = ""
    for number in range(len(used)):
        size = physicals[min(number, len(physicals) - 1)].size
        about += (
            f'pv{number} {{\nid = "{pvid(group, number)}"\ndevice = "/dev/sd{"abcdefgh"[number]}2"\n'
            f'status = ["ALLOCATABLE"]\nflags = []\ndev_size = {size // SECTOR_BYTES}\n'
            f"pe_start = {DATA_AT // SECTOR_BYTES}\npe_count = {(size - DATA_AT) // EXTENT_BYTES}\n}}\n"
        )
    text = _described(group, pvid(group, 99), about, "".join(texts))
    for number, each in enumerate(physicals):
        assert used[number] * EXTENT_BYTES + DATA_AT <= each.size, (group, number)
        described = b"" if bare and number < len(physicals) - 1 else text
        _write(each.disk, each.offset, each.size, pvid(group, number), described)
    return places


def _described(group: str, identity: str, physicals: str, logicals: str) -> bytes:
    """A group's metadata."""
    logical_volumes = f"logical_volumes {{\n{logicals}}}\n" if logicals else ""
    return (
        f'{group} {{\nid = "{identity}"\nseqno = 1\nformat = "lvm2"\nstatus = ["RESIZEABLE", "READ", "WRITE"]\n'
        "flags = []\n"
        f"extent_size = {EXTENT_BYTES // SECTOR_BYTES}\nmax_lv = 0\nmax_pv = 0\nmetadata_copies = 0\n"
        f"physical_volumes {{\n{physicals}}}\n{logical_volumes}}}\n"
        'contents = "Text Format Volume Group"\nversion = 1\ndescription = ""\ncreation_host = "test"\n'
        "creation_time = 1\n"
    ).encode() + b"\0"


def _write(disk: Path, offset: int, size: int, identity: str, text: bytes) -> None:
    """Label, header, and metadata of a physical volume; no area for metadata where there is none."""
    header = identity.replace("-", "").encode() + struct.pack("<Q", size)
    header += struct.pack("<QQQQ", DATA_AT, 0, 0, 0)
    header += struct.pack("<QQQQ", _MDA_AT, _MDA_BYTES, 0, 0) if text else bytes(16)
    label = b"LABELONE" + struct.pack("<Q", 1)
    rest = struct.pack("<I", 32) + b"LVM2 001" + header
    rest = rest.ljust(SECTOR_BYTES - 20, b"\0")
    label += struct.pack("<I", _crc(rest)) + rest
    area = _MAGIC + struct.pack("<IQQ", 1, _MDA_AT, _MDA_BYTES)
    area += struct.pack("<QQII", SECTOR_BYTES, len(text), _crc(text), 0) + bytes(24)
    area = area.ljust(SECTOR_BYTES - 4, b"\0")
    area = struct.pack("<I", _crc(area)) + area
    with disk.open("r+b") as file:
        places = ((_MDA_AT, area), (_MDA_AT + SECTOR_BYTES, text)) if text else ()
        for at, data in ((SECTOR_BYTES, label), *places):
            file.seek(offset + at)
            file.write(data)
