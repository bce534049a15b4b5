"""GRUB's readers on real file systems: what is there, what is not, and what can't be read, told from one another."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import bootdisk
import lvmdisk
from readydisks import MIB, empty
from rigs.guests import vmdisks
from warmspare.recover.disks.held_replica import HeldDisk
from warmspare.recover.disks.programs import Budget, Spent
from warmspare.recover.readiness.answers import ABSENT, Absent, Unknown
from warmspare.recover.readiness.guest.volumes import Contents, Volume, Volumes
from warmspare.recover.readiness.readers import btrfs
from warmspare.recover.readiness.readers.fallback import Fallback
from warmspare.recover.readiness.readers.rootfolder import RootFolder, root_folder

UUID = "12345678-1234-4321-8888-123456789abc"


@contextmanager
def opened(*paths: Path) -> Iterator[Volumes]:
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    try:
        held = [HeldDisk(path.name, path, path.stat().st_size, fd) for path, fd in zip(paths, fds, strict=True)]
        yield Volumes(held, Budget())
    finally:
        for fd in fds:
            os.close(fd)


@contextmanager
def files(path: Path) -> Iterator[Fallback]:
    """Of a file system that fills a disk."""
    with opened(path) as volumes:
        (volume,) = volumes.all()
        yield volumes.files(volume)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("plain"))


def made(home: Path, *options: str) -> Path:
    """An ext4 with a file of each kind."""
    tree = home / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "boot").mkdir()
    (tree / "etc/fstab").write_text("x\n")
    (tree / "etc/large").write_bytes(b"l" * 5000)
    (tree / "etc/br(a) ck").write_text("odd")
    (tree / ".hidden").mkdir()
    (tree / "empty").touch()
    for name, target in {
        "rel": "etc/fstab",
        "abs": "/etc/fstab",
        "dangling": "nowhere",
        "out": "/usr/lib/x",
        "folder": "/etc",
        "loop": "loop2",
        "loop2": "loop",
        "far": "usr/lib",
    }.items():
        (tree / name).symlink_to(target)
    disk = empty(home / "ext4.img", 16 * MIB)
    bootdisk.run("mkfs.ext4", "-q", "-F", "-b", "1024", *options, "-d", tree, disk)
    return disk


def test_what_is_there(plain: Path) -> None:
    with files(plain) as seen:
        for path in ("/etc/fstab", "/rel", "/abs", "/folder/fstab", "//etc/../etc/./fstab"):
            assert seen.read(path) == b"x\n", path
        assert seen.read("/empty") == b"" and seen.read("/etc/br(a) ck") == b"odd"
        assert seen.head("/etc/large", 7) == b"lllllll" and seen.head("/etc/fstab", 100) == b"x\n"
        assert seen.names("/boot") == [] == seen.names("/boot/")
        assert {"etc/", ".hidden/", "dangling"} < {*(seen.names("/") or [])}  # type: ignore[misc]
        with seen.stream("/etc/large") as file:
            assert file.read() == b"l" * 5000


def test_what_is_not_there(plain: Path) -> None:
    with files(plain) as seen:
        for path in ("/nope", "/nope/x", "/etc/nope", "/boot/a/b/c", "/etc/fstab/x", "/folder/nope", "/rel/x"):
            assert (seen.read(path), seen.head(path, 1), seen.names(path)) == (ABSENT, ABSENT, ABSENT), path
        assert seen.read("/etc") is ABSENT and seen.names("/etc/fstab") is ABSENT
        with pytest.raises(FileNotFoundError, match="it is not there"), seen.stream("/nope") as file:
            file.read()


def test_what_is_not_known(plain: Path) -> None:
    with files(plain) as seen:
        for path, why in {
            "/dangling": "symbolic link",
            "/out": "symbolic link",
            "/far/modules/x": "/far is a symbolic link",
            "/loop": "too deep nesting",
            "/" + "a/" * 90: "more than 64 folders",
            "/etc/\n": "can be asked for",
            "/" + "a" * 5000: "none that can be asked for",
        }.items():
            answer = seen.read(path)
            assert isinstance(answer, Unknown) and why in answer.why, path
        assert seen.read("/etc/large", most_bytes=4999) == Unknown("/etc/large is larger than 4 KiB")
        assert seen.read("/etc/large", most_bytes=5000) == b"l" * 5000


@pytest.mark.parametrize("feature", ["casefold", "inline_data", "bigalloc", "ea_inode"])
def test_features_of_ext4_that_this_grub_does_not_read_are_named(feature: str, tmp_path: Path) -> None:
    disk = made(tmp_path, "-O", feature, "-U", UUID)
    with opened(disk) as volumes:
        (volume,) = volumes.all()
        assert volumes.held(volume) == Contents("ext4", UUID, "")
        seen = volumes.files(volume)
        expected = Unknown(f"its ext4 has {feature}, which {volumes.grub.version} does not read")
        assert seen.read("/etc/fstab") == seen.head("/nope", 1) == seen.names("/") == expected
        with pytest.raises(OSError, match=feature), seen.stream("/etc/fstab") as file:
            file.read()


@pytest.mark.parametrize("feature", ["metadata_csum_seed", "orphan_file", "encrypt", "verity", "large_dir"])
def test_features_of_ext4_that_are_read_all_the_same(feature: str, tmp_path: Path) -> None:
    with files(made(tmp_path, "-O", feature)) as seen:
        assert (seen.read("/etc/fstab"), seen.read("/nope")) == (b"x\n", ABSENT)


@pytest.mark.parametrize(("bit", "name"), [(6, "exchange"), (7, "parent"), (8, "metadir"), (20, "feature 0x100000")])
def test_features_of_xfs_that_this_grub_does_not_read_are_named(bit: int, name: str, tmp_path: Path) -> None:
    disk = empty(tmp_path / "xfs.img", 320 * MIB)
    bootdisk.run("mkfs.xfs", "-q", "-f", "-m", f"uuid={UUID}", "-L", "data", disk)
    with files(disk) as seen:
        assert (seen.read("/etc/fstab"), seen.names("/")) == (ABSENT, [])
    with disk.open("r+b") as file:
        file.seek(0xD8)
        (bits,) = struct.unpack(">I", file.read(4))
        file.seek(0xD8)
        file.write(struct.pack(">I", bits | 1 << bit))
    with opened(disk) as volumes:
        (volume,) = volumes.all()
        assert (volume.filesystem, volumes.held(volume)) == ("", Contents("xfs", UUID, "data"))
        answer = volumes.files(volume).read("/etc/fstab")
        assert answer == Unknown(f"its XFS has {name}, which {volumes.grub.version} does not read")


def block_of(disk: Path, path: str) -> int:
    return int(bootdisk.run("debugfs", "-R", f"blocks {path}", disk).split()[0]) * 1024


@pytest.mark.parametrize("filling", [b"\xff", b"\0"])
def test_a_damaged_folder_is_not_taken_for_an_empty_one(filling: bytes, plain: Path, tmp_path: Path) -> None:
    disk = tmp_path / "d.img"
    subprocess.run(["cp", "--sparse=always", plain, disk], check=True)
    bootdisk.write_at(disk, block_of(disk, "/etc"), filling * 1024)
    with files(disk) as seen:
        for answer in (seen.read("/etc/fstab"), seen.read("/etc/nope"), seen.names("/etc"), seen.read("/rel")):
            assert isinstance(answer, Unknown), answer
        assert seen.read("/nope") is ABSENT and seen.names("/boot") == []


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("set_inode_field /etc flags 0x80800", "/etc/fstab"),
        ("set_inode_field / block[5] 0x7fffffff", "/nope"),
        ("set_inode_field /etc/fstab block[5] 0x7fffffff", "/etc/fstab"),
        ("set_inode_field /etc block[5] 0x7fffffff", "/etc/nope"),
    ],
)
def test_damage_and_encryption_are_not_known(command: str, path: str, plain: Path, tmp_path: Path) -> None:
    disk = tmp_path / "d.img"
    subprocess.run(["cp", "--sparse=always", plain, disk], check=True)
    bootdisk.run("debugfs", "-w", "-R", command, disk)
    with files(disk) as seen:
        answer = seen.read(path)
        assert isinstance(answer, Unknown) and ("GRUB" in answer.why or "folder" in answer.why), answer


def test_a_volume_that_is_not_there_or_holds_nothing(tmp_path: Path) -> None:
    disk = empty(tmp_path / "d.img", 4 * MIB, "label: dos\nstart=2048,type=83\n")
    with opened(disk) as volumes:
        for device in ("loop0,msdos1", "loop0,msdos2", "loop7", "lvm/vg-root"):
            answer = volumes.files(Volume(device, "", "", "")).read("/etc/fstab")
            assert isinstance(answer, Unknown) and "GRUB" in answer.why, device
        assert "holds no file system" in str(volumes.files(Volume("loop0,msdos1", "", "", "")).names("/"))


def test_what_logical_volumes_hold(tmp_path: Path) -> None:
    """blkid sees partitions; of what is on LVM the same is known."""
    disk = empty(tmp_path / "d.img", 64 * MIB)
    places = lvmdisk.write(disk, 0, 64 * MIB, {"root": 16 * MIB, "swap": 8 * MIB, "crypt": 8 * MIB, "none": 4 * MIB})
    swap = empty(tmp_path / "swap", 8 * MIB)
    bootdisk.run("mkswap", "-q", "-U", UUID, "-L", "a b", swap)
    words = b"aes", b"xts-plain64", b"sha256", 4096, 32, b"", b"", 1000, UUID.encode()
    luks = struct.pack(">6sH32s32s32sII20s32sI40s", b"LUKS\xba\xbe", 1, *words)
    root = made(tmp_path / "root", "-O", "casefold", "-L", "sys")
    for name, data in (("swap", swap.read_bytes()), ("crypt", luks), ("root", root.read_bytes())):
        bootdisk.write_at(disk, places[name], data)
    with opened(disk) as volumes:
        held = {volume.device: volumes.held(volume) for volume in volumes.all()}
        assert held["lvm/vg-swap"] == Contents("swap", UUID, "a b")
        assert held["lvm/vg-crypt"] == Contents("crypto_LUKS", UUID, "")
        assert held["lvm/vg-none"] == Contents("", "", "")
        seen = held["lvm/vg-root"]
        assert isinstance(seen, Contents) and (seen.kind, seen.label) == ("ext4", "sys")
        assert isinstance(volumes.held(Volume("lvm/vg-x", "", "", "")), Unknown)


def test_names_on_fat_are_found_in_any_case(tmp_path: Path) -> None:
    disk = empty(tmp_path / "fat.img", 16 * MIB)
    bootdisk.run("mkfs.fat", disk)
    for folder in ("EFI", "EFI/BOOT"):
        bootdisk.run("mmd", "-i", disk, f"::{folder}")
    (tmp_path / "f").write_bytes(b"MZ")
    bootdisk.run("mcopy", "-i", disk, tmp_path / "f", "::EFI/BOOT/BOOTX64.EFI")
    with files(disk) as seen:
        assert seen.head("/efi/boot/bootx64.efi", 2) == b"MZ" == seen.head("/EFI/BOOT/BOOTX64.EFI", 9)
        assert (seen.read("/efi/debian/x"), seen.names("/efi")) == (ABSENT, ["boot/"])


def test_a_prefix_is_the_root_and_nothing_leads_out_of_it(plain: Path) -> None:
    with files(plain) as whole:
        seen = whole.within("/etc")
        assert seen.read("/fstab") == b"x\n" == seen.read("/../../fstab")
        assert seen.read("/etc/fstab") is ABSENT and isinstance(seen.names("/"), list)
        assert whole.within("/dangling").read("/x") == Unknown(
            "/dangling is a symbolic link that leads out of the volume, or it can't be read"
        )


def test_limits_are_told_and_the_end_of_the_budget_goes_through(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(plain) as volumes:
        (volume,) = volumes.all()
        seen = volumes.files(volume)
        monkeypatch.setattr("warmspare.recover.disks.programs.ADDRESS_SPACE_BYTES", 1 << 20)
        for answer in (seen.read("/etc/fstab"), seen.names("/boot"), seen.head("/nope", 1)):
            assert not isinstance(answer, Absent) and isinstance(answer, Unknown)
    with opened(plain) as volumes:
        monkeypatch.undo()
        seen = volumes.files(volume)
        monkeypatch.setattr("warmspare.recover.disks.programs.Budget.next", _spent)
        with pytest.raises(Spent):
            seen.read("/etc/fstab")


def _spent(budget: Budget) -> int:
    raise Spent("all is used up")


def test_subvolumes_of_a_btrfs_and_the_root_among_them() -> None:
    """As SUSE has them: a snapshot is the default, and not the newest."""
    disk, _ = vmdisks.linux_made()
    with opened(disk) as volumes:
        every = volumes.all()
        (volume,) = every
        known = volumes.subvolumes(volume, every)
        assert not isinstance(known, Unknown)
        default = known.default()
        assert isinstance(default, int) and known.path(default) == "/@/.snapshots/1/snapshot"
        paths = {known.path(number) for number in range(256, 263)}
        assert {"/@", "/@/.snapshots", "/@/.snapshots/12/snapshot", "/@rootfs", "/deep/folder/below"} < paths
        assert known.path(5) == "" and isinstance(known.path(999), Unknown)
        top = volumes.files(volume)
        for options, prefix, text in (
            ([], "/@/.snapshots/1/snapshot", b"one\n"),
            (["subvol=@rootfs"], "/@rootfs", b"debian\n"),
            (["compress=zstd", "subvol=/@/.snapshots/12/snapshot"], "/@/.snapshots/12/snapshot", b"twelve\n"),
        ):
            root = root_folder(top, options, lambda: known)
            assert root == RootFolder(prefix, True)
            assert top.within(prefix).read("/etc/fstab") == text
            assert top.within(prefix).read("/etc/crypttab") is ABSENT


def test_damaged_trees_of_a_btrfs_end_and_are_not_known(tmp_path: Path) -> None:
    """Whatever bytes are changed in what is read of it: an answer, or that there is none."""
    disk, _ = vmdisks.linux_made()
    data, rng, answers = disk.read_bytes(), random.Random(11), set()
    for number in range(300):
        hurt = _Hurt(data, rng, number % 9 + 1)
        known = btrfs.opened([hurt])
        default = known if isinstance(known, Unknown) else known.default()
        if isinstance(known, btrfs.BtrfsSubvolumes) and isinstance(default, int):
            answers.add(str(known.path(default)))
        assert hurt.reads <= btrfs.MAX_NODES + 1
    assert "/@/.snapshots/1/snapshot" in answers and len(answers) > 1


class _Hurt:
    """Reads of a disk, of which one gives other bytes."""

    def __init__(self, data: bytes, rng: random.Random, which: int) -> None:
        self._data, self._rng, self._which, self.reads = data, rng, which, 0

    def __call__(self, offset: int, count: int) -> bytes:
        self.reads += 1
        piece = bytearray(self._data[offset : offset + count])
        for _ in range(self._rng.choice([1, 4]) if piece and self.reads == self._which else 0):
            most = self._rng.choice([120, 900, 16384])
            piece[self._rng.randrange(min(len(piece), most))] = self._rng.randrange(256)
        return bytes(piece)
