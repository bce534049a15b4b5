"""Records of restore points that were dropped: the proof that one point descends from another; owns the bytes.

docs/format.md, "Descent". Every record names the SHA-256 of the one before, so that is left out here and put back when
the record is unpacked: a forged record gives another SHA-256 than the one after it names. No I/O.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence

import xxhash
import zstandard

from warmspare.errors import FormatError
from warmspare.format import flags
from warmspare.format.restore_point import MAX_POINT_BYTES

MAGIC = b"WSDESC\r\n"
# magic, version, header bytes, flags, sequence of the first, records, bytes unpacked, xxh3-64 of what is around it
HEADER = struct.Struct("<8sHHIQIIQ")
LENGTH = struct.Struct("<BI")  # 1: the parent is left out; length
PART_BYTES = 4 << 20  # unpacked, of a part, but for a single record that is larger
MAX_PART_BYTES = PART_BYTES + MAX_POINT_BYTES + LENGTH.size
MAX_STORED_BYTES = HEADER.size + MAX_PART_BYTES + MAX_PART_BYTES // 256 + 512  # zstd makes nothing longer than that
LEVEL = 15
_PARENT = re.compile(rb'"parent": "([0-9a-f]{64})"')
_LEFT_OUT = b'"parent": "^"'


def encode(first: int, stored: Sequence[bytes]) -> bytes:
    """A part: records as they were stored, of consecutive sequences from `first` on. What one names as its parent must
    be the one before; of the first that is left to `decode`."""
    raw = b"".join(_packed(data) for data in stored)
    body = zstandard.ZstdCompressor(level=LEVEL).compress(raw)
    head = HEADER.pack(MAGIC, flags.VERSION, HEADER.size, flags.FOLDED, first, len(stored), len(raw), 0)[:-8]
    return head + _sum(head, body) + body


def parts(sizes: Sequence[int]) -> Iterator[slice]:
    """Which records go into one part each, by their sizes."""
    start = held = 0
    for index, size in enumerate(sizes):
        if index > start and held + size > PART_BYTES:
            yield slice(start, index)
            start, held = index, 0
        held += size + LENGTH.size
    if len(sizes) > start:
        yield slice(start, len(sizes))


def decode(data: bytes, before: str | None, where: str) -> tuple[int, list[bytes]]:
    """(sequence of the first, the records as they were stored). before: the SHA-256 of the record before the first.
    FormatError on anything that breaks the rules of docs/format.md."""

    def demand(holds: bool, what: str) -> None:
        if not holds:
            raise FormatError(f"a descent is damaged: {what}", where=where)

    demand(len(data) >= HEADER.size, "it is cut off")
    magic, version, size, feature, first, count, length, summed = HEADER.unpack_from(data)
    demand(magic == MAGIC, "it is none")
    flags.check("descent", version, feature, where, known=flags.FOLDED)
    body = data[HEADER.size :]
    sound = _sum(data[: HEADER.size - 8], body) == summed.to_bytes(8, "little")
    demand(size == HEADER.size and sound, "its checksum does not match")
    demand(0 < length <= MAX_PART_BYTES and 0 < count <= length // LENGTH.size, "it has impossible values")
    try:
        raw = zstandard.ZstdDecompressor().decompress(body, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError:
        raise FormatError("a descent is damaged: it can't be unpacked", where=where) from None
    demand(len(raw) == length, "it unpacks to another length")
    out: list[bytes] = []
    at = 0
    for _ in range(count):
        demand(at + LENGTH.size <= length, "it is cut off")
        without, packed = LENGTH.unpack_from(raw, at)
        at += LENGTH.size
        demand(at + packed <= length, "it is cut off")
        record = raw[at : at + packed]
        if without and before is not None:
            record = record.replace(_LEFT_OUT, b'"parent": "%s"' % before.encode(), 1)
        demand(len(record) <= MAX_POINT_BYTES, "a record is longer than one may be")
        before = hashlib.sha256(record).hexdigest()
        out.append(record)
        at += packed
    demand(at == length, "it has bytes after its end")
    return first, out


def _packed(data: bytes) -> bytes:
    without = _LEFT_OUT not in data and _PARENT.search(data) is not None
    if without:  # else it has no parent, or says the same of something else
        data = _PARENT.sub(_LEFT_OUT, data, count=1)
    return LENGTH.pack(without, len(data)) + data


def _sum(head: bytes, body: bytes) -> bytes:
    summed = xxhash.xxh3_64(head)
    summed.update(body)
    return summed.intdigest().to_bytes(8, "little")
