"""A small machine in which Btrfs' own driver makes what no tool can without a mount: subvolumes; owns nothing else.

QEMU starts the tests' kernel with an initramfs of busybox and the tools; the file system is its first disk, a tar of
the files its second.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import bootdisk
from bootdisk import run

_TIMEOUT_S = 240
_DONE = b"the work is done"
_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
sh -ex /work && umount /mnt && echo "the work is done"
poweroff -f
"""
_COMMANDS = ("sh", "mount", "umount", "insmod", "cat", "tar", "mkdir", "echo", "sync", "poweroff", "sed")


def subvolumes(image: Path, tree: Path, folders: list[str], default: str) -> None:
    """Fill an empty Btrfs with a tree, of which these folders are subvolumes, one of them the default one."""
    lines = ["mount -t btrfs /dev/nvme0n1 /mnt"]
    made: set[str] = set()
    for folder in sorted(folders, key=lambda each: each.count("/")):
        for parent in list(Path(folder.strip("/")).parents)[-2::-1]:
            if str(parent) not in made:
                lines.append(f"mkdir -p /mnt/{parent}")
        lines.append(f"btrfs subvolume create /mnt/{folder.strip('/')}")
        made.add(folder.strip("/"))
    lines.append("tar -xf /dev/nvme1n1 -C /mnt")
    if default:
        lines.append(f"btrfs subvolume set-default /mnt/{default.strip('/')}")
    lines.append("sync")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        payload = home / "payload.tar"
        run("tar", "-C", tree, "-cf", payload, "--owner=0", "--group=0", ".")
        with payload.open("r+b") as file:  # whole sectors
            file.truncate(-(-payload.stat().st_size // 4096) * 4096)
        (home / "initramfs").write_bytes(_initramfs("\n".join(lines) + "\n"))
        _start(home, [image, payload])


def _start(home: Path, disks: list[Path]) -> None:
    words = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-m",
        "512",
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-kernel",
        str(bootdisk.kernel().image),
        "-initrd",
        str(home / "initramfs"),
        "-append",
        "console=ttyS0 quiet",
    ]
    for number, disk in enumerate(disks):
        words += ["-drive", f"file={disk},format=raw,if=none,id=d{number}"]
        words += ["-device", f"nvme,drive=d{number},serial=d{number}"]
    said = bytearray()
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout
        late = threading.Timer(_TIMEOUT_S, child.kill)
        late.start()
        try:
            for line in child.stdout:
                said += line
                if line.startswith(_DONE):  # what it has unmounted is written; to power off may hang
                    return
        finally:
            late.cancel()
            child.kill()
    raise bootdisk.BuildError(f"the workshop failed: {bytes(said[-1000:])!r}")


def _initramfs(work: str) -> bytes:
    return _tools() + _one("work", work.encode())


def _one(name: str, data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        return bootdisk.cpio(Path(folder))


@functools.cache
def _tools() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "bin").mkdir()
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for name in _COMMANDS:
            (root / "bin" / name).symlink_to("busybox")
        for name in ("proc", "sys", "dev", "mnt", "modules"):
            (root / name).mkdir()
        order = []
        for path in bootdisk._in_order(("btrfs",)):
            shutil.copy(path, root / "modules")
            order.append(path.name)
        (root / "modules/order").write_text("\n".join(order) + "\n")
        program = Path(shutil.which("btrfs", path="/usr/bin:/bin:/usr/sbin:/sbin") or "btrfs")
        shutil.copy(program, root / "bin/btrfs")
        for name, path in bootdisk._libraries(program):
            target = root / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        return bootdisk.cpio(root)
