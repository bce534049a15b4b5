"""Names of devices, as guests' own files write them, looked up among devices that are given here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from warmspare.recover.readiness.answers import ABSENT, Unknown
from warmspare.recover.readiness.devices.blocks import Depth, Device, DeviceGap, DeviceKind, split
from warmspare.recover.readiness.devices.names import MAX_NAME, Bond, Names
from warmspare.recover.readiness.guest.volumes import Contents

ROOT = "3a5b0c5e-94a1-4d0e-a1f5-5b7c3f1f2a31"
SWAP = "9c1b4f1e-0000-4000-8000-000000000001"
LUKS = "7d2e4f1e-1111-4111-8111-000000000002"
GROUP, VOLUME = "G" * 32, "r" * 32
ARRAY = "3ab1000022000000330000004400aaaa"


def partition(number: int, kind: str, uuid: str = "", label: str = "", **fields: str) -> Device:
    place = f"partition {number} of disk"
    return Device(DeviceKind.PARTITION, f"loop0,gpt{number}", place, 0, Contents(kind, uuid, label), number, **fields)


BOOT = partition(1, "vfat", "ABCD-1234", "EFI", part_uuid="deadbeef-01")
PLAIN = partition(2, "ext4", ROOT, "my data", part_uuid="c0ffee00-0000-4000-8000-000000000002", part_label="Linux root")
SWAPPED = partition(3, "swap", SWAP)
CLOSED = partition(4, "crypto_LUKS", LUKS)
PHYSICAL = partition(5, "LVM2_member", "PPPPPP-PPPP-PPPP-PPPP-PPPP-PPPP-PPPPPP")
RAID = partition(6, "linux_raid_member", "3ab10000-2200-0000-3300-00004400aaaa")
LOGICAL = Device(
    DeviceKind.LOGICAL,
    "lvm/my--vg-root",
    "logical volume my-vg/root",
    0,
    Contents("xfs", "aaaa-bbbb", "sys"),
    group="my-vg",
    name="root",
    uuid=GROUP + VOLUME,
)
MIRROR = Device(
    DeviceKind.ARRAY, f"mduuid/{ARRAY}", "the array 0", 0, Contents("ext4", "cccc-dddd", ""), name="host:0", uuid=ARRAY
)
ALL = (BOOT, PLAIN, SWAPPED, PHYSICAL, RAID, LOGICAL, MIRROR)
NAMES = Names(ALL, [], ["my-vg"], 1)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        (f"UUID={ROOT}", PLAIN),
        (f'UUID="{ROOT}"', PLAIN),
        (f"/dev/disk/by-uuid/{ROOT}", PLAIN),
        ("UUID=ABCD-1234", BOOT),
        ("LABEL=my data", PLAIN),
        (r"LABEL=my\x20data", PLAIN),
        (r"/dev/disk/by-label/my\x20data", PLAIN),
        ("PARTUUID=deadbeef-01", BOOT),
        ("/dev/disk/by-partuuid/deadbeef-01", BOOT),
        ("PARTUUID=deadbeef-01/PARTNROFF=1", PLAIN),
        ("PARTLABEL=Linux root", PLAIN),
        (r"/dev/disk/by-partlabel/Linux\x20root", PLAIN),
        (f"UUID={SWAP}", SWAPPED),
        ("/dev/mapper/my--vg-root", LOGICAL),
        ("/dev/my-vg/root", LOGICAL),
        ("/dev/disk/by-id/dm-name-my--vg-root", LOGICAL),
        (f"/dev/disk/by-id/dm-uuid-LVM-{GROUP}{VOLUME}", LOGICAL),
        ("UUID=aaaa-bbbb", LOGICAL),
        ("LABEL=sys", LOGICAL),
        ("/dev/disk/by-id/lvm-pv-uuid-PPPPPP-PPPP-PPPP-PPPP-PPPP-PPPP-PPPPPP", PHYSICAL),
        ("/dev/disk/by-id/md-uuid-3ab10000:22000000:33000000:4400aaaa", MIRROR),
        ("/dev/disk/by-id/md-name-host:0", MIRROR),
        ("/dev/md0", MIRROR),
        ("/dev/md/0", MIRROR),
        ("UUID=cccc-dddd", MIRROR),
        ("ID=dm-name-my--vg-root", LOGICAL),
    ],
)
def test_a_name_by_what_stands_on_the_disks_is_found(name: str, device: Device) -> None:
    meaning = NAMES.lookup(name)
    assert (meaning.bond, meaning.target, meaning.others) == (Bond.CONTENT, device, ())


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        (f"UUID={ROOT.upper()}", ROOT),
        ("UUID=abcd-1234", "ABCD-1234"),
        ("PARTUUID=DEADBEEF-01", "deadbeef-01"),
        (f"/dev/disk/by-uuid/{ROOT.upper()}", ROOT),
    ],
)
def test_a_uuid_in_other_letters_names_nothing_but_to_who_compares_without_case(name: str, spelled: str) -> None:
    """mount(8): UUIDs are texts. GRUB, and the kernel by itself, compare them without case."""
    unread = Names(ALL, [DeviceGap(Depth.TABLE, "the table of d2 is unread")], ["my-vg"], 1)
    for names in (NAMES, unread):  # the same number is on no other disk
        meaning = names.lookup(name)
        assert (meaning.target, meaning.spelled) == (ABSENT, spelled)
    assert isinstance(NAMES.any_case(name).target, Device)
    if name.startswith("PARTUUID"):
        assert NAMES.root(name).target is ABSENT
        assert NAMES.root(name, alone=True).target == BOOT
        assert NAMES.root(f"{name}/PARTNROFF=1", alone=True).target == PLAIN


@pytest.mark.parametrize(
    "name",
    [
        "UUID=11111111-2222-3333-4444-555555555555",
        "LABEL=data",
        "LABEL=",
        "PARTUUID=deadbeef-02",
        "PARTLABEL=gone",
        "/dev/disk/by-partuuid/deadbeef-02",
        "/dev/mapper/my--vg-gone",
        "/dev/my-vg/gone",
        "/dev/other/data",
        "/dev/disk/by-id/lvm-pv-uuid-QQQQQQ-QQQQ-QQQQ-QQQQ-QQQQ-QQQQ-QQQQQQ",
        "/dev/disk/by-id/md-uuid-3ab1:22:33:44",
        f"/dev/disk/by-id/dm-uuid-LVM-{GROUP}{'x' * 32}",
        "/dev/zvol/tank/data",
        "/dev/bcache0",
        # Of members: the UUID is the whole's, and no link of udev's.
        "UUID=PPPPPP-PPPP-PPPP-PPPP-PPPP-PPPP-PPPPPP",
        "UUID=3ab10000-2200-0000-3300-00004400aaaa",
    ],
)
def test_what_is_on_none_of_the_disks_is_not_there_and_not_known_where_something_is_unread(name: str) -> None:
    if name != "LABEL=":
        assert NAMES.lookup(name).target is ABSENT
        assert NAMES.lookup(name).bond is Bond.CONTENT
    unread = Names(ALL, [DeviceGap(Depth.TABLE, "the table of d2 is unread")], ["my-vg"], 1)
    found = unread.lookup(name).target
    assert isinstance(found, Unknown) == (name != "LABEL=")
    assert name == "LABEL=" or "the table of d2" in found.why  # type: ignore[union-attr]


def test_a_gap_makes_only_that_unknown_which_could_be_in_it() -> None:
    encrypted = Names(ALL, [DeviceGap(Depth.MEMBER, "partition 9: it is encrypted by LUKS")], ["my-vg"], 1)
    thin = Names([*ALL, replace(LOGICAL, name="t", holds=Unknown("it is a thin volume"))], [], ["my-vg"], 1)
    assert isinstance(encrypted.lookup("UUID=1-1").target, Unknown)
    assert isinstance(encrypted.lookup("/dev/other/data").target, Unknown)
    assert encrypted.lookup("PARTUUID=deadbeef-02").target is ABSENT
    assert isinstance(thin.lookup("UUID=1-1").target, Unknown)
    assert thin.lookup("/dev/other/data").target is ABSENT
    assert thin.lookup("UUID=" + ROOT).target == PLAIN  # what was found is known all the same


@pytest.mark.parametrize(
    ("name", "bond"),
    [
        ("/dev/sda1", Bond.MACHINE),
        ("/dev/sdaa12", Bond.MACHINE),
        ("/dev/hda", Bond.MACHINE),
        ("/dev/vdb2", Bond.MACHINE),
        ("/dev/xvda1", Bond.MACHINE),
        ("/dev/cciss/c0d0p1", Bond.MACHINE),
        ("/dev/mmcblk0p1", Bond.MACHINE),
        ("/dev/sr0", Bond.MACHINE),
        ("/dev/fd0", Bond.MACHINE),
        ("/dev/cdrom", Bond.MACHINE),
        ("8:1", Bond.MACHINE),
        ("0801", Bond.MACHINE),
        ("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1", Bond.MACHINE),
        ("/dev/disk/by-id/wwn-0x6000c29000000000-part1", Bond.MACHINE),
        ("/dev/disk/by-id/scsi-36000c29000000000000000000000000a", Bond.MACHINE),
        ("/dev/disk/by-id/ata-VMware_Virtual_SATA_1", Bond.MACHINE),
        ("/dev/disk/by-id/nvme-VMware_Virtual_NVMe_Disk_1", Bond.MACHINE),
        ("/dev/mapper/36000c29000000000000000000000000a-part2", Bond.MACHINE),
        ("/dev/disk/by-path/ip-10.0.0.9:3260-iscsi-iqn.x-lun-1", Bond.NETWORK),
        ("/dev/nbd0", Bond.NETWORK),
        ("/dev/drbd0", Bond.NETWORK),
        ("/dev/zram0", Bond.NOTHING),
        ("/dev/loop3", Bond.NOTHING),
        ("/dev/root", Bond.NOTHING),
        ("tmpfs", Bond.NOTHING),
        ("none", Bond.NOTHING),
        ("/dev/nvme1n1", Bond.ORDER),
        ("/dev/nvme0n2p1", Bond.ORDER),
    ],
)
def test_a_name_of_the_machines_is_told_apart(name: str, bond: Bond) -> None:
    meaning = NAMES.lookup(name)
    assert (meaning.bond, meaning.target) == (bond, ABSENT)


@pytest.mark.parametrize(
    "name",
    [
        "/dev/mapper/mpathb1",
        "/dev/mapper/vg2-data",
        "/dev/mapper/isw_abc_Volume0",
        "/dev/dm-3",
        "/dev/md7",
        "/dev/md/other",
        "/dev/md0p1",
        "/dev/vx/dsk/dg/vol",
        "/dev/stratis/pool/fs",
        "/dev/disk/by-dname/sda",
        "/dev/disk/by-frob/x",
        "/dev/disk/by-diskseq/3",
        "/dev/gpt-auto-root",
        "UUID=" + "x" * MAX_NAME,
    ],
)
def test_a_name_that_nothing_explains_is_not_known(name: str) -> None:
    assert isinstance(NAMES.lookup(name).target, Unknown)


def test_names_of_nvme_disks_go_by_their_order() -> None:
    one, two = NAMES, Names([*ALL, replace(BOOT, disk=1, number=2)], [], [], 2)
    assert one.lookup("/dev/nvme0n1p2").target == PLAIN
    assert one.lookup("/dev/nvme0n1p9").target is ABSENT
    assert isinstance(two.lookup("/dev/nvme0n1p2").target, Unknown)
    assert isinstance(two.lookup("/dev/nvme1n1p2").target, Unknown)
    assert two.lookup("/dev/nvme2n1").target is ABSENT
    assert {each.lookup("/dev/nvme0n1").bond for each in (one, two)} == {Bond.ORDER}


def test_a_name_that_two_bear_says_so_but_for_what_is_one_file_system() -> None:
    clone = replace(PLAIN, disk=1)
    meaning = Names([PLAIN, clone], [], [], 2).lookup(f"UUID={ROOT}")
    assert (meaning.target, meaning.others) == (PLAIN, (clone,))
    pair = [replace(PLAIN, disk=number, holds=Contents("btrfs", ROOT, "")) for number in range(2)]
    assert Names(pair, [], [], 2).lookup(f"UUID={ROOT}").others == ()


def test_what_is_encrypted_is_known_by_the_name_that_it_is_opened_as() -> None:
    disks = Names([*ALL, CLOSED], [DeviceGap(Depth.MEMBER, "partition 4 is encrypted")], ["my-vg"], 1)
    names = disks.having({"home": f"UUID={LUKS}", "swap": "/dev/mapper/my--vg-root", "gone": "UUID=1-1"}, {})
    for name in (
        "/dev/mapper/home",
        f"/dev/mapper/luks-{LUKS}",
        "/dev/disk/by-id/dm-name-home",
        f"/dev/disk/by-id/dm-uuid-CRYPT-LUKS2-{LUKS.replace('-', '')}-home",
    ):
        found = names.lookup(name).target
        assert isinstance(found, Device) and found.kind is DeviceKind.OPENED and found.number == 4, name
    on_lvm = names.lookup("/dev/mapper/swap").target
    assert isinstance(on_lvm, Device) and "my-vg/root" in on_lvm.place
    assert isinstance(names.lookup("/dev/mapper/gone").target, Unknown)  # it may be in what is encrypted
    assert NAMES.having({"gone": "UUID=1-1"}, {}).lookup("/dev/mapper/gone").target is ABSENT
    assert NAMES.having({"data": "/dev/sdb1"}, {}).lookup("/dev/mapper/data").bond is Bond.MACHINE


def test_names_that_lead_to_one_another_end() -> None:
    names = NAMES.having({"a": "/dev/mapper/b", "b": "/dev/mapper/a"}, {})
    assert isinstance(names.lookup("/dev/mapper/a").target, Unknown)


def test_an_array_is_called_what_mdadms_configuration_says() -> None:
    other = replace(MIRROR, name="host:data", uuid="f" * 32)
    names = Names([MIRROR, other], [], [], 1)
    assert names.lookup("/dev/md/data").target == other
    assert isinstance(names.lookup("/dev/md127").target, Unknown)
    assert names.having({}, {"/dev/md127": "f" * 32}).lookup("/dev/md127").target == other
    assert names.having({}, {"/dev/md0": "f" * 32}).lookup("/dev/md0").target == other
    assert names.having({}, {"/dev/md0": "e" * 32}).lookup("/dev/md0").target is ABSENT
    assert Names([PLAIN], [], [], 1).lookup("/dev/md0").target is ABSENT


def test_a_pool_of_zfs_is_there_but_not_read() -> None:
    names = Names([partition(1, "zfs_member", "1234", "tank")], [], [], 1)
    assert isinstance(names.pool("tank/home").target, Unknown)
    assert names.pool("other/home").target is ABSENT
    assert isinstance(names.root("zfs:tank/root").target, Unknown)
    assert isinstance(names.lookup("/dev/zvol/tank/swap").target, Unknown)


@pytest.mark.parametrize(
    ("value", "bond"),
    [
        ("nfs:10.0.0.1:/root", Bond.NETWORK),
        ("/dev/nfs", Bond.NETWORK),
        ("iscsi:@10.0.0.9::3260::iqn", Bond.NETWORK),
        ("/dev/sda1", Bond.MACHINE),
        ("0x801", Bond.MACHINE),
        ("block:/dev/sda2", Bond.MACHINE),
    ],
)
def test_a_root_may_be_named_in_more_ways(value: str, bond: Bond) -> None:
    assert NAMES.root(value).bond is bond
    assert NAMES.root("UUID=aaaa-bbbb").target == LOGICAL
    assert isinstance(NAMES.root("gpt-auto").target, Unknown)


def test_device_mappers_names_come_apart_at_the_single_dash() -> None:
    assert split("my--vg-root--1") == ("my-vg", "root-1")
    assert split("nodash") is None and split("a-b-c") is None and split("-" * 300) is None
