"""Guests whose files were made to hurt their reader: file trees, mutated by a seed, and what a check makes of them.

As a program it checks some of them one after another, in this process as the command does, and prints a line of JSON
for each: `python -m rigs.guests.hostileguests SCRATCH FIRST COUNT`. Memory is that of the largest process of a check.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import json
import lzma
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lz4.block
import zstandard

import bootdisk
from rig import Rig
from warmspare.cli.main import run

MIB = 1 << 20
DISK_BYTES = 40 * MIB
ROOT_AT = MIB
UUID = "11111111-94a1-4d0e-a1f5-5b7c3f1f2a31"
VERSION = "6.1.0-9"
NVME = f"lib/modules/{VERSION}/nvme.ko".encode()
SIZES = (b"-0000001", b"FFFFFFFF", b" 0000001", b"0x000001", b"0_0_0_01")  # as a header of cpio may state them
Tree = dict[bytes, bytes]

_GRUB = f"""set default=0
set timeout=1
load_env
menuentry 'x' {{
  linux /boot/vmlinuz-{VERSION} root=UUID={UUID} ro console=ttyS0 $more
  initrd /boot/initrd
}}
"""
_ENTRY = f"""title x
version {VERSION}
linux /boot/vmlinuz-{VERSION}
initrd /boot/initrd
options root=UUID={UUID} $kernelopts
"""
NASTY = (
    b"\x1b]0;title\x07",
    b"\x1b[2J\x1b[31m",
    b"\x9b31m",
    b"\0",
    b"\xff\xfe",
    b"[/red][bold]",
    "²³١".encode(),
    b"\r\n",
    b"\x0b\x0c\x1c\x85",
    b"A" * 5000,
    b"9" * 5000,
    b"$a${b}$$",
    b"\\033\\7777",
    b"../" * 50,
    b"\xe2\x80\xae",
    b"UUID=",
    b"/dev/sda1 /x ext4 defaults\n",
    b"{}()<>|;&`'\"",
    b" " * 3000,
    b"\n" * 3000,
    "\U0001f4a5".encode() * 90,
)


def kernel_head() -> bytes:
    """The beginning of a kernel image, which states its version."""
    head = bytearray(1024)
    text = f"{VERSION} (somebody) #1".encode() + b"\0"
    head[0x1FE:0x200], head[0x202:0x206] = b"\x55\xaa", b"HdrS"
    head[0x206:0x208], head[0x20E:0x210] = struct.pack("<H", 0x20F), struct.pack("<H", 0x100)
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head)


def cpio(names: list[bytes], content: bytes = b"content", size: bytes | None = None) -> bytes:
    """A newc archive. size: what its headers say of a file's size, instead of the truth."""
    out = bytearray()
    for name in [*names, b"TRAILER!!!"]:
        data = b"" if name == b"TRAILER!!!" else content
        stated = size if size is not None and name != b"TRAILER!!!" else b"%08X" % len(data)
        head = b"070701" + b"%08X" * 6 % (0, 0o100644, 0, 0, 1, 0) + stated + b"%08X" * 4 % (0, 0, 0, 0)
        out += head + b"%08X" % (len(name) + 1) + b"%08X" % 0 + name + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def lz4_legacy(data: bytes) -> bytes:
    pieces = [data[at : at + (8 << 20)] for at in range(0, len(data), 8 << 20)]
    packed = [lz4.block.compress(piece, store_size=False) for piece in pieces]
    return b"\x02\x21\x4c\x18" + b"".join(struct.pack("<I", len(block)) + block for block in packed)


def alone(data: bytes, dictionary: int | None = None) -> bytes:
    """In lzma's oldest format, which states the size of its dictionary."""
    filters = [{"id": lzma.FILTER_LZMA1, "preset": 0, "dict_size": 1 << 16}]
    out = bytearray(lzma.compress(data, format=lzma.FORMAT_ALONE, filters=filters))
    if dictionary is not None:
        out[1:5] = struct.pack("<I", dictionary)
    return bytes(out)


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=0),
    "lzma": alone,
    "bzip2": lambda data: bz2.compress(data, 1),
    "zstd": zstandard.ZstdCompressor(1).compress,
    "lz4": lz4_legacy,
}


@functools.cache
def swelling(count: int, times: int) -> bytes:
    """An initramfs of one member that does not end: a stream of gzip's, which says so many zeros again and again."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    head = packer.compress(cpio([b"a"], b"", b"FFFFFFFF")) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + (packer.compress(bytes(count)) + packer.flush(zlib.Z_FULL_FLUSH)) * times


def bomb(rng: random.Random) -> bytes:
    """An initramfs of some KB that unpacks to a lot, or says that it does."""
    zeros = bytes(rng.choice([1, 16, 48]) * MIB)
    match rng.randrange(7):
        case 0:
            return swelling(len(zeros), rng.randrange(1, 20))
        case 1:
            return alone(cpio([b"a"], zeros), rng.choice([1 << 28, 1 << 31, (1 << 32) - 1]))
        case 2:
            return gzip.compress(zeros, 1) * rng.randrange(1, 10)
        case 3:
            return bz2.compress(b"") * 20_000
        case 4:
            parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
            stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
            return stream.compress(cpio([b"a"], zeros)) + stream.flush()
        case 5:
            return cpio([b"a"], b"x" * 100, rng.choice(SIZES))
        case _:
            names = [b"lib/%d/nvme.ko" % number + b"x" * 4000 for number in range(300)]
            return gzip.compress(cpio(names, b""), 1) + cpio(names, b"")


def tree(rng: random.Random) -> Tree:
    """A sound little guest; one of both boot loaders' configurations."""
    files: Tree = {
        b"etc/fstab": f"UUID={UUID} / ext4 defaults 0 1\n".encode(),
        b"boot/vmlinuz-%s" % VERSION.encode(): kernel_head(),
        b"boot/grub/grubenv": b"# GRUB Environment Block\nkernelopts=ro console=ttyS0\nmore=quiet\n",
        b"boot/initrd": PACKINGS[rng.choice(list(PACKINGS))](cpio([b"init", NVME])),
        b"lib/modules/%s/modules.builtin" % VERSION.encode(): b"kernel/drivers/ata/libata.ko\n",
        b"lib/modules/%s/modules.dep" % VERSION.encode(): b"kernel/ena.ko:\n",
        b"lib/modules/%s/kernel/ena.ko" % VERSION.encode(): b"a driver",
    }
    if rng.random() < 0.5:
        files[b"boot/grub/grub.cfg"] = _GRUB.encode()
    else:
        files[b"boot/grub/grub.cfg"] = b"set timeout=1\nload_env\nblscfg\n"
        files[b"boot/loader/entries/m-%s.conf" % VERSION.encode()] = _ENTRY.encode()
    return files


def _hurt_text(rng: random.Random, data: bytes) -> bytes:
    data = data[:64_000]  # what it grows to, it may grow to once
    at = rng.randrange(len(data) + 1)
    lines = data.splitlines(keepends=True)
    match rng.randrange(6):
        case 0:
            return data[:at] + rng.choice(NASTY) + data[at:]
        case 1:
            return data[:at]
        case 2:
            return b"".join(line * rng.choice([1, 2, 3000]) for line in lines[:20])[: 4 * MIB]
        case 3:
            return data + bytes([rng.choice([0, 10, 32, 255])]) * rng.choice([10, 2 * MIB])
        case 4:
            return re.sub(rb"\w+", lambda word: word[0] if rng.random() < 0.9 else rng.choice(NASTY), data)[: 4 * MIB]
        case _:
            return _flipped(rng, data)


def _flipped(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 9) if out else 0):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def mutate(rng: random.Random, files: Tree) -> None:
    """Change one thing of a tree."""
    name = rng.choice(list(files))
    match rng.randrange(8):
        case 0:
            files[b"boot/initrd"] = bomb(rng)
        case 1:
            files[b"boot/initrd"] = _flipped(rng, files[b"boot/initrd"][: rng.randrange(1, 400)])
        case 2:
            more = b"x" * rng.choice([900, 60_000, MIB])
            files[b"boot/grub/grubenv"] = b"# GRUB Environment Block\nmore=" + more + b"\n"
            files[b"boot/grub/grub.cfg"] = _GRUB.replace("$more", "$more" * rng.choice([1, 50, 5000])).encode()
        case 3:
            for number in range(rng.choice([1, 70, 400])):
                odd = rng.choice([b"", "²".encode(), b"\x1b[7m", b"9" * 200])
                files[b"boot/loader/entries/e%d%s.conf" % (number, odd)] = b"title x\n"
        case 4:
            words = (rng.choice(["/boot/initrd", "/boot/initrd", f"/i{number}"]) for number in range(40))
            initrds = " ".join(words)
            files[b"boot/grub/grub.cfg"] = _GRUB.replace("/boot/initrd", initrds[: rng.choice([26, 2000])]).encode()
        case 5:
            device, count = rng.choice([b"/dev/sdz", b"UUID=", b"LABEL=\x1b[5m"]), rng.choice([5, 500, 15_000])
            lines = (b"%s%d /m%d ext4 defaults 0 0\n" % (device, number, number) for number in range(count))
            files[b"etc/fstab"] += b"".join(lines)
        case _:
            files[name] = _hurt_text(rng, files[name])


def build(disk: Path, scratch: Path, files: Tree, *, most: int = DISK_BYTES) -> None:
    """An MBR with one bootable ext4 that holds the tree."""
    home = scratch / "tree"
    shutil.rmtree(home, ignore_errors=True)
    for name, data in files.items():
        path = home / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with disk.open("wb") as image:
        image.truncate(most)
        image.seek(446)
        sectors = ROOT_AT // 512, (most - ROOT_AT) // 512
        image.write(struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\xff" * 3, *sectors))
        image.seek(510)
        image.write(b"\x55\xaa")
    bootdisk.grub_in_gap(disk, "(,msdos1)/boot/grub")
    size = f"{(most - ROOT_AT) >> 20}M"
    subprocess.run(
        [
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-U",
            UUID,
            "-L",
            "root",
            "-d",
            home,
            "-E",
            f"offset={ROOT_AT}",
            disk,
            size,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def hurt_disk(rng: random.Random, disk: Path) -> None:
    """Flip bytes of the table, or of the file system's own structures."""
    with disk.open("r+b") as image:
        for _ in range(rng.randrange(1, 30)):
            at = ROOT_AT + 1024 + rng.randrange(1024), ROOT_AT + rng.randrange(MIB), rng.randrange(440, 512)
            image.seek(rng.choice(at))
            image.write(bytes([rng.randrange(256)]))


def guest(seed: int, disk: Path, scratch: Path) -> None:
    """The guest of a seed."""
    rng = random.Random(seed)
    files = tree(rng)
    for _ in range(rng.choice([1, 1, 2, 4])):
        mutate(rng, files)
    build(disk, scratch, files)
    if rng.random() < 0.2:
        hurt_disk(rng, disk)


def replica(scratch: Path) -> Rig:
    """A replica whose file can be written over by a guest's disk: a check does not compare it with the repository."""
    rig = Rig(scratch)
    with rig.disk.open("wb") as file:
        file.truncate(DISK_BYTES)
    rig.sync()
    rig.apply()
    return rig


def apart(work: Callable[[], int | None]) -> tuple[int, resource.struct_rusage]:
    """Its exit code, and what it and all that it started took, from a process of its own."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work() or 0
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status, used = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), used


def main() -> None:
    """Check guests and say of each what came of it."""
    scratch, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    lines = os.fdopen(os.dup(1), "w")
    scratch.mkdir(parents=True, exist_ok=True)
    said = (scratch / "said").open("w+b")
    os.dup2(said.fileno(), 1)
    rig = replica(scratch)
    errors = os.dup(2)
    for seed in range(first, first + count):
        os.dup2(errors, 2)
        made, _ = apart(partial(guest, seed, rig.replica, scratch))
        assert made == 0, seed
        os.dup2(said.fileno(), 2)
        said.seek(0)
        said.truncate()
        began_s = time.monotonic()
        code, used = apart(lambda: run(["recover", "check", "--vm", "vm", "--replica", str(rig.replica)]))
        seconds = time.monotonic() - began_s
        said.seek(0)
        text = said.read()
        result = {
            "seed": seed,
            "code": code,
            "seconds": round(seconds, 2),
            "cpu_s": round(used.ru_utime + used.ru_stime, 2),
            "peak_mib": used.ru_maxrss >> 10,
            "bytes": len(text),
            "escapes": bool(re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", text)),
            "bug": b"Traceback" in text or b"this is a bug" in text or b"a fault of warmspare" in text,
            "judged": b"not judged" not in text,
            "text": text[-600:].decode(errors="replace"),
        }
        lines.write(json.dumps(result) + "\n")
        lines.flush()


if __name__ == "__main__":
    main()
