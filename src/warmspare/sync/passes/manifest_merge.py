"""Two manifests of one disk as one: the rows of an older one for blocks that were not looked at again, and all of a
newer one. Owns the order of rows and the limits of chunks; does no I/O and judges no row.

Both are streamed: a chunk of each, and one in the making, are all that is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from warmspare.format.chunk import MAX_FRAMES, MAX_RECORDS, MAX_RUNS, NO_FRAME, Chunk
from warmspare.format.manifest import ManifestReader, ManifestWriter
from warmspare.format.packlist import PackRef
from warmspare.model.columns import I64, U32
from warmspare.model.extents import Extents
from warmspare.model.units import BLOCK_BYTES


@dataclass(slots=True)
class Stays:
    """What stays of a manifest. packs: those that its rows use, by index. blocks: how many it records or calls zero."""

    packs: set[int] = field(default_factory=set)
    blocks: int = 0


def look(base: ManifestReader, read: Extents, stays: Stays) -> Iterator[U32]:
    """Add up in `stays` what stays of a manifest where the blocks of `read` are looked at again. Yields the blocks that
    it has records of and that do not stay, ascending."""
    for chunk in base.chunks():
        kept, gone = outside(chunk, read)
        stays.packs.update(np.unique(kept.frame_pack).tolist())
        stays.blocks += np.unique(kept.block).size + int(kept.zero_count.sum())
        if gone.size:
            yield gone


def merge(
    base: ManifestReader, read: Extents, stays: Stays, fresh: ManifestReader, out: ManifestWriter
) -> list[PackRef]:
    """Write the rows of `base` for blocks outside of `read`, and all of `fresh`, which lie inside. stays: as `look`
    found it. Returns the packs that both name, for the writer's end."""
    packs = [base.packs[index] for index in sorted(stays.packs)]
    places = {pack.id: at for at, pack in enumerate(packs)}
    of_base = np.zeros(len(base.packs), dtype=np.uint32)
    of_base[sorted(stays.packs)] = np.arange(len(packs), dtype=np.uint32)
    of_fresh = np.zeros(len(fresh.packs), dtype=np.uint32)
    for index, pack in enumerate(fresh.packs):
        at = places.setdefault(pack.id, len(packs))
        if at == len(packs):
            packs.append(pack)
        of_fresh[index] = at
    older = (outside(chunk, read)[0] for chunk in base.chunks())
    builder = _Builder(out)
    for parts in _in_order(_renumbered(older, of_base), _renumbered(fresh.chunks(), of_fresh)):
        builder.add(parts)
    builder.flush()
    return packs


def outside(chunk: Chunk, read: Extents) -> tuple[Chunk, U32]:
    """The rows of a chunk for blocks in none of the block-aligned extents; the recorded blocks that are in one."""
    first, stop = read.offsets // BLOCK_BYTES, -(-(read.offsets + read.lengths) // BLOCK_BYTES)
    block = chunk.block.astype(np.int64)
    at = np.searchsorted(first, block, side="right") - 1
    inside = at >= 0
    inside[inside] = block[inside] < stop[at[inside]]
    start, end = _cut_out(chunk.zero_start, chunk.zero_count, first, stop)
    return _rows(chunk, ~inside, start, end), np.unique(chunk.block[inside])


def _cut_out(zero_start: U32, zero_count: U32, first: I64, stop: I64) -> tuple[I64, I64]:
    """(start, end) of runs of blocks without what lies in [first, stop) of any row; both ascending and disjoint."""
    start = zero_start.astype(np.int64)
    end = start + zero_count
    gap_start = np.concatenate((np.zeros(1, dtype=np.int64), stop))
    gap_end = np.concatenate((first, np.full(1, 1 << 40, dtype=np.int64)))
    low = np.searchsorted(gap_end, start, side="right")
    high = np.searchsorted(gap_start, end, side="left")
    count = np.maximum(high - low, 0)
    nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    gap = np.repeat(low, count) + nth
    start, end = np.maximum(np.repeat(start, count), gap_start[gap]), np.minimum(np.repeat(end, count), gap_end[gap])
    some = end > start
    return start[some], end[some]


def _rows(chunk: Chunk, keep: np.ndarray, start: I64, end: I64) -> Chunk:
    """Some records of a chunk, with the frames that they use, and these zero runs."""
    frame = chunk.frame[keep]
    carries = frame != NO_FRAME
    used, renumbered = np.unique(frame[carries], return_inverse=True)
    frame = frame.copy()
    frame[carries] = renumbered
    return Chunk(
        chunk.frame_pack[used],
        chunk.frame_offset[used],
        chunk.frame_bytes[used],
        chunk.block[keep],
        frame,
        chunk.carried[keep],
        chunk.zero[keep],
        chunk.hashes[keep],
        start.astype(np.uint32),
        (end - start).astype(np.uint32),
    )


def _empty(chunk: Chunk) -> bool:
    return not chunk.block.size and not chunk.zero_start.size


def _renumbered(chunks: Iterator[Chunk], packs: U32) -> Iterator[Chunk]:
    return (replace(chunk, frame_pack=packs[chunk.frame_pack]) for chunk in chunks if not _empty(chunk))


def _split(chunk: Chunk, at: int) -> tuple[Chunk, Chunk]:
    """The rows for blocks below `at`, and the others."""
    below = chunk.block < at
    start = chunk.zero_start.astype(np.int64)
    end = start + chunk.zero_count
    low, high = start < at, end > at
    return (
        _rows(chunk, below, start[low], np.minimum(end[low], at)),
        _rows(chunk, ~below, np.maximum(start[high], at), end[high]),
    )


def _in_order(left: Iterator[Chunk], right: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    """Lists of chunks, each list of a stretch of the disk that begins after the last one's."""
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        at = min(one.last_block, other.last_block) + 1
        (one_below, one_rest), (other_below, other_rest) = _split(one, at), _split(other, at)
        yield [one_below, other_below]
        one = next(left, None) if _empty(one_rest) else one_rest
        other = next(right, None) if _empty(other_rest) else other_rest
    for last, more in ((one, left), (other, right)):
        if last is not None:
            yield [last]
        yield from ([chunk] for chunk in more)


class _Builder:
    """Joins pieces of chunks to chunks as large as the format allows."""

    def __init__(self, out: ManifestWriter) -> None:
        self._out = out
        self._parts: list[Chunk] = []

    def add(self, parts: list[Chunk]) -> None:
        """Of a stretch that begins after all that was added."""
        parts = [part for part in parts if not _empty(part)]
        if not parts:
            return
        if not _fits(parts):  # a stretch of one block always does: it has 16 records at most
            first = min(part.first_block for part in parts)
            last = max(part.last_block for part in parts)
            halves = [_split(part, (first + last + 1) // 2) for part in parts]
            self.add([half[0] for half in halves])
            self.add([half[1] for half in halves])
            return
        if not _fits(self._parts + parts):
            self.flush()
        self._parts += parts

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        if not parts:
            return
        bases = np.cumsum([0, *(part.frame_pack.size for part in parts)])
        frames = [
            np.where(part.frame == NO_FRAME, NO_FRAME, part.frame.astype(np.int64) + base).astype(np.uint16)
            for part, base in zip(parts, bases.tolist(), strict=False)
        ]
        order = np.argsort(np.concatenate([part.block for part in parts]), kind="stable")

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        start = joined("zero_start").astype(np.int64)
        end = start + joined("zero_count")
        start, end = np.sort(start), np.sort(end)  # they are disjoint: the n-th to begin is the n-th to end
        opens = np.concatenate(([True], start[1:] != end[:-1]))[: start.size]
        closes = np.concatenate((opens[1:], [True]))[: start.size]
        self._out.add(
            Chunk(
                joined("frame_pack"),
                joined("frame_offset"),
                joined("frame_bytes"),
                joined("block")[order],
                np.concatenate(frames)[order],
                joined("carried")[order],
                joined("zero")[order],
                joined("hashes")[order],
                start[opens].astype(np.uint32),
                (end[closes] - start[opens]).astype(np.uint32),
            )
        )


def _fits(parts: list[Chunk]) -> bool:
    return (
        sum(part.block.size for part in parts) <= MAX_RECORDS
        and sum(part.frame_pack.size for part in parts) < MAX_FRAMES
        and sum(part.zero_start.size for part in parts) <= MAX_RUNS
    )
