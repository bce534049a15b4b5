"""The readiness check: disks that show each finding, and disks that show none; real file systems, made without root."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import bootdisk
from readydisks import BIOS_ROOT_AT, GIB, empty, get, lvm, put, windows
from rig import MIB, Rig, command
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, BootSeverity
from warmspare.recover.readiness.check import look

K = BootFindingKind


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("readiness")
    return {each: bootdisk.build(home / f"{each}.raw", each, agent=False) for each in ("bios", "uefi")}


@pytest.fixture
def copy(disks: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def made(firmware: str) -> Path:
        target = tmp_path / f"{firmware}.raw"
        subprocess.run(["cp", "--sparse=always", disks[firmware], target], check=True)
        return target

    return made


def findings(*paths: Path, firmware: str | None = None) -> list[BootFinding]:
    """What is found on these disks; and that they are as they were."""
    before = [(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths]
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        held = [HeldDisk(path.name, path, path.stat().st_size, fd) for path, fd in zip(paths, fds, strict=True)]
        got = asyncio.run(look(held, firmware)).findings
    finally:
        for fd in fds:
            os.close(fd)
    assert [(path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths] == before
    return got


def kinds(*paths: Path, firmware: str | None = None) -> set[BootFindingKind]:
    return {each.kind for each in findings(*paths, firmware=firmware)}


def test_disks_without_a_flaw_show_none(copy: Callable[[str], Path]) -> None:
    assert findings(copy("bios")) == []
    # 128 MiB are not whole GiB: the only thing to say of it.
    (only,) = findings(copy("uefi"), firmware="uefi")
    assert (only.kind, only.severity) == (K.GPT_ROUNDED, BootSeverity.NOTE)


def test_a_gpt_of_whole_gib_is_nothing_to_speak_of(tmp_path: Path) -> None:
    disk = empty(tmp_path / "disk.raw", GIB, "label: gpt\nstart=2048,type=L\n")
    assert not kinds(disk, firmware="uefi") & {K.GPT_ROUNDED, K.GPT_BACKUP, K.GPT_DAMAGED, K.PROTECTIVE_MBR}
    with disk.open("r+b") as file:
        file.truncate(2 * GIB)
    assert K.GPT_BACKUP in kinds(disk, firmware="uefi")


def _write(at: int, data: bytes) -> Callable[[Path], None]:
    return lambda disk: bootdisk.write_at(disk, at, data)


def _end(disk: Path) -> None:
    bootdisk.write_at(disk, disk.stat().st_size - 512, b"XXXXXXXX")


def _no_loader(disk: Path) -> None:
    bootdisk.write_at(disk, disk.read_bytes().index(b"BOOTX64 EFI"), b"GRUBX64 EFI")


@pytest.mark.parametrize(
    ("made_for", "hurt", "firmware", "expected"),
    [
        ("bios", _write(0, bytes(440)), "bios", {K.NO_BOOT_CODE}),
        ("bios", _write(0, bytes(440)), None, {K.NO_BOOT_CODE}),
        ("bios", _write(510, bytes(2)), None, {K.NO_TABLE, K.ROOT_UNSEEN}),
        ("bios", lambda disk: None, "uefi", {K.FIRMWARE_OTHER}),
        ("uefi", lambda disk: None, "bios", {K.FIRMWARE_OTHER, K.GPT_ROUNDED}),
        ("uefi", _no_loader, "uefi", {K.LOADER_MISSING, K.GPT_ROUNDED}),
        ("uefi", _write(446 + 4, b"\x83"), "uefi", {K.PROTECTIVE_MBR, K.ESP_MISSING, K.GPT_ROUNDED}),
        ("uefi", _write(512 + 40, b"\xff"), "uefi", {K.GPT_DAMAGED}),
        ("uefi", _end, "uefi", {K.GPT_BACKUP}),
    ],
)
def test_what_the_firmware_stumbles_over(
    made_for: str,
    hurt: Callable[[Path], None],
    firmware: str | None,
    expected: set[BootFindingKind],
    copy: Callable[[str], Path],
) -> None:
    disk = copy(made_for)
    hurt(disk)
    assert expected <= kinds(disk, firmware=firmware) <= expected | {K.ROOT_UNSEEN}


def test_no_esp(tmp_path: Path) -> None:
    assert K.ESP_MISSING in kinds(empty(tmp_path / "d.raw", GIB, "label: gpt\nstart=2048,type=L\n"), firmware="uefi")


FSTABS: list[tuple[str, set[BootFindingKind]]] = [
    (f"UUID={bootdisk.ROOT_UUID} / ext4 defaults 0 1\n/dev/sdb1 /data ext4 defaults 0 2\n", {K.FSTAB_BY_NAME}),
    ("/dev/hda1 / ext4 defaults 0 1\n", {K.FSTAB_BY_NAME}),
    ("/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1 / ext4 defaults\n", {K.FSTAB_BY_NAME}),
    ("/dev/sdb1 /data ext4 nofail 0 2\n", {K.FSTAB_OPTIONAL}),
    ("/dev/sdb1 none swap sw 0 0\n", {K.FSTAB_OPTIONAL}),
    ("/dev/sdb1 /mnt ext4 noauto 0 2\n", set()),
    ("UUID=11111111-2222-3333-4444-555555555555 /data xfs defaults 0 2\n", {K.FSTAB_UNKNOWN}),
    ("LABEL=backup /data ext4 nofail 0 2\n", {K.FSTAB_OPTIONAL}),
    (f"UUID={bootdisk.ROOT_UUID} / ext4 defaults 0 1\ntmpfs /tmp tmpfs defaults\n# /dev/sda1 / ext4\n", set()),
    (f"UUID={bootdisk.ROOT_UUID.upper()} / ext4 defaults 0 1\n", {K.FSTAB_OPTIONAL}),
    (f"UUID={bootdisk.ROOT_UUID.upper()} /again ext4 defaults 0 1\n", {K.FSTAB_UNKNOWN}),
    ("server:/export /net nfs defaults 0 0\nproc /proc proc defaults 0 0\n", set()),
]


@pytest.mark.parametrize(("text", "expected"), FSTABS)
def test_fstab(text: str, expected: set[BootFindingKind], copy: Callable[[str], Path]) -> None:
    disk = copy("bios")
    put(disk, BIOS_ROOT_AT, "/etc/fstab", text.encode())
    got = findings(disk)
    assert {each.kind for each in got} == expected
    for each in got:
        number = int(each.place.rpartition(" ")[2])
        assert text.splitlines()[number - 1].split()[0] in each.found and each.disk == "bios.raw"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (f"root=UUID={bootdisk.ROOT_UUID}", "root=/dev/sda1", {K.ROOT_BY_NAME}),
        (bootdisk.ROOT_UUID + " ro", "00000000-94a1-4d0e-a1f5-5b7c3f1f2a31 ro", {K.ROOT_UNKNOWN}),
        ("console=tty0 console=ttyS0,115200", "quiet", {K.CONSOLE_MISSING}),
    ],
)
def test_the_kernels_command_line(
    old: str, new: str, expected: set[BootFindingKind], copy: Callable[[str], Path]
) -> None:
    disk = copy("bios")
    text = get(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg").decode()
    assert old in text
    put(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg", text.replace(old, new, 1).encode())
    assert kinds(disk) == expected


def test_entries_of_the_boot_loader_specification(copy: Callable[[str], Path]) -> None:
    """As Red Hat's and Fedora's systems have them: the newest counts, options come from grubenv, rescue does not."""
    disk, version = copy("bios"), bootdisk.kernel().version
    put(disk, BIOS_ROOT_AT, "/boot/grub/grub.cfg", b"set timeout=1\nload_env -f /boot/grub2/grubenv\nblscfg\n")
    bootdisk.run(
        "debugfs",
        "-w",
        "-f",
        "-",
        f"{disk}?offset={BIOS_ROOT_AT}",
        data=b"mkdir /boot/loader\nmkdir /boot/loader/entries\nmkdir /boot/grub2\n",
    )
    entry = f"title x\nversion {version}\nlinux /boot/vmlinuz-{version}\ninitrd /boot/initrd.img-{version}\n"
    put(disk, BIOS_ROOT_AT, "/boot/loader/entries/m-5.14.0-99.conf", (entry + "options root=/dev/sda1\n").encode())
    put(disk, BIOS_ROOT_AT, "/boot/loader/entries/m-5.14.0-427.conf", (entry + "options $kernelopts\n").encode())
    put(disk, BIOS_ROOT_AT, "/boot/loader/entries/m-0-rescue.conf", (entry + "options root=/dev/sdz1\n").encode())
    environment = f"# GRUB Environment Block\nkernelopts=root=UUID={bootdisk.ROOT_UUID} ro console=ttyS0\n"
    put(disk, BIOS_ROOT_AT, "/boot/grub2/grubenv", environment.encode())
    assert kinds(disk) == set()
    put(disk, BIOS_ROOT_AT, "/boot/grub2/grubenv", environment.replace("UUID=6c8d2f0a", "UUID=00000000").encode())
    assert kinds(disk) == {K.ROOT_UNKNOWN}


def test_drivers(copy: Callable[[str], Path]) -> None:
    disk, version = copy("bios"), bootdisk.kernel().version
    builtin = f"/lib/modules/{version}/modules.builtin"
    lines = get(disk, BIOS_ROOT_AT, builtin)
    without = b"".join(line for line in lines.splitlines(True) if b"/nvme.ko" not in line)
    assert without != lines
    put(disk, BIOS_ROOT_AT, builtin, without)
    assert kinds(disk) == {K.NVME_MISSING}
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "usr/lib/modules/x/kernel/drivers/nvme/host/nvme.ko.xz"
        module.parent.mkdir(parents=True)
        module.write_bytes(b"a driver")
        put(disk, BIOS_ROOT_AT, f"/boot/initrd.img-{version}", gzip.compress(bootdisk.cpio(Path(folder))))
    assert kinds(disk) == set()
    put(disk, BIOS_ROOT_AT, f"/boot/initrd.img-{version}", b"nonsense" * 100)
    assert kinds(disk) == {K.INITRAMFS_UNREAD}
    put(disk, BIOS_ROOT_AT, f"/boot/initrd.img-{version}", None)
    assert kinds(disk) == {K.INITRAMFS_MISSING}
    put(disk, BIOS_ROOT_AT, f"/boot/initrd.img-{version}", bootdisk.initramfs())
    put(disk, BIOS_ROOT_AT, builtin, lines)
    put(disk, BIOS_ROOT_AT, f"/lib/modules/{version}/kernel/drivers/net/ethernet/amazon/ena/ena.ko", None)
    assert kinds(disk) == {K.ENA_MISSING}
    assert [each.severity for each in findings(disk)] == [BootSeverity.STOPS]


def test_a_disk_of_data_is_no_system(tmp_path: Path) -> None:
    disk = empty(tmp_path / "d.raw", GIB, "label: dos\nstart=2048,type=83\n")
    bootdisk.ext4(disk, MIB, 64 * MIB, None)
    assert kinds(disk, firmware="bios") == {K.NO_BOOT_CODE, K.ROOT_UNSEEN}


def test_windows(tmp_path: Path) -> None:
    disk, data = windows(tmp_path)
    assert kinds(disk) == {K.WINDOWS}
    # BitLocker of Windows 7 and later: signature, identifier, the places of its three metadata blocks; and the blocks.
    data[:11] = b"\xeb\x58\x90-FVE-FS-"
    data[160:176] = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")
    places = (4 * MIB, 8 * MIB, 12 * MIB)
    data[176:200] = struct.pack("<QQQ", *places)
    for at in places:
        data[at : at + 12] = b"-FVE-FS-" + struct.pack("<HH", 64, 2)
    bootdisk.write_at(disk, MIB, bytes(data))
    assert kinds(disk) == {K.BITLOCKER, K.WINDOWS}
    assert next(each for each in findings(disk) if each.kind is K.BITLOCKER).place == "partition 1"


def test_a_cloud_init_that_asks_without_tokens(copy: Callable[[str], Path]) -> None:
    """Found in the guest's own file system, and gone with the version that has them."""
    disk, folder = copy("bios"), "/usr/lib/python3/dist-packages"
    folders = (
        "/etc/cloud",
        "/usr",
        "/usr/lib",
        "/usr/lib/python3",
        folder,
        f"{folder}/cloudinit",
        f"{folder}/cloudinit/sources",
    )
    made = "".join(f"mkdir {each}\n" for each in folders).encode()
    bootdisk.run("debugfs", "-w", "-f", "-", f"{disk}?offset={BIOS_ROOT_AT}", data=made)
    put(disk, BIOS_ROOT_AT, "/etc/cloud/cloud.cfg", b"users:\n")
    put(disk, BIOS_ROOT_AT, f"{folder}/cloudinit/version.py", b'__VERSION__ = "19.3"\n')
    put(disk, BIOS_ROOT_AT, f"{folder}/cloudinit/sources/DataSourceEc2.py", b"no word of it\n")
    [finding] = findings(disk)
    assert finding.kind is K.IMDS_V1 and "cloud-init 19.3" in finding.found and finding.place == "partition 1"
    put(disk, BIOS_ROOT_AT, f"{folder}/cloudinit/sources/DataSourceEc2.py", b"'latest/api/token'\n")
    assert findings(disk) == []


def test_dynamic_disks(tmp_path: Path) -> None:
    mbr = empty(tmp_path / "mbr.raw", GIB, "label: dos\nstart=63,size=8M,type=42\n")
    bootdisk.write_at(mbr, 0, b"\x33\xc0")
    bootdisk.write_at(mbr, 6 * 512, b"PRIVHEAD" + struct.pack(">IHH", 0, 2, 12))
    assert K.DYNAMIC_DISK in kinds(mbr, firmware="bios")
    gpt = empty(
        tmp_path / "gpt.raw",
        GIB,
        (
            "label: gpt\nfirst-lba: 34\nstart=34,size=2014,type=5808C8AA-7E8F-42E0-85D2-E1E90434CFB3\n"
            "start=2048,type=AF9B60A0-1431-4F62-BC68-3311714A69AD\n"
        ),
    )
    assert K.DYNAMIC_DISK in kinds(gpt, firmware="bios")


def test_a_root_on_xfs_inlvm(tmp_path: Path) -> None:
    assert findings(lvm(tmp_path)) == []
    assert kinds(lvm(tmp_path, fstab="/dev/vg/root / xfs defaults\n/dev/vg/home /home xfs defaults\n")) == {
        K.FSTAB_UNKNOWN
    }
    assert kinds(lvm(tmp_path, fstab="/dev/sda2 / xfs defaults\n")) == {K.FSTAB_BY_NAME}


def test_a_volume_group_with_a_part_missing(tmp_path: Path) -> None:
    assert {K.LVM_INCOMPLETE, K.ROOT_UNSEEN} <= kinds(lvm(tmp_path, missing=True))


def test_luks(tmp_path: Path) -> None:
    disk = empty(tmp_path / "d.raw", GIB, "label: dos\nstart=2048,type=83\n")
    bootdisk.write_at(disk, 0, b"\xeb\x63")
    header = b"LUKS\xba\xbe" + struct.pack(">H", 1) + b"aes".ljust(32, b"\0") + b"xts-plain64".ljust(32, b"\0")
    header += b"sha256".ljust(32, b"\0") + struct.pack(">II", 4096, 64) + bytes(20 + 32 + 4)
    bootdisk.write_at(disk, MIB, header + b"11111111-2222-3333-4444-555555555555".ljust(40, b"\0"))
    assert kinds(disk) == {K.LUKS, K.LOADER_UNKNOWN, K.ROOT_UNSEEN}


def test_fstab_on_a_second_disk_that_is_replicated(tmp_path: Path, copy: Callable[[str], Path]) -> None:
    """A file system of another disk of the VM is there; without that disk it is not."""
    disk = copy("bios")
    data = empty(tmp_path / "data.raw", 400 * MIB)
    bootdisk.run("mkfs.xfs", "-q", "-f", "-L", "stuff", data)
    put(disk, BIOS_ROOT_AT, "/etc/fstab", b"LABEL=stuff /data xfs defaults 0 0\n")
    assert kinds(disk, data) == set()
    assert kinds(disk) == {K.FSTAB_UNKNOWN}


def test_the_command(tmp_path: Path, copy: Callable[[str], Path]) -> None:
    """On a replica that went through sync and apply; exit codes, events, and the replica as it was."""
    rig = Rig(tmp_path)
    copy("bios").rename(rig.disk)
    rig.sync()
    rig.apply()
    before = hashlib.sha256(rig.replica.read_bytes()).digest(), rig.replica.stat().st_mtime_ns
    good = command("recover", "check", "--vm", "vm", "--replica", rig.replica)
    assert good.code == 0 and good.last("check.done")["stops"] == 0, good
    assert good.last("check.done")["seen"] == ["disk.raw: MBR; partition 1 ext4"]
    put(rig.disk, BIOS_ROOT_AT, "/etc/fstab", b"/dev/sda1 / ext4 defaults 0 1\n")
    rig.sync()
    assert hashlib.sha256(rig.replica.read_bytes()).digest() == before[0]
    assert rig.replica.stat().st_mtime_ns == before[1]
    rig.apply()
    bad = command("recover", "check", "--vm", "vm", "--replica", rig.replica)
    assert bad.code == 5 and bad.last("error")["kind"] == "boot", bad
    (found,) = bad.all("finding")
    assert found["kind"] == "fstab-by-name" and found["severity"] == "stops" and found["point"].startswith("2-")
    assert found["found"] == "/dev/sda1 on /" and found["place"] == "partition 1, /etc/fstab line 1" and found["remedy"]
    assert "will not start in EC2 from restore point 2-" in bad.stderr
