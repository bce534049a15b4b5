"""Image files of disks, known by their own marks: VMDK, VHD, VHDX, qcow2, VDI, OVA, packed ones; refuses to read them.

What is given as a disk's bytes and is such a file would be replicated faithfully and never start. A mark counts only
with what must stand beside it (a version, a checksum, the file's own size), so that no disk in use is taken for one.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

SECTOR_BYTES = 512
_HEAD_BYTES = 4096
_ISO_AT, _ISO_BLOCK = 32768, 2048
_ISO_PADDING_BYTES = 1 << 20  # what tools put behind it, at most
_PACKED_NAMES = re.compile(rb"\.(?:vmdk|vhdx?|qcow2?|raw|img|vdi|mf)\Z", re.IGNORECASE)
_FLAT = re.compile(r'^(?:RW|RDONLY)\s+[0-9]{1,15}\s+(?:VMFS|FLAT)\s+"([^"\n]{1,255})"', re.MULTILINE)
CONVERT = "convert it (`qemu-img convert -O raw IMAGE DISK`) and give what that makes"

Read = Callable[[int, int], bytes]  # offset and count: fewer bytes at the end


@dataclass(frozen=True, slots=True)
class DiskImage:
    """what: with its article, in words. remedy: what to do, as a clause."""

    what: str
    remedy: str = CONVERT


def recognised(read: Read, size: int) -> DiskImage | None:
    """The kind of image file that a file of so many bytes is; None for a disk's own bytes. OSError where it can't be
    read."""
    head = read(0, _HEAD_BYTES).ljust(_HEAD_BYTES, b"\0")
    for look in (_vmdk, _descriptor, _qemu, _virtualbox, _parallels, _archive, _packed):
        if found := look(head):
            return found
    return _vhd(read, head, size) or _vhdx(read, head) or _iso(read, size)


def _vmdk(head: bytes) -> DiskImage | None:
    if head[:4] == b"KDMV" and head[73:77] == b"\n \r\n":
        version, flags, _, grain = struct.unpack_from("<IIQQ", head, 4)
        if 1 <= version <= 3 and 1 <= grain <= 4096 and grain & (grain - 1) == 0:
            return DiskImage("a VMDK (streamOptimized)" if flags & 1 << 16 else "a VMDK (monolithicSparse)")
    whole = "convert the VMDK whose descriptor names it (`qemu-img convert -O raw NAME.vmdk DISK`), and give that"
    if head[:4] == b"COWD" and struct.unpack_from("<I", head, 4)[0] == 1:
        return DiskImage("the sparse extent of an ESX VMDK, a snapshot's perhaps", whole)
    if struct.unpack_from("<QQ", head) == (0xCAFEBABE, 0x0000000200000001):
        return DiskImage("the seSparse extent of an ESX VMDK, a snapshot's perhaps", whole)
    return None


def _descriptor(head: bytes) -> DiskImage | None:
    if not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"# Disk DescriptorFile"):
        return None
    extents = _FLAT.findall(head.decode(errors="replace"))
    if len(extents) == 1:
        return DiskImage("a VMDK's descriptor", f"give the file with its bytes, {extents[0]!r}")
    return DiskImage("a VMDK's descriptor")


def _qemu(head: bytes) -> DiskImage | None:
    if head[:4] == b"QFI\xfb":
        (version,) = struct.unpack_from(">I", head, 4)
        if version == 1 and 9 <= head[32] <= 16:
            return DiskImage("a qcow image")
        if version in (2, 3) and 9 <= struct.unpack_from(">I", head, 20)[0] <= 21:
            return DiskImage("a qcow2 image")
    if head[:4] == b"QED\0":
        cluster, _, header = struct.unpack_from("<III", head, 4)
        if 1 << 12 <= cluster <= 1 << 26 and cluster & (cluster - 1) == 0 and 1 <= header <= 16:
            return DiskImage("a QED image")
    return None


def _virtualbox(head: bytes) -> DiskImage | None:
    mark, version, header = struct.unpack_from("<III", head, 64)
    return DiskImage("a VDI image") if mark == 0xBEDA107F and version >> 16 in (0, 1) and header >= 0x100 else None


def _parallels(head: bytes) -> DiskImage | None:
    marked = head[:16] in (b"WithoutFreeSpace", b"WithouFreSpacExt")
    return DiskImage("a Parallels image") if marked and struct.unpack_from("<I", head, 16)[0] == 2 else None


def _archive(head: bytes) -> DiskImage | None:
    """A tar whose first member is an OVF's description, or a disk."""
    if head[257:262] != b"ustar":
        return None
    stated = re.match(rb" *([0-7]{1,7})[ \0]", head[148:156])
    if stated is None or int(stated[1], 8) != sum(head[:148]) + 8 * 0x20 + sum(head[156:512]):
        return None
    name = head[:100].split(b"\0", 1)[0]
    unpack = "unpack it (`tar -xf`), convert its disk (`qemu-img convert -O raw IMAGE DISK`) and give that"
    if name.lower().endswith(b".ovf"):
        return DiskImage("an OVA", unpack)
    return DiskImage("a tar archive with a disk in it", unpack) if _PACKED_NAMES.search(name) else None


def _packed(head: bytes) -> DiskImage | None:
    """Compressed by one of the usual programs, as far as its first bytes can really be decompressed, or checked."""
    name = ""
    if head[:3] == b"\x1f\x8b\x08" and len(head) > 18 and not head[3] & 0xE0:
        name = "gzip" if _opens(lambda: zlib.decompressobj(31).decompress(head, 64)) else ""
    elif head[:6] == b"\xfd7zXZ\0" and zlib.crc32(head[6:8]) == int.from_bytes(head[8:12], "little"):
        name = "xz"
    elif head[:4] == b"BZh" + head[3:4] and head[4:10] == bytes.fromhex("314159265359"):
        name = "bzip2"
    elif head[:4] == b"\x28\xb5\x2f\xfd" and not head[4] & 8 and _zstd_block(head):
        name = "zstd"
    elif head[:4] == b"\x04\x22\x4d\x18" and head[4] >> 6 == 1 and head[5] & 0x8F == 0:
        name = "lz4"
    elif head[:4] == b"PK\3\4" and head[4] <= 63 and head[5] == 0 and head[26:28] != b"\0\0":
        name = "zip"
    elif head[:6] == b"7z\xbc\xaf\x27\x1c" and zlib.crc32(head[12:32]) == int.from_bytes(head[8:12], "little"):
        name = "7-Zip"
    return DiskImage(f"compressed by {name}", "decompress it and give what that makes") if name else None


def _opens(decompress: Callable[[], bytes]) -> bool:
    try:
        decompress()
    except zlib.error:
        return False
    return True


def _zstd_block(head: bytes) -> bool:
    """Whether a block stands where the frame's header says."""
    descriptor = head[4]
    single = bool(descriptor & 0x20)
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6]
    block = int.from_bytes(head[at : at + 3], "little")
    return block >> 1 & 3 != 3 and block >> 3 <= 128 << 10


def _vhd(read: Read, head: bytes, size: int) -> DiskImage | None:
    """A footer at the end, and a copy at the beginning of what is not fixed."""
    if _footer(head[:SECTOR_BYTES]) in (3, 4):
        return DiskImage("a VHD (dynamic)")
    at = size - SECTOR_BYTES
    tail = read(at, SECTOR_BYTES) if at > 0 else b""
    # Inside a disk one may be left over from what stood there before: that of a fixed VHD is behind a whole disk.
    if _footer(tail) == 2 and struct.unpack_from(">Q", tail, 48)[0] == at:
        convert = "convert it (`qemu-img convert -f vpc -O raw IMAGE DISK`) and give what that makes"
        return DiskImage("a VHD (fixed: its last 512 bytes are no part of the disk)", convert)
    return None


def _footer(data: bytes) -> int:
    """The type of a VHD that a sound footer states; 0 if it is none."""
    if len(data) < SECTOR_BYTES or data[:8] != b"conectix":
        return 0
    kind, stated = struct.unpack_from(">II", data, 60)
    return kind if stated == ~(sum(data[:64]) + sum(data[68:SECTOR_BYTES])) & 0xFFFFFFFF else 0


def _vhdx(read: Read, head: bytes) -> DiskImage | None:
    if head[:8] != b"vhdxfile":
        return None
    headed = any(read(at, 4) == b"head" for at in (64 << 10, 128 << 10))
    return DiskImage("a VHDX") if headed else None


def _iso(read: Read, size: int) -> DiskImage | None:
    """A CD's image that is all of the file. Left over on a disk that was made from one it says another size."""
    data = read(_ISO_AT, _ISO_BLOCK)
    if len(data) < _ISO_BLOCK or data[:7] != b"\1CD001\1":
        return None
    (blocks,) = struct.unpack_from("<I", data, 80)
    (block_bytes,) = struct.unpack_from("<H", data, 128)
    rest = size - blocks * block_bytes
    if block_bytes != _ISO_BLOCK or not -_ISO_PADDING_BYTES <= rest <= _ISO_PADDING_BYTES:
        return None
    return DiskImage("the image of a CD", "give the VM's disk")
