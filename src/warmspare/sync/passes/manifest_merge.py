"""Two manifests of one disk as one: the rows of an older one for blocks that were not looked at again, and all of a
newer one. Owns the order of rows and the limits of chunks; does no I/O and judges no row.

Both are streamed: a chunk of each, and one in the making, are all that is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from warmspare.format.chunk import MAX_FRAMES, MAX_RECORDS, MAX_RUNS, Chunk, ChunkFrames
from warmspare.format.manifest import ManifestReader, ManifestWriter
from warmspare.format.packlist import PackRef
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.columns import U32, distinct
from warmspare.model.extents import Extents, inside
from warmspare.model.runs import Runs
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
        stays.packs.update(distinct(kept.frames.pack).tolist())
        stays.blocks += distinct(kept.records.block).size + kept.zeros.blocks
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
    looked_at = inside(chunk.records.block, read)
    start, stop = read.bounds
    zeros = chunk.zeros.without(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
    stays, goes = chunk.records.take(~looked_at), chunk.records.block[looked_at]
    return _using(chunk.frames, stays, zeros), distinct(goes)


def _using(frames: ChunkFrames, records: PlacedRecords, zeros: Runs) -> Chunk:
    """Some records of a chunk, with those of its frames that they use."""
    carries = records.frame != NO_FRAME
    used, nth = np.unique(records.frame[carries], return_inverse=True)
    frame = np.full(len(records), NO_FRAME, dtype=np.uint16)
    frame[carries] = nth
    return Chunk(frames.take(used), records.placed(frame), zeros)


def _renumbered(chunks: Iterator[Chunk], packs: U32) -> Iterator[Chunk]:
    return (replace(chunk, frames=chunk.frames.renumbered(packs)) for chunk in chunks if not chunk.empty)


def _split(chunk: Chunk, at: int) -> tuple[Chunk, Chunk]:
    """What it says of blocks below `at`, and the rest."""
    parts = zip(chunk.records.split(at), chunk.zeros.split(at), strict=True)
    below, rest = (_using(chunk.frames, records, zeros) for records, zeros in parts)
    return below, rest


def _in_order(left: Iterator[Chunk], right: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    """Lists of chunks, each list of a stretch of the disk that begins after the last one's."""
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        at = min(one.last_block, other.last_block) + 1
        (one_below, one_rest), (other_below, other_rest) = _split(one, at), _split(other, at)
        yield [one_below, other_below]
        one = next(left, None) if one_rest.empty else one_rest
        other = next(right, None) if other_rest.empty else other_rest
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
        parts = [part for part in parts if not part.empty]
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
        bases = np.cumsum([0, *(len(part.frames) for part in parts)]).tolist()
        records = [_shifted(part.records, base) for part, base in zip(parts, bases, strict=False)]
        self._out.add(
            Chunk(
                ChunkFrames.join([part.frames for part in parts]),
                PlacedRecords.join(records).in_order(),
                Runs.join([part.zeros for part in parts]),
            )
        )


def _shifted(records: PlacedRecords, base: int) -> PlacedRecords:
    """With frames that come after `base` others."""
    frame = records.frame.astype(np.int64)
    return records.placed(np.where(frame == NO_FRAME, NO_FRAME, frame + base).astype(np.uint16))


def _fits(parts: list[Chunk]) -> bool:
    return (
        sum(len(part.records) for part in parts) <= MAX_RECORDS
        and sum(len(part.frames) for part in parts) < MAX_FRAMES
        and sum(len(part.zeros) for part in parts) <= MAX_RUNS
    )
