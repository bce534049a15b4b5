"""How an initramfs is packed: a segment of it as what it unpacks to; refuses what takes more than Linux gives.

Every packing that the kernel knows (lib/decompress.c). A segment ends where its packing says so, and what stands behind
it is left for the next one.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import BinaryIO, Protocol, cast

import lz4.block
import zstandard

from warmspare.recover.readiness.kernels import lzo

STEP_BYTES = 1 << 16
# Of zstd what Linux takes; of xz and lzma, whose headers may state 4 GiB, twice what `xz -9` makes.
MAX_DICTIONARY_BYTES = 1 << 27
_LZMA_BESIDE_BYTES = 1 << 21
_XZ_MAGIC = b"\xfd7zXZ\0"
_LZ4_MAGIC, _LZ4_BLOCK_BYTES = b"\x02\x21\x4c\x18", 8 << 20  # of the kernel's own, older framing
_LZ4_MOST_BYTES = 9 << 20  # what a block of 8 MiB that does not shrink takes, and more
_LZO_MAGIC = b"\x89LZO\0\r\n\x1a\n"
_LZO_BLOCK_BYTES = 256 << 10
_LZO_VERSION_LEVEL, _LZO_FILTER = 0x0940, 0x800  # from which a header has a level and a longer time; a flag
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_EARLY = "it ends too early"


class Forwards(io.RawIOBase):
    """A stream that is read forwards only, with a look ahead. ValueError, with `beyond`, after `most` bytes.
    position: how much was taken of it."""

    def __init__(self, stream: BinaryIO, most: int, beyond: str) -> None:
        self._stream, self._left, self._beyond = stream, most, beyond
        self._ahead, self._at = b"", 0
        self.position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes, and fewer only at the end; a decoder asks for no more than a block."""
        while len(self._ahead) - self._at < size and self._more():
            pass
        data = self._ahead[self._at : self._at + max(size, 0)]
        self._at += len(data)
        self.position += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        """EOFError where there are fewer."""
        data = self.read(size)
        if len(data) < size:
            raise EOFError(_EARLY)
        return data

    def peek(self, count: int) -> bytes:
        data = self.read(count)
        self.give_back(data)
        return data

    def skip(self, count: int) -> bool:
        """Go on by so many bytes; whether there were as many."""
        while count > len(self._ahead) - self._at:
            gone = len(self._ahead) - self._at
            count -= gone
            self.position += gone
            self._ahead, self._at = b"", 0
            if not self._more():
                return False
        self._at += count
        self.position += count
        return True

    def skip_zeros(self) -> bool:
        """Go to the next byte that is none; whether there is one."""
        while True:
            rest = self._ahead[self._at :]
            self._ahead, self._at = rest.lstrip(b"\0"), 0
            self.position += len(rest) - len(self._ahead)
            if self._ahead:
                return True
            if not self._more():
                return False

    def give_back(self, data: bytes) -> None:
        """What was taken last and is not needed."""
        self._ahead, self._at = data + self._ahead[self._at :], 0
        self.position -= len(data)

    def _more(self) -> bool:
        piece = self._stream.read(STEP_BYTES)
        self._ahead, self._at = self._ahead[self._at :] + piece, 0
        self._left -= len(piece)
        if self._left < 0:
            raise ValueError(self._beyond)
        return bool(piece)


def opened(file: Forwards) -> BinaryIO | None:
    """What the segment that begins here unpacks to; None where no packing begins so. Each decoder has errors of its
    own."""
    head = file.peek(9)
    raw: io.RawIOBase
    if head[:2] in (b"\x1f\x8b", b"\x1f\x9e"):
        raw = _Unpacked(file, _Gzip())
    elif head[:2] == b"BZ":
        raw = _Unpacked(file, bz2.BZ2Decompressor())
    elif head[:2] == b"\x5d\0":
        raw = _Unpacked(file, _lzma(lzma.FORMAT_ALONE))
    elif head[:6] == _XZ_MAGIC:
        raw = _Xz(file, _lzma(lzma.FORMAT_XZ))
    elif head[:4] == _ZSTD_MAGIC:
        raw = _Zstd(file)
    elif head[:4] == _LZ4_MAGIC:
        raw = _Lz4(file)
    elif head == _LZO_MAGIC:
        raw = _Lzo(file)
    else:
        return None
    return cast(BinaryIO, io.BufferedReader(raw, STEP_BYTES))


class _Decoder(Protocol):
    """As lzma and bz2 have it: never more than asked for, and it says where it ended."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _lzma(form: int) -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(form, memlimit=MAX_DICTIONARY_BYTES + _LZMA_BESIDE_BYTES)


class _Gzip:
    """zlib's, as the others are."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._unpacker.eof

    @property
    def needs_input(self) -> bool:
        return not self._unpacker.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._unpacker.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._unpacker.decompress(self._unpacker.unconsumed_tail + data, max_length)


class _Stream(io.RawIOBase):
    """What all have: pieces, each as large as the decoder likes, b"" at the end."""

    _left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if not self._left:
            self._left = memoryview(self._piece(len(view)))
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def _piece(self, most: int) -> bytes:
        raise NotImplementedError


class _Unpacked(_Stream):
    """One stream of a decoder."""

    def __init__(self, file: Forwards, decoder: _Decoder) -> None:
        self._file, self._decoder, self._ended = file, decoder, False

    def _piece(self, most: int) -> bytes:
        data = b""
        while not data and not self._ended:
            wants = self._decoder.needs_input
            packed = self._file.read(STEP_BYTES) if wants else b""
            data = self._decoder.decompress(packed, most)
            self._ended = self._decoder.eof
            if self._ended:
                self._file.give_back(self._decoder.unused_data)
            elif wants and not packed and not data:
                raise EOFError(_EARLY)
        return data


class _Xz(_Unpacked):
    """Streams of xz, one after another with zeros between, are one for today's kernels."""

    def _piece(self, most: int) -> bytes:
        while not (data := super()._piece(most)):
            if not self._file.skip_zeros() or self._file.peek(6) != _XZ_MAGIC:
                return b""
            self._decoder, self._ended = _lzma(lzma.FORMAT_XZ), False
        return data


class _Zstd(_Stream):
    """One frame."""

    def __init__(self, file: Forwards) -> None:
        self._frame = _Frame(file)
        unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_DICTIONARY_BYTES)
        self._reader = unpacker.stream_reader(cast(BinaryIO, self._frame), read_size=STEP_BYTES)

    def _piece(self, most: int) -> bytes:
        data = self._reader.read(most)
        if not data:
            while self._frame.read(STEP_BYTES):  # its checksum
                pass
        return data


class _Frame:
    """The bytes of one frame of zstd (RFC 8878), as its blocks' headers state its length: the decoder would take more,
    and not tell how much."""

    def __init__(self, file: Forwards) -> None:
        self._file = file
        head = file.exactly(5)
        flags = head[4]
        single = bool(flags & 0x20)
        size = (1 if single else 0, 2, 4, 8)[flags >> 6]
        self._ready = head + file.exactly((0 if single else 1) + (0, 1, 2, 4)[flags & 3] + size)
        self._checksum = bool(flags & 4)
        self._block_bytes, self._last = 0, False

    def read(self, size: int = -1, /) -> bytes:
        while not self._ready and not self._block_bytes:
            if self._last:
                return b""
            head = self._file.exactly(3)
            word = int.from_bytes(head, "little")
            self._last = bool(word & 1)
            self._ready, self._block_bytes = head, 1 if word >> 1 & 3 == 1 else word >> 3
            if self._last and self._checksum:
                self._block_bytes += 4
        if not self._ready:
            count = min(self._block_bytes, STEP_BYTES)
            self._block_bytes -= count
            self._ready = self._file.exactly(count)
        data, self._ready = self._ready[:size], self._ready[size:]
        return data


class _Lz4(_Stream):
    """The kernel's LZ4 framing: a magic number, then blocks, each behind its length."""

    def __init__(self, file: Forwards) -> None:
        self._file, self._ended = file, False

    def _piece(self, most: int) -> bytes:
        while not self._ended:
            word = self._file.read(4)
            size = int.from_bytes(word, "little")
            if word == _LZ4_MAGIC:
                continue
            if len(word) < 4 or size == 0:
                self._ended = True
            elif size > _LZ4_MOST_BYTES:
                raise ValueError("a block is too long")
            else:
                data = self._file.exactly(size)
                return bytes(lz4.block.decompress(data, uncompressed_size=_LZ4_BLOCK_BYTES))
        return b""


class _Lzo(_Stream):
    """A file of lzop: a header, then blocks of 256 KiB. Checksums are not compared, as the kernel does not."""

    def __init__(self, file: Forwards) -> None:
        self._file, self._ended = file, False
        version = self._number(len(_LZO_MAGIC), 2)
        self._number(2, 0)
        leveled = version >= _LZO_VERSION_LEVEL
        self._number(2 if leveled else 0, 0)
        self._number(2 if leveled else 1, 0)  # method and level
        flags = self._number(0, 4)
        self._number(4 if flags & _LZO_FILTER else 0, 0)
        self._number(12 if leveled else 8, 0)  # mode and time
        self._number(self._number(0, 1) + 4, 0)  # name and checksum
        self._beside = bool(flags & 0x001) + bool(flags & 0x100), bool(flags & 0x002) + bool(flags & 0x200)

    def _number(self, skip: int, size: int) -> int:
        return int.from_bytes(self._file.exactly(skip + size)[skip:], "big")

    def _piece(self, most: int) -> bytes:
        length = 0 if self._ended else self._number(0, 4)
        if not length:
            self._ended = True
            return b""
        packed = self._number(0, 4)
        if length > _LZO_BLOCK_BYTES or not 0 < packed <= length:
            raise ValueError("a block is too long")
        plain = packed == length
        self._file.exactly(4 * (self._beside[0] + (0 if plain else self._beside[1])))
        data = self._file.exactly(packed)
        return data if plain else lzo.unpacked(data, length)
