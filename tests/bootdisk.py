"""Real bootable disks for tests, built from Debian's packages without root, mounts or loop devices.

Debian's cloud kernel, a busybox initramfs that looks for its root file system, a root file system with busybox's init
and getty, QEMU's guest agent, and GRUB: by the BIOS from an MBR, by UEFI from an ESP. What packages give is kept in the
build folder; a disk takes a second.
"""

from __future__ import annotations

import fcntl
import functools
import gzip
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
SECTOR_BYTES = 512
ROOT_UUID = "6c8d2f0a-94a1-4d0e-a1f5-5b7c3f1f2a31"
DISK_MIB = 128
ESP_MIB = 4
PROMPT = "tinybox login:"

_BUILD = Path(__file__).resolve().parent.parent / "build" / "boot"
_GRUB = Path("/usr/lib/grub")
_MODULES = ("sd_mod", "vmw_pvscsi", "virtio_pci", "virtio_console")
_COMMANDS = (
    "sh",
    "mount",
    "umount",
    "insmod",
    "findfs",
    "switch_root",
    "sleep",
    "cat",
    "getty",
    "login",
    "init",
    "hostname",
    "ls",
    "mkdir",
    "mknod",
    "poweroff",
    "sync",
    "echo",
    "blkid",
)
_GRUB_MODULES = (
    "normal",
    "linux",
    "part_msdos",
    "part_gpt",
    "ext2",
    "search",
    "search_fs_uuid",
    "configfile",
    "serial",
    "terminal",
    "echo",
    "test",
)

_INITRAMFS_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
root=
for word in $(cat /proc/cmdline); do case $word in root=*) root=${word#root=};; esac; done
tries=0
while :; do
    case $root in UUID=*) device=$(findfs "$root" 2>/dev/null);; *) device=$root;; esac
    [ -b "$device" ] && mount -t ext4 "$device" /root && break
    tries=$((tries + 1))
    if [ $tries -ge 5 ]; then
        echo "Gave up waiting for root file system device."
        echo "ALERT!  $root does not exist.  Dropping to a shell!"
        exec sh -c 'while :; do echo "(initramfs)"; sleep 5; done'
    fi
    sleep 1
done
mount --move /dev /root/dev
mount --move /proc /root/proc
mount --move /sys /root/sys
exec switch_root /root /sbin/init
"""
_INITTAB = """::sysinit:/etc/rc
ttyS0::respawn:/bin/getty -L 115200 ttyS0 vt100
tty1::respawn:/bin/getty 38400 tty1 linux
"""
_RC = """#!/bin/sh
hostname tinybox
mount -t tmpfs tmpfs /run
echo written-by-the-guest > /marker
sync
port=$(ls /sys/class/virtio-ports 2>/dev/null | head -n 1)
agent=/usr/sbin/qemu-ga
[ -z "$port" ] || [ ! -x $agent ] || $agent -d -m virtio-serial -p /dev/$port -f /run/qga.pid -t /run
"""


class BuildError(Exception):
    """A disk can't be built: a package or a program is missing."""


def run(*command: object, cwd: Path | None = None, data: bytes | None = None, timeout_s: float = 240) -> bytes:
    """A program's output; BuildError with the end of what it said where it fails."""
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "SOURCE_DATE_EPOCH": "1"}
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, cwd=cwd, input=data, capture_output=True, env=environment, timeout=timeout_s)
    except FileNotFoundError:
        raise BuildError(f"{words[0]} is not installed") from None
    if done.returncode != 0:
        raise BuildError(f"{' '.join(words)[:200]}: {(done.stderr or done.stdout).decode(errors='replace')[-400:]}")
    return done.stdout


def _unpacked(package: str) -> Path:
    """The files of one of Debian's packages, downloaded once."""
    home = _BUILD / package
    with (_make(_BUILD) / "lock").open("w") as lock:  # others may want it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.is_dir():
            with tempfile.TemporaryDirectory(dir=_BUILD) as folder:
                run("apt-get", "download", "-q", package, cwd=Path(folder))
                (deb,) = Path(folder).glob("*.deb")
                run("dpkg-deb", "-x", deb, Path(folder) / "files")
                (Path(folder) / "files").rename(home)
    return home


def _make(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@functools.cache
def kernel_package() -> str:
    """The name of the package that the cloud kernel is in just now."""
    depends = run("apt-cache", "depends", "linux-image-cloud-amd64").decode()
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if not found:
        raise BuildError("Debian has no linux-image-cloud-amd64; run apt-get update")
    return found[1]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel with its modules. version: as its modules' folder is called."""

    image: Path
    modules: Path
    version: str


@functools.cache
def kernel() -> Kernel:
    home = _unpacked(kernel_package())
    (image,) = (home / "boot").glob("vmlinuz-*")
    version = image.name.removeprefix("vmlinuz-")
    return Kernel(image, home / "lib/modules" / version, version)


def _in_order(names: tuple[str, ...]) -> list[Path]:
    """Modules after those that they depend on; what is built into the kernel has no file."""
    files = {path.name.removesuffix(".ko"): path for path in kernel().modules.rglob("*.ko")}
    out: list[Path] = []

    def add(name: str) -> None:
        path = files.get(name.replace("-", "_")) or files.get(name.replace("_", "-"))
        if path is None or path in out:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for other in depends[1].decode().split(",") if depends else []:
            add(other)
        out.append(path)

    for name in names:
        add(name)
    return out


def cpio(root: Path) -> bytes:
    """The tree as a newc archive."""
    names = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    return run("cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", cwd=root, data=names.encode())


def _busybox(root: Path) -> None:
    bin_ = _make(root / "bin")
    shutil.copy("/bin/busybox", bin_ / "busybox")
    for name in _COMMANDS:
        (bin_ / name).symlink_to("busybox")
    _make(root / "sbin")
    (root / "sbin/init").symlink_to("../bin/busybox")


@functools.cache
def initramfs(modules: tuple[str, ...] = _MODULES) -> bytes:
    """Compressed, with these modules and what they depend on."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _busybox(root)
        for name in ("proc", "sys", "dev", "root"):
            _make(root / name)
        # As Debian lays them out, and in the order of loading.
        home = _make(root / "usr/lib/modules" / kernel().version)
        order = []
        for path in _in_order(modules):
            target = home / path.relative_to(kernel().modules)
            _make(target.parent)
            shutil.copy(path, target)
            order.append(str(target.relative_to(home)))
        (root / "modules").symlink_to(f"usr/lib/modules/{kernel().version}")
        (home / "order").write_text("\n".join(order) + "\n")
        (root / "init").write_text(_INITRAMFS_INIT)
        (root / "init").chmod(0o755)
        return gzip.compress(cpio(root), 1, mtime=0)


def _libraries(program: Path) -> Iterator[tuple[str, Path]]:
    """(where it is looked for, where it is here) of every shared library of a program."""
    for line in run("ldd", program).decode().splitlines():
        found = re.search(r"(/\S+) \(0x", line)
        if "not found" in line:
            raise BuildError(f"a library of {program.name} is not installed: {line.strip()}")
        if found:
            yield found[1], Path(found[1]).resolve()


def root_tree(home: Path, *, cmdline: str, agent: bool, initrd: bytes | None = None) -> Path:
    """The root file system's files."""
    root = home / "root"
    _busybox(root)
    for name in ("proc", "sys", "dev", "run", "tmp", "etc", "boot/grub", "lib64"):
        _make(root / name)
    files = {
        "etc/inittab": _INITTAB,
        "etc/rc": _RC,
        "etc/passwd": "root::0:0:root:/:/bin/sh\n",
        "etc/issue": "tinybox\n",
        "etc/os-release": 'ID=tinybox\nNAME="tinybox"\nPRETTY_NAME="tinybox of Debian\'s parts"\nVERSION_ID=12\n',
        "etc/fstab": f"UUID={ROOT_UUID} / ext4 defaults 0 1\n",
        "boot/grub/grub.cfg": _grub_config(cmdline, kernel().version),
    }
    for name, text in files.items():
        (root / name).write_text(text)
    (root / "etc/rc").chmod(0o755)
    shutil.copy(kernel().image, root / f"boot/vmlinuz-{kernel().version}")
    (root / f"boot/initrd.img-{kernel().version}").write_bytes(initramfs() if initrd is None else initrd)
    modules = _make(root / "lib/modules" / kernel().version)
    shutil.copy(kernel().modules / "modules.builtin", modules)
    ena = "kernel/drivers/net/ethernet/amazon/ena/ena.ko"
    shutil.copy(kernel().modules / ena, _make((modules / ena).parent))
    (modules / "modules.dep").write_text(f"{ena}:\n")
    if agent:
        program = _unpacked("qemu-guest-agent") / "usr/sbin/qemu-ga"
        _make(root / "usr/sbin")
        shutil.copy(program, root / "usr/sbin/qemu-ga")
        for name, path in _libraries(program):
            target = root / name.lstrip("/")
            _make(target.parent)
            shutil.copy(path, target)
    return root


def _grub_config(cmdline: str, version: str) -> str:
    return f"""serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
set default="0"
set timeout=0
menuentry 'tinybox' {{
    search --no-floppy --fs-uuid --set=root {ROOT_UUID}
    echo 'Loading Linux {version} ...'
    linux /boot/vmlinuz-{version} {cmdline}
    initrd /boot/initrd.img-{version}
}}
menuentry 'tinybox (recovery mode)' {{
    linux /boot/vmlinuz-{version} {cmdline} single
    initrd /boot/initrd.img-{version}
}}
"""


def _grub_image(home: Path, platform: str, *more: str) -> bytes:
    """A core image that finds the root file system by its UUID and reads its configuration."""
    early = home / "early.cfg"
    early.write_text(f"search --no-floppy --fs-uuid --set=root {ROOT_UUID}\nset prefix=($root)/boot/grub\n")
    out = home / f"core.{platform}"
    run(
        "grub-mkimage",
        "-O",
        platform,
        "-d",
        _GRUB / platform,
        "-c",
        early,
        "-p",
        "/boot/grub",
        "-o",
        out,
        *_GRUB_MODULES,
        *more,
    )
    return out.read_bytes()


@functools.cache
def _core(prefix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "core.img"
        run(
            "grub-mkimage",
            "-O",
            "i386-pc",
            "-d",
            _GRUB / "i386-pc",
            "-p",
            prefix,
            "-o",
            out,
            *_GRUB_MODULES,
            "biosdisk",
        )
        return out.read_bytes()


def grub_in_gap(disk: Path, prefix: str) -> None:
    """GRUB for the BIOS in a disk's first sector and the gap behind it. prefix: `(,msdos1)/grub2`."""
    assert len(_core(prefix)) < (2048 - 1) * SECTOR_BYTES
    write_at(disk, 0, (_GRUB / "i386-pc/boot.img").read_bytes()[:440])
    write_at(disk, SECTOR_BYTES, _core(prefix))


def write_at(disk: Path, offset: int, data: bytes) -> None:
    """Change bytes of a disk."""
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def table(disk: Path, text: str) -> None:
    """Partition a disk by sfdisk's script."""
    run("sfdisk", "-q", disk, data=text.encode())


def ext4(disk: Path, offset: int, size: int, root: Path | None, *, uuid: str = ROOT_UUID) -> None:
    """A file system inside a disk, filled with a tree."""
    filled = ["-d", str(root)] if root else []
    run("mkfs.ext4", "-q", "-F", "-U", uuid, *filled, "-E", f"offset={offset},root_owner=0:0", disk, f"{size >> 10}k")


def fat(disk: Path, offset: int, size: int, files: dict[str, bytes], home: Path) -> None:
    """A FAT file system inside a disk, with files by their paths."""
    # Made in a file of its own: mkfs.fat takes the size of the file for that of the medium.
    part = home / "fat.img"
    with part.open("wb") as file:
        file.truncate(size)
    run("mkfs.fat", "-n", "ESP", part)
    for name, data in files.items():
        parts = name.split("/")
        for depth in range(1, len(parts)):
            subprocess.run(["mmd", "-D", "s", "-i", part, "::" + "/".join(parts[:depth])], capture_output=True)
        (home / "file").write_bytes(data)
        run("mcopy", "-o", "-i", part, home / "file", f"::{name}")
    write_at(disk, offset, part.read_bytes())


def _partitioned(path: Path, firmware: str, home: Path, tree: Path, boot_file: str) -> None:
    """Fill an empty disk: partitions, boot loader, the tree."""
    size = path.stat().st_size
    if firmware == "bios":
        table(path, "label: dos\nstart=2048,type=83,bootable\n")
        core = _grub_image(home, "i386-pc", "biosdisk")
        assert len(core) < (2048 - 1) * SECTOR_BYTES
        write_at(path, 0, (_GRUB / "i386-pc/boot.img").read_bytes()[:440])
        write_at(path, SECTOR_BYTES, core)
        ext4(path, MIB, size - MIB, tree)
        return
    table(path, f"label: gpt\nstart=2048,size={ESP_MIB}M,type=U\nstart={(1 + ESP_MIB) * 2048},type=L\n")
    fat(path, MIB, ESP_MIB * MIB, {boot_file: _grub_image(home, "x86_64-efi", "all_video")}, home)
    ext4(path, (1 + ESP_MIB) * MIB, size - (2 + ESP_MIB) * MIB, tree)


def build(
    path: Path,
    firmware: str,
    *,
    root: str = f"UUID={ROOT_UUID}",
    agent: bool = True,
    initrd: bytes | None = None,
    boot_file: str = "EFI/BOOT/BOOTX64.EFI",
    consoles: str = "console=tty0 console=ttyS0,115200",
) -> Path:
    """A bootable disk of 128 MiB. firmware: bios or uefi. root: of the kernel's command line.

    BIOS: an MBR with GRUB in the gap behind it, an ext4. UEFI: a GPT, an ESP with GRUB at `boot_file`, an ext4.
    """
    cmdline = f"root={root} ro {consoles}"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tree = root_tree(home, cmdline=cmdline, agent=agent, initrd=initrd)
        with path.open("wb") as file:
            file.truncate(DISK_MIB * MIB)
        _partitioned(path, firmware, home, tree, boot_file)
    return path


DEBIAN_MIB = 1600
_DEBIAN_PACKAGES = "linux-image-cloud-amd64,systemd-sysv,udev,qemu-guest-agent,login,kmod"


def debian_tar() -> Path:
    """A small Debian with systemd, its own initramfs and the guest agent, as a tar; made once, in a minute."""
    path = _BUILD / "debian.tar"
    if not path.exists():
        partial = _make(_BUILD) / f"debian.partial.{os.getpid()}.tar"  # others may make it at the same time
        run("mmdebstrap", "--variant=minbase", f"--include={_DEBIAN_PACKAGES}", "bookworm", partial, timeout_s=1800)
        partial.rename(path)
    return path


def build_debian(path: Path, firmware: str, *, root: str = f"UUID={ROOT_UUID}") -> Path:
    """A whole Debian on a disk of 1600 MiB, which root must make for its files to be root's."""
    cmdline = f"root={root} ro console=tty0 console=ttyS0,115200"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tree = _make(home / "root")
        run("tar", "-xf", debian_tar(), "-C", tree, "--exclude=./dev/*")
        (image,) = (tree / "boot").glob("vmlinuz-*")
        version = image.name.removeprefix("vmlinuz-")
        _make(tree / "boot/grub")
        (tree / "boot/grub/grub.cfg").write_text(_grub_config(cmdline, version))
        (tree / "etc/fstab").write_text(f"UUID={ROOT_UUID} / ext4 defaults 0 1\n")
        (tree / "etc/hostname").write_text("drilled\n")
        with path.open("wb") as file:
            file.truncate(DEBIAN_MIB * MIB)
        _partitioned(path, firmware, home, tree, "EFI/BOOT/BOOTX64.EFI")
    return path
