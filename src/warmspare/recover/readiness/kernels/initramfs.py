"""The names of the files in an initramfs, and what some of them hold; refuses what would take more than Linux gives.

The kernel's documentation, "initramfs buffer format", and init/initramfs.c: archives of the cpio format newc one after
another, each plain or packed (`packings.py`), with zeros between. Microcode stands first, plain; drivers follow,
packed; loaders put several behind one another. What the kernel had unpacked before it met an error stays: so do names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from warmspare.errors import FormatError
from warmspare.recover.readiness.kernels import packings
from warmspare.recover.readiness.kernels.packings import MAX_DICTIONARY_BYTES as MAX_DICTIONARY_BYTES
from warmspare.recover.readiness.kernels.packings import Forwards

MAX_NAME_BYTES = 4096
MAX_UNPACKED_BYTES = 4 << 30
MAX_NAMES = 200_000
MAX_NAMES_BYTES = 16 << 20  # of all together; a Debian has some 100 KiB
MAX_PACKED_BYTES = 1 << 30
MAX_CONTENT_BYTES = 1 << 20
_FIELD = re.compile(rb"[0-9A-Fa-f]{8}")
_HEADER_BYTES = 110
_MAGICS = (b"070701", b"070702")
_TRAILER = b"TRAILER!!!"


class Cut(FormatError):
    """It ends within an archive, so that what should follow is not there for the kernel either."""


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file of it. content: where it was wanted, and no longer than MAX_CONTENT_BYTES."""

    name: str
    content: bytes | None


def names(stream: BinaryIO, where: str) -> Iterator[str]:
    """Every path in it, as it is written there. FormatError where it is none, or goes beyond the bounds: at its place,
    so that what came before it counts."""
    for member in members(stream, where, lambda name: False):
        yield member.name


def members(stream: BinaryIO, where: str, wanted: Callable[[str], bool]) -> Iterator[ArchiveMember]:
    """The same, with the contents that are wanted."""
    count = length = 0
    try:
        for member in _all(stream, where, wanted):
            count += 1
            if count > MAX_NAMES:
                raise FormatError(f"the initramfs has more than {MAX_NAMES} files", where=where)
            length += len(member.name)
            if length > MAX_NAMES_BYTES:
                raise FormatError(f"the initramfs names files by more than {MAX_NAMES_BYTES} bytes", where=where)
            yield member
    except FormatError:
        raise
    except EOFError as error:
        raise Cut(f"the initramfs is cut: {error}", where=where) from None
    except MemoryError:
        raise FormatError("the initramfs can't be read in the memory that a check may take", where=where) from None
    except Exception as error:  # each decoder has errors of its own, and not all of them say which
        raise FormatError(f"the initramfs can't be read: {error}", where=where) from None


def _all(stream: BinaryIO, where: str, wanted: Callable[[str], bool]) -> Iterator[ArchiveMember]:
    file = Forwards(stream, MAX_PACKED_BYTES, f"it has more than {MAX_PACKED_BYTES >> 20} MiB")
    swells = f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB"
    left = MAX_UNPACKED_BYTES
    while file.skip_zeros():
        if file.peek(6) in _MAGICS:
            yield from _archive(_Pieces(file, where), wanted)
            continue
        packed = packings.opened(file)
        if packed is None:
            raise FormatError(f"at byte {file.position} of the initramfs is nothing that Linux unpacks", where=where)
        unpacked = Forwards(packed, left, swells)
        while unpacked.skip_zeros():
            yield from _archive(_Pieces(unpacked, where), wanted)
        left -= unpacked.position


class _Pieces:
    """An archive, read exactly. FormatError at its end."""

    def __init__(self, stream: Forwards, where: str) -> None:
        self._stream, self.where = stream, where
        if stream.position % 4:
            raise FormatError("the initramfs is damaged: an archive is not at a multiple of 4", where=where)

    def take(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise Cut("the initramfs ends too early", where=self.where)
        return data

    def more(self) -> bool:
        return bool(self._stream.peek(1))

    def skip(self, count: int) -> None:
        if not self._stream.skip(count):
            raise Cut("the initramfs ends too early", where=self.where)

    def align(self) -> None:
        """Behind the last file of all there need be no padding."""
        self._stream.skip(-self._stream.position % 4)


def _archive(pieces: _Pieces, wanted: Callable[[str], bool]) -> Iterator[ArchiveMember]:
    """The files of one archive, up to its trailer. Where that alone is missing nothing is."""
    while pieces.more():
        size, name_bytes = _sizes(pieces.take(_HEADER_BYTES), pieces.where)
        name = pieces.take(name_bytes).rstrip(b"\0")
        pieces.align()
        if name == _TRAILER:
            pieces.skip(size)
            pieces.align()
            return
        path = name.decode(errors="replace").removeprefix("./")
        content = None
        if size <= MAX_CONTENT_BYTES and wanted(path):
            content = pieces.take(size)
        else:
            pieces.skip(size)
        pieces.align()
        yield ArchiveMember(path, content)


def _sizes(header: bytes, where: str) -> tuple[int, int]:
    """Bytes of the file and of its name."""
    if header[:6] not in _MAGICS:
        raise FormatError("the initramfs is damaged: no cpio header where one belongs", where=where)
    fields = header[54:62], header[94:102]
    if not all(_FIELD.fullmatch(field) for field in fields):  # int() takes signs and spaces, too
        raise FormatError("the initramfs is damaged: a cpio header is no number", where=where)
    size, name_bytes = (int(field, 16) for field in fields)
    if not 0 < name_bytes <= MAX_NAME_BYTES:
        raise FormatError("the initramfs is damaged: a name is too long", where=where)
    return size, name_bytes
