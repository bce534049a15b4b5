"""What earlier runs that were never published have sent of one disk, and which of it can be used as it is.

A page is not sent again if its hash is that of a page that lies in a complete pack; whether the snapshot is still the
same does not matter. Lookups are in a sparse file, so that memory does not follow the disk; it is made anew each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from warmspare.format.packlist import PackRef
from warmspare.model import masks
from warmspare.model.block_records import PlacedRecords
from warmspare.model.columns import U32, distinct
from warmspare.model.ids import PackId, RunId
from warmspare.model.runs import group_starts
from warmspare.model.units import BLOCK_PAGES
from warmspare.state.local_files import STATE_DIRECTORY
from warmspare.state.page_column import PageColumn
from warmspare.state.page_file import PageFile
from warmspare.sync.journal.sentlog import SentFrame
from warmspare.sync.rows import Filtered

ROW = np.dtype([("hash", "<u8", (BLOCK_PAGES,)), ("frame", "<u4", (BLOCK_PAGES,))])  # frame 0: nothing is known
PAGE_ROWS = 16  # a span's: what is looked up at once
FRAME = np.dtype([("pack", "<u4"), ("offset", "<u4"), ("bytes", "<u4")])


class Resume:
    """One disk's. path: of the lookup file. packs: complete in the store, and checked; frames of others are passed
    over."""

    def __init__(self, path: Path, packs: list[PackRef]) -> None:
        self.packs = packs
        self.used: set[int] = set()
        self.reused_pages = 0
        self._numbers = {pack.id: index for index, pack in enumerate(packs)}
        self._frames = np.zeros(0, dtype=FRAME)
        self._file = PageFile(path, STATE_DIRECTORY, anew=True, nameless=True)
        self._rows = PageColumn(self._file, ROW, page_values=PAGE_ROWS)

    def close(self) -> None:
        self._file.close()

    def learn(self, run: RunId, frames: Iterable[SentFrame]) -> None:
        """Of an earlier run; call it with the oldest first."""
        known: list[tuple[int, int, int]] = []
        base = self._frames.size
        for frame in frames:
            pack = self._numbers.get(PackId(run, frame.pack))
            if pack is None:
                continue
            known.append((pack, frame.offset, frame.bytes))
            rows = self._rows.get(frame.block)
            carried = masks.bits(frame.carried)
            rows["hash"][carried] = frame.pages[carried]
            rows["frame"][carried] = base + len(known)
            self._rows.put(frame.block, rows)
        self._frames = np.concatenate((self._frames, np.array(known, dtype=FRAME)))

    def frames(self, numbers: U32) -> list[tuple[int, int, int]]:
        """(pack index, offset, length) of frames; their packs count as used."""
        rows = self._frames[numbers.astype(np.int64) - 1]
        self.used.update(rows["pack"].tolist())
        return [(int(row["pack"]), int(row["offset"]), int(row["bytes"])) for row in rows]

    def split(self, found: Filtered) -> tuple[Filtered, PlacedRecords | None]:
        """What must be sent of what was found, and what lies in the store."""
        records = found.records
        if not len(records):
            return found, None
        known = self._rows.get(records.block)
        carried = masks.bits(records.carried)
        same = carried & (known["frame"] > 0) & (known["hash"] == found.pages)
        if not same.any():
            return found, None
        self.reused_pages += int(same.sum())
        # a record for each frame that a block's pages lie in
        frame = np.where(same, known["frame"], 0)
        pairs = [(row, number) for row in np.flatnonzero(same.any(axis=1)).tolist() for number in _distinct(frame[row])]
        rows = np.array([row for row, _ in pairs], dtype=np.int64)
        numbers = np.array([number for _, number in pairs], dtype=np.uint32)
        left = records.carried & ~masks.from_bits(same)
        # what became zero goes with the pages that are sent, or with the first of the others
        first = np.zeros(rows.size, dtype=bool)
        first[group_starts(rows)] = True
        zero = np.where(first & (left[rows] == 0), records.zero[rows], 0).astype(np.uint16)
        given = masks.from_bits(frame[rows] == numbers[:, None])
        reused = PlacedRecords(records.block[rows], given, zero, records.hashes[rows], numbers)
        keep = (left != 0) | (~same.any(axis=1))
        sent = replace(records, carried=left).take(keep)
        return replace(found, records=sent, row=found.row[keep], pages=found.pages[keep]), reused


def _distinct(frames: np.ndarray) -> list[int]:
    return [number for number in distinct(frames).tolist() if number]
