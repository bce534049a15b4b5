"""What a partition table tells beside its partitions: names, sizes that don't fit, sectors of 4096 bytes."""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from pathlib import Path

import pytest

import bootdisk
from warmspare.recover.disks.programs import Budget
from warmspare.recover.readiness.guest import partition_tables
from warmspare.recover.readiness.guest.partition_tables import PartitionTable

pytestmark = pytest.mark.program

MIB = 1 << 20


def read(path: Path) -> PartitionTable:
    fd = os.open(path, os.O_RDONLY)
    try:
        return partition_tables.read(fd, path.stat().st_size, Budget())
    finally:
        os.close(fd)


def disk(path: Path, size: int, script: str = "") -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    if script:
        bootdisk.table(path, script)
    return path


def test_partitions_have_the_names_that_a_kernel_gives_them(tmp_path: Path) -> None:
    script = 'label: gpt\nsize=8M,name="my root",uuid=0FC63DAF-0000-4000-8000-0123456789AB\n'
    gpt = read(disk(tmp_path / "g", 64 * MIB, script))
    assert [(one.uuid, one.label) for one in gpt.partitions] == [("0fc63daf-0000-4000-8000-0123456789ab", "my root")]
    script = "label: dos\nlabel-id: 0xDEADBEEF\nsize=8M,type=83\nsize=40M,type=5\n5:size=8M,type=83\n"
    mbr = read(disk(tmp_path / "m", 64 * MIB, script))
    assert [one.uuid for one in mbr.partitions] == ["deadbeef-01", "deadbeef-02", "deadbeef-05"]
    assert mbr.capacity_bytes == 64 * MIB


def test_a_disk_that_its_mbr_does_not_reach_is_told(tmp_path: Path) -> None:
    path = disk(tmp_path / "m", 64 * MIB, "label: dos\nsize=8M,type=83,bootable\n")
    bootdisk.write_at(path, 0, b"\xeb\x63")
    assert not read(path).beyond_mbr and not read(path).beyond_end
    os.truncate(path, 2 << 40)
    assert not read(path).beyond_mbr
    os.truncate(path, (2 << 40) + MIB)
    assert read(path).beyond_mbr
    gpt = disk(tmp_path / "g", 64 * MIB, "label: gpt\nsize=8M\n")
    os.truncate(gpt, 3 << 40)
    assert not read(gpt).beyond_mbr


def test_a_partition_beyond_the_end_of_the_disk_is_told(tmp_path: Path) -> None:
    path = disk(tmp_path / "m", 64 * MIB, "label: dos\nsize=8M,type=83\nsize=40M,type=83\n")
    os.truncate(path, 32 * MIB)
    assert [one.number for one in read(path).beyond_end] == [2]


def test_a_hybrid_mbr_is_told_from_a_protective_one(tmp_path: Path) -> None:
    path = disk(tmp_path / "g", 64 * MIB, "label: gpt\nsize=8M\n")
    assert read(path).protective and not read(path).hybrid
    bootdisk.write_at(path, 462, b"\x80\0\2\0\x83\xff\xff\xff" + struct.pack("<II", 2048, 8192))
    found = read(path)
    assert found.protective and found.hybrid and found.gpt is not None and found.gpt.primary


def gpt_of_large_sectors(path: Path) -> None:
    size = path.stat().st_size
    last = size // 4096 - 1
    entry = uuid.UUID(partition_tables.ESP).bytes_le + uuid.uuid4().bytes_le + struct.pack("<QQQ", 256, 4095, 0)
    entries = entry.ljust(128 * 128, b"\0")
    head = struct.pack(
        "<8s4sIIIQQQQ16sQIII",
        b"EFI PART",
        b"\0\0\1\0",
        92,
        0,
        0,
        1,
        last,
        6,
        last - 5,
        bytes(16),
        2,
        128,
        128,
        zlib.crc32(entries),
    )
    bootdisk.write_at(path, 4096, head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:])
    bootdisk.write_at(path, 2 * 4096, entries)
    bootdisk.write_at(path, 446, b"\0\0\2\0\xee\xff\xff\xff" + struct.pack("<II", 1, last))
    bootdisk.write_at(path, 510, b"\x55\xaa")


def test_a_table_in_sectors_of_4096_bytes_is_told(tmp_path: Path) -> None:
    gpt = disk(tmp_path / "g", 64 * MIB)
    gpt_of_large_sectors(gpt)
    assert read(gpt).sector_bytes == 4096 and read(disk(tmp_path / "e", 64 * MIB)).sector_bytes == 512
    damaged = bytearray(gpt.read_bytes()[:MIB])
    damaged[4096 + 20] ^= 1
    bootdisk.write_at(gpt, 0, bytes(damaged))
    assert read(gpt).sector_bytes == 512


@pytest.mark.parametrize("kind", ["ext4", "fat", "swap", "ntfs"])
def test_an_mbr_in_sectors_of_4096_bytes_is_told_by_what_begins_there(kind: str, tmp_path: Path) -> None:
    """Written as if the sectors had 4096 bytes: from 256 on."""
    path = disk(tmp_path / "m", 64 * MIB, "label: dos\nstart=256,size=2048,type=83\n")
    assert read(path).sector_bytes == 512
    image = disk(tmp_path / "part", 8 * MIB)
    command = {"ext4": "mkfs.ext4 -q -F", "fat": "mkfs.fat", "swap": "mkswap -q", "ntfs": "mkntfs -q -F"}[kind]
    bootdisk.run(*command.split(), image)
    bootdisk.write_at(path, 256 * 4096, image.read_bytes())
    assert read(path).sector_bytes == 4096
    bootdisk.write_at(path, 256 * 512, image.read_bytes()[: 100 << 10])
    assert read(path).sector_bytes == 512  # what stands behind it is left over
