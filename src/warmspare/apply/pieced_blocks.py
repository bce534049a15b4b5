"""Blocks of which several frames have pages, proved before they are written; owns their frames until then.

A folded manifest has a record for each frame that has pages of a block. One alone would not give the block its hash, so
the frames are kept in an unlinked file as they come, each fetched once, and the blocks are made when all are there.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

from warmspare._native import holes
from warmspare.apply.decode import Applied
from warmspare.errors import FormatError
from warmspare.format import frame
from warmspare.model import masks
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.columns import U32
from warmspare.model.runs import group_starts
from warmspare.model.units import BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.repository.blocks.frame_pages import locate
from warmspare.state.local_files import local_io, pwrite_all

BATCH_BLOCKS = 256
KEPT_BYTES = 64 << 20  # of frames, unpacked
_ZERO_PAGE = bytes(PAGE_BYTES)


class PiecedBlocks:
    """Of one chunk. records: all of each block, in order. fd: the disk's file. Close it when it is done with."""

    def __init__(self, records: PlacedRecords, fd: int, capacity_bytes: int, scratch: Path, where: str) -> None:
        self._records, self._fd, self._capacity, self._where = records, fd, capacity_bytes, where
        with local_io("temporary space", scratch):
            self._spool, name = tempfile.mkstemp(dir=scratch, prefix=".frames-")
            Path(name).unlink()
        self._end = 0
        self._places: dict[int, tuple[int, int]] = {}  # by frame: offset in the spool, length
        self._unpacked: OrderedDict[int, frame.Frame] = OrderedDict()
        self._unpacked_bytes = 0

    def close(self) -> None:
        os.close(self._spool)

    def keep(self, number: int, data: bytes | memoryview) -> None:
        """A frame that came. OSError."""
        pwrite_all(self._spool, data, self._end)
        self._places[number] = self._end, len(data)
        self._end += len(data)

    def write(self) -> Applied:
        """In a worker thread: make every block whose frames are all there, and write it if it has its hash. OSError."""
        records = self._records
        starts = group_starts(records.block)
        stops = np.append(starts[1:], len(records))
        written, good, bad = 0, 0, []
        for at in range(0, starts.size, BATCH_BLOCKS):
            rows = records.take(slice(int(starts[at]), int(stops[min(at + BATCH_BLOCKS, starts.size) - 1])))
            firsts = group_starts(rows.block)
            window = BlockWindow(rows.block[firsts], self._capacity, rows.hashes[firsts])
            wrong = set(self._fill(window, rows))
            wrong.update(window.wrong([n for n in range(window.blocks.size) if n not in wrong]))
            for position, block in enumerate(window.blocks.tolist()):
                if position in wrong:
                    bad.append(block)
                else:
                    written += self._put(block, window.block(position))
                    good += 1
        return Applied(written, good + len(bad), np.array(bad, dtype=np.uint32))

    def _fill(self, window: BlockWindow, rows: PlacedRecords) -> list[int]:
        """The pages that stay, that are zeros, and that frames have; the positions of blocks that lack some."""
        window.load(self._fd)
        place = np.searchsorted(window.blocks, rows.block)
        target = window.rows[place][:, None] + np.arange(BLOCK_PAGES)
        window.pages[target[masks.bits(rows.zero)]] = 0
        lost: list[int] = []
        for number in np.unique(rows.frame[rows.frame != NO_FRAME]).tolist():
            using = np.flatnonzero(rows.frame == number)
            try:
                self._take(number, rows.block[using], rows.carried[using], target[using], window)
            except FormatError:  # it did not come, or not whole
                lost += place[using].tolist()
        return lost

    def _take(self, number: int, blocks: U32, carried: np.ndarray, target: np.ndarray, window: BlockWindow) -> None:
        held = self._frame(number)
        framed, slot = locate(held.pages, blocks, self._where)
        if np.any(carried & ~framed):
            raise FormatError("a frame lacks a page that a record says it holds", where=self._where)
        wanted = masks.bits(carried)
        source = slot[:, None].astype(np.int64) + masks.pages_before(framed)
        payload = held.payload
        if len(payload) % PAGE_BYTES:  # the disk's short last page
            payload = payload + bytes(-len(payload) % PAGE_BYTES)
        window.pages[target[wanted]] = np.frombuffer(payload, dtype=np.uint8).reshape(-1, PAGE_BYTES)[source[wanted]]

    def _frame(self, number: int) -> frame.Frame:
        held = self._unpacked.get(number)
        if held is not None:
            self._unpacked.move_to_end(number)
            return held
        if number not in self._places:
            raise FormatError("a frame did not come", where=self._where)
        offset, size = self._places[number]
        held = frame.decode(os.pread(self._spool, size, offset), self._where)
        self._unpacked[number] = held
        self._unpacked_bytes += len(held.payload)
        while self._unpacked_bytes > KEPT_BYTES and len(self._unpacked) > 1:
            _, gone = self._unpacked.popitem(last=False)
            self._unpacked_bytes -= len(gone.payload)
        return held

    def _put(self, block: int, image: memoryview) -> int:
        """Pages of zeros as holes, the rest as data; how many bytes of that."""
        written = 0
        for at in range(0, len(image), PAGE_BYTES):
            page = image[at : at + PAGE_BYTES]
            if page == _ZERO_PAGE[: len(page)]:
                holes.punch(self._fd, block * BLOCK_BYTES + at, len(page))
            else:
                pwrite_all(self._fd, page, block * BLOCK_BYTES + at)
                written += len(page)
        return written
