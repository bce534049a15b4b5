"""A machine's disks as bytes: partitioned and filled by the usual tools, without root, mounts or loop devices.

LVM's tools and mdadm take block devices only, so labels, metadata and superblocks are written here (`lvmdisk.py`,
`mdmember.py`); file systems are made in files of their own and copied to their place, without their holes.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import tempfile
import uuid as uuids
from dataclasses import dataclass, field
from pathlib import Path

import bootdisk
import lvmdisk
from bootdisk import MIB, SECTOR_BYTES, run
from systems import kernels, loaders, mdmember, workshop
from systems.machine import (
    EXTENDED,
    Array,
    Content,
    Core,
    Disk,
    File,
    Fs,
    Initramfs,
    Kernel,
    Link,
    Locked,
    Machine,
    Member,
    Part,
    Physical,
    Raw,
    Uki,
)

LEAST_XFS_MIB = 320  # mkfs.xfs makes none smaller


def build(machine: Machine, home: Path) -> list[Path]:
    """Its disks as files in a folder, in the machine's order."""
    home.mkdir(parents=True, exist_ok=True)
    if machine.alive:
        machine.files.update({path: file for path, file in kernels.userland().items() if path not in machine.files})
    work = _Work(machine, home)
    for number, disk in enumerate(machine.disks):
        work.disk(number, disk)
    work.groups()
    work.arrays()
    for path, disk in zip(work.paths, machine.disks, strict=True):
        for change in disk.after:
            change(path)
    return work.paths


def graft(image: Path, disk: Path, at: int) -> None:
    """Copy a file into a disk, without its holes."""
    with image.open("rb") as source, disk.open("r+b") as target:
        end, place = image.stat().st_size, 0
        while place < end:
            try:
                place = os.lseek(source.fileno(), place, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole
                    return
                raise
            stop = os.lseek(source.fileno(), place, os.SEEK_HOLE)
            while place < stop:
                data = os.pread(source.fileno(), min(stop - place, 4 * MIB), place)
                os.pwrite(target.fileno(), data, at + place)
                place += len(data)


@dataclass
class _Work:
    machine: Machine
    home: Path
    paths: list[Path] = field(default_factory=list)
    physicals: dict[str, list[lvmdisk.Physical]] = field(default_factory=dict)
    members: dict[str, list[tuple[Path, int, int]]] = field(default_factory=dict)

    def disk(self, number: int, disk: Disk) -> None:
        path = self.home / f"sd{'abcdefgh'[number]}.raw"
        self.paths.append(path)
        with path.open("wb") as file:
            file.truncate(disk.mib * MIB)
        if not disk.label:
            if disk.whole is not None:
                self.fill(path, 0, disk.mib * MIB, disk.whole)
            return
        taken = places(disk)
        _table(path, disk, taken)
        if disk.code:
            bootdisk.write_at(path, 0, disk.code)
        if disk.core:
            self.core(path, disk.core, 1)
        for part, (at, size) in zip(disk.parts, taken, strict=True):
            if isinstance(part.content, Core):
                self.core(path, part.content, at // SECTOR_BYTES)
            elif part.content is not None:
                self.fill(path, at, size, part.content)

    def core(self, path: Path, core: Core, sector: int) -> None:
        """GRUB's boot.img and its core image, as grub-install writes both."""
        image = bytearray(loaders.core(core))
        boot = bytearray((Path("/usr/lib/grub/i386-pc/boot.img")).read_bytes()[:440])
        struct.pack_into("<Q", boot, 0x5C, sector)
        # The first sector of the core ends in the list of the others: where, how many, in which segment.
        struct.pack_into("<Q", image, SECTOR_BYTES - 12, sector + 1)
        bootdisk.write_at(path, 0, bytes(boot))
        bootdisk.write_at(path, sector * SECTOR_BYTES, bytes(image))

    def fill(self, path: Path, at: int, size: int, content: Content) -> None:
        match content:
            case Fs():
                image = self.image(content, size)
                graft(image, path, at)
                image.unlink()
            case Raw(data):
                bootdisk.write_at(path, at, data)
            case Locked():
                bootdisk.write_at(path, at, _luks(content))
            case Physical(group):
                self.physicals.setdefault(group, []).append(lvmdisk.Physical(path, at, size))
            case Member(array):
                self.members.setdefault(array, []).append((path, at, size))
            case _:
                raise AssertionError(content)

    def image(self, fs: Fs, size: int) -> Path:
        """The file system, filled with what of the system lies on it."""
        image = self.home / "image"
        image.unlink(missing_ok=True)
        with image.open("wb") as file:
            file.truncate(size)
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            tree = Path(folder) / "tree"
            tree.mkdir()
            for name, data in self.machine.tree(fs).items():
                self.write(tree / name.lstrip("/"), data)
            for folder_of_fs in fs.mounts.values():
                (tree / folder_of_fs.lstrip("/")).mkdir(parents=True, exist_ok=True)
            _make(fs, image, tree, Path(folder))
        if fs.after:
            fs.after(image)
        return image

    def write(self, path: Path, data: File) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        alive = self.machine.alive
        match data:
            case Link(target):
                path.symlink_to(target)
                return
            case Kernel(version):
                content = kernels.image(version, whole=alive)
            case Initramfs():
                content = kernels.initramfs(data, alive=alive, mapped=self.mapped() if alive else "")
            case Uki():
                content = kernels.uki(data, alive=alive, mapped=self.mapped() if alive else "")
            case _:
                content = data
        path.write_bytes(content)
        path.chmod(0o755)

    def mapped(self) -> str:
        """How a drill's initramfs maps linear logical volumes, of groups on the first disk's partitions."""
        out = []
        for name, group in self.machine.groups.items():
            disk = self.machine.disks[0]
            (number,) = (
                n for n, part in zip(_numbers(disk), disk.parts, strict=True) if part.content == Physical(name)
            )
            extent = 0
            for volume, logical in group.volumes.items():
                sectors = logical.content.mib * MIB // SECTOR_BYTES
                start = (lvmdisk.DATA_AT + extent * lvmdisk.EXTENT_BYTES) // SECTOR_BYTES
                mapper = f"{name.replace('-', '--')}-{volume.replace('-', '--')}"
                out.append(
                    f"[ -e /dev/mapper/{mapper} ] || DM_DISABLE_UDEV=1 dmsetup create {mapper} --noudevsync "
                    f"--table '0 {sectors} linear /dev/nvme0n1p{number} {start}'"
                )
                extent += -(-logical.content.mib * MIB // lvmdisk.EXTENT_BYTES)
        return "\n".join(out)

    def groups(self) -> None:
        for name, group in self.machine.groups.items():
            volumes = {
                volume: lvmdisk.Logical(each.content.mib * MIB, each.on, each.segment, visible=not each.hidden)
                for volume, each in group.volumes.items()
            }
            places = lvmdisk.write_group(name, self.physicals[name], volumes, absent=group.absent, bare=group.bare)
            for volume, (path, at) in places.items():
                each = group.volumes[volume]
                if not each.segment and each.content.kind:
                    self.fill(path, at, each.content.mib * MIB, each.content)

    def arrays(self) -> None:
        for name, array in self.machine.arrays.items():
            self.array(array, self.members.get(name, []))

    def array(self, array: Array, members: list[tuple[Path, int, int]]) -> None:
        size = min(size for _, _, size in members)
        room = mdmember.room(array.metadata, size)
        size = room * (array.devices if array.level == 0 else 1)
        image = self.image(array.content, size) if array.level < 2 else None
        for number, (path, at, length) in enumerate(members):
            if image is None:  # of parity nothing is computed here
                pass
            elif array.level == 1:
                graft(image, path, at + mdmember.data_at(array.metadata))
            else:
                mdmember.stripe(image, path, at + mdmember.data_at(array.metadata), number, array.devices)
            mdmember.write(path, at, length, array, number)
        if image:
            image.unlink()


def places(disk: Disk) -> list[tuple[int, int]]:
    """(offset, bytes) of each partition, one after the other; logical ones inside the extended one."""
    at, end = MIB, disk.mib * MIB - (MIB if disk.label == "gpt" else 0)
    out = []
    logical = False
    for part in disk.parts:
        if logical:
            at += MIB
        size = part.mib * MIB or end - at
        out.append((at, size))
        if part.kind == EXTENDED:
            logical = True
        else:
            at += size
    return out


def _table(path: Path, disk: Disk, places: list[tuple[int, int]]) -> None:
    lines = [f"label: {disk.label}"] + ([f"label-id: {disk.disk_id}"] if disk.disk_id else [])
    for number, part, (at, size) in zip(_numbers(disk), disk.parts, places, strict=True):
        words = [f"start={at // SECTOR_BYTES}", f"size={size // SECTOR_BYTES}", f"type={part.kind}"]
        words += ["bootable"] if part.active else []
        words += [f'name="{part.name}"'] if part.name else []
        words += [f"uuid={part.uuid}"] if part.uuid else []
        lines.append(f"{path}{number} : {', '.join(words)}")
    bootdisk.table(path, "\n".join(lines) + "\n")


def _numbers(disk: Disk) -> list[int]:
    """As the kernel counts the partitions: logical ones from 5."""
    kinds = [part.kind for part in disk.parts]
    plain = kinds.index(EXTENDED) + 1 if EXTENDED in kinds else len(kinds)
    return [*range(1, plain + 1), *range(5, 5 + len(kinds) - plain)]


def _make(fs: Fs, image: Path, tree: Path, scratch: Path) -> None:
    """A file system in a file, with a tree in it."""
    label, uuid = fs.label, fs.uuid
    match fs.kind:
        case "ext2" | "ext3" | "ext4":
            words = ["-L", label] if label else []
            words += ["-U", uuid] if uuid else []
            run(
                f"mkfs.{fs.kind}", "-q", "-F", "-m", "0", *words, *fs.options, "-d", tree, "-E", "root_owner=0:0", image
            )
        case "xfs":
            words = ["-L", label] if label else []
            words += ["-m", f"uuid={uuid}"] if uuid else []
            prototype = scratch / "prototype"
            prototype.write_text(f"/stub\n0 0\nd--755 0 0\n{_prototype(tree)}$\n")
            run("mkfs.xfs", "-q", "-f", *words, *fs.options, "-p", prototype, image)
        case "btrfs":
            words = ["-L", label] if label else []
            words += ["-U", uuid] if uuid else []
            run("mkfs.btrfs", "-q", *words, *fs.options, *([] if fs.real else ["--rootdir", tree]), image)
            if fs.real:
                workshop.subvolumes(image, tree, list(fs.mounts.values()), fs.default)
        case "vfat":
            words = ["-n", label] if label else []
            words += ["-i", uuid.replace("-", "")] if uuid else []
            run("mkfs.fat", *words, *fs.options, image)
            names = sorted(path for path in tree.iterdir())
            if names:
                run("mcopy", "-s", "-o", "-Q", "-i", image, *names, "::")
        case "swap":
            run("mkswap", *(["-L", label] if label else []), *(["-U", uuid] if uuid else []), image)
        case "ntfs":
            run("mkntfs", "-q", "-Q", "-F", "-s", "512", "-p", "2048", "-H", "255", "-S", "63", *fs.options, image)
            for path in sorted(tree.rglob("*")):
                inside = f"/{path.relative_to(tree)}"
                if path.is_dir():
                    _ntfs_folder(image, inside)
                else:
                    run("ntfscp", "-f", image, path, inside)
        case _:
            raise AssertionError(fs.kind)


def _ntfs_folder(image: Path, path: str) -> None:
    raise bootdisk.BuildError(f"ntfs-3g's tools make no folder without a mount: {path} on {image.name}")


def _prototype(folder: Path) -> str:
    """A folder's lines of a prototype of mkfs.xfs."""
    out = []
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            out.append(f"{path.name} l--777 0 0 {path.readlink()}\n")
        elif path.is_dir():
            out.append(f"{path.name} d--755 0 0\n{_prototype(path)}$\n")
        else:
            out.append(f"{path.name} ---755 0 0 {path}\n")
    return "".join(out)


def _luks(locked: Locked) -> bytes:
    uuid = str(uuids.UUID(locked.uuid)).encode().ljust(40, b"\0")
    if locked.version == 1:
        names = b"aes".ljust(32, b"\0") + b"xts-plain64".ljust(32, b"\0") + b"sha256".ljust(32, b"\0")
        header = b"LUKS\xba\xbe" + struct.pack(">H", 1) + names
        return header + struct.pack(">II", 4096, 64) + bytes(20 + 32 + 4) + uuid
    header = b"LUKS\xba\xbe" + struct.pack(">HQQ", 2, 16384, 1) + bytes(48) + b"sha256".ljust(32, b"\0") + bytes(64)
    return (header + uuid).ljust(16384, b"\0")


def copy(source: Path, target: Path) -> Path:
    """Quickly, where the file system can."""
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", source, target], check=True)
    return target


def remove(home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)


__all__ = ["Part", "build", "copy", "graft", "remove"]
