"""The names of the files in an initramfs; refuses to unpack it and to hold more of it than a piece.

The kernel's documentation, "initramfs buffer format": archives of the cpio format newc one after another, each plain or
compressed, with zeros between. Microcode stands first, plain; drivers follow, compressed.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Iterator
from typing import BinaryIO, cast

import lz4.block
import zstandard

from warmspare.errors import FormatError

MAX_NAME_BYTES = 4096
MAX_UNPACKED_BYTES = 4 << 30
MAX_NAMES = 200_000
_HEADER_BYTES = 110
_MAGICS = (b"070701", b"070702")
_TRAILER = b"TRAILER!!!"
_STEP_BYTES = 1 << 16
_LZ4_MAGIC, _LZ4_BLOCK_BYTES = b"\x02\x21\x4c\x18", 8 << 20  # of the kernel's own, older framing
_LZ4_MOST_BYTES = 9 << 20  # what a block of 8 MiB that does not shrink takes, and more


def names(file: BinaryIO, where: str) -> Iterator[str]:
    """Every path in it, as it is written there. FormatError where it is none, or goes beyond the bounds."""
    count = 0
    while True:
        start = _skip_zeros(file)
        if start is None:
            return
        head = _peek(file, 6)
        plain = head in _MAGICS
        stream = file if plain else _opened(file, head, where)
        try:
            for name in _archives(stream, where, once=plain):
                count += 1
                if count > MAX_NAMES:
                    raise FormatError(f"the initramfs has more than {MAX_NAMES} files", where=where)
                yield name
        except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError, ValueError) as error:
            raise FormatError(f"the initramfs can't be read: {error}", where=where) from None
        if not plain:  # what is compressed is the last
            return


def _skip_zeros(file: BinaryIO) -> int | None:
    while piece := file.read(_STEP_BYTES):
        rest = piece.lstrip(b"\0")
        if rest:
            file.seek(-len(rest), io.SEEK_CUR)
            return file.tell()
    return None


def _peek(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    file.seek(-len(data), io.SEEK_CUR)
    return data


def _opened(file: BinaryIO, head: bytes, where: str) -> BinaryIO:
    if head[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if head[:6] == b"\xfd7zXZ\0" or head[:3] == b"\x5d\0\0":
        return cast(BinaryIO, lzma.LZMAFile(file))
    if head[:3] == b"BZh":
        return cast(BinaryIO, bz2.BZ2File(file))
    if head[:4] == b"\x28\xb5\x2f\xfd":
        unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        return cast(BinaryIO, unpacker.stream_reader(file, read_across_frames=True))
    if head[:4] == _LZ4_MAGIC:
        return cast(BinaryIO, io.BufferedReader(_Lz4(file)))
    raise FormatError("the initramfs is packed in a way that is not known here", where=where)


class _Lz4(io.RawIOBase):
    """Reads the kernel's LZ4 framing: a magic number, then blocks, each behind its length."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._data = file, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
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
    """A stream read exactly. at: bytes since the archive began."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self._stream, self._where, self._total, self.at = stream, where, 0, 0

    def take(self, count: int, *, keep: bool = True) -> bytes:
        """So many bytes; nothing of them unless they are to be kept. FormatError at the end."""
        out, left = bytearray(), count
        while left:
            piece = self._stream.read(min(left, _STEP_BYTES))
            if not piece:
                raise FormatError("the initramfs ends too early", where=self._where)
            left -= len(piece)
            if keep:
                out += piece
        self.at += count
        self._total += count
        if self._total > MAX_UNPACKED_BYTES:
            raise FormatError(f"the initramfs unpacks to more than {MAX_UNPACKED_BYTES} bytes", where=self._where)
        return bytes(out)

    def align(self) -> None:
        self.take(-self.at % 4, keep=False)

    def begin(self) -> bytes | None:
        """Go to the next archive; its first byte. None at the end."""
        while byte := self._stream.read(1):
            if byte != b"\0":
                self.at = 1
                return byte
        return None


def _archives(stream: BinaryIO, where: str, *, once: bool) -> Iterator[str]:
    """Paths of a stream of archives; of the first one only if `once`, and then not a byte more is read."""
    pieces = _Pieces(stream, where)
    while (byte := pieces.begin()) is not None:
        header = byte + pieces.take(_HEADER_BYTES - 1)
        while True:
            size, name_bytes = _sizes(header, where)
            name = pieces.take(name_bytes).rstrip(b"\0")
            pieces.align()
            pieces.take(size, keep=False)
            pieces.align()
            if name == _TRAILER:
                break
            yield name.decode(errors="replace").removeprefix("./")
            header = pieces.take(_HEADER_BYTES)
        if once:
            return


def _sizes(header: bytes, where: str) -> tuple[int, int]:
    """Bytes of the file and of its name."""
    if header[:6] not in _MAGICS:
        raise FormatError("the initramfs is damaged: no cpio header where one belongs", where=where)
    try:
        size, name_bytes = int(header[54:62], 16), int(header[94:102], 16)
    except ValueError:
        raise FormatError("the initramfs is damaged: a cpio header is no number", where=where) from None
    if not 0 < name_bytes <= MAX_NAME_BYTES:
        raise FormatError("the initramfs is damaged: a name is too long", where=where)
    return size, name_bytes
