"""Frames in the making: pages gathered from spans up to 1 MiB, then compressed; owns where a frame ends."""

from __future__ import annotations

import numpy as np

from warmspare._native import pages as native
from warmspare.format import frame
from warmspare.model import masks
from warmspare.model.block_records import PlacedRecords, Records
from warmspare.model.columns import U32
from warmspare.model.units import BLOCK_PAGES, FRAME_PAGES, SPAN_BYTES
from warmspare.source.ports import Span
from warmspare.sync.rows import Draft, Encoded, Filtered

MAX_DRAFT_RECORDS = 4096  # blocks whose pages only became zero fill no frame, so the rows are bounded too
_NO_PAGES, _NO_BLOCKS = np.empty((0, BLOCK_PAGES), dtype=np.uint64), np.empty(0, dtype=np.uint32)


class FrameBuilder:
    """Collects filtered spans of one disk, in order. Not thread-safe, but for the buffers: `encode` gives each
    back, since a fresh megabyte costs as many page faults as filling it costs time."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._draft = self._begin()

    def _begin(self) -> Draft:
        return Draft(self._free.pop() if self._free else bytearray(SPAN_BYTES), self._free)

    def add(self, span: Span | None, found: Filtered, reused: PlacedRecords | None = None) -> list[Draft]:
        """Gather what was found; the frames that filled up on the way. The span may be released afterwards. reused:
        records of the same span whose pages need no frame."""
        closed: list[Draft] = []
        records = found.records
        ahead = np.cumsum(masks.counts(records.carried), dtype=np.int64)
        start, count = 0, len(records)
        wanted = np.zeros(span.blocks.size if span else 0, dtype=np.uint16)  # of each block of the span
        wanted[found.row] = records.carried
        zeros = found.zero_blocks

        def place(before: int) -> None:
            """Those reused of blocks below `before` go where those blocks' own records went."""
            nonlocal reused
            if reused is not None:
                below, reused = reused.split(before)
                self._add_reused(below)

        while start < count:
            draft = self._draft
            behind = int(ahead[start - 1]) if start else 0
            stop = int(np.searchsorted(ahead, behind + FRAME_PAGES - draft.pages, side="right"))
            stop = min(stop, start + MAX_DRAFT_RECORDS - draft.rows)
            if stop <= start:
                # what a frame covers stays apart from the next: manifests are in disk order
                before = int(np.searchsorted(zeros, records.block[start]))
                self._add_zeros(zeros[:before])
                zeros = zeros[before:]
                place(int(records.block[start]))
                closed.append(self._close())
                continue
            assert span is not None
            first, last = int(found.row[start]), int(found.row[stop - 1])
            draft.used = native.gather(span.data, wanted, first, last + 1, draft.buffer, draft.used)
            draft.pages += int(ahead[stop - 1]) - behind
            draft.rows += stop - start
            draft.records.append(records.take(slice(start, stop)))
            draft.page_hashes.append(found.pages[start:stop])
            start = stop
            if start < count:
                place(int(records.block[start]))
        if reused is not None:
            self._add_reused(reused)
        self._add_zeros(zeros)
        if self._draft.pages == FRAME_PAGES or self._draft.rows >= MAX_DRAFT_RECORDS:
            closed.append(self._close())
        return closed

    def _add_zeros(self, blocks: U32) -> None:
        if blocks.size:
            self._draft.zero_blocks.append(blocks)
            self._draft.rows += blocks.size

    def _add_reused(self, records: PlacedRecords) -> None:
        if len(records):
            self._draft.reused.append(records)
            self._draft.rows += len(records)

    def _close(self) -> Draft:
        draft, self._draft = self._draft, self._begin()
        return draft

    def finish(self) -> list[Draft]:
        """What is left over."""
        return [] if self._draft.empty else [self._close()]


def encode(draft: Draft, level: int) -> Encoded:
    """Compress a draft; runs in a worker thread."""
    records = Records.join(draft.records)
    buffers: list[bytes | memoryview] = []
    if draft.pages:
        pages = masks.page_numbers(records.block, records.carried)
        buffers = frame.encode(pages, memoryview(draft.buffer)[: draft.used], level)
        if isinstance(buffers[-1], bytes):
            # The pages are not needed any more, so what they became moves into their place: results that another
            # thread frees would cost a page fault for every 4 KiB of them.
            size = len(buffers[-1])
            draft.buffer[:size] = buffers[-1]
            buffers[-1] = memoryview(draft.buffer)[:size]
    return Encoded(
        buffers,
        sum(len(b) for b in buffers),
        lambda: draft.home.append(draft.buffer),
        records,
        np.concatenate([_NO_PAGES, *draft.page_hashes]),
        np.concatenate([_NO_BLOCKS, *draft.zero_blocks]),
        draft.reused,
    )
