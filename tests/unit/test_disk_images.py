"""Image files of disks are known by their marks, and the bytes of disks are never taken for one."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path

import lz4.frame
import pytest
import zstandard

import bootdisk
import lvmdisk
from rigs.guests import mddisk
from warmspare.outside.diskimages import DiskImage, recognised

pytestmark = pytest.mark.program

MIB = 1 << 20


def told(data: bytes) -> DiskImage | None:
    return recognised(lambda offset, count: data[max(offset, 0) : max(offset, 0) + count], len(data))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small disk with a partition table and something in it."""
    path = tmp_path_factory.mktemp("raw") / "disk.raw"
    path.write_bytes(random.Random(1).randbytes(2 * MIB) + bytes(6 * MIB))
    bootdisk.write_at(path, 0, bytes(512))
    bootdisk.table(path, "label: dos\nstart=2048,type=83,bootable\n")
    return path


@pytest.mark.parametrize(
    ("form", "options", "what"),
    [
        ("vmdk", "", "a VMDK (monolithicSparse)"),
        ("vmdk", "subformat=streamOptimized", "a VMDK (streamOptimized)"),
        ("vmdk", "subformat=monolithicFlat", "a VMDK's descriptor"),
        ("vmdk", "subformat=twoGbMaxExtentSparse", "a VMDK's descriptor"),
        ("vpc", "", "a VHD (dynamic)"),
        ("vpc", "subformat=fixed", "a VHD (fixed: its last 512 bytes are no part of the disk)"),
        ("vhdx", "", "a VHDX"),
        ("vhdx", "subformat=fixed", "a VHDX"),
        ("qcow2", "", "a qcow2 image"),
        ("qcow2", "compat=0.10", "a qcow2 image"),
        ("qcow2", "cluster_size=512", "a qcow2 image"),
        ("qcow", "", "a qcow image"),
        ("qed", "", "a QED image"),
        ("vdi", "", "a VDI image"),
        ("parallels", "", "a Parallels image"),
        ("raw", "", None),
    ],
)
def test_what_qemu_img_makes_is_told_apart(
    form: str, options: str, what: str | None, raw: Path, tmp_path: Path
) -> None:
    more = ["-o", options] if options else []
    made = tmp_path / f"disk.{form}"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, *more, raw, made], check=True)
    found = told(made.read_bytes())
    assert (found.what if found else None) == what
    if options == "subformat=monolithicFlat":
        assert found is not None and "'disk-flat.vmdk'" in found.remedy
        assert told((tmp_path / "disk-flat.vmdk").read_bytes()) is None
    if options == "subformat=twoGbMaxExtentSparse":
        assert found is not None and "qemu-img convert" in found.remedy
        assert told((tmp_path / "disk-s001.vmdk").read_bytes()) is not None


@pytest.mark.parametrize("form", ["vmdk", "vpc", "vpc fixed", "vhdx", "qcow2", "vdi", "gzip"])
def test_what_the_remedy_makes_of_it_is_the_disk(form: str, raw: Path, tmp_path: Path) -> None:
    made, back = tmp_path / "disk.image", tmp_path / "back.raw"
    name, _, fixed = form.partition(" ")
    if form == "gzip":
        made.write_bytes(gzip.compress(raw.read_bytes(), 1))
        back.write_bytes(gzip.decompress(made.read_bytes()))
    else:
        more = ["-o", "subformat=fixed"] if fixed else []
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", name, *more, raw, made], check=True)
        found = told(made.read_bytes())
        assert found is not None
        command = found.remedy.partition("`")[2].partition("`")[0].split()
        subprocess.run([{"IMAGE": made, "DISK": back}.get(word, word) for word in command], check=True)
    assert told(back.read_bytes()) is None
    assert back.read_bytes()[: 8 * MIB].ljust(8 * MIB, b"\0") == raw.read_bytes()


def archive(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 5
        tar.addfile(info, io.BytesIO(b"<ovf>"))
    return out.getvalue()


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("disk.vmdk", data)
    return out.getvalue()


def cd(blocks: int, size: int) -> bytes:
    data = bytearray(size)
    data[32768:32775] = b"\1CD001\1"
    struct.pack_into("<I", data, 32768 + 80, blocks)
    struct.pack_into("<H", data, 32768 + 128, 2048)
    return bytes(data)


COWD = b"COWD" + struct.pack("<IIII", 1, 3, 8 << 11, 1)
SE = struct.pack("<QQ", 0xCAFEBABE, 0x200000001)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (archive("vm.ovf"), "an OVA"),
        (archive("disk-1.vmdk"), "a tar archive with a disk in it"),
        (archive("etc/passwd"), None),
        (gzip.compress(bytes(MIB)), "compressed by gzip"),
        (lzma.compress(bytes(MIB)), "compressed by xz"),
        (bz2.compress(bytes(MIB)), "compressed by bzip2"),
        (zstandard.ZstdCompressor().compress(random.Random(2).randbytes(MIB)), "compressed by zstd"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(bytes(MIB)), "compressed by zstd"),
        (lz4.frame.compress(bytes(MIB)), "compressed by lz4"),
        (zipped(bytes(MIB)), "compressed by zip"),
        (COWD.ljust(MIB, b"\0"), "the sparse extent of an ESX VMDK, a snapshot's perhaps"),
        (SE.ljust(MIB, b"\0"), "the seSparse extent of an ESX VMDK, a snapshot's perhaps"),
        (cd(512, MIB), "the image of a CD"),
        (cd(512, MIB + 300 * 1024), "the image of a CD"),
    ],
)
def test_what_else_disks_are_packed_in_is_told_apart(data: bytes, what: str | None) -> None:
    found = told(data)
    assert (found.what if found else None) == what


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"KDMV",
        b"KDMV" + bytes(MIB),
        b"QFI\xfb" + bytes(MIB),
        b"QED\0" + bytes(MIB),
        b"COWD" + bytes(MIB),
        b"\x1f\x8b\x08" + bytes(MIB),
        b"\x1f\x8b\x08" + random.Random(3).randbytes(MIB),
        b"conectix" + bytes(MIB),
        bytes(MIB) + b"conectix".ljust(512, b"\0"),
        b"vhdxfile" + bytes(MIB),
        b"\xfd7zXZ\0" + bytes(MIB),
        b"\x28\xb5\x2f\xfd" + b"\xff" * 64,
        b"BZh9" + bytes(MIB),
        b"PK\3\4" + bytes(MIB),
        b"7z\xbc\xaf\x27\x1c\xff" + bytes(MIB),
        bytes(257) + b"ustar" + bytes(MIB),
        bytes(64) + struct.pack("<I", 0xBEDA107F) + bytes(MIB),
        b"WithoutFreeSpace" + bytes(MIB),
        cd(512, 64 * MIB),
        cd(1 << 20, MIB),
        b"# Disk" + bytes(MIB),
        b"\x04\x22\x4d\x18" + bytes(MIB),
    ],
)
def test_a_mark_alone_is_not_enough(data: bytes) -> None:
    assert told(data) is None


def test_a_footer_that_is_left_over_inside_a_disk_is_no_vhd(raw: Path, tmp_path: Path) -> None:
    made = tmp_path / "disk.vhd"
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed", raw, made]
    subprocess.run(convert, check=True)
    data = made.read_bytes()
    assert told(data) is not None
    assert told(data + bytes(MIB)) is None  # grown since
    assert told(bytes(MIB) + data) is None  # another size than it states


def test_the_disks_of_these_tests_are_disks(tmp_path: Path) -> None:
    disks = [bytes(MIB), random.Random(4).randbytes(MIB), b"\xeb\x63" + bytes(508) + b"\x55\xaa" + bytes(MIB)]
    for name, command in (
        ("ext4", ["mkfs.ext4", "-q", "-F"]),
        ("fat", ["mkfs.fat"]),
        ("swap", ["mkswap", "-q"]),
        ("ntfs", ["mkntfs", "-q", "-F"]),
    ):
        path = tmp_path / name
        path.write_bytes(bytes(8 * MIB))
        bootdisk.run(*command, path)
        disks.append(path.read_bytes())
    path = tmp_path / "lvm"
    path.write_bytes(bytes(8 * MIB))
    lvmdisk.write(path, 0, 8 * MIB, {"root": MIB})
    disks.append(path.read_bytes())
    at, block = mddisk.superblock(8 * MIB, uuid=bytes(16), level=1, width=2, role=0)
    disks.append(bytes(at) + block + bytes(8 * MIB - at - len(block)))
    for data in disks:
        assert told(data) is None
    for seed in range(2000):
        generator = random.Random(seed)
        data = generator.choice([b"KDMV", b"QFI\xfb", b"\x1f\x8b\x08", b"PK\3\4", b""]) + generator.randbytes(600)
        told(data)  # and whatever it is, it is told without harm
