"""A chunk of a manifest: what a restore point changed in a stretch of a disk, in columns.

Owns the columns' encoding and every bound of them, and the envelope that all chunks of a manifest have; does not know
what is in front of it or behind. docs/format.md, "Manifest".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
import zstandard

from warmspare.errors import FormatError
from warmspare.format import frame, varint
from warmspare.model import masks
from warmspare.model.block_records import HASH_BYTES, NO_FRAME, PlacedRecords
from warmspare.model.columns import U32, U64
from warmspare.model.runs import Numbers, Runs
from warmspare.model.units import block_count

MAGIC = b"WSMC"
# magic, kind, codec, reserved, stored bytes, raw bytes, first block, last block, xxh3-64 of all but itself
HEADER = struct.Struct("<4sBBHIIIIQ")
RECORDS, PACKS, END = 0, 1, 2
COUNTS = struct.Struct("<IIII")  # frames, records, bytes of the block column, zero runs

MAX_RECORDS = 1 << 15
MAX_FRAMES = NO_FRAME
MAX_RUNS = 1 << 15
MAX_CHUNK_BYTES = 4 << 20
LEVEL = 3


@dataclass(frozen=True, slots=True, eq=False)
class ChunkFrames:
    """The frames that a chunk's records use, a row each. pack: its index in the manifest's pack list. offset: where the
    frame begins in it. size: its whole length."""

    pack: U32
    offset: U32
    size: U32

    @classmethod
    def none(cls) -> ChunkFrames:
        return cls.of([])

    @classmethod
    def of(cls, places: Sequence[tuple[int, int, int]]) -> ChunkFrames:
        columns = np.array(places, dtype=np.uint32).reshape(-1, 3)
        return cls(columns[:, 0], columns[:, 1], columns[:, 2])

    @classmethod
    def join(cls, parts: Sequence[ChunkFrames]) -> ChunkFrames:
        """All of these, in the order given."""
        return cls(
            np.concatenate([part.pack for part in parts]),
            np.concatenate([part.offset for part in parts]),
            np.concatenate([part.size for part in parts]),
        )

    def __len__(self) -> int:
        return self.pack.size

    def place(self, index: int) -> tuple[int, int, int]:
        """(pack, offset, size) of one."""
        return int(self.pack[index]), int(self.offset[index]), int(self.size[index])

    def take(self, rows: Numbers) -> ChunkFrames:
        return ChunkFrames(self.pack[rows], self.offset[rows], self.size[rows])

    def renumbered(self, packs: U32) -> ChunkFrames:
        """packs: for each index of a pack another."""
        return ChunkFrames(packs[self.pack], self.offset, self.size)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A stretch of a disk. records: of each the frame is a row of `frames`, or NO_FRAME. zeros: blocks that became
    zero."""

    frames: ChunkFrames
    records: PlacedRecords
    zeros: Runs

    @property
    def empty(self) -> bool:
        """Whether it says nothing of any block."""
        return not len(self.records) and not len(self.zeros)

    @property
    def first_block(self) -> int:
        heads = [int(column[0]) for column in (self.records.block, self.zeros.start) if column.size]
        return min(heads, default=0)

    @property
    def last_block(self) -> int:
        tails = [int(self.records.block[-1])] if len(self.records) else []
        if len(self.zeros):
            tails.append(int(self.zeros.start[-1]) + int(self.zeros.count[-1]) - 1)
        return max(tails, default=0)


def encode_chunk(chunk: Chunk) -> bytes:
    """A RECORDS chunk, header included."""
    frames, records, zeros = chunk.frames, chunk.records, chunk.zeros
    first = chunk.first_block
    block = records.block.astype(np.uint64)
    deltas = np.diff(block, prepend=np.uint64(first))
    column = varint.encode(deltas)
    raw = b"".join(
        (
            COUNTS.pack(len(frames), len(records), len(column), len(zeros)),
            frames.pack.astype("<u4").tobytes(),
            frames.offset.astype("<u4").tobytes(),
            frames.size.astype("<u4").tobytes(),
            column,
            records.frame.astype("<u2").tobytes(),
            records.carried.astype("<u2").tobytes(),
            records.zero.astype("<u2").tobytes(),
            records.hashes.tobytes(),
            zeros.start.astype("<u4").tobytes(),
            zeros.count.astype("<u4").tobytes(),
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
    places = ChunkFrames(*(take.column("<u4", frames) for _ in range(3)))
    deltas = varint.decode(take.column("u1", block_bytes), where)
    if deltas.size != records:
        raise FormatError("a manifest's chunk has a block column of another length", where=where)
    block = np.cumsum(deltas, dtype=np.uint64) + np.uint64(first)
    frame_of, carried, zero = (take.column("<u2", records) for _ in range(3))
    hashes = take.column("u1", records * HASH_BYTES).reshape(records, HASH_BYTES)
    chunk = Chunk(
        places,
        PlacedRecords(block.astype(np.uint32), carried, zero, hashes, frame_of),
        Runs(take.column("<u4", runs), take.column("<u4", runs)),
    )
    take.end()
    _check_chunk(chunk, block, first, last, capacity_bytes, packs, where)
    return chunk


def _check_chunk(chunk: Chunk, block: U64, first: int, last: int, capacity_bytes: int, packs: int, where: str) -> None:
    def demand(holds: object, what: str) -> None:
        if not holds:
            raise FormatError(f"a manifest's chunk {what}", where=where)

    blocks = block_count(capacity_bytes)
    frames, records, zeros = chunk.frames, chunk.records, chunk.zeros
    demand(not len(frames) or int(frames.pack.max()) < packs, "names a pack that is not listed")
    demand(not len(frames) or int(frames.size.max()) <= frame.MAX_FRAME_BYTES, "names a frame of impossible size")
    if len(records):
        demand(int(block.max()) < blocks, "names a block beyond the disk")
        broken = records.broken_rule()
        demand(not broken, broken)
        loose = records.frame == NO_FRAME
        demand(
            (loose == (records.carried == 0)).all() and (loose | (records.frame < len(frames))).all(),
            "has a record that points at no frame",
        )
        whole = masks.whole_masks(records.block, capacity_bytes)
        demand(not (records.pages & ~whole).any(), "names a page beyond the disk")
    start, stop = zeros.bounds
    demand((zeros.count > 0).all() and (stop <= blocks).all(), "has a zero run beyond the disk")
    demand((start[1:] >= stop[:-1]).all(), "has zero runs out of order")
    demand(not zeros.hold(records.block).any(), "records a block that it also calls zero")
    demand(
        (chunk.first_block, chunk.last_block) == (first, last) or chunk.empty,
        "covers other blocks than its header says",
    )
