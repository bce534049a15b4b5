"""The disk in memory that GRUB's image may carry: a tar, or a small FAT; refuses other forms and large files."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES

MAX_BYTES = 1 << 18  # of a file
MAX_FILES = 2000
_BLOCK = 512


class Memdisk:
    """Its files, as `Files`. readable: whether its form is one of those that are read."""

    def __init__(self, data: bytes) -> None:
        self._files = dict[str, bytes | Unknown]()
        self.readable = True
        if data[257:262] == b"ustar":
            self._files.update(_tar(data))
        elif data[510:512] == b"\x55\xaa" and data[:1] in (b"\xeb", b"\xe9"):
            self._files.update(_fat(data))
        else:
            self.readable = False

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        if not self.readable:
            return Unknown("the disk in memory that GRUB's image carries is in a form that is not read")
        data = self._files.get(path.lower(), ABSENT)
        return Unknown(f"{path} is too large") if isinstance(data, bytes) and len(data) > most_bytes else data

    def head(self, path: str, count: int) -> Answer[bytes]:
        data = self.read(path)
        return data[:count] if isinstance(data, bytes) else data

    def stream(self, path: str) -> AbstractContextManager[BinaryIO]:
        data = self.read(path)
        if not isinstance(data, bytes):
            raise OSError("there is no such file")
        return io.BytesIO(data)

    def names(self, path: str) -> Answer[list[str]]:
        if not self.readable:
            return Unknown("the disk in memory that GRUB's image carries is in a form that is not read")
        start = path.lower().rstrip("/") + "/"
        inside = [each[len(start) :] for each in self._files if each.startswith(start)]
        return list(dict.fromkeys(name.partition("/")[0] + ("/" if "/" in name else "") for name in inside)) or ABSENT


def _tar(data: bytes) -> Iterator[tuple[str, bytes | Unknown]]:
    """Plain files, by their paths in small letters."""
    at = 0
    for _ in range(MAX_FILES):
        head = data[at : at + _BLOCK]
        if len(head) < _BLOCK or not head[0]:
            return
        digits = head[124:136].strip(b" \0")
        if not digits.isdigit() or set(digits) & set(b"89"):
            return
        size, name = int(digits, 8), head[:100].split(b"\0", 1)[0].decode(errors="replace")
        if head[156:157] in (b"0", b"\0"):
            content = data[at + _BLOCK : at + _BLOCK + size]
            yield "/" + name.lstrip("./").lower(), content if size <= MAX_BYTES else Unknown("it is too large")
        at += _BLOCK + size + -size % _BLOCK


def _fat(data: bytes) -> Iterator[tuple[str, bytes | Unknown]]:
    """Plain files of the root folder of a FAT of 12 or 16 bits, by their short names in small letters."""
    sector, per_cluster, reserved, fats, entries, small = struct.unpack_from("<HBHBHH", data, 11)
    (fat_sectors,) = struct.unpack_from("<H", data, 22)
    if sector not in (512, 1024, 2048, 4096) or not per_cluster or not fat_sectors or not fats:
        return
    root = (reserved + fats * fat_sectors) * sector
    first = root + -(-entries * 32 // sector) * sector
    total = small or struct.unpack_from("<I", data, 32)[0]
    wide = (total - first // sector) // per_cluster >= 4085
    fat, cluster_bytes = data[reserved * sector : root], per_cluster * sector
    for number in range(min(entries, MAX_FILES)):
        entry = data[root + 32 * number : root + 32 * number + 32]
        if len(entry) < 32 or not entry[0]:
            return
        if entry[0] == 0xE5 or entry[11] & 0x18 or entry[11] == 0x0F:
            continue
        name, ending = (entry[part].rstrip(b" ").decode("ascii", "replace") for part in (slice(8), slice(8, 11)))
        path = f"/{name}.{ending}".rstrip(".").lower()
        cluster, size = struct.unpack_from("<HI", entry, 26)
        if size > MAX_BYTES:
            yield path, Unknown("it is too large")
            continue
        content = bytearray()
        while len(content) < size and cluster >= 2:
            at = first + (cluster - 2) * cluster_bytes
            piece = data[at : at + cluster_bytes]
            if not piece:
                break
            content += piece
            cluster = _next(fat, cluster, wide=wide)
        whole = len(content) >= size
        yield path, bytes(content[:size]) if whole else Unknown("it ends too soon")


def _next(fat: bytes, cluster: int, *, wide: bool) -> int:
    """The cluster that follows; 0 where none does."""
    at = cluster * 2 if wide else cluster * 3 // 2
    if at + 2 > len(fat):
        return 0
    (value,) = struct.unpack_from("<H", fat, at)
    if not wide:
        value = value >> 4 if cluster % 2 else value & 0xFFF
    return 0 if value >= (0xFFF8 if wide else 0xFF8) else value
