"""A chunk of a manifest: what a restore point changed in a stretch of a disk, in columns.

Owns the columns' encoding and every bound of them, and the envelope that all chunks of a manifest have; does not know
what is in front of it or behind. docs/format.md, "Manifest".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import xxhash
import zstandard

from warmspare.errors import FormatError
from warmspare.format import frame, varint
from warmspare.model.columns import U8, U16, U32, U64
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES, block_count

MAGIC = b"WSMC"
# magic, kind, codec, reserved, stored bytes, raw bytes, first block, last block, xxh3-64 of all but itself
HEADER = struct.Struct("<4sBBHIIIIQ")
RECORDS, PACKS, END = 0, 1, 2
COUNTS = struct.Struct("<IIII")  # frames, records, bytes of the block column, zero runs
NO_FRAME = 0xFFFF  # a record that carries no page

MAX_RECORDS = 1 << 15
MAX_FRAMES = NO_FRAME
MAX_RUNS = 1 << 15
MAX_CHUNK_BYTES = 4 << 20
LEVEL = 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """Columns of a stretch of a disk, ascending by block.

    frame_pack, frame_offset, frame_bytes: one row a frame used here; the pack's index in the manifest's pack
    list, where the frame begins in it, its whole length. block .. hashes: one row a record; `frame` indexes
    the frame columns or is NO_FRAME, `hashes` has shape (n, 16). Records of one block are neighbours, with
    disjoint masks and the same hash. zero_start, zero_count: runs of blocks that became zero.
    """

    frame_pack: U32
    frame_offset: U32
    frame_bytes: U32
    block: U32
    frame: U16
    carried: U16
    zero: U16
    hashes: U8
    zero_start: U32
    zero_count: U32

    @property
    def first_block(self) -> int:
        heads = [int(column[0]) for column in (self.block, self.zero_start) if column.size]
        return min(heads, default=0)

    @property
    def last_block(self) -> int:
        tails = [int(self.block[-1])] if self.block.size else []
        if self.zero_start.size:
            tails.append(int(self.zero_start[-1]) + int(self.zero_count[-1]) - 1)
        return max(tails, default=0)


def encode_chunk(chunk: Chunk) -> bytes:
    """A RECORDS chunk, header included."""
    first = chunk.first_block
    block = chunk.block.astype(np.uint64)
    deltas = np.diff(block, prepend=np.uint64(first))
    column = varint.encode(deltas)
    raw = b"".join(
        (
            COUNTS.pack(chunk.frame_pack.size, chunk.block.size, len(column), chunk.zero_start.size),
            chunk.frame_pack.astype("<u4").tobytes(),
            chunk.frame_offset.astype("<u4").tobytes(),
            chunk.frame_bytes.astype("<u4").tobytes(),
            column,
            chunk.frame.astype("<u2").tobytes(),
            chunk.carried.astype("<u2").tobytes(),
            chunk.zero.astype("<u2").tobytes(),
            chunk.hashes.tobytes(),
            chunk.zero_start.astype("<u4").tobytes(),
            chunk.zero_count.astype("<u4").tobytes(),
        )
    )
    return seal(RECORDS, raw, first, chunk.last_block)


def seal(kind: int, raw: bytes, first: int = 0, last: int = 0) -> bytes:
    """A chunk in its envelope: compressed where that helps, with its checksum."""
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(raw)
    codec, stored = (frame.ZSTD, packed) if len(packed) < len(raw) else (frame.RAW, raw)
    head = HEADER.pack(MAGIC, kind, codec, 0, len(stored), len(raw), first, last, 0)[:-8]
    summed = xxhash.xxh3_64(head)
    summed.update(stored)
    return head + summed.intdigest().to_bytes(8, "little") + stored


def opened(data: bytes, codec: int, raw: int, where: str) -> bytes:
    """What a whole chunk holds, its checksum proved. FormatError."""
    summed = xxhash.xxh3_64(data[: HEADER.size - 8])
    summed.update(memoryview(data)[HEADER.size :])
    if summed.digest()[::-1] != data[HEADER.size - 8 : HEADER.size]:
        raise FormatError("a manifest's chunk is damaged: its checksum does not match", where=where)
    return frame.expand(codec, memoryview(data)[HEADER.size :], raw, where)


class ColumnReader:
    """Takes typed columns off a buffer, checking the length before each."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.at, self.where = data, 0, where

    def column(self, kind: str, count: int) -> np.ndarray:
        size = count * np.dtype(kind).itemsize
        if self.at + size > len(self.data):
            raise FormatError("a manifest's chunk is shorter than its columns", where=self.where)
        out = np.frombuffer(self.data, dtype=kind, count=count, offset=self.at)
        self.at += size
        return out

    def end(self) -> None:
        if self.at != len(self.data):
            raise FormatError("a manifest's chunk is longer than its columns", where=self.where)


def decode_chunk(raw: bytes, first: int, last: int, capacity_bytes: int, packs: int, where: str) -> Chunk:
    """A RECORDS chunk's columns, every bound checked; FormatError on anything that does not add up."""
    take = ColumnReader(raw, where)
    if len(raw) < COUNTS.size:
        raise FormatError("a manifest's chunk is cut off", where=where)
    frames, records, block_bytes, runs = COUNTS.unpack_from(raw)
    take.at = COUNTS.size
    if frames > MAX_FRAMES or records > MAX_RECORDS or runs > MAX_RUNS:
        raise FormatError("a manifest's chunk has more rows than the format allows", where=where)
    frame_pack, frame_offset, frame_bytes = (take.column("<u4", frames) for _ in range(3))
    deltas = varint.decode(take.column("u1", block_bytes), where)
    if deltas.size != records:
        raise FormatError("a manifest's chunk has a block column of another length", where=where)
    block = np.cumsum(deltas, dtype=np.uint64) + np.uint64(first)
    chunk = Chunk(
        frame_pack,
        frame_offset,
        frame_bytes,
        block.astype(np.uint32),
        take.column("<u2", records),
        take.column("<u2", records),
        take.column("<u2", records),
        take.column("u1", records * 16).reshape(records, 16),
        take.column("<u4", runs),
        take.column("<u4", runs),
    )
    take.end()
    _check_chunk(chunk, block, first, last, capacity_bytes, packs, where)
    return chunk


def _check_chunk(chunk: Chunk, block: U64, first: int, last: int, capacity_bytes: int, packs: int, where: str) -> None:
    def demand(holds: object, what: str) -> None:
        if not holds:
            raise FormatError(f"a manifest's chunk {what}", where=where)

    blocks = block_count(capacity_bytes)
    demand(not chunk.frame_pack.size or int(chunk.frame_pack.max()) < packs, "names a pack that is not listed")
    demand(
        not chunk.frame_bytes.size or int(chunk.frame_bytes.max()) <= frame.MAX_FRAME_BYTES,
        "names a frame of impossible size",
    )
    if block.size:
        demand(int(block.max()) < blocks, "names a block beyond the disk")
        masks = chunk.carried | chunk.zero
        demand(not np.any(chunk.carried & chunk.zero), "has masks that overlap")
        demand(not np.any(masks == 0), "has a record of no page")
        loose = chunk.frame == NO_FRAME
        demand(
            np.all(loose == (chunk.carried == 0)) and np.all(loose | (chunk.frame < chunk.frame_pack.size)),
            "has a record that points at no frame",
        )
        again = np.flatnonzero(block[1:] == block[:-1])
        if again.size:  # several records of one block: masks disjoint, hashes equal
            demand(np.all(chunk.hashes[again] == chunk.hashes[again + 1]), "gives one block two hashes")
            seen: dict[int, int] = {}
            for i in sorted({*again.tolist(), *(again + 1).tolist()}):
                key, mask = int(block[i]), int(masks[i])
                demand(not seen.get(key, 0) & mask, "gives one page twice")
                seen[key] = seen.get(key, 0) | mask
        count = -(-(capacity_bytes - (blocks - 1) * BLOCK_BYTES) // PAGE_BYTES)
        short = np.flatnonzero(block == blocks - 1)
        demand(not np.any(masks[short] >> count), "names a page beyond the disk")
    start, stop = chunk.zero_start.astype(np.int64), chunk.zero_start.astype(np.int64) + chunk.zero_count
    demand(np.all(chunk.zero_count > 0) and np.all(stop <= blocks), "has a zero run beyond the disk")
    demand(np.all(start[1:] >= stop[:-1]), "has zero runs out of order")
    if block.size and start.size:
        run = np.searchsorted(start, block.astype(np.int64), side="right") - 1
        inside = (run >= 0) & (block.astype(np.int64) < stop[np.maximum(run, 0)])
        demand(not np.any(inside), "records a block that it also calls zero")
    demand(
        (chunk.first_block, chunk.last_block) == (first, last) or not (block.size or start.size),
        "covers other blocks than its header says",
    )
