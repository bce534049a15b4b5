"""Blocks of one frame, put together with what they inherit and held against their hashes; owns the audit's own merging.

Runs in worker threads. docs/format.md, "Applying a point". It shares the decoding of frames with the receiver and
nothing of the merging, so that the two can't be wrong together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xxhash

from warmspare.audit.repository.object_checks import Fetched
from warmspare.audit.repository.scratch import StaleScratchError
from warmspare.errors import FormatError
from warmspare.format import frame
from warmspare.format.chunk import Chunk
from warmspare.format.hashtable import ENTRY_BYTES
from warmspare.model.columns import U8, U16
from warmspare.model.units import BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES, block_bytes
from warmspare.state.page_file import PageFile

_ZEROS = bytes(BLOCK_BYTES)
_NO_ENTRY = bytes(ENTRY_BYTES)


@dataclass(frozen=True, slots=True)
class FrameUse:
    """A frame in its pack, and the records of a chunk that use it (row numbers, ascending by block)."""

    pack: int
    offset: int
    size: int
    rows: list[int]


@dataclass(frozen=True, slots=True)
class Part:
    """A record's pages: where in a payload they begin, which pages of the block lie there. payload: None if lost."""

    row: int
    payload: bytes | None
    start: int
    framed: int

    def alone(self) -> Part:
        """The same without the rest of its frame, which must not stay in memory until the block is whole."""
        if self.payload is None:
            return self
        stop = (self.start + self.framed.bit_count()) * PAGE_BYTES
        return Part(self.row, self.payload[self.start * PAGE_BYTES : stop], 0, self.framed)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a chunk's blocks are verified with, a row a record. whole: masks of all pages. prior: hashes of the point
    before. lost: pages lost by then. kept: whether the image must hold the block. odd: a block whose length was another
    at the point before, or -1. image: scratch file with the kept blocks of the point before."""

    chunk: Chunk
    capacity_bytes: int
    image: PageFile
    whole: U16
    prior: U8
    lost: U16
    kept: U8
    odd: int


@dataclass(slots=True)
class FrameVerdict:
    """Of some records. sound: blocks whose hash is right. unsure: those that inherit what was lost before. taken:
    (row, pages lost with it). why: of the first loss."""

    sound: int = 0
    unsure: int = 0
    taken: list[tuple[int, int]] = field(default_factory=list)
    why: str = ""

    def lose(self, row: int, pages: int, why: str) -> None:
        self.taken.append((row, pages))
        self.why = self.why or why


def parts(bench: Bench, source: Fetched | None, piece: FrameUse, verdict: FrameVerdict) -> list[Part]:
    """One frame, decoded and taken apart. What it does not give is lost, and said so in `verdict`."""
    chunk = bench.chunk
    where = f"{source.where if source else 'a pack'}, offset {piece.offset}"
    try:
        if source is None:
            raise FormatError("a pack is missing", where=where)
        held = frame.decode(source.read_at(piece.offset, piece.size), where)
    except FormatError as error:
        for row in piece.rows:
            verdict.lose(row, int(chunk.carried[row]), error.sentence)
        return [Part(row, None, 0, 0) for row in piece.rows]
    first = chunk.block[piece.rows].astype(np.uint64) * np.uint64(BLOCK_PAGES)
    starts = np.searchsorted(held.pages, first).tolist()
    stops = np.searchsorted(held.pages, first + np.uint64(BLOCK_PAGES)).tolist()
    out = []
    for row, start, stop in zip(piece.rows, starts, stops, strict=True):
        framed = (1 << BLOCK_PAGES) - 1
        if stop - start < BLOCK_PAGES:
            framed = sum(1 << (page % BLOCK_PAGES) for page in held.pages[start:stop].tolist())
        payload: bytes | None = held.payload
        if int(chunk.carried[row]) & ~framed:
            payload = None
            verdict.lose(row, int(chunk.carried[row]), f"a frame lacks a page that a record says it holds ({where})")
        out.append(Part(row, payload, start, framed))
    return out


def check_frames(bench: Bench, source: Fetched | None, pieces: list[FrameUse]) -> FrameVerdict:
    """Every record that uses these frames; each must be the only one of its block."""
    verdict = FrameVerdict()
    for piece in pieces:
        for part in parts(bench, source, piece, verdict):
            check_block(bench, [part], verdict)
    return verdict


def check_loose(bench: Bench, rows: list[int]) -> FrameVerdict:
    """Records that carry no page."""
    verdict = FrameVerdict()
    for row in rows:
        check_block(bench, [Part(row, b"", 0, 0)], verdict)
    return verdict


def check_block(bench: Bench, records: list[Part], verdict: FrameVerdict) -> None:
    """One block from all its records; their losses are in `verdict` already. Writes it to the image if it is kept."""
    chunk, row = bench.chunk, records[0].row
    block, whole = int(chunk.block[row]), int(bench.whole[row])
    size = block_bytes(block, bench.capacity_bytes)
    expected = chunk.hashes[row].tobytes()
    only = records[0]
    gone = 0
    image: bytearray | memoryview
    if len(records) == 1 and only.payload is not None and int(chunk.carried[row]) == only.framed == whole:
        image = memoryview(only.payload)[only.start * PAGE_BYTES : only.start * PAGE_BYTES + size]
    else:
        given = 0
        for part in records:
            given |= int(chunk.carried[part.row]) | int(chunk.zero[part.row])
            gone |= 0 if part.payload is not None else int(chunk.carried[part.row])
        inherited = whole & ~given
        place = block * BLOCK_BYTES
        image = bytearray(bench.image.read(place, size) if inherited or gone else size)
        if inherited and not gone and not int(bench.lost[row]) and block != bench.odd:
            _demand_prior(image, bench.prior[row].tobytes(), expected, block)
        gone |= int(bench.lost[row]) & inherited
        for part in records:
            _merge(image, chunk, part)
    if gone:
        verdict.unsure += 1
    elif len(image) == size and xxhash.xxh3_128_digest(image) == expected:
        verdict.sound += 1
    else:
        verdict.lose(row, whole, "the chain gives other bytes than the block's hash says")
        return  # all of it is lost until a record covers it
    if bench.kept[row]:
        bench.image.write(block * BLOCK_BYTES, image)


def _demand_prior(image: bytearray, prior: bytes, expected: bytes, block: int) -> None:
    """What the image holds was proved when it was written; an audit that goes on may have come past it already."""
    found = _NO_ENTRY if image == _ZEROS[: len(image)] else xxhash.xxh3_128_digest(image)
    if found not in (prior, expected):
        raise StaleScratchError(
            f"the scratch space does not hold block {block} as it was written there",
            hint="give another --scratch, and look at the medium and the kernel log",
        )


def _merge(image: bytearray, chunk: Chunk, part: Part) -> None:
    carried, zero = int(chunk.carried[part.row]), int(chunk.zero[part.row])
    size = len(image)
    for page in range(BLOCK_PAGES):
        at, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, size)
        if zero >> page & 1:
            image[at:end] = _ZEROS[: end - at]
        elif carried >> page & 1 and part.payload is not None:
            slot = (part.start + (part.framed & ((1 << page) - 1)).bit_count()) * PAGE_BYTES
            data = part.payload[slot : slot + end - at]
            # A page that was the disk's short last one, before it grew, goes on as zeros.
            image[at:end] = data.ljust(end - at, b"\0")
