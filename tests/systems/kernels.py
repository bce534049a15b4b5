"""Kernels, their modules and initramfs, under the names that systems give them; all of one Debian kernel of the tests.

A kernel's own header is rewritten to state the version that its system would; that it starts as another is no matter
of readiness. A machine that is to start has the kernel whole and an initramfs that finds its root.
"""

from __future__ import annotations

import functools
import shutil
import struct
import tempfile
from pathlib import Path

import bootdisk
from bootdisk import run
from rigs.guests import hostileguests
from systems.machine import Initramfs, Kernel, Link, Machine, Uki

HEAD_BYTES = 64 << 10
NVME = "kernel/drivers/nvme/host/nvme.ko"
ENA = "kernel/drivers/net/ethernet/amazon/ena/ena.ko"
_OTHERS = ("kernel/drivers/scsi/vmw_pvscsi.ko", "kernel/drivers/net/vmxnet3/vmxnet3.ko", "kernel/fs/ext4/ext4.ko")
_ALIVE_MODULES = (
    "xfs",
    "btrfs",
    "dm-mod",
    "raid1",
    "vmw_pvscsi",
    "sd_mod",
    "virtio_pci",
    "virtio_console",
    "vfat",
    "nls_cp437",
    "nls_ascii",
)
_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod /modules/$module; done
root= flags=
for word in $(cat /proc/cmdline); do
    case $word in root=*) root=${word#root=};; rootflags=*) flags=,${word#rootflags=};; esac
done
tries=0
while :; do
    /bin/sh /mapped 2>/dev/null
    case $root in
        UUID=*|LABEL=*) device=$(findfs "$root" 2>/dev/null);;
        *) device=$root;;
    esac
    for kind in ext4 xfs btrfs; do
        [ -b "$device" ] && mount -t $kind -o "ro$flags" "$device" /root 2>/dev/null && break 2
    done
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
_RC = """#!/bin/sh
hostname tinybox
mount -o remount,rw /
[ -e /proc/mounts ] || mount -t proc proc /proc
[ -c /dev/null ] || mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
"""


@functools.cache
def image(version: str, *, whole: bool) -> bytes:
    """A kernel that states this version (Linux' x86 boot protocol: the text at 0x20E + 0x200)."""
    with bootdisk.kernel().image.open("rb") as file:
        data = bytearray(file.read() if whole else file.read(HEAD_BYTES))
    (place,) = struct.unpack_from("<H", data, 0x20E)
    place += 0x200
    end = data.index(b"\0", place)
    text = f"{version} (build@host) #1 SMP".encode()
    assert len(text) <= end - place, version
    data[place:end] = text.ljust(end - place, b"\0")
    return bytes(data)


def cpio(names: list[str]) -> bytes:
    """An archive with these files, and the folders that they are in."""
    parents = {str(parent) for name in names for parent in Path(name).parents} - {"."}
    return hostileguests.cpio([name.encode() for name in [*sorted(parents), *names]], b"a file of it")


def _microcode() -> bytes:
    data = cpio(["kernel/x86/microcode/GenuineIntel.bin"])
    return data + bytes(-len(data) % 512)


def packed(archive: bytes, packing: str) -> bytes:
    """packing: names of hostileguests.PACKINGS, with words before them for what stands before the archive: `early` for
    a microcode that is not compressed, `zeros` for zeros behind that or behind an empty archive of the same packing."""
    *before, last = packing.split("+")
    pack = hostileguests.PACKINGS[last]
    out = b""
    for word in before:
        if word == "early":
            out += _microcode()
        elif word == "zeros":
            out += bytes(4096)
        else:
            out += hostileguests.PACKINGS[word](cpio(["bin/first"]))
            out += bytes(-len(out) % 4)
    return out + pack(archive)


@functools.cache
def initramfs(of: Initramfs, *, alive: bool = False, mapped: str = "") -> bytes:
    names = [f"usr/lib/modules/{of.version}/{name}" for name in of.names]
    # A kernel reads one archive after the other: the second adds names to what starts.
    archive = _living(mapped) + cpio(names) if alive else cpio(["init", "etc/fstab", "bin/busybox", *names])
    return packed(archive, of.packing)


@functools.cache
def _living(mapped: str) -> bytes:
    """The archive of an initramfs that starts. mapped: a script that makes device-mapper's devices."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bootdisk._busybox(root)
        for name in ("proc", "sys", "dev/mapper", "root", "modules"):
            (root / name).mkdir(parents=True, exist_ok=True)
        order = []
        for path in bootdisk._in_order(_ALIVE_MODULES):
            shutil.copy(path, root / "modules")
            order.append(path.name)
        (root / "modules/order").write_text("\n".join(order) + "\n")
        (root / "mapped").write_text(mapped)
        if mapped:
            program = bootdisk._unpacked("dmsetup") / "sbin/dmsetup"
            shutil.copy(program, root / "bin/dmsetup")
            for name, path in bootdisk._libraries(program):
                target = root / name.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        return bootdisk.cpio(root)


def uki(of: Uki, *, alive: bool, mapped: str = "") -> bytes:
    """The stub of systemd with its sections, by objcopy, each behind the one before."""
    stub = bootdisk._unpacked("systemd-boot-efi") / "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
    sections = {
        ".osrel": b'ID=test\nNAME="Test"\nVERSION_ID=1\n',
        ".uname": of.version.encode(),
        ".cmdline": of.cmdline.encode() + b"\0",
    }
    if of.initramfs:
        sections[".initrd"] = initramfs(of.initramfs, alive=alive, mapped=mapped)
    sections[".linux"] = image(of.version, whole=alive)
    with tempfile.TemporaryDirectory() as folder:
        words, at = [], 0x2000000
        for name, data in sections.items():
            path = Path(folder) / name
            path.write_bytes(data)
            words += ["--add-section", f"{name}={path}", "--change-section-vma", f"{name}={at:#x}"]
            at += -(-len(data) // 0x1000) * 0x1000
        out = Path(folder) / "out.efi"
        run("objcopy", *words, stub, out)
        return out.read_bytes()


def drivers(
    machine: Machine,
    version: str,
    *,
    nvme: str = "initramfs",
    ena: str = "module",
    home: str = "/lib/modules",
    packing: str = "",
) -> tuple[str, ...]:
    """Put a kernel's lists and modules in the system; what the initramfs is to have of them is returned.

    nvme, ena: initramfs, module (in the root, and not in the initramfs), builtin, or none. packing: of the modules, as
    a suffix of their names.
    """
    folder = f"{home}/{version}"
    state = {NVME: nvme, ENA: ena}
    builtin = ["kernel/drivers/ata/libata.ko", *(name for name, where in state.items() if where == "builtin")]
    there = [*_OTHERS, *(name for name, where in state.items() if where in ("initramfs", "module"))]
    machine.put(f"{folder}/modules.builtin", "".join(f"{name}\n" for name in builtin))
    machine.put(f"{folder}/modules.dep", "".join(f"{name}{packing}:\n" for name in there))
    for name in there:
        machine.files[f"{folder}/{name}{packing}"] = b"a module"
    return (*(name + packing for name in _OTHERS), *(n + packing for n, where in state.items() if where == "initramfs"))


def install(
    machine: Machine,
    version: str,
    *,
    kernel: str = "/boot/vmlinuz-{}",
    initrd: str = "/boot/initrd.img-{}",
    nvme: str = "initramfs",
    ena: str = "module",
    home: str = "/lib/modules",
    packing: str = "gzip",
    modules: str = "",
) -> None:
    """A kernel as packages install it. packing: of the initramfs; modules: a suffix of modules' files."""
    names = drivers(machine, version, nvme=nvme, ena=ena, home=home, packing=modules)
    machine.files[kernel.format(version)] = Kernel(version)
    if initrd:
        machine.files[initrd.format(version)] = Initramfs(version, names, packing)


def userland() -> dict[str, bytes | Link]:
    """A root that comes to a login prompt at the serial port."""
    out: dict[str, bytes | Link] = {
        "/bin/busybox": Path("/bin/busybox").read_bytes(),
        "/sbin/init": Link("../bin/busybox"),
        "/etc/inittab": bootdisk._INITTAB.encode(),
        "/etc/rc": _RC.encode(),
        "/etc/passwd": b"root::0:0:root:/:/bin/sh\n",
        "/etc/issue": b"tinybox\n",
    }
    out |= {f"/bin/{name}": Link("busybox") for name in bootdisk._COMMANDS}
    return out | {f"/{name}/.keep": b"" for name in ("proc", "sys", "dev", "run", "tmp")}
