"""A whole Debian on a disk, and its own tools run in it: what a remedy tells people to do in the VM is done there.

Its kernel is started by QEMU itself, so that a disk whose boot loader is gone comes up too; a script takes the place of
init. Made of Debian's packages by mmdebstrap, once, as root.
"""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

import bootdisk
from bootdisk import run
from systems import layout
from systems.cases import uid
from systems.machine import BIOS_BOOT_TYPE, Disk, Fs, Machine, Part

DEVICE = "/dev/nvme0n1"
ROOT = uid("debianvm root")
ESP_ID = "7C3A-91E2"
_PACKAGES = (
    "linux-image-cloud-amd64,systemd-sysv,udev,kmod,initramfs-tools,zstd,grub2-common,grub-pc-bin,grub-efi-amd64-bin,"
    "dosfstools,gdisk,dracut-core"
)
_DISK_MIB = 2048
_TIMEOUT_S = 600
_SCRIPT = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -o remount,rw /
mount -a
set -ex
trap 'echo "remedy: $?"; sync; umount -a -r; echo o > /proc/sysrq-trigger; sleep 60' EXIT
"""


def _tar() -> Path:
    path = bootdisk._BUILD / "debian-tools.tar"
    if not path.exists():
        # Others may make it at the same time.
        partial = bootdisk._make(bootdisk._BUILD) / f"debian-tools.partial.{os.getpid()}.tar"
        run("mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", partial, timeout_s=1800)
        partial.rename(path)
    return path


@functools.cache
def version() -> str:
    """Of its kernel."""
    names = run("tar", "-tf", _tar(), "--wildcards", "./boot/vmlinuz-*").decode().split()
    return names[0].rpartition("/vmlinuz-")[2]


def build(path: Path, firmware: str) -> Path:
    """The disk without a boot loader: nobody has run its installation yet."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        run("tar", "-xf", _tar(), "-C", tree, "--exclude=./dev/*")
        (tree / "etc/hostname").write_text("remedied\n")
        lines = [f"UUID={ROOT} / ext4 errors=remount-ro 0 1\n"]
        lines += [f"UUID={ESP_ID} /boot/efi vfat umask=0077 0 1\n"] if firmware == "uefi" else []
        (tree / "etc/fstab").write_text("".join(lines))
        (tree / "boot/efi").mkdir(exist_ok=True)
        (tree / "boot/grub").mkdir(exist_ok=True)
        (tree / "etc/default/grub").write_text(
            'GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\n'
            'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"\nGRUB_DISABLE_OS_PROBER=true\n'
        )
        esp = Fs("vfat", ESP_ID, "ESP")
        first = Part(esp, 48, "U") if firmware == "uefi" else Part(None, 1, BIOS_BOOT_TYPE)
        machine = Machine("debianvm", firmware, [Disk(_DISK_MIB, "gpt", [first, Part(None, 0)])])
        (made,) = layout.build(machine, Path(folder) / "disk")
        at, size = layout.places(machine.disks[0])[1]
        bootdisk.ext4(made, at, size, tree, uuid=ROOT)
        made.rename(path)
    return path


def inside(disk: Path, *commands: str) -> str:
    """Run commands in it as root; what they said. BuildError where one fails."""
    at = _root_at(disk)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "remedy").write_text(_SCRIPT + "\n".join(commands) + "\n")
        orders = f"rm /root/remedy\nwrite {home}/remedy /root/remedy\nsif /root/remedy mode 0100755\n"
        run("debugfs", "-w", "-f", "-", f"{disk}?offset={at}", data=orders.encode())
        for name in ("vmlinuz", "initrd.img"):
            run("tar", "-xf", _tar(), "-C", home, f"./boot/{name}-{version()}")
        try:
            done = subprocess.run(
                [
                    "qemu-system-x86_64",
                    "-accel",
                    "tcg",
                    "-m",
                    "1024",
                    "-nodefaults",
                    "-no-reboot",
                    "-display",
                    "none",
                    "-serial",
                    "stdio",
                    "-kernel",
                    str(home / f"boot/vmlinuz-{version()}"),
                    "-initrd",
                    str(home / f"boot/initrd.img-{version()}"),
                    "-append",
                    f"root=UUID={ROOT} console=ttyS0 init=/root/remedy",
                    "-drive",
                    f"file={disk},format=raw,if=none,id=disk",
                    "-device",
                    "nvme,drive=disk,serial=vm",
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as expired:
            raise bootdisk.BuildError(f"no end after {_TIMEOUT_S} s: {(expired.stdout or b'')[-400:]!r}") from None
    said = done.stdout.decode(errors="replace")
    if "remedy: 0" not in said:
        raise bootdisk.BuildError(f"{commands}: {said[-1500:]} {done.stderr[-200:]!r}")
    return said


def _root_at(disk: Path) -> int:
    """Where its root begins: behind what the firmware's partition takes."""
    out = run("sfdisk", "-o", "Start", "-l", disk).decode().split()
    return int(out[-1]) * bootdisk.SECTOR_BYTES


def installed(path: Path, firmware: str) -> Path:
    """A disk with the boot loader that its own tools have installed. Made once, in a minute or two."""
    kept = bootdisk._BUILD / f"debian-tools-{firmware}.raw"
    if not kept.exists():
        partial = build(path.parent / f"{firmware}.partial", firmware)
        loader = f"grub-install {DEVICE}" if firmware == "bios" else "grub-install --target=x86_64-efi --removable"
        inside(partial, loader, "update-grub")
        layout.copy(partial, kept.with_suffix(f".{os.getpid()}"))
        kept.with_suffix(f".{os.getpid()}").replace(kept)
        partial.unlink()
    return layout.copy(kept, path)
