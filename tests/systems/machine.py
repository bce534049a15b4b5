"""What a machine consists of, before it is bytes: disks, partitions, file systems, groups, arrays, files; writes none.

Files are named by their path in the running system; which file system a file lies on follows from the mounts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
BIOS_BOOT_TYPE = "21686148-6449-6E6F-744E-656564454649"
LINUX, SWAP, LVM, RAID, EXTENDED = "L", "S", "V", "R", "5"  # sfdisk's shortcuts, of MBR and GPT alike


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel of the tests under another version; its beginning alone, unless the machine is to start."""

    version: str


@dataclass(frozen=True, slots=True)
class Initramfs:
    """names: of modules in it, by the path below their kernel's folder. packing: one of kernels.PACKINGS."""

    version: str
    names: tuple[str, ...]
    packing: str = "gzip"


@dataclass(frozen=True, slots=True)
class Uki:
    """A unified kernel image of systemd's stub."""

    version: str
    cmdline: str
    initramfs: Initramfs | None = None


File = bytes | Link | Kernel | Initramfs | Uki


@dataclass(slots=True)
class Fs:
    """A file system. mounts: where the system sees which folder of it. options: of its mkfs. after: the last touch to
    its image, for what no tool here makes. real: of a Btrfs, that the mounts' folders are subvolumes; else they are
    plain folders, which readers show alike. default: its default subvolume."""

    kind: str
    uuid: str = ""
    label: str = ""
    mounts: dict[str, str] = field(default_factory=dict)
    mib: int = 0
    options: tuple[str, ...] = ()
    after: Callable[[Path], None] | None = None
    real: bool = False
    default: str = ""


@dataclass(slots=True)
class Raw:
    """Bytes at a partition's beginning."""

    data: bytes


@dataclass(slots=True)
class Core:
    """GRUB's core image for the BIOS, in a BIOS boot partition or, as a disk's `core`, in the gap behind its MBR.
    early: the configuration that is embedded. few: without the modules that it can load itself."""

    prefix: str
    early: str = ""
    modules: tuple[str, ...] = ()
    few: bool = False


@dataclass(slots=True)
class Physical:
    """A physical volume of a group, the next of those that it has."""

    group: str


@dataclass(slots=True)
class Member:
    """A member of an array, the next of those that it has."""

    array: str


@dataclass(slots=True)
class Locked:
    """LUKS: of what is in it nothing can be seen."""

    uuid: str
    version: int = 1


Content = Fs | Raw | Core | Physical | Member | Locked | None


@dataclass(slots=True)
class Part:
    """A partition. mib: 0 for the rest of the disk. name, uuid: of a GPT."""

    content: Content = None
    mib: int = 0
    kind: str = LINUX
    active: bool = False
    name: str = ""
    uuid: str = ""


@dataclass(slots=True)
class Disk:
    """label: gpt, dos, or "" for none: then `whole` fills it. code: the first 440 bytes, where `core` gives none."""

    mib: int
    label: str = "dos"
    parts: list[Part] = field(default_factory=list)
    core: Core | None = None
    code: bytes = b""
    whole: Content = None
    disk_id: str = ""
    after: list[Callable[[Path], None]] = field(default_factory=list)


@dataclass(slots=True)
class Logical:
    """A logical volume. on: the number of the physical volume that it lies on. segment: the metadata's words of its
    type in place of a linear one's."""

    content: Fs
    on: int = 0
    segment: str = ""
    hidden: bool = False


@dataclass(slots=True)
class Group:
    """absent: how many physical volumes, behind those that are there, the group has elsewhere. bare: the last that is
    there has the group's metadata, and no other."""

    volumes: dict[str, Logical]
    absent: int = 0
    bare: bool = False


@dataclass(slots=True)
class Array:
    """Linux RAID. metadata: 0.90, 1.0 or 1.2. devices: as its superblocks state."""

    level: int
    content: Fs
    metadata: str = "1.2"
    devices: int = 2
    name: str = "host:0"
    uuid: str = "3a0c3d5e-1f64-4f0b-9c57-3e5f8b7a9d21"


@dataclass(slots=True)
class Machine:
    """firmware: bios, uefi. alive: it is to start in a drill, so that kernels are whole and the root has a userland.
    dm: what the drill's initramfs maps before it looks for the root, as NAME TABLE lines."""

    name: str
    firmware: str
    disks: list[Disk]
    files: dict[str, File] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    alive: bool = False

    def every(self) -> list[Fs]:
        """All file systems."""
        out = [volume.content for group in self.groups.values() for volume in group.volumes.values()]
        out += [array.content for array in self.arrays.values()]
        for disk in self.disks:
            contents = [disk.whole, *(part.content for part in disk.parts)]
            out += [each for each in contents if isinstance(each, Fs)]
        return out

    def tree(self, of: Fs) -> dict[str, File]:
        """The files on a file system, by their paths on it."""
        mounts = [(point.rstrip("/"), fs, folder) for fs in self.every() for point, folder in fs.mounts.items()]
        mounts.sort(key=lambda mount: len(mount[0]), reverse=True)
        out: dict[str, File] = {}
        for path, file in self.files.items():
            found = [mount for mount in mounts if path.startswith(mount[0] + "/")]
            if found and found[0][1] is of:
                out[found[0][2] + path[len(found[0][0]) :]] = file
        return out

    def text(self, path: str) -> str:
        data = self.files[path]
        assert isinstance(data, bytes), path
        return data.decode()

    def put(self, path: str, text: str) -> None:
        self.files[path] = text.encode()

    def change(self, path: str, old: str, new: str, count: int = -1) -> None:
        """Replace what must be there."""
        text = self.text(path)
        assert old in text, (path, old)
        self.put(path, text.replace(old, new, count))

    def drop(self, *beginnings: str) -> None:
        """Remove the files whose paths begin so, of which there must be some."""
        for beginning in beginnings:
            gone = [path for path in self.files if path.startswith(beginning)]
            assert gone, beginning
            for path in gone:
                del self.files[path]
