"""The names of the files in an initramfs; refuses to unpack it, and what would take more than Linux gives.

The kernel's documentation, "initramfs buffer format": archives of the cpio format newc one after another, each plain or
compressed, with zeros between. Microcode stands first, plain; drivers follow, compressed.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Iterator
from typing import BinaryIO, cast

import lz4.block
import zstandard

from warmspare.errors import FormatError

MAX_NAME_BYTES = 4096
MAX_UNPACKED_BYTES = 4 << 30
MAX_NAMES = 200_000
MAX_NAMES_BYTES = 16 << 20  # of all together; a Debian has some 100 KiB
MAX_PACKED_BYTES = 1 << 30
# Of zstd what Linux takes; of xz and lzma, whose headers may state 4 GiB, twice what `xz -9` makes.
MAX_DICTIONARY_BYTES = 1 << 27
_LZMA_BESIDE_BYTES = 1 << 21
_FIELD = re.compile(rb"[0-9A-Fa-f]{8}")
_HEADER_BYTES = 110
_MAGICS = (b"070701", b"070702")
_TRAILER = b"TRAILER!!!"
_STEP_BYTES = 1 << 16
_LZ4_MAGIC, _LZ4_BLOCK_BYTES = b"\x02\x21\x4c\x18", 8 << 20  # of the kernel's own, older framing
_LZ4_MOST_BYTES = 9 << 20  # what a block of 8 MiB that does not shrink takes, and more


def names(stream: BinaryIO, where: str) -> Iterator[str]:
    """Every path in it, as it is written there. FormatError where it is none, or goes beyond the bounds."""
    count = length = 0
    swells = f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB"
    file = _Forwards(stream, MAX_PACKED_BYTES, f"it has more than {MAX_PACKED_BYTES >> 20} MiB")
    try:
        while file.skip_zeros():
            head = file.peek(6)
            plain = head in _MAGICS
            unpacked = file if plain else _Forwards(_opened(file, head, where), MAX_UNPACKED_BYTES, swells)
            for name in _archives(unpacked, where, once=plain):
                count += 1
                if count > MAX_NAMES:
                    raise FormatError(f"the initramfs has more than {MAX_NAMES} files", where=where)
                length += len(name)
                if length > MAX_NAMES_BYTES:
                    raise FormatError(f"the initramfs names files by more than {MAX_NAMES_BYTES} bytes", where=where)
                yield name
            if not plain:  # what is compressed is the last
                return
    except FormatError:
        raise
    except MemoryError:
        raise FormatError("the initramfs can't be read in the memory that a check may take", where=where) from None
    except Exception as error:  # each decoder has errors of its own, and not all of them say which
        raise FormatError(f"the initramfs can't be read: {error}", where=where) from None


class _Forwards(io.RawIOBase):
    """A stream that is read forwards only, with a look ahead. ValueError, with `beyond`, after `most` bytes."""

    def __init__(self, stream: BinaryIO, most: int, beyond: str) -> None:
        self._stream, self._left, self._beyond = stream, most, beyond
        self._ahead, self._at = b"", 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes, and fewer only at the end; a decoder asks for no more than a block."""
        while len(self._ahead) - self._at < size and self._more():
            pass
        data = self._ahead[self._at : self._at + max(size, 0)]
        self._at += len(data)
        return data

    def peek(self, count: int) -> bytes:
        data = self.read(count)
        self._at -= len(data)
        return data

    def skip(self, count: int) -> bool:
        """Go on by so many bytes; whether there were as many."""
        while count > len(self._ahead) - self._at:
            count -= len(self._ahead) - self._at
            self._ahead, self._at = b"", 0
            if not self._more():
                return False
        self._at += count
        return True

    def skip_zeros(self) -> bool:
        """Go to the next byte that is none; whether there is one."""
        while True:
            self._ahead, self._at = self._ahead[self._at :].lstrip(b"\0"), 0
            if self._ahead:
                return True
            if not self._more():
                return False

    def give_back(self, data: bytes) -> None:
        """What a decoder took and does not need."""
        self._ahead, self._at = data + self._ahead[self._at :], 0

    def _more(self) -> bool:
        piece = self._stream.read(_STEP_BYTES)
        self._ahead, self._at = self._ahead[self._at :] + piece, 0
        self._left -= len(piece)
        if self._left < 0:
            raise ValueError(self._beyond)
        return bool(piece)


def _opened(file: _Forwards, head: bytes, where: str) -> BinaryIO:
    if head[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.GzipFile(fileobj=cast(BinaryIO, file)))
    if head[:6] == b"\xfd7zXZ\0" or head[:3] == b"\x5d\0\0":
        return cast(BinaryIO, io.BufferedReader(_Lzma(file), _STEP_BYTES))
    if head[:3] == b"BZh":
        return cast(BinaryIO, bz2.BZ2File(cast(BinaryIO, file)))
    if head[:4] == b"\x28\xb5\x2f\xfd":
        unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_DICTIONARY_BYTES)
        return cast(BinaryIO, unpacker.stream_reader(cast(BinaryIO, file), read_across_frames=True))
    if head[:4] == _LZ4_MAGIC:
        return cast(BinaryIO, io.BufferedReader(_Lz4(file)))
    raise FormatError("the initramfs is packed in a way that is not known here", where=where)


class _Lzma(io.RawIOBase):
    """Reads xz and lzma, streams one after another, with a bound on what the decoder may take for itself."""

    def __init__(self, file: _Forwards) -> None:
        self._file, self._unpacker = file, self._fresh()

    def readable(self) -> bool:
        return True

    def _fresh(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=MAX_DICTIONARY_BYTES + _LZMA_BESIDE_BYTES)

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while True:
            if self._unpacker.eof:
                # Between streams of xz zeros may stand; after one of lzma, what comes is not unpacked by Linux either.
                rest = self._unpacker.unused_data.lstrip(b"\0")
                self._file.give_back(rest)
                if not self._file.skip_zeros() or self._file.peek(6) != b"\xfd7zXZ\0":
                    return 0
                self._unpacker = self._fresh()
            packed = self._file.read(_STEP_BYTES) if self._unpacker.needs_input else b""
            if not packed and self._unpacker.needs_input:
                raise EOFError("it ends too early")
            data = self._unpacker.decompress(packed, len(view))
            if data:
                view[: len(data)] = data
                return len(data)


class _Lz4(io.RawIOBase):
    """Reads the kernel's LZ4 framing: a magic number, then blocks, each behind its length."""

    def __init__(self, file: _Forwards) -> None:
        self._file, self._data = file, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._data:
            word = self._file.read(4)
            if word == _LZ4_MAGIC:
                continue
            size = int.from_bytes(word, "little")
            if len(word) < 4 or size == 0:
                return 0
            if size > _LZ4_MOST_BYTES:
                raise ValueError("a block is too long")
            self._data = memoryview(lz4.block.decompress(self._file.read(size), uncompressed_size=_LZ4_BLOCK_BYTES))
        count = min(len(view), len(self._data))
        view[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


class _Pieces:
    """A stream read exactly. FormatError at its end."""

    def __init__(self, stream: _Forwards, where: str) -> None:
        self._stream, self._where, self._at = stream, where, 0

    def begin(self) -> bool:
        """Go to the next archive; whether there is one."""
        self._at = 0
        return self._stream.skip_zeros()

    def take(self, count: int) -> bytes:
        data = self._stream.read(count)
        self._at += count
        if len(data) < count:
            raise FormatError("the initramfs ends too early", where=self._where)
        return data

    def skip(self, count: int) -> None:
        self._at += count
        if not self._stream.skip(count):
            raise FormatError("the initramfs ends too early", where=self._where)

    def align(self) -> None:
        self.skip(-self._at % 4)


def _archives(stream: _Forwards, where: str, *, once: bool) -> Iterator[str]:
    """Paths of a stream of archives; of the first one only if `once`, and what comes after it is left."""
    pieces = _Pieces(stream, where)
    while pieces.begin():
        while True:
            size, name_bytes = _sizes(pieces.take(_HEADER_BYTES), where)
            name = pieces.take(name_bytes).rstrip(b"\0")
            pieces.align()
            pieces.skip(size)
            pieces.align()
            if name == _TRAILER:
                break
            yield name.decode(errors="replace").removeprefix("./")
        if once:
            return


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
