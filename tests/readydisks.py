"""Disks that the readiness check looks into, and files on them put and read; real file systems, made without root."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import bootdisk
import lvmdisk

MIB, GIB = 1 << 20, 1 << 30
BIOS_ROOT_AT = MIB


def put(disk: Path, offset: int, path: str, data: bytes | None) -> None:
    """Replace a file inside an ext4; None removes it."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data or b"")
        file.flush()
        commands = f"rm {path}\n" + (f"write {file.name} {path}\n" if data is not None else "")
        bootdisk.run("debugfs", "-w", "-f", "-", f"{disk}?offset={offset}", data=commands.encode())


def get(disk: Path, offset: int, path: str) -> bytes:
    return bootdisk.run("debugfs", "-R", f"cat {path}", f"{disk}?offset={offset}")


def empty(path: Path, size: int, script: str = "") -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    if script:
        bootdisk.table(path, script)
    return path


def lvm(tmp_path: Path, *, missing: bool = False, fstab: str = "/dev/mapper/vg-root / xfs defaults 0 0\n") -> Path:
    """A GRUB in the gap, /boot on ext4, the root on XFS in a logical volume: as installers have made them for years."""
    disk = empty(tmp_path / "lvm.raw", GIB, "label: dos\nstart=2048,size=64M,type=83,bootable\nstart=133120,type=8e\n")
    bootdisk.grub_in_gap(disk, "(,msdos1)/grub2")
    version = bootdisk.kernel().version
    boot = tmp_path / "boot"
    (boot / "grub2").mkdir(parents=True, exist_ok=True)
    (boot / f"initramfs-{version}.img").write_bytes(bootdisk.initramfs())
    shutil.copy(bootdisk.kernel().image, boot / f"vmlinuz-{version}")
    (boot / "grub2/grub.cfg").write_text(
        f"set timeout=1\nmenuentry 'x' {{\n  linux16 /vmlinuz-{version} root=/dev/mapper/vg-root ro console=ttyS0\n"
        f"  initrd16 /initramfs-{version}.img\n}}\n"
    )
    bootdisk.ext4(disk, MIB, 64 * MIB, boot, uuid="aaaaaaaa-94a1-4d0e-a1f5-5b7c3f1f2a31")
    modules = bootdisk.kernel().modules
    for name, content in (("fstab", fstab.encode()), ("builtin", (modules / "modules.builtin").read_bytes())):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "dep").write_text("updates/ena.ko:\n")
    prototype = (
        f"/stub\n0 0\nd--755 0 0\netc d--755 0 0\nfstab ---644 0 0 {tmp_path}/fstab\n$\nlib d--755 0 0\n"
        f"modules d--755 0 0\n{version} d--755 0 0\nmodules.builtin ---644 0 0 {tmp_path}/builtin\n"
        f"modules.dep ---644 0 0 {tmp_path}/dep\nupdates d--755 0 0\nena.ko ---644 0 0 {tmp_path}/dep\n$\n$\n$\n$\n$\n"
    )
    (tmp_path / "prototype").write_text(prototype)
    root = empty(tmp_path / "root.img", 320 * MIB)
    bootdisk.run("mkfs.xfs", "-q", "-f", "-p", tmp_path / "prototype", root)
    at = 133120 * 512
    place = lvmdisk.write(disk, at, GIB - at, {"root": 320 * MIB}, missing=missing)["root"]
    if not missing:
        sparse = ("bs=1M", "conv=notrunc,sparse", "oflag=seek_bytes", f"seek={place}")
        bootdisk.run("dd", f"if={root}", f"of={disk}", *sparse)
    return disk


def windows(tmp_path: Path) -> tuple[Path, bytearray]:
    """A disk with an NTFS that Windows could start from, and the bytes of that."""
    disk = empty(tmp_path / "d.raw", GIB, "label: dos\nstart=2048,type=7,bootable\n")
    bootdisk.write_at(disk, 0, b"\x33\xc0")
    part = empty(tmp_path / "ntfs.img", 32 * MIB)
    bootdisk.run("mkntfs", "-q", "-F", "-s", "512", "-p", "2048", "-H", "255", "-S", "63", part)
    data = bytearray(part.read_bytes())
    bootdisk.write_at(disk, MIB, bytes(data))
    return disk, data
