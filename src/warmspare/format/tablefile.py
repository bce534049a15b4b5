"""A checkpoint: a whole hash table as one object; owns its encoding, refuses to know where tables live.

docs/format.md, "Checkpoint". A header, then chunks of leaves that are not all zero, then an empty chunk.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import xxhash
import zstandard

from warmspare.errors import FormatError
from warmspare.format import flags, frame
from warmspare.format.hashtable import LEAF_BYTES
from warmspare.model.units import BLOCK_BYTES, block_count

MAGIC = b"WSTABLE\n"
HEADER = struct.Struct("<8sHHIQQ")  # magic, version, header bytes, flags, capacity, reserved
CHUNK = struct.Struct("<IIBBHQ")  # leaves, stored bytes, codec, reserved, reserved, xxh3-64
LEAVES = 64


def encode(capacity_bytes: int, leaves: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Pieces of the object. leaves: (index, 4 KiB) ascending, those of zeros left out."""
    yield HEADER.pack(MAGIC, flags.VERSION, HEADER.size, 0, capacity_bytes, 0)
    batch: list[tuple[int, bytes]] = []
    for leaf in leaves:
        batch.append(leaf)
        if len(batch) == LEAVES:
            yield _chunk(batch)
            batch = []
    if batch:
        yield _chunk(batch)
    yield _chunk([])


def _chunk(batch: list[tuple[int, bytes]]) -> bytes:
    raw = np.array([index for index, _ in batch], dtype="<u4").tobytes() + b"".join(leaf for _, leaf in batch)
    packed = zstandard.ZstdCompressor(level=3).compress(raw)
    codec, stored = (frame.ZSTD, packed) if len(packed) < len(raw) else (frame.RAW, raw)
    head = CHUNK.pack(len(batch), len(stored), codec, 0, 0, 0)[:-8]
    summed = xxhash.xxh3_64(head)
    summed.update(stored)
    return head + summed.intdigest().to_bytes(8, "little") + stored


def decode(
    read_at: Callable[[int, int], bytes], total_bytes: int, most_bytes: int, where: str
) -> Iterator[tuple[int, bytes]]:
    """(index, leaf) ascending; FormatError on damage. most_bytes: what the disk has at the point that wants it; at the
    checkpoint's it had no more. The caller checked the object's SHA-256, and checks the root of what it makes of it."""

    def take(offset: int, length: int) -> bytes:
        data = read_at(offset, length) if offset + length <= total_bytes else b""
        if len(data) != length:
            raise FormatError("a hash table checkpoint is cut off", where=where)
        return data

    head = take(0, HEADER.size)
    magic, version, size, feature, capacity, _ = HEADER.unpack(head)
    if magic != MAGIC:
        raise FormatError("this is not a hash table checkpoint", where=where)
    flags.check("hash table checkpoint", version, feature, where)
    if size != HEADER.size or not 0 < capacity <= most_bytes:
        raise FormatError("a hash table checkpoint is of a disk of another capacity", where=where)
    at, following = HEADER.size, 0
    limit = -(-block_count(capacity) // (LEAF_BYTES // 16))
    while True:
        leaves, stored_bytes, codec, _, _, checksum = CHUNK.unpack(take(at, CHUNK.size))
        if leaves > LEAVES or stored_bytes > LEAVES * (LEAF_BYTES + 4):
            raise FormatError("a hash table checkpoint has a chunk of impossible size", where=where)
        stored = take(at + CHUNK.size, stored_bytes)
        summed = xxhash.xxh3_64(take(at, CHUNK.size)[:-8])
        summed.update(stored)
        if summed.intdigest() != checksum:
            raise FormatError("a hash table checkpoint is damaged", where=f"{where}, offset {at}")
        at += CHUNK.size + stored_bytes
        if leaves == 0:
            break
        raw = frame.expand(codec, stored, leaves * (LEAF_BYTES + 4), where)
        for i, index in enumerate(np.frombuffer(raw, dtype="<u4", count=leaves).tolist()):
            if not following <= index < limit:
                raise FormatError("a hash table checkpoint's leaves are out of order", where=where)
            following = index + 1
            yield index, raw[leaves * 4 + i * LEAF_BYTES : leaves * 4 + (i + 1) * LEAF_BYTES]
    if at != total_bytes:
        raise FormatError("a hash table checkpoint has bytes after its end", where=where)


__all__ = ["BLOCK_BYTES", "decode", "encode"]
