"""All that can hold a file system on some disks: what is made of partitions, LVM and arrays, and what stays unread."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

import bootdisk
import lvmdisk
from rigs.guests import mddisk
from warmspare.recover.disks import programs
from warmspare.recover.disks.programs import Budget, Exceeded
from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.devices import mdraid
from warmspare.recover.readiness.devices.blocks import Device, DeviceKind
from warmspare.recover.readiness.devices.inventory import DeviceInventory, take
from warmspare.recover.readiness.devices.mdraid import RaidMember
from warmspare.recover.readiness.guest import partition_tables
from warmspare.recover.readiness.guest.volumes import Contents, Volume

pytestmark = pytest.mark.program

MIB = 1 << 20
DATA, SWAP, LUKS = (f"{letter * 8}-1111-4111-8111-{letter * 12}" for letter in "abc")
ARRAY = bytes(range(16))


def blkid(paths: list[Path], disk: int, offset: int, size: int) -> Answer[Contents]:
    place = ["-O", str(offset), "-S", str(size)]
    done = programs.run("blkid", "-p", "-o", "export", *place, str(paths[disk]))
    found = dict(line.split("=", 1) for line in done.output.decode().splitlines())
    return Contents(found["TYPE"], found.get("UUID", ""), found.get("LABEL", "")) if "TYPE" in found else ABSENT


def looked_at(*paths: Path) -> DeviceInventory:
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        found = [partition_tables.read(fd, path.stat().st_size, Budget()) for fd, path in zip(fds, paths, strict=True)]
        return take(
            [path.name for path in paths],
            found,
            lambda disk, offset, count: os.pread(fds[disk], count, offset),
            lambda disk, offset, size: blkid(list(paths), disk, offset, size),
        )
    finally:
        for fd in fds:
            os.close(fd)


def empty(path: Path, size: int, script: str = "") -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    if script:
        bootdisk.table(path, script)
    return path


def swap(path: Path, offset: int, uuid: str) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        header = bytearray(4096)
        struct.pack_into("<III", header, 1024, 1, 1000, 0)
        header[1036:1052] = bytes.fromhex(uuid.replace("-", ""))
        header[4086:] = b"SWAPSPACE2"
        file.write(header)


def luks(path: Path, offset: int) -> None:
    header = b"LUKS\xba\xbe\0\1".ljust(168, b"\0") + LUKS.encode().ljust(40, b"\0")
    bootdisk.write_at(path, offset, header.ljust(1024, b"\0"))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An ext4, and a group with swap and an ext4 that GRUB can't read."""
    script = "label: dos\nlabel-id: 0xdeadbeef\nstart=2048,size=16M,type=83\nstart=34816,type=8e\n"
    path = empty(tmp_path / "disk.raw", 96 * MIB, script)
    bootdisk.ext4(path, MIB, 16 * MIB, None)
    at = 34816 * 512
    places = lvmdisk.write(path, at, 79 * MIB, {"swap": 8 * MIB, "data": 16 * MIB})
    swap(path, places["swap"], SWAP)
    image = empty(tmp_path / "lv", 16 * MIB)
    bootdisk.run("mkfs.ext4", "-q", "-F", "-O", "casefold", "-U", DATA, image)
    bootdisk.write_at(path, places["data"], image.read_bytes())
    return path


def test_what_stands_in_logical_volumes_is_known_though_grub_can_not_read_it(disk: Path) -> None:
    found = looked_at(disk)
    names = found.names
    for name, grub in (
        (f"UUID={SWAP}", "lvm/vg-swap"),
        (f"UUID={DATA}", "lvm/vg-data"),
        (f"UUID={bootdisk.ROOT_UUID}", "loop0,msdos1"),
        ("PARTUUID=deadbeef-01", "loop0,msdos1"),
        ("/dev/vg/data", "lvm/vg-data"),
    ):
        device = names.lookup(name).target
        assert isinstance(device, Device) and device.grub == grub and device.lacks == "", name
    assert found.gaps == () and names.lookup("PARTUUID=deadbeef-03").target is ABSENT
    assert names.lookup("UUID=1-1").target is ABSENT


def test_what_lvm_does_not_find_is_lacked_by_what_needs_it(disk: Path) -> None:
    found = looked_at(disk)
    ((uuid, device),) = found.physical.items()
    assert device.grub == "loop0,msdos2"
    hidden = found.without({uuid: "its ID is another"})
    lacks = [one.lacks for one in hidden.devices if one.kind is DeviceKind.LOGICAL]
    assert lacks == ["its ID is another"] * 2 and found.without({}) == found
    doubtful = found.without({uuid: Unknown("perhaps")})
    assert {one.lacks for one in doubtful.devices if one.kind is DeviceKind.LOGICAL} == {Unknown("perhaps")}


def test_a_part_that_is_missing_may_be_in_what_is_encrypted(tmp_path: Path) -> None:
    path = empty(tmp_path / "disk.raw", 64 * MIB, "label: gpt\nstart=2048,size=24M\nstart=53248,size=8M,name=closed\n")
    lvmdisk.write(path, MIB, 24 * MIB, {"root": 8 * MIB}, missing=True)
    alone = looked_at(path)
    (root,) = [one for one in alone.devices if one.kind is DeviceKind.LOGICAL]
    assert isinstance(root.lacks, str) and "QQQQQQ" in root.lacks and isinstance(root.holds, Unknown)
    assert alone.names.lookup("/dev/other/data").target is ABSENT
    luks(path, 26 * MIB)
    beside = looked_at(path)
    (root,) = [one for one in beside.devices if one.kind is DeviceKind.LOGICAL]
    assert isinstance(root.lacks, Unknown) and "LUKS" in root.lacks.why
    assert isinstance(beside.names.lookup("/dev/other/data").target, Unknown)
    assert isinstance(beside.names.having({"h": f"UUID={LUKS}"}, {}).lookup("/dev/mapper/h").target, Device)
    assert beside.names.lookup("PARTLABEL=closed").target == beside.devices[1]


@pytest.mark.parametrize("version", ["0.90", "1.0", "1.1", "1.2"])
def test_one_member_of_a_mirror_gives_its_file_system_and_its_group(version: str, tmp_path: Path) -> None:
    paths, size = [], 40 * MIB
    for role in range(2):
        path = empty(tmp_path / f"disk{role}.raw", size)
        at, block = (
            mddisk.old(size, uuid=ARRAY, level=1, width=2, role=role)
            if version == "0.90"
            else mddisk.superblock(size, uuid=ARRAY, level=1, width=2, role=role, version=version)
        )
        places = lvmdisk.write(path, MIB if version in ("1.1", "1.2") else 0, 32 * MIB, {"swap": 4 * MIB})
        swap(path, places["swap"], SWAP)
        bootdisk.write_at(path, at, block)
        paths.append(path)
    for there in (paths, paths[:1], paths[1:]):
        found = looked_at(*there)
        swapped = found.names.lookup(f"UUID={SWAP}").target
        array = found.names.lookup("/dev/md0").target
        assert isinstance(swapped, Device) and swapped.grub == "lvm/vg-swap" and swapped.lacks == "", there
        assert isinstance(array, Device) and array.lacks == "" and array.grub == f"mduuid/{ARRAY.hex()}"
        assert found.names.lookup(f"/dev/disk/by-id/md-uuid-{ARRAY.hex()}").target == array


def test_a_striped_array_begins_on_its_first_member_and_needs_all(tmp_path: Path) -> None:
    paths = []
    for role in range(2):
        path = empty(tmp_path / f"disk{role}.raw", 8 * MIB)
        at, block = mddisk.superblock(8 * MIB, uuid=ARRAY, level=0, width=2, role=role)
        bootdisk.write_at(path, at, block)
        paths.append(path)
    swap(paths[0], mddisk.DATA_AT, SWAP)
    whole = looked_at(*reversed(paths))
    array = whole.names.lookup(f"UUID={SWAP}").target
    assert isinstance(array, Device) and array.kind is DeviceKind.ARRAY and array.lacks == ""
    half = looked_at(paths[0])
    (array,) = [one for one in half.devices if one.kind is DeviceKind.ARRAY]
    assert isinstance(array.lacks, str) and "1 of its 2 members" in array.lacks
    # What is on it comes up for nobody, whatever it is.
    assert half.names.lookup(f"UUID={SWAP}").target is ABSENT


@pytest.mark.parametrize(
    ("level", "layout", "roles", "enough"),
    [
        (1, 0, {1}, True),
        (5, 2, {0, 2, 3}, True),
        (5, 2, {0, 3}, False),
        (6, 2, {1, 3}, True),
        (6, 2, {3}, False),
        (4, 0, {0, 1, 2}, True),
        (0, 0, {0, 1, 2}, False),
        (-1, 0, {0, 1, 2}, False),
        (10, 0x102, {0, 2}, True),
        (10, 0x102, {1, 3}, True),
        (10, 0x102, {0, 1}, False),
        (10, 0x201, {0, 2}, True),
        (10, 0x201, {0, 3}, False),
        (10, 0x103, {0}, False),
        (10, 0x103, {0, 3}, True),
    ],
)
def test_members_are_enough_by_their_level(level: int, layout: int, roles: set[int], enough: bool) -> None:
    members = [RaidMember("u", "n", level, layout, 4, 1 << 19, role, 5, 0, 1 << 20, False) for role in sorted(roles)]
    (array,) = mdraid.assembled(members)
    assert (array.lacks == "") is enough


def test_a_member_that_fell_behind_or_is_a_spare_is_none() -> None:
    fresh = RaidMember("u", "n", 5, 2, 3, 1 << 19, 0, 50, 0, 1 << 20, False)
    rows = [fresh, RaidMember("u", "n", 5, 2, 3, 1 << 19, 1, 49, 0, 1 << 20, False)]
    assert mdraid.assembled(rows)[0].lacks == ""
    stale = RaidMember("u", "n", 5, 2, 3, 1 << 19, 1, 40, 0, 1 << 20, False)
    spare = RaidMember("u", "n", 5, 2, 3, 1 << 19, None, 50, 0, 1 << 20, False)
    (array,) = mdraid.assembled([fresh, stale, spare])
    assert "2 of its 3" in array.lacks and array.members == (fresh,)
    assert mdraid.assembled([spare])[0].begin is None


def test_a_superblock_that_can_not_be_trusted_says_nothing() -> None:
    at, block = mddisk.superblock(8 * MIB, uuid=ARRAY, level=1, width=2, role=0)
    data = bytes(4096) + block

    def member(changed: bytes) -> Answer[RaidMember]:
        return mdraid.member(lambda offset, count: changed[offset : offset + count], 8 * MIB)

    assert at == 4096 and isinstance(member(data), RaidMember) and member(bytes(8192)) is ABSENT
    moved = bytearray(data)
    struct.pack_into("<Q", moved, 4096 + 144, 8 * 1024)  # it stood elsewhere: what holds it was copied
    assert member(bytes(moved)) is ABSENT
    wide = bytearray(data)
    struct.pack_into("<I", wide, 4096 + 92, 1 << 30)
    assert isinstance(member(bytes(wide)), Unknown)
    assert mdraid.configured(
        "# mdadm.conf\nDEVICE partitions\n"
        "ARRAY /dev/md/0  metadata=1.2\n   UUID=00010203:04050607:08090A0B:0c0d0e0f name=host:0\n"
        "ARRAY <ignore> UUID=1\narray root uuid=ffffffff:ffffffff:ffffffff:ffffffff\n"
    ) == {"/dev/md/0": ARRAY.hex(), "/dev/md/root": "f" * 32}


def test_metadata_that_points_beyond_all_disks_is_not_followed(tmp_path: Path) -> None:
    path = empty(tmp_path / "disk.raw", 8 * MIB)
    at, block = mddisk.superblock(8 * MIB, uuid=ARRAY, level=1, width=2, role=0)
    changed = bytearray(block)
    struct.pack_into("<Q", changed, 128, (1 << 64) - 1)
    data = bytes(at) + bytes(changed) + bytes(MIB)
    with path.open("rb") as file:
        table = partition_tables.read(file.fileno(), 8 * MIB, Budget())

    def probe(disk: int, offset: int, size: int) -> Answer[Contents]:
        assert offset >= 0 and offset + size <= 8 * MIB
        return Contents("linux_raid_member", "u", "")

    found = take(["d"], [table], lambda disk, offset, count: data[offset : offset + count], probe)
    (array,) = [one for one in found.devices if one.kind is DeviceKind.ARRAY]
    assert array.holds == Unknown("it begins beyond the end of its disk")


def test_a_mutated_superblock_harms_nobody() -> None:
    for version in ("1.1", "0.90"):
        at, block = (
            mddisk.superblock(1 << 20, uuid=ARRAY, level=10, width=4, role=1, version="1.1")
            if version == "1.1"
            else mddisk.old(1 << 20, uuid=ARRAY, level=10, width=4, role=1)
        )
        for seed in range(300):
            generator = random.Random(seed)
            changed = bytearray(block.ljust(4096, b"\0"))
            for _ in range(3):
                place = generator.randrange(8, 260)
                changed[place : place + 4] = generator.randbytes(4)
            data = bytes(at) + bytes(changed)
            found = mdraid.member(lambda offset, count, data=data: data[offset : offset + count], 1 << 20)
            if isinstance(found, RaidMember):
                (array,) = mdraid.assembled([found])
                assert array.begin is None or array.begin.offset >= 0


def test_what_can_not_be_read_is_a_gap_and_grub_may_fill_it(tmp_path: Path) -> None:
    path = empty(tmp_path / "disk.raw", 64 * MIB, "label: gpt\nstart=2048,size=24M\n")
    lvmdisk.write(path, MIB, 24 * MIB, {"root": 8 * MIB})
    with path.open("rb") as file:
        table = partition_tables.read(file.fileno(), 64 * MIB, Budget())

    def refuse(disk: int, offset: int, size: int) -> Answer[Contents]:
        raise Exceeded("blkid was ended after 120 s")

    gone = take(["disk.raw", "two"], [table, Unknown("sfdisk died")], lambda *_: b"", refuse)
    found = gone.names.lookup("PARTUUID=1-1").target
    assert isinstance(found, Unknown) and "two: sfdisk died" in found.why
    assert isinstance(gone.names.lookup("UUID=1-1").target, Unknown)
    data = path.read_bytes()
    thin = take(
        ["disk.raw"],
        [table],
        lambda disk, offset, count: data[offset : offset + count],
        lambda disk, offset, size: Contents("LVM2_member", "P", "") if offset == MIB else Unknown("it is thin"),
    )
    assert isinstance(thin.names.lookup("UUID=5").target, Unknown)
    seen = thin.seen(
        [
            Volume("lvm/vg-root", "xfs", "5", ""),
            Volume("lvm/a--b-c", "ext2", "6", ""),
            Volume("md/7", "ext2", "8", ""),
            Volume("loop0,gpt1", "", "", ""),
        ]
    )
    assert isinstance(seen.names.lookup("UUID=5").target, Device) and seen.names.lookup("UUID=9").target is ABSENT
    assert isinstance(seen.names.lookup("/dev/a-b/c").target, Device)
    assert isinstance(seen.names.lookup("/dev/md7").target, Device)
