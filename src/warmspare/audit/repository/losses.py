"""Which pages of a disk the chain can't give, restore point by restore point; owns how losses end, not how they arise.

A page is lost with the frame that held it, for as long as later points inherit it, and is there again once a record
or a run of zeros covers it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from warmspare.format.chunk import Chunk
from warmspare.model import masks
from warmspare.model.columns import U16, U32
from warmspare.model.runs import Runs, group_starts
from warmspare.state.page_column import PageColumn
from warmspare.state.page_file import PageFile


@dataclass(slots=True, eq=False)
class Change:
    """Of lost pages: these blocks have these masks now, ascending; in these runs nothing is lost. fresh: blocks that
    were whole before. count: of blocks with a lost page, afterwards."""

    blocks: U32
    pages: U16
    cleared: list[tuple[int, int]]
    fresh: U32
    count: int


class Losses:
    """Of one disk. blocks: how many have a lost page now. spans: (first, last) sequences of points that can't be
    restored in full, ascending."""

    def __init__(self, file: PageFile) -> None:
        self._pages = PageColumn(file, np.uint16)
        self.blocks = 0
        self.spans: list[tuple[int, int]] = []

    def of(self, blocks: U32) -> U16:
        """Masks of lost pages of ascending blocks."""
        out: U16 = self._pages.get(blocks) if self.blocks else np.zeros(blocks.size, dtype=np.uint16)
        return out

    def plan(self, chunk: Chunk, taken: U16) -> Change | None:
        """What going past a chunk's records and runs of zeros changes; None for nothing. taken: for each record the
        pages that are lost with it."""
        none = np.empty(0, dtype=np.uint32)
        change = Change(none, none.astype(np.uint16), [], none, self.blocks)
        if len(chunk.records) and (self.blocks or taken.any()):
            starts = group_starts(chunk.records.block)
            blocks = chunk.records.block[starts]
            covered, lost = masks.united(chunk.records.pages, starts), masks.united(taken, starts)
            old = self._pages.get(blocks)
            new = (old & ~covered) | lost
            other = old != new
            change.blocks, change.pages = blocks[other], new[other]
            change.count += int(np.count_nonzero(new)) - int(np.count_nonzero(old))
            change.fresh = blocks[(old == 0) & (new != 0)]
        if self.blocks:
            for start, count in chunk.zeros.pairs():
                there = sum(found.size for found, _ in self._pages.filled(start, start + count))
                if there:
                    change.cleared.append((start, count))
                    change.count -= there
        return change if change.blocks.size or change.cleared else None

    def make(self, change: Change) -> None:
        """Make a change; doing it twice does no harm."""
        self._pages.put(change.blocks, change.pages)
        for start, count in change.cleared:
            self._pages.clear(start, count)
        self.blocks = change.count

    def settle(self, chunk: Chunk, taken: U16) -> None:
        """Both at once."""
        change = self.plan(chunk, taken)
        if change is not None:
            self.make(change)

    def at(self, sequence: int, before: int) -> None:
        """All of a restore point was gone past. before: the one before it that is kept; 0: none."""
        if not self.blocks:
            return
        if self.spans and self.spans[-1][1] == before:
            self.spans[-1] = (self.spans[-1][0], sequence)
        else:
            self.spans.append((sequence, sequence))

    def runs(self, blocks: int) -> Runs:
        """What is lost now, of a disk of that many blocks."""
        return Runs.join([Runs.of(lost) for lost, _ in self._pages.filled(0, blocks)] if self.blocks else [])


def lost_with(chunk: Chunk, bad_packs: U32) -> U16:
    """For each record the pages whose frame lies in one of these packs (indexes of the manifest's list)."""
    records = chunk.records
    taken = np.zeros(len(records), dtype=np.uint16)
    if bad_packs.size and len(chunk.frames):
        bad = np.isin(chunk.frames.pack, bad_packs)
        rows = np.flatnonzero(records.carried)
        rows = rows[bad[records.frame[rows]]]
        taken[rows] = records.carried[rows]
    return taken
