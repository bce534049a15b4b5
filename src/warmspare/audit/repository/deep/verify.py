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
from warmspare.model import masks
from warmspare.model.block_records import Records
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
        stop = (self.start + masks.count(self.framed)) * PAGE_BYTES
        return Part(self.row, self.payload[self.start * PAGE_BYTES : stop], 0, self.framed)


@dataclass(frozen=True, slots=True, eq=False)
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
    records = bench.chunk.records
    where = f"{source.where if source else 'a pack'}, offset {piece.offset}"
    try:
        if source is None:
            raise FormatError("a pack is missing", where=where)
        held = frame.decode(source.read_at(piece.offset, piece.size), where)
    except FormatError as error:
        for row in piece.rows:
            verdict.lose(row, int(records.carried[row]), error.sentence)
        return [Part(row, None, 0, 0) for row in piece.rows]
    first = records.block[piece.rows].astype(np.uint64) * np.uint64(BLOCK_PAGES)
    starts = np.searchsorted(held.pages, first).tolist()
    stops = np.searchsorted(held.pages, first + np.uint64(BLOCK_PAGES)).tolist()
    out = []
    for row, start, stop in zip(piece.rows, starts, stops, strict=True):
        framed = masks.mask_of(held.pages[start:stop]) if stop - start < BLOCK_PAGES else masks.FULL_MASK
        payload: bytes | None = held.payload
        if int(records.carried[row]) & ~framed:
            payload = None
            verdict.lose(row, int(records.carried[row]), f"a frame lacks a page that a record says it holds ({where})")
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


def check_block(bench: Bench, of_block: list[Part], verdict: FrameVerdict) -> None:
    """One block from all its records; their losses are in `verdict` already. Writes it to the image if it is kept."""
    records, row = bench.chunk.records, of_block[0].row
    block, whole = int(records.block[row]), int(bench.whole[row])
    size = block_bytes(block, bench.capacity_bytes)
    expected = records.hashes[row].tobytes()
    only = of_block[0]
    gone = 0
    image: bytearray | memoryview
    if len(of_block) == 1 and only.payload is not None and int(records.carried[row]) == only.framed == whole:
        image = memoryview(only.payload)[only.start * PAGE_BYTES : only.start * PAGE_BYTES + size]
    else:
        given = 0
        for part in of_block:
            given |= int(records.carried[part.row]) | int(records.zero[part.row])
            gone |= 0 if part.payload is not None else int(records.carried[part.row])
        inherited = whole & ~given
        place = block * BLOCK_BYTES
        image = bytearray(bench.image.read(place, size) if inherited or gone else size)
        if inherited and not gone and not int(bench.lost[row]) and block != bench.odd:
            _demand_prior(image, bench.prior[row].tobytes(), expected, block)
        gone |= int(bench.lost[row]) & inherited
        for part in of_block:
            _merge(image, records, part)
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


def _merge(image: bytearray, records: Records, part: Part) -> None:
    size = len(image)
    for page in masks.pages_of(int(records.zero[part.row])):
        at, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, size)
        image[at:end] = _ZEROS[: end - at]
    if part.payload is None:
        return
    for page in masks.pages_of(int(records.carried[part.row])):
        at, end = page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, size)
        slot = (part.start + masks.count_before(part.framed, page)) * PAGE_BYTES
        data = part.payload[slot : slot + end - at]
        # A page that was the disk's short last one, before it grew, goes on as zeros.
        image[at:end] = data.ljust(end - at, b"\0")
