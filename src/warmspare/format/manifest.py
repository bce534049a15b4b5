"""The manifest: which blocks of one disk a restore point changed, and where their pages lie.

Owns its header, the order of its chunks, its list of packs and its totals, chunk by chunk, so that neither side ever
holds a whole one; refuses I/O (the writer gives bytes to a function, the reader asks one for ranges). docs/format.md,
"Manifest".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from warmspare.errors import FormatError
from warmspare.format import chunk as envelope
from warmspare.format import flags
from warmspare.format.chunk import END, PACKS, RECORDS, Chunk, decode_chunk, encode_chunk, opened, seal
from warmspare.format.packlist import PACK_ROW, PackRef, packs_of
from warmspare.model import masks
from warmspare.model.ids import DiskId, RunId, run_bytes, run_of
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES, PAGE_BYTES

MAGIC = b"WSMANIF\n"
# magic, version, header bytes, flags, capacity, run, block bits, page bits, hash, disk ID bytes, reserved
HEADER = struct.Struct("<8sHHIQ16sBBBB20s")
TOTALS = struct.Struct("<QQQQQ")  # records, carried pages, zeroed pages, blocks in zero runs, frames
HASH_XXH3_128 = 1
SMALL_BYTES = 32 << 10
MAX_PACKS_CHUNK = 1 << 14
MAX_PACKS = 1 << 20  # of 64 MiB they make up the largest disk


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
class Header:
    """capacity_bytes: of the disk at this restore point. run: of the sync, or of the retention, that wrote it. folded:
    it stands for several restore points."""

    disk_id: DiskId
    capacity_bytes: int
    run: RunId
    folded: bool = False

    def encode(self) -> bytes:
        name = self.disk_id.encode()
        if len(name) > 255:
            raise ValueError("a disk ID is longer than 255 bytes")
        return (
            HEADER.pack(
                MAGIC,
                flags.VERSION,
                HEADER.size + len(name),
                flags.FOLDED if self.folded else 0,
                self.capacity_bytes,
                run_bytes(self.run),
                BLOCK_BYTES.bit_length() - 1,
                PAGE_BYTES.bit_length() - 1,
                HASH_XXH3_128,
                len(name),
                bytes(20),
            )
            + name
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
        if chunk.empty:
            return
        if chunk.first_block < self._next:
            raise ValueError("chunks out of order")
        self._next = chunk.last_block + 1
        was = self.totals
        self.totals = Totals(
            was.records + len(chunk.records),
            was.carried_pages + masks.total(chunk.records.carried),
            was.zeroed_pages + masks.total(chunk.records.zero),
            was.zero_blocks + chunk.zeros.blocks,
            was.frames + len(chunk.frames),
        )
        self._put(encode_chunk(chunk))

    def _put(self, sealed: bytes) -> None:
        self.raw_bytes += envelope.HEADER.size + envelope.HEADER.unpack_from(sealed)[5]
        self._write(sealed)

    def finish(self, packs: Sequence[PackRef]) -> None:
        rows = np.zeros(len(packs), dtype=PACK_ROW)
        for row, pack in zip(rows, packs, strict=True):
            row["run"], row["number"], row["bytes"] = run_bytes(pack.id.run), pack.id.number, pack.bytes
            row["crc32c"], row["sha256"] = pack.crc32c, pack.sha256
        for at in range(0, len(rows), MAX_PACKS_CHUNK):
            self._put(seal(PACKS, rows[at : at + MAX_PACKS_CHUNK].tobytes()))
        total = self.totals
        self._put(
            seal(
                END,
                TOTALS.pack(total.records, total.carried_pages, total.zeroed_pages, total.zero_blocks, total.frames),
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
        flags.check("manifest", version, feature, where, known=flags.FOLDED)
        if (
            2**block != BLOCK_BYTES
            or 2**page != PAGE_BYTES
            or algorithm != HASH_XXH3_128
            or size != HEADER.size + name_bytes
            or not 0 < capacity <= MAX_CAPACITY_BYTES
        ):
            raise FormatError("a manifest's header has impossible values", where=where)
        try:
            name = self._take(HEADER.size, name_bytes).decode()
        except UnicodeDecodeError:
            raise FormatError("a manifest's disk ID is not UTF-8", where=where) from None
        self.header = Header(DiskId(name), capacity, run_of(run), bool(feature & flags.FOLDED))
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

    def _taking(self) -> Callable[[int, int], bytes]:
        """As `_take`, for one pass over the manifest; a small one is read as a whole, since a chain has many."""
        if self._total > SMALL_BYTES:
            return self._take
        whole = self._take(0, self._total)

        def take(offset: int, length: int) -> bytes:
            if offset + length > len(whole):
                raise FormatError("a manifest is cut off", where=self._where)
            return whole[offset : offset + length]

        return take

    def _chunk_heads(self, take: Callable[[int, int], bytes]) -> Iterator[tuple[int, int, int, int, int, int, int]]:
        """(offset, kind, codec, stored bytes, raw bytes, first, last) of each chunk, END last."""
        at = self._start
        while True:
            head = take(at, envelope.HEADER.size)
            magic, kind, codec, _, stored, raw, first, last, _ = envelope.HEADER.unpack(head)
            if magic != envelope.MAGIC or kind > END or max(stored, raw) > envelope.MAX_CHUNK_BYTES:
                raise FormatError("a manifest's chunk is damaged", where=f"{self._where}, offset {at}")
            yield at, kind, codec, stored, raw, first, last
            at += envelope.HEADER.size + stored
            if kind == END:
                break
        if at != self._total:
            raise FormatError("a manifest has bytes after its end", where=self._where)

    def _payload(self, take: Callable[[int, int], bytes], at: int, codec: int, stored: int, raw: int) -> bytes:
        data = take(at, envelope.HEADER.size + stored)
        return opened(data, codec, raw, f"{self._where}, offset {at}")

    def _index(self) -> None:
        seen = False
        rows: list[np.ndarray] = []
        count = 0
        take = self._taking()
        for at, kind, codec, stored, raw, _, _ in self._chunk_heads(take):
            if kind == RECORDS and seen:
                raise FormatError("a manifest's chunks are out of order", where=self._where)
            seen = seen or kind != RECORDS
            if kind == PACKS:
                data = self._payload(take, at, codec, stored, raw)
                if len(data) % PACK_ROW.itemsize:
                    raise FormatError("a manifest's pack list is cut off", where=self._where)
                if len(data) > MAX_PACKS_CHUNK * PACK_ROW.itemsize or count > self._most_packs():
                    raise FormatError("a manifest names more packs than its disk can have", where=self._where)
                rows.append(np.frombuffer(data, dtype=PACK_ROW))
                count += len(rows[-1])
            elif kind == END:
                data = self._payload(take, at, codec, stored, raw)
                if len(data) != TOTALS.size:
                    raise FormatError("a manifest's totals are cut off", where=self._where)
                self.totals = Totals(*TOTALS.unpack(data))
        self.packs = packs_of(rows)

    def _most_packs(self) -> int:
        """A pack is named for a page of the disk at least."""
        return min(-(-self.header.capacity_bytes // PAGE_BYTES), MAX_PACKS)

    def weights(self) -> Iterator[tuple[int, int, int]]:
        """(first block, last block, bytes decompressed) of each chunk of records."""
        for _, kind, _, _, raw, first, last in self._chunk_heads(self._taking()):
            if kind == RECORDS:
                yield first, last, raw

    def chunks(self, first_block: int = 0, stop_block: int = 1 << 32) -> Iterator[Chunk]:
        """Chunks that touch [first_block, stop_block), in disk order, decoded one at a time."""
        following = 0
        take = self._taking()
        for at, kind, codec, stored, raw, first, last in self._chunk_heads(take):
            if kind != RECORDS:
                return
            if first < following or last < first:
                raise FormatError("a manifest's chunks are out of order", where=self._where)
            following = last + 1
            if last < first_block or first >= stop_block:
                continue
            where = f"{self._where}, offset {at}"
            yield decode_chunk(
                self._payload(take, at, codec, stored, raw),
                first,
                last,
                self.header.capacity_bytes,
                len(self.packs),
                where,
            )
