"""The manifest: which blocks of one disk a restore point changed, and where their pages lie.

Owns its encoding, chunk by chunk, so that neither side ever holds a whole one; refuses I/O (the writer gives
bytes to a function, the reader asks one for ranges). docs/format.md, "Manifest".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
import zstandard

from warmspare.errors import FormatError
from warmspare.format import flags, frame, varint
from warmspare.format.packlist import PACK_ROW, PackRef, Viewed, packs_of
from warmspare.model import (
    BLOCK_BYTES,
    FULL_MASK,
    MAX_CAPACITY_BYTES,
    PAGE_BYTES,
    U8,
    U16,
    U32,
    U64,
    block_count,
)

MAGIC = b"WSMANIF\n"
# magic, version, header bytes, flags, capacity, run, block bits, page bits, hash, disk ID bytes, reserved
HEADER = struct.Struct("<8sHHIQ16sBBBB20s")
CHUNK_MAGIC = b"WSMC"
# magic, kind, codec, reserved, stored bytes, raw bytes, first block, last block, xxh3-64 of all but itself
CHUNK = struct.Struct("<4sBBHIIIIQ")
RECORDS, PACKS, END = 0, 1, 2
COUNTS = struct.Struct("<IIII")  # frames, records, bytes of the block column, zero runs
TOTALS = struct.Struct("<QQQQQ")  # records, carried pages, zeroed pages, blocks in zero runs, frames
HASH_XXH3_128 = 1
NO_FRAME = 0xFFFF  # a record that carries no page

MAX_RECORDS = 1 << 15
MAX_FRAMES = NO_FRAME
MAX_RUNS = 1 << 15
MAX_CHUNK_BYTES = 4 << 20
MAX_PACKS_CHUNK = 1 << 14
MAX_PACKS = 1 << 20  # of 64 MiB they make up the largest disk
LEVEL = 3


@dataclass(frozen=True, slots=True)
class Totals:
    """What a manifest holds in all: records, pages carried and zeroed in them, blocks in zero runs, frames
    (one that several chunks use counts in each)."""

    records: int = 0
    carried_pages: int = 0
    zeroed_pages: int = 0
    zero_blocks: int = 0
    frames: int = 0


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


@dataclass(frozen=True, slots=True)
class Header:
    """capacity_bytes: of the disk at this restore point. run: 16 bytes of the sync that wrote it."""

    disk_id: str
    capacity_bytes: int
    run: bytes

    def encode(self) -> bytes:
        name = self.disk_id.encode()
        if len(name) > 255:
            raise ValueError("a disk ID is longer than 255 bytes")
        return (
            HEADER.pack(
                MAGIC, flags.VERSION, HEADER.size + len(name), 0, self.capacity_bytes, self.run,
                BLOCK_BYTES.bit_length() - 1, PAGE_BYTES.bit_length() - 1, HASH_XXH3_128, len(name), bytes(20),
            )
            + name
        )  # fmt: skip


def encode_chunk(chunk: Chunk) -> bytes:
    """A RECORDS chunk, header included."""
    first = chunk.first_block
    block = chunk.block.astype(np.uint64)
    deltas = np.diff(block, prepend=np.uint64(first))
    column = varint.encode(deltas)
    raw = b"".join((
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
    ))  # fmt: skip
    return _seal(RECORDS, raw, first, chunk.last_block)


def _seal(kind: int, raw: bytes, first: int = 0, last: int = 0) -> bytes:
    packed = zstandard.ZstdCompressor(level=LEVEL).compress(raw)
    codec, stored = (frame.ZSTD, packed) if len(packed) < len(raw) else (frame.RAW, raw)
    head = CHUNK.pack(CHUNK_MAGIC, kind, codec, 0, len(stored), len(raw), first, last, 0)[:-8]
    summed = xxhash.xxh3_64(head)
    summed.update(stored)
    return head + summed.intdigest().to_bytes(8, "little") + stored


class Cursor:
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
    take = Cursor(raw, where)
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
        frame_pack, frame_offset, frame_bytes, block.astype(np.uint32),
        take.column("<u2", records), take.column("<u2", records), take.column("<u2", records),
        take.column("u1", records * 16).reshape(records, 16),
        take.column("<u4", runs), take.column("<u4", runs),
    )  # fmt: skip
    take.end()
    _check_chunk(chunk, block, first, last, capacity_bytes, packs, where)
    return chunk


def _check_chunk(
    chunk: Chunk, block: U64, first: int, last: int, capacity_bytes: int, packs: int, where: str
) -> None:
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


class ManifestWriter:
    """Streams a manifest out: header, chunks as they are given, then `finish`."""

    def __init__(self, header: Header, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._next = 0
        self.totals = Totals()
        head = header.encode()
        self.raw_bytes = len(head)  # of all that was written, before compression
        write(head)

    def add(self, chunk: Chunk) -> None:
        """Chunks must come in disk order and not share a block."""
        if not chunk.block.size and not chunk.zero_start.size:
            return
        if chunk.first_block < self._next:
            raise ValueError("chunks out of order")
        self._next = chunk.last_block + 1
        was = self.totals
        self.totals = Totals(
            was.records + chunk.block.size,
            was.carried_pages + int(np.bitwise_count(chunk.carried).sum()),
            was.zeroed_pages + int(np.bitwise_count(chunk.zero).sum()),
            was.zero_blocks + int(chunk.zero_count.sum()),
            was.frames + chunk.frame_pack.size,
        )
        self._put(encode_chunk(chunk))

    def _put(self, sealed: bytes) -> None:
        self.raw_bytes += CHUNK.size + CHUNK.unpack_from(sealed)[5]
        self._write(sealed)

    def finish(self, packs: Sequence[PackRef]) -> None:
        rows = np.zeros(len(packs), dtype=PACK_ROW)
        for row, pack in zip(rows, packs, strict=True):
            row["run"], row["number"], row["bytes"] = pack.run, pack.number, pack.bytes
            row["crc32c"], row["sha256"] = pack.crc32c, pack.sha256
        for at in range(0, len(rows), MAX_PACKS_CHUNK):
            self._put(_seal(PACKS, rows[at : at + MAX_PACKS_CHUNK].tobytes()))
        total = self.totals
        self._put(
            _seal(
                END,
                TOTALS.pack(
                    total.records, total.carried_pages, total.zeroed_pages, total.zero_blocks, total.frames
                ),
            )
        )


class ManifestReader:
    """Reads a manifest whose bytes `read_at(offset, length)` returns; it has been checked against the SHA-256
    of its restore point by the caller. Construction reads the header, the pack list and the totals."""

    def __init__(self, read_at: Callable[[int, int], bytes], total_bytes: int, where: str) -> None:
        self._read_at, self._total, self._where = read_at, total_bytes, where
        head = self._take(0, HEADER.size)
        if head[:8] != MAGIC:
            raise FormatError("this is not a manifest", where=where)
        _, version, size, feature, capacity, run, block, page, algorithm, name_bytes, _ = HEADER.unpack(head)
        flags.check("manifest", version, feature, where)
        if (
            1 << block != BLOCK_BYTES
            or 1 << page != PAGE_BYTES
            or algorithm != HASH_XXH3_128
            or size != HEADER.size + name_bytes
            or not 0 < capacity <= MAX_CAPACITY_BYTES
        ):
            raise FormatError("a manifest's header has impossible values", where=where)
        try:
            name = self._take(HEADER.size, name_bytes).decode()
        except UnicodeDecodeError:
            raise FormatError("a manifest's disk ID is not UTF-8", where=where) from None
        self.header = Header(name, capacity, run)
        self._start = size
        self.packs = packs_of([])
        self.totals = Totals()
        self._index()

    def _take(self, offset: int, length: int) -> bytes:
        if offset + length > self._total:
            raise FormatError("a manifest is cut off", where=self._where)
        data = self._read_at(offset, length)
        if len(data) != length:
            raise FormatError("a manifest is cut off", where=self._where)
        return data

    def _chunk_heads(self) -> Iterator[tuple[int, int, int, int, int, int, int]]:
        """(offset, kind, codec, stored bytes, raw bytes, first, last) of each chunk, END last."""
        at = self._start
        while True:
            head = self._take(at, CHUNK.size)
            magic, kind, codec, _, stored, raw, first, last, _ = CHUNK.unpack(head)
            if magic != CHUNK_MAGIC or kind > END or max(stored, raw) > MAX_CHUNK_BYTES:
                raise FormatError("a manifest's chunk is damaged", where=f"{self._where}, offset {at}")
            yield at, kind, codec, stored, raw, first, last
            at += CHUNK.size + stored
            if kind == END:
                break
        if at != self._total:
            raise FormatError("a manifest has bytes after its end", where=self._where)

    def _payload(self, at: int, codec: int, stored: int, raw: int) -> bytes:
        where = f"{self._where}, offset {at}"
        data = self._take(at, CHUNK.size + stored)
        summed = xxhash.xxh3_64(data[: CHUNK.size - 8])
        summed.update(memoryview(data)[CHUNK.size :])
        if summed.digest()[::-1] != data[CHUNK.size - 8 : CHUNK.size]:
            raise FormatError("a manifest's chunk is damaged: its checksum does not match", where=where)
        return frame.expand(codec, memoryview(data)[CHUNK.size :], raw, where)

    def _index(self) -> None:
        seen = False
        rows: list[np.ndarray] = []
        count = 0
        for at, kind, codec, stored, raw, _, _ in self._chunk_heads():
            if kind == RECORDS and seen:
                raise FormatError("a manifest's chunks are out of order", where=self._where)
            seen = seen or kind != RECORDS
            if kind == PACKS:
                data = self._payload(at, codec, stored, raw)
                if len(data) % PACK_ROW.itemsize:
                    raise FormatError("a manifest's pack list is cut off", where=self._where)
                if len(data) > MAX_PACKS_CHUNK * PACK_ROW.itemsize or count > self._most_packs():
                    raise FormatError("a manifest names more packs than its disk can have", where=self._where)
                rows.append(np.frombuffer(data, dtype=PACK_ROW))
                count += len(rows[-1])
            elif kind == END:
                data = self._payload(at, codec, stored, raw)
                if len(data) != TOTALS.size:
                    raise FormatError("a manifest's totals are cut off", where=self._where)
                self.totals = Totals(*TOTALS.unpack(data))
        self.packs = packs_of(rows)

    def _most_packs(self) -> int:
        """A pack is named for a page of the disk at least."""
        return min(-(-self.header.capacity_bytes // PAGE_BYTES), MAX_PACKS)

    def chunks(self, first_block: int = 0, stop_block: int = 1 << 32) -> Iterator[Chunk]:
        """Chunks that touch [first_block, stop_block), in disk order, decoded one at a time."""
        following = 0
        for at, kind, codec, stored, raw, first, last in self._chunk_heads():
            if kind != RECORDS:
                return
            if first < following or last < first:
                raise FormatError("a manifest's chunks are out of order", where=self._where)
            following = last + 1
            if last < first_block or first >= stop_block:
                continue
            where = f"{self._where}, offset {at}"
            yield decode_chunk(
                self._payload(at, codec, stored, raw), first, last, self.header.capacity_bytes,
                len(self.packs), where,
            )  # fmt: skip


__all__ = [
    "FULL_MASK", "NO_FRAME", "Chunk", "Header", "ManifestReader", "ManifestWriter", "PackRef", "Totals", "Viewed",
    "decode_chunk", "encode_chunk",
]  # fmt: skip
