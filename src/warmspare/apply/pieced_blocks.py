"""Blocks of which several frames have pages, proved before they are written; owns their frames until then.

A folded manifest has a record for each frame that has pages of a block. One alone would not give the block its hash, so
the frames are kept in an unlinked file as they come, each fetched once, and the blocks are made when all are there.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from warmspare.apply.block_writing import write_block
from warmspare.apply.decode import Applied
from warmspare.errors import FormatError
from warmspare.format import frame
from warmspare.model import masks
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.runs import group_starts
from warmspare.model.units import BLOCK_PAGES
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.repository.blocks.frame_pages import copy_pages
from warmspare.repository.blocks.kept_frames import KeptFrames
from warmspare.state.local_files import nameless_file, pwrite_all

BATCH_BLOCKS = 256
KEPT_BYTES = 64 << 20  # of frames, unpacked


class PiecedBlocks:
    """Of one chunk. records: all of each block, in order. fd: the disk's file. Close it when it is done with."""

    def __init__(self, records: PlacedRecords, fd: int, capacity_bytes: int, scratch: Path, where: str) -> None:
        self._records, self._fd, self._capacity, self._where = records, fd, capacity_bytes, where
        self._spool = nameless_file(scratch)
        self._end = 0
        self._places: dict[int, tuple[int, int]] = {}  # by frame: offset in the spool, length
        self._unpacked: KeptFrames[int] = KeptFrames(KEPT_BYTES)

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
                    written += write_block(self._fd, block, window.block(position))
                    good += 1
        return Applied(written, good + len(bad), np.array(bad, dtype=np.uint32))

    def _fill(self, window: BlockWindow, rows: PlacedRecords) -> list[int]:
        """The pages that stay, that are zeros, and that frames have; the positions of blocks that lack some."""
        window.load(self._fd)
        place = np.searchsorted(window.blocks, rows.block)
        pages = window.rows[place][:, None] + np.arange(BLOCK_PAGES)
        window.pages[pages[masks.bits(rows.zero)]] = 0
        lost: list[int] = []
        for number in np.unique(rows.frame[rows.frame != NO_FRAME]).tolist():
            using = np.flatnonzero(rows.frame == number)
            try:
                held = self._frame(number)
                copy_pages(held, rows.block[using], rows.carried[using], window, self._where)
            except FormatError:  # it did not come, or not whole
                lost += place[using].tolist()
        return lost

    def _frame(self, number: int) -> frame.Frame:
        held = self._unpacked.get(number)
        if held is None:
            if number not in self._places:
                raise FormatError("a frame did not come", where=self._where)
            offset, size = self._places[number]
            held = frame.decode(os.pread(self._spool, size, offset), self._where)
            self._unpacked.keep(number, held)
        return held
