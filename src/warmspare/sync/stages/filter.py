"""The page filter: what of a span must be recorded, given what was last committed.

Owns the comparison with hash table and page map and the finding of changes that the tracker missed; runs in
one worker thread, a span at a time. docs/architecture.md, "The way of the data".
"""

from __future__ import annotations

import numpy as np
import xxhash

from warmspare._native import pages as native
from warmspare.model import masks
from warmspare.model.block_records import Records
from warmspare.model.columns import U32
from warmspare.model.extents import Extents, covered, inside, overlaps
from warmspare.model.units import BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES, SPAN_BLOCKS, block_bytes, page_bytes
from warmspare.source.ports import Hole, Span
from warmspare.state.local_table import HashTable
from warmspare.sync.journal.page_log import PageLog
from warmspare.sync.local.pagemap import PageMap
from warmspare.sync.rows import Filtered, Untracked


class PageFilter:
    """One disk's filter. before_bytes: capacity at the parent, None if it had none. pages: None if the map
    can't be trusted (then every page of a changed block is recorded). reported: what the tracker said. anew: what
    is recorded whole, changed or not."""

    def __init__(
        self,
        capacity_bytes: int,
        before_bytes: int | None,
        table: HashTable,
        pages: PageMap,
        log: PageLog,
        reported: Extents | None,
        anew: Extents | None = None,
    ) -> None:
        self._anew = anew
        self._capacity, self._before = capacity_bytes, before_bytes
        self._table, self._pages, self._log, self._reported = table, pages, log, reported
        self._trusted = before_bytes is not None
        # The old last block, if it was short: its last page had another length, so its hash says nothing.
        self._odd_block = -1
        if before_bytes is not None and before_bytes != capacity_bytes and before_bytes % BLOCK_BYTES:
            self._odd_block = before_bytes // BLOCK_BYTES
        self._zero_page = xxhash.xxh3_64_intdigest(bytes(PAGE_BYTES), pages.seed)
        self._out_blocks = np.zeros(SPAN_BLOCKS * 16, dtype=np.uint8)
        self._out_pages = np.zeros(SPAN_BLOCKS * BLOCK_PAGES, dtype=np.uint64)
        self._masks = np.zeros((3, SPAN_BLOCKS), dtype=np.uint16)
        self._state = np.zeros(SPAN_BLOCKS, dtype=np.uint8)

    def hole(self, hole: Hole) -> list[Filtered]:
        """Blocks that the medium says are zeros: those that were not are recorded as such."""
        return [self._zeroed(blocks) for blocks in self._table.nonzero(hole.start, hole.stop)]

    def _zeroed(self, blocks: U32) -> Filtered:
        size = sum(block_bytes(int(b), self._capacity) for b in blocks[-1:]) + (blocks.size - 1) * BLOCK_BYTES
        return Filtered.zeroed(blocks, size, self._zeroed_untracked(blocks))

    def span(self, span: Span) -> Filtered:
        """Compare a span with what was committed. StoreError or TableDamagedError from the local state."""
        blocks, n = span.blocks, span.blocks.size
        old_blocks = self._table.read(blocks)
        if self._trusted:
            old_pages = self._pages.read(blocks)
            if self._odd_block >= 0:
                old_pages[blocks == self._odd_block] = 0
        else:
            old_pages = np.zeros((n, BLOCK_PAGES), dtype=np.uint64)
        whole = np.zeros(n, dtype=bool) if self._anew is None else inside(blocks, self._anew)
        nonzero, changed, known = self._masks
        native.filter_span(
            span.data,
            self._pages.seed,
            old_blocks.reshape(-1),
            old_pages.reshape(-1),
            whole.view(np.uint8),
            self._out_blocks,
            self._out_pages,
            nonzero,
            changed,
            known,
            self._state,
        )
        state = self._state[:n]
        rows = np.flatnonzero(state == native.CHANGED)
        hashes = self._out_blocks.reshape(-1, 16)[rows]
        carried = changed[rows] & nonzero[rows]  # these pages' bytes are sent
        records = Records(blocks[rows], carried, changed[rows] & ~nonzero[rows], hashes)
        pages = self._out_pages.reshape(-1, BLOCK_PAGES)[rows]
        self._log.append(records.block, pages)
        zeroed = state == native.ZEROED
        zeros = blocks[zeroed]
        size = masks.total(records.pages) * PAGE_BYTES + zeros.size * BLOCK_BYTES
        recorded_last = n and state[n - 1] != native.UNCHANGED
        if recorded_last and int(blocks[-1]) * BLOCK_BYTES + BLOCK_BYTES > self._capacity:
            size -= PAGE_BYTES - page_bytes((self._capacity - 1) // PAGE_BYTES, self._capacity)
        # What is recorded though it is as it was has escaped no tracker.
        unchanged = whole & (self._out_blocks.reshape(-1, 16)[:n] == old_blocks).all(axis=1)
        untracked = self._zeroed_untracked(blocks[zeroed & ~unchanged])
        if self._reported is not None:
            was_zero = np.all(old_blocks == 0, axis=1)
            for row in rows[~unchanged[rows]].tolist():
                certain = int(nonzero[row]) if was_zero[row] else int(changed[row]) & int(known[row])
                untracked += self._outside(int(blocks[row]), certain)
        return Filtered(records, rows, pages, zeros, size, untracked)

    def _zeroed_untracked(self, blocks: U32) -> list[Untracked]:
        out: list[Untracked] = []
        if self._reported is None or not self._trusted:
            return out
        for block in blocks.tolist():
            start = block * BLOCK_BYTES
            if covered(self._reported, start, start + block_bytes(block, self._capacity)):
                continue
            was = self._pages.read(np.array([block], dtype=np.uint32))
            certain = masks.from_bits((was != 0) & (was != self._zero_page))
            out += self._outside(block, int(certain[0]))
        return out

    def _outside(self, block: int, mask: int) -> list[Untracked]:
        """Runs of the pages in `mask`, which are known to have changed, that no reported extent touches. Where it is
        not known which pages of a block did, the block, if all of it lies outside."""
        reported = self._reported
        assert reported is not None
        start, size = block * BLOCK_BYTES, block_bytes(block, self._capacity)
        if not mask and self._trusted and not overlaps(reported, start, start + size):
            return [Untracked(start, size)]
        if not mask or covered(reported, start, start + size):
            return []
        out: list[Untracked] = []
        for p in masks.pages_of(mask):
            at = start + p * PAGE_BYTES
            size = min(PAGE_BYTES, self._capacity - at)
            if overlaps(reported, at, at + size):
                continue
            if out and out[-1].offset + out[-1].length == at:
                out[-1] = Untracked(out[-1].offset, out[-1].length + size)
            else:
                out.append(Untracked(at, size))
        return out
