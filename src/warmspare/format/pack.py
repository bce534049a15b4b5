"""Pack header and the walk over a pack's frames; owns nothing of what the frames mean.

docs/format.md, "Pack". A pack is a header followed by frames of one disk, back to back, nothing after.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from warmspare.errors import FormatError
from warmspare.format import flags, frame
from warmspare.model.ids import PackId, run_bytes, run_of
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES

MAGIC = b"WSPACK\r\n"
# magic, version, header bytes, flags, run, number, disk, block bits, page bits, reserved, xxh3-64
HEADER = struct.Struct("<8sHHI16sIHBB16sQ")
PACK_BYTES = 64 << 20  # a pack is closed at the first frame that reaches this; offsets have 32 bits


@dataclass(frozen=True, slots=True)
class PackHeader:
    """disk: index in the restore point."""

    id: PackId
    disk: int

    def encode(self) -> bytes:
        head = HEADER.pack(
            MAGIC,
            flags.VERSION,
            HEADER.size,
            0,
            run_bytes(self.id.run),
            self.id.number,
            self.disk,
            BLOCK_BYTES.bit_length() - 1,
            PAGE_BYTES.bit_length() - 1,
            bytes(16),
            0,
        )[:-8]
        return head + xxhash.xxh3_64_intdigest(head).to_bytes(8, "little")

    @classmethod
    def decode(cls, data: bytes | memoryview, where: str) -> PackHeader:
        if len(data) < HEADER.size or bytes(data[:8]) != MAGIC:
            raise FormatError("this is not a pack", where=where)
        _, version, size, feature, run, number, disk, block, page, _, checksum = HEADER.unpack_from(data)
        flags.check("pack", version, feature, where)
        if xxhash.xxh3_64_intdigest(bytes(data[: HEADER.size - 8])) != checksum:
            raise FormatError("a pack's header is damaged", where=where)
        if size != HEADER.size or 2**block != BLOCK_BYTES or 2**page != PAGE_BYTES:
            raise FormatError("a pack has other block or page sizes than this version knows", where=where)
        return cls(PackId(run_of(run), number), disk)


def walk(data: bytes | memoryview, where: str) -> Iterator[tuple[int, frame.Frame]]:
    """(offset, frame) of each frame of a whole pack; FormatError at the first that is damaged or cut off."""
    view = memoryview(data)
    PackHeader.decode(view, where)
    at = HEADER.size
    while at < len(view):
        place = f"{where}, offset {at}"
        size = frame.frame_bytes(view[at:], place)
        if at + size > len(view):
            raise FormatError("the last frame of a pack is cut off", where=place)
        yield at, frame.decode(view[at : at + size], place)
        at += size
