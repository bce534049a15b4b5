"""What this host has to make the throw-away machine of: a kernel with its modules, busybox, LVM's and RAID's tools.

Refuses to install anything: what is missing is said, with the package that has it. The machine's files are put together
as an initramfs, in a file without a name.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from warmspare import children
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.readers.appliance.agent import AGENT

MAX_MODULE_BYTES = 32 << 20
LDD_S = 20.0
NEEDED = ("virtio_pci", "virtio_scsi", "sd_mod", "virtio_console")
# Loaded for what is asked, in this order, for some take seconds; what is built into the kernel has no file. Btrfs wants
# one of four checksums.
GROUPS = {
    "base": NEEDED,
    "ext4": ("crc32c_generic", "ext4"),
    "xfs": ("crc32c_generic", "xfs"),
    "f2fs": ("f2fs",),
    "btrfs": ("crc32c_generic", "xxhash_generic", "blake2b_generic", "sha256_generic", "btrfs"),
    "lvm": ("dm-mod", "dm-thin-pool", "dm-snapshot", "dm-mirror", "dm-cache", "dm-raid"),
    "md": ("raid0", "raid1", "raid10", "raid456"),
}
_ELSEWHERE = "/usr/sbin:/sbin"
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_LIBRARY = re.compile(r"(/\S+) \(0x")


@dataclass(frozen=True, slots=True)
class Kernel:
    """image: as a loader starts it. modules: the folder of its modules."""

    image: Path
    modules: Path

    @property
    def version(self) -> str:
        return self.modules.name


@dataclass(frozen=True, slots=True)
class ApplianceParts:
    """All of it. tools: optional programs that were found, by their names."""

    kernel: Kernel
    qemu: Path
    busybox: Path
    tools: dict[str, Path]


def found(kernels: Sequence[Kernel] | None = None) -> ApplianceParts | Unknown:
    """What there is. kernels: which there are; those of this host by default, of which the newest is taken."""
    qemu, busybox = _program("qemu-system-x86_64"), _program("busybox")
    if qemu is None:
        return Unknown("for a second reader qemu-system-x86_64 is not installed (package qemu-system-x86)")
    if busybox is None or not _is_static(busybox):
        return Unknown("for a second reader there is no static busybox (package busybox-static)")
    usable = [each for each in (host_kernels() if kernels is None else kernels) if os.access(each.image, os.R_OK)]
    if not usable:
        return Unknown("for a second reader this host has no kernel that can be read (package linux-image-cloud-amd64)")
    tools = {name: path for name in ("lvm", "mdadm") if (path := _program(name))}
    return ApplianceParts(max(usable, key=lambda kernel: _version(kernel.version)), qemu, busybox, tools)


def host_kernels() -> list[Kernel]:
    """Of this host: by Debian's names, and by those of systems that keep them beside their modules."""
    out = []
    for home in (Path("/usr/lib/modules"), Path("/lib/modules")):
        for modules in home.iterdir() if home.is_dir() else ():
            out += [
                Kernel(image, modules)
                for image in (modules / "vmlinuz", Path(f"/boot/vmlinuz-{modules.name}"))
                if image.is_file()
            ]
    return out


def _version(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"[0-9]{1,9}|[^0-9]+", text)]


def _is_static(program: Path) -> bool:
    with program.open("rb") as file:
        return b"/ld-linux" not in file.read(4096)


def _program(name: str) -> Path | None:
    path = shutil.which(name) or shutil.which(name, path=_ELSEWHERE)
    return Path(path).resolve() if path and name != "lvm" else Path(path) if path else None


def write_initramfs(parts: ApplianceParts, fd: int, init: str = AGENT) -> str:
    """Put the machine's files together behind a descriptor; why that can't be done, "" if it is done. init: the program
    that it runs."""
    paths = {path.name.split(".ko")[0].replace("-", "_"): path for path in parts.kernel.modules.rglob("*.ko*")}
    modules: dict[str, bytes] = {}
    orders: dict[str, list[str]] = {group: [] for group in GROUPS}
    for group, names in GROUPS.items():
        for name in names:
            _add(name.replace("-", "_"), paths, modules, orders[group])
    with os.fdopen(os.dup(fd), "wb") as file:
        archive = _Archive(file)
        for folder in ("bin", "sbin", "proc", "sys", "dev", "t", "m", "lib", "run", "etc", "etc/lvm", "modules"):
            archive.folder(folder)
        archive.file("bin/busybox", parts.busybox.read_bytes())
        archive.file("init", init.encode())
        for name, data in modules.items():
            archive.file(f"modules/{name}.ko", data)
        for group, order in orders.items():
            archive.file(f"modules/{group}", "".join(f"{name}\n" for name in order).encode())
        made = {*archive.names}
        for name, path in parts.tools.items():
            for where, library in _libraries(path):
                _folders(archive, made, where)
                if where not in made:
                    made.add(where)
                    archive.file(where, library.read_bytes())
            archive.file(f"sbin/{name}", path.resolve().read_bytes())
        archive.end()
    lacking = [name for name in NEEDED if name not in modules and not _is_builtin(parts.kernel, name)]
    return f"the kernel {parts.kernel.version} of this host has no {', '.join(lacking)}" if lacking else ""


def _add(name: str, paths: dict[str, Path], modules: dict[str, bytes], order: list[str]) -> None:
    """A module behind those that it depends on. Chains of these are short, and go one way."""
    path = paths.get(name)
    if path is None or name in order:
        return
    data = modules.get(name) or _unpacked(path)
    depends = _DEPENDS.search(data)
    for other in depends[1].decode().split(",") if depends and depends[1] else ():
        _add(other.replace("-", "_"), paths, modules, order)
    modules[name] = data
    order.append(name)


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".zst":
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_MODULE_BYTES)
        case ".gz":
            return zlib.decompress(data, 31)
    return data


def _is_builtin(kernel: Kernel, name: str) -> bool:
    try:
        listed = (kernel.modules / "modules.builtin").read_text()
    except OSError:
        return False
    return any(line.rpartition("/")[2].replace("-", "_") == f"{name}.ko" for line in listed.splitlines())


def _libraries(program: Path) -> Iterator[tuple[str, Path]]:
    """(where it is looked for, where it is here) of every shared library of a program of this host."""
    listed = b""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        child = children.start(["ldd", str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            listed, _ = child.communicate(timeout=LDD_S)
        finally:
            children.kill(child)
            child.wait()
            children.forget(child)
    for line in listed.decode(errors="replace").splitlines():
        if match := _LIBRARY.search(line):
            yield match[1].lstrip("/"), Path(match[1])


def _folders(archive: _Archive, made: set[str], path: str) -> None:
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        if (folder := "/".join(parts[:depth])) not in made:
            made.add(folder)
            archive.folder(folder)


class _Archive:
    """A newc archive, written forwards."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._number = file, 0
        self.names: list[str] = []

    def folder(self, name: str) -> None:
        self._member(name, 0o040755, b"")

    def file(self, name: str, data: bytes) -> None:
        self._member(name, 0o100755, data)

    def end(self) -> None:
        self._member("TRAILER!!!", 0, b"")

    def _member(self, name: str, mode: int, data: bytes) -> None:
        self._number += 1
        self.names.append(name)
        fields = (self._number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        self._file.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))
