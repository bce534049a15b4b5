"""Frames in the making: pages gathered from spans up to 1 MiB, then compressed; owns where a frame ends."""

from __future__ import annotations

import numpy as np

from warmspare._native import pages as native
from warmspare.format import frame
from warmspare.model.columns import U16, U32, U64
from warmspare.model.units import BLOCK_PAGES, FRAME_PAGES, SPAN_BYTES
from warmspare.source.ports import Span
from warmspare.sync.rows import Draft, Encoded, Filtered, Reused

MAX_DRAFT_RECORDS = 4096  # blocks whose pages only became zero fill no frame, so the rows are bounded too


def page_numbers(block: U32, mask: U16) -> U64:
    """Numbers of the pages that the masks of ascending blocks name, ascending."""
    bits = (mask[:, None] >> np.arange(BLOCK_PAGES, dtype=np.uint16)) & np.uint16(1)
    row, page = np.nonzero(bits)
    return block.astype(np.uint64)[row] * np.uint64(BLOCK_PAGES) + page.astype(np.uint64)


class FrameBuilder:
    """Collects filtered spans of one disk, in order. Not thread-safe, but for the buffers: `encode` gives each
    back, since a fresh megabyte costs as many page faults as filling it costs time."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._draft = self._begin()

    def _begin(self) -> Draft:
        return Draft(self._free.pop() if self._free else bytearray(SPAN_BYTES), self._free)

    def add(self, span: Span | None, found: Filtered, reused: Reused | None = None) -> list[Draft]:
        """Gather what was found; the frames that filled up on the way. The span may be released afterwards. reused:
        records of the same span whose pages need no frame."""
        closed: list[Draft] = []
        ahead = np.cumsum(np.bitwise_count(found.carried), dtype=np.int64)
        start, count = 0, found.block.size
        masks = np.zeros(span.blocks.size if span else 0, dtype=np.uint16)
        masks[found.row] = found.carried
        zeros = found.zero_blocks
        others = reused.block if reused is not None else np.empty(0, dtype=np.uint32)
        placed = 0  # of the others

        def place(before: int) -> None:
            """The others of blocks below `before` go where those blocks' own records went."""
            nonlocal placed
            stop = int(np.searchsorted(others, before))
            if reused is not None and stop > placed:
                self._draft.reused.append(reused.between(placed, stop))
                self._draft.records += stop - placed
                placed = stop

        while start < count:
            draft = self._draft
            behind = int(ahead[start - 1]) if start else 0
            stop = int(np.searchsorted(ahead, behind + FRAME_PAGES - draft.pages, side="right"))
            stop = min(stop, start + MAX_DRAFT_RECORDS - draft.records)
            if stop <= start:
                # what a frame covers stays apart from the next: manifests are in disk order
                before = int(np.searchsorted(zeros, found.block[start]))
                self._add_zeros(zeros[:before])
                zeros = zeros[before:]
                place(int(found.block[start]))
                closed.append(self._close())
                continue
            assert span is not None
            first, last = int(found.row[start]), int(found.row[stop - 1])
            draft.used = native.gather(span.data, masks, first, last + 1, draft.buffer, draft.used)
            draft.pages += int(ahead[stop - 1]) - behind
            draft.records += stop - start
            draft.block.append(found.block[start:stop])
            draft.carried.append(found.carried[start:stop])
            draft.zero.append(found.zero[start:stop])
            draft.hashes.append(found.hashes[start:stop])
            draft.page_hashes.append(found.pages[start:stop])
            start = stop
            if start < count:
                place(int(found.block[start]))
        place(1 << 32)
        self._add_zeros(zeros)
        if self._draft.pages == FRAME_PAGES or self._draft.records >= MAX_DRAFT_RECORDS:
            closed.append(self._close())
        return closed

    def _add_zeros(self, blocks: U32) -> None:
        if blocks.size:
            self._draft.zero_blocks.append(blocks)
            self._draft.records += blocks.size

    def _close(self) -> Draft:
        draft, self._draft = self._draft, self._begin()
        return draft

    def finish(self) -> list[Draft]:
        """What is left over."""
        return [] if self._draft.empty else [self._close()]


def _join(pieces: list[np.ndarray], like: np.ndarray) -> np.ndarray:
    return np.concatenate(pieces) if pieces else like


def encode(draft: Draft, level: int) -> Encoded:
    """Compress a draft; runs in a worker thread."""
    block = _join(draft.block, np.empty(0, dtype=np.uint32))
    carried = _join(draft.carried, np.empty(0, dtype=np.uint16))
    buffers: list[bytes | memoryview] = []
    if draft.pages:
        buffers = frame.encode(page_numbers(block, carried), memoryview(draft.buffer)[: draft.used], level)
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
        block,
        carried,
        _join(draft.zero, np.empty(0, dtype=np.uint16)),
        _join(draft.hashes, np.empty((0, 16), dtype=np.uint8)),
        _join(draft.zero_blocks, np.empty(0, dtype=np.uint32)),
        _join(draft.page_hashes, np.empty((0, BLOCK_PAGES), dtype=np.uint64)),
        draft.reused,
    )
