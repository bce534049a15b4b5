"""A VM's disk with a volume of each file system that `files` reads, and the same files in each; made without root.

A GPT: FAT, ext4 (the root, whose fstab mounts others), XFS, Btrfs, NTFS, and LVM with an ext4. What NTFS's tools can't
make without mounting, folders, it has not.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import bootdisk
import lvmdisk

MIB = 1 << 20
DATED_S = 1_600_000_000  # even: FAT counts in twos
LARGE_BYTES = {"fat": 9 * MIB + 12_345, "ext4": 9 * MIB + 12_345}  # where a test needs them; else 2 MiB and some
XFS_UUID, SRV_UUID = "22222222-94a1-4d0e-a1f5-5b7c3f1f2a31", "33333333-94a1-4d0e-a1f5-5b7c3f1f2a31"
FSTAB = (
    f"UUID={bootdisk.ROOT_UUID} / ext4 defaults 0 1\nUUID={XFS_UUID} /data xfs defaults 0 2\n"
    "/dev/vg/srv /srv ext4 defaults 0 2\n"
)
VOLUMES = {
    "fat": "disk1p1",
    "ext4": "disk1p2",
    "xfs": "disk1p3",
    "btrfs": "disk1p4",
    "ntfs": "disk1p5",
    "lvm": "vg/srv",
}
"""By what is on it, the volume's name."""
_SIZES = {"fat": 24, "ext4": 64, "xfs": 320, "btrfs": 128, "ntfs": 24, "lvm": 48}
_STARTS = {
    kind: MIB * (1 + sum(list(_SIZES.values())[:place])) for place, kind in enumerate(_SIZES)
}  # of each partition, in bytes


def start_of(kind: str) -> int:
    """Where its partition begins on the disk."""
    return _STARTS[kind]


def files_of(kind: str) -> dict[str, bytes]:
    """What each volume holds, by paths; large ones that differ."""
    large = random.Random(kind).randbytes(LARGE_BYTES.get(kind, 2 * MIB + 12_345))
    found = {"hello.txt": f"hello from {kind}\n".encode(), "large": large, "empty": b""}
    return found if kind == "ntfs" else found | {"sub/note.txt": b"in a folder", "sub/deep/x": b"x" * 5000}


def tree_of(home: Path, kind: str) -> Path:
    """The same as files of this host."""
    tree = home / kind
    for name, data in files_of(kind).items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (DATED_S, DATED_S))
    return tree


def _special(tree: Path) -> None:
    """What Linux has besides: the root's own, links, modes, what no folder of a host should get."""
    (tree / "etc").mkdir()
    for folder in ("data", "srv"):
        (tree / folder).mkdir()
    (tree / "etc/fstab").write_text(FSTAB)
    (tree / "etc/Case").write_text("upper")
    (tree / "etc/case").write_text("lower")
    (tree / "etc/su").write_text("su")
    (tree / "etc/su").chmod(0o6755)
    (tree / "etc/private").write_text("p")
    (tree / "etc/private").chmod(0o600)
    (tree / "etc/a b").write_text("blank")
    for name, target in {"near": "fstab", "up": "../hello.txt", "far": "/etc/shadow", "out": "../../x"}.items():
        (tree / "etc" / name).symlink_to(target)
    os.mkfifo(tree / "etc/fifo")
    (tree / "etc" / os.fsdecode(b"bad\xff")).write_text("bad")
    (tree / "etc/line\nend").write_text("x")


def _xfs(part: Path, tree: Path) -> None:
    lines: list[str] = []

    def add(folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            lines.append(f"{path.name} d--755 0 0" if path.is_dir() else f"{path.name} ---644 0 0 {path}")
            if path.is_dir():
                add(path)
                lines.append("$")

    add(tree)
    prototype = part.with_suffix(".proto")
    prototype.write_text("\n".join(["/", "0 0", "d--755 0 0", *lines, "$", ""]))
    bootdisk.run("mkfs.xfs", "-q", "-f", "-m", f"uuid={XFS_UUID}", "-p", prototype, part)


def _made(kind: str, part: Path, tree: Path) -> None:
    if kind == "fat":
        bootdisk.run("mkfs.fat", part)
        bootdisk.run("mcopy", "-s", "-m", "-i", part, *sorted(tree.iterdir()), "::")
    elif kind == "xfs":
        _xfs(part, tree)
    elif kind == "btrfs":
        bootdisk.run("mkfs.btrfs", "-q", "--rootdir", tree, part)
    elif kind == "ntfs":
        bootdisk.run("mkntfs", "-q", "-F", "-s", 512, "-p", 2048, "-H", 255, "-S", 63, part)
        for path in sorted(tree.iterdir()):
            bootdisk.run("ntfscp", "-q", part, path, path.name)
    else:
        uuid = bootdisk.ROOT_UUID if kind == "ext4" else SRV_UUID
        bootdisk.run("mkfs.ext4", "-q", "-F", "-U", uuid, "-E", "root_owner=0:0", "-d", tree, part)


def build(disk: Path) -> Path:
    """The disk; each tree stays beside it in `trees`."""
    home = disk.parent / "trees"
    home.mkdir()
    with disk.open("wb") as file:
        file.truncate(MIB * (sum(_SIZES.values()) + 8))
    types = dict.fromkeys(_SIZES, "L") | {"lvm": "V"}
    lines = [f"start={_STARTS[kind] // 512}, size={size}M, type={types[kind]}" for kind, size in _SIZES.items()]
    bootdisk.table(disk, "label: gpt\n" + "\n".join(lines) + "\n")
    for kind, size in _SIZES.items():
        tree = tree_of(home, kind)
        if kind == "ext4":
            _special(tree)
        part, at, length = home / f"{kind}.img", _STARTS[kind], size * MIB
        if kind == "lvm":
            length = 32 * MIB
            at = lvmdisk.write(disk, at, size * MIB, {"srv": length})["srv"]
        with part.open("wb") as file:
            file.truncate(length)
        _made(kind, part, tree)
        bootdisk.run("dd", f"if={part}", f"of={disk}", "bs=1M", "conv=notrunc,sparse", "oflag=seek_bytes", f"seek={at}")
        part.unlink()
    return disk
