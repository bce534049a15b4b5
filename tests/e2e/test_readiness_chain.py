"""The links of the readiness check's chain: each is derived from the one before, a break is said at its link, and what
is not known stops nothing. Whole systems are test_readiness_systems.py's."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

import bootdisk
from readydisks import BIOS_ROOT_AT, GIB, MIB, empty, get, put
from rig import Rig, command
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, BootSeverity, Family
from warmspare.recover.readiness.boot_meanings import ABOUT
from warmspare.recover.readiness.check import Ready, look

K = BootFindingKind
UUID = f"UUID={bootdisk.ROOT_UUID}"
OLD = "dddddddd-94a1-4d0e-a1f5-5b7c3f1f2a31"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bootdisk.build(tmp_path_factory.mktemp("chain") / "whole.raw", "bios", agent=False)


@pytest.fixture
def disk(whole: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "--sparse=always", whole, tmp_path / "sda.raw"], check=True)
    return tmp_path / "sda.raw"


def looked(*paths: Path, firmware: str | None = None) -> Ready:
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        held = [HeldDisk(path.name, path, path.stat().st_size, fd) for path, fd in zip(paths, fds, strict=True)]
        ready = asyncio.run(look(held, firmware))
    finally:
        for fd in fds:
            os.close(fd)
    assert not any("a fault of warmspare" in each.found for each in ready.findings), ready
    return ready


def kinds(*paths: Path, firmware: str | None = None) -> set[BootFindingKind]:
    return {each.kind for each in looked(*paths, firmware=firmware).findings}


def only(*paths: Path, firmware: str | None = None) -> BootFinding:
    (finding,) = looked(*paths, firmware=firmware).findings
    return finding


def menu(disk: Path, *lines: str) -> None:
    put(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg", "".join(f"{line}\n" for line in lines).encode())


def entry(name: str, kernel: str = "", *, root: str = UUID) -> str:
    version = bootdisk.kernel().version
    kernel = kernel or f"/boot/vmlinuz-{version}"
    return (
        f"menuentry {name} --id {name} {{\n linux {kernel} root={root} ro console=ttyS0\n"
        f" initrd /boot/initrd.img-{version}\n}}"
    )


def old_system(tmp_path: Path) -> Path:
    disk = empty(tmp_path / "sdb.raw", 128 * MIB, "label: dos\nstart=2048,type=83\n")
    tree = tmp_path / "old"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/fstab").write_text("/dev/sda1 / ext4 defaults 0 1\n/dev/sdc1 /gone ext4 defaults 0 2\n")
    (tree / "etc/os-release").write_text('PRETTY_NAME="Old GNU/Linux 3"\n')
    bootdisk.ext4(disk, MIB, 64 * MIB, tree, uuid=OLD)
    return disk


def test_another_system_is_named_and_left_alone(disk: Path, tmp_path: Path) -> None:
    old = old_system(tmp_path)
    finding = only(disk, old)
    assert (finding.kind, finding.severity, finding.disk) == (K.OTHER_SYSTEM, BootSeverity.NOTE, "sdb.raw")
    assert finding.found == "Old GNU/Linux 3" and finding.place == "partition 1"
    put(disk, BIOS_ROOT_AT, "/etc/fstab", b"/dev/sda1 / ext4 defaults 0 1\n")
    assert {(each.kind, each.disk) for each in looked(disk, old).findings} == {
        (K.FSTAB_BY_NAME, "sda.raw"),
        (K.OTHER_SYSTEM, "sdb.raw"),
    }


def test_the_disk_that_boots_is_not_always_the_first(disk: Path, tmp_path: Path) -> None:
    data = empty(tmp_path / "data.raw", GIB, "label: gpt\nstart=2048,type=L\n")
    bootdisk.ext4(data, MIB, 64 * MIB, None, uuid=OLD)
    finding = only(data, disk, firmware="bios")
    assert (finding.kind, finding.disk) == (K.BOOT_DISK_OTHER, "data.raw") and "sda.raw" in finding.found
    assert kinds(disk, data, firmware="bios") == set()
    # A plain boot record without an active partition, as tools of Windows leave on any disk, is nothing to start from.
    bootdisk.write_at(data, 0, b"\x33\xc0" + b"Missing operating system\0".ljust(438, b"\0"))
    assert only(data, disk, firmware="bios").kind is K.BOOT_DISK_OTHER
    # Code that is not known may be.
    bootdisk.write_at(data, 0, b"\xfa\xb8" + bytes(438))
    ready = looked(data, disk, firmware="bios")
    assert {each.kind for each in ready.findings} == {K.LOADER_UNKNOWN, K.ROOT_UNSEEN, K.OTHER_SYSTEM}
    assert "sda.raw has what BIOS starts" in ready.not_known[0]
    bootdisk.write_at(data, 0, bytes(440))
    # And it is that disk's system that is judged.
    put(disk, BIOS_ROOT_AT, "/etc/fstab", b"/dev/sda1 / ext4 defaults 0 1\n")
    assert kinds(data, disk, firmware="bios") == {K.BOOT_DISK_OTHER, K.FSTAB_BY_NAME}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("set timeout=1", "set default=1", entry("new"), entry("old", root="/dev/sda1")), {K.ROOT_BY_NAME}),
        (("set timeout=1", "set default=1", entry("new", root="/dev/sda1"), entry("old")), set()),
        (
            ("set timeout=1", "load_env", 'set default="${saved_entry}"', entry("new"), entry("old", root="/dev/sda1")),
            {K.ROOT_BY_NAME},
        ),
        (
            ("set timeout=1", 'set default="${saved_entry}"', entry("new"), entry("old", root="/dev/sda1")),
            {K.ROOT_BY_NAME},
        ),
        ((entry("new"),), {K.LOADER_WAITS}),
        (("set timeout=1", entry("gone", "/boot/vmlinuz-1.2.3")), {K.KERNEL_MISSING}),
        (("set timeout=1", "set fallback=1", entry("gone", "/boot/vmlinuz-1.2.3"), entry("old")), {K.DEFAULT_UNKNOWN}),
        (("set timeout=1", entry("new").replace("initrd.img", "initrd.gone")), {K.INITRAMFS_MISSING}),
        (("set timeout=1", "set default=no_such", entry("new")), set()),
        (("set timeout=1",), {K.LOADER_INCOMPLETE}),
        (("if [ x$",), {K.DEFAULT_UNKNOWN}),
    ],
    ids=[
        "second",
        "first-is-not",
        "saved",
        "saved-by-others",
        "waits",
        "kernel",
        "fallback",
        "initramfs",
        "named-nothing",
        "no-entry",
        "no-script",
    ],
)
def test_the_entry_that_starts_is_judged_and_no_other(
    lines: tuple[str, ...], expected: set[BootFindingKind], disk: Path
) -> None:
    put(disk, BIOS_ROOT_AT, "/boot/grub/grubenv", b"# GRUB Environment Block\nsaved_entry=old\n".ljust(1024, b"#"))
    menu(disk, *lines)
    ready = looked(disk)
    assert {each.kind for each in ready.findings} == expected
    assert all(each.place.startswith("partition 1, /boot/grub/grub.cfg") for each in ready.findings)


def test_where_the_way_in_is_not_known_the_one_system_is_judged(disk: Path) -> None:
    bootdisk.write_at(disk, 0, b"\xeb\x63" + bytes(438))
    ready = looked(disk)
    assert [each.kind for each in ready.findings] == [K.LOADER_UNKNOWN]
    assert ready.not_known == ["sda.raw, its first sector: the boot code in the first sector is not known here"]
    put(disk, BIOS_ROOT_AT, "/etc/fstab", b"/dev/sda1 / ext4 defaults 0 1\n")
    assert kinds(disk) == {K.LOADER_UNKNOWN, K.FSTAB_BY_NAME}
    # What only a guess leads to is not certain: another entry may be the one that starts.
    put(disk, BIOS_ROOT_AT, f"/boot/vmlinuz-{bootdisk.kernel().version}", None)
    assert kinds(disk) == {K.LOADER_UNKNOWN, K.FSTAB_BY_NAME, K.DEFAULT_UNKNOWN}


def test_a_broken_loader_hides_nothing_of_the_one_system(disk: Path) -> None:
    put(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg", None)
    put(disk, BIOS_ROOT_AT, "/etc/fstab", b"/dev/sda1 / ext4 defaults 0 1\n")
    found = {each.kind: each for each in looked(disk).findings}
    assert set(found) == {K.LOADER_INCOMPLETE, K.FSTAB_BY_NAME}
    assert "/boot/grub/grub.cfg is not there" in found[K.LOADER_INCOMPLETE].found


def test_wrong_input_has_its_own_words(disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.vmdk"
    bootdisk.run("qemu-img", "convert", "-O", "vmdk", disk, image)
    assert kinds(image) == {K.DISK_FORMAT, K.ROOT_UNSEEN}
    with disk.open("r+b") as file:
        file.truncate(3 << 40)
    assert kinds(disk, firmware="bios") == {K.MBR_TOO_LARGE}
    with disk.open("r+b") as file:
        file.truncate(100 * MIB)
    assert K.BEYOND_END in kinds(disk, firmware="bios")
    assert kinds(_native_4k(tmp_path / "4k.raw"), firmware="uefi") == {K.SECTORS_4K, K.ROOT_UNSEEN}


def _native_4k(path: Path) -> Path:
    """A GPT in sectors of 4096 bytes."""
    empty(path, 64 * MIB)
    last = 64 * MIB // 4096 - 1
    table = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b") + bytes(range(16)) + struct.pack("<QQQ", 256, 8191, 0)
    table = table.ljust(128 * 128, b"\0")

    def header(mine: int, other: int, at: int) -> bytes:
        def packed(crc: int) -> bytes:
            return struct.pack(
                "<8sIIIIQQQQ16sQIII",
                b"EFI PART",
                65536,
                92,
                crc,
                0,
                mine,
                other,
                6,
                last - 5,
                b"d" * 16,
                at,
                128,
                128,
                zlib.crc32(table),
            )

        return packed(zlib.crc32(packed(0)))

    protective = b"\0\0\2\0\xee\xff\xff\xff" + struct.pack("<II", 1, last)
    for at, data in (
        (446, protective),
        (510, b"\x55\xaa"),
        (4096, header(1, last, 2)),
        (8192, table),
        ((last - 4) * 4096, table),
        (last * 4096, header(last, 1, last - 4)),
    ):
        bootdisk.write_at(path, at, data)
    return path


@pytest.mark.parametrize(
    ("identity", "family"),
    [
        ("ID=debian\n", Family.DEBIAN),
        ('ID="rocky"\nID_LIKE="rhel fedora"\n', Family.RED_HAT),
        ("ID=opensuse-leap\n", Family.SUSE),
        ("ID=mine\nID_LIKE=debian\n", Family.DEBIAN),
        ("ID=x\n", Family.OTHER),
    ],
)
def test_remedies_are_of_the_system_that_is_there(identity: str, family: Family, disk: Path) -> None:
    put(disk, BIOS_ROOT_AT, "/etc/os-release", identity.encode())
    text = get(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg").replace(b"console=ttyS0,115200", b"quiet")
    put(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg", text)
    finding = only(disk)
    about = ABOUT[K.CONSOLE_MISSING]
    assert (finding.kind, finding.family) == (K.CONSOLE_MISSING, family)
    assert finding.remedy == dict(about.remedies).get(family, about.remedy)


def test_strict_counts_what_is_not_known(tmp_path: Path, disk: Path) -> None:
    bootdisk.write_at(disk, 0, b"\xeb\x63" + bytes(438))
    rig = Rig(tmp_path)
    disk.rename(rig.disk)
    rig.sync()
    rig.apply()
    check = ("recover", "check", "--vm", "vm", "--replica", rig.replica)
    plain, strict = command(*check), command(*check, "--strict")
    assert (plain.code, strict.code) == (0, 7), (plain, strict)
    assert plain.last("check.done")["not_known"] == strict.last("check.done")["not_known"] != []
    assert plain.last("finding")["known"] is False


def test_another_disks_system_is_not_judged_in_place_of_one_that_is_not_seen(disk: Path, tmp_path: Path) -> None:
    """Its root is encrypted, under a name that only its crypttab knows."""
    text = get(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg").decode()
    put(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg", text.replace(f"root={UUID}", "root=/dev/mapper/sda2_crypt").encode())
    put(disk, BIOS_ROOT_AT, "/etc/fstab", None)
    ready = looked(disk, old_system(tmp_path))
    assert {each.kind for each in ready.findings} == {
        K.VOLUME_UNREAD,
        K.ROOT_UNSEEN,
        K.DRIVERS_UNREAD,
        K.OTHER_SYSTEM,
    }
    assert not any(each.severity is BootSeverity.STOPS for each in ready.findings)


def test_an_entry_that_starts_once_is_judged_and_the_one_after_it_too(disk: Path) -> None:
    environment = b"# GRUB Environment Block\nnext_entry=once\nsaved_entry=later\n".ljust(1024, b"#")
    put(disk, BIOS_ROOT_AT, "/boot/grub/grubenv", environment)
    choice = 'if [ "${next_entry}" ]; then\n set default="${next_entry}"\nelse\n set default="${saved_entry}"\nfi'
    once, later = entry("once", root="/dev/sda1"), entry("later", "/boot/vmlinuz-gone")
    menu(disk, "set timeout=1", "load_env", choice, entry("first"), once, later)
    assert kinds(disk) == {K.ROOT_BY_NAME, K.KERNEL_MISSING}
