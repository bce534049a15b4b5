"""What earlier runs that were never published have sent of one disk, and which of it can be used as it is.

A page is not sent again if its hash is that of a page that lies in a complete pack; whether the snapshot is still the
same does not matter. Lookups are in a sparse file, so that memory does not follow the disk; it is made anew each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from warmspare.format.packlist import PackRef
from warmspare.model.columns import U16, U32
from warmspare.model.ids import PackId, RunId
from warmspare.model.units import BLOCK_PAGES
from warmspare.state.local_files import STATE_DIRECTORY
from warmspare.state.page_column import PageColumn
from warmspare.state.page_file import PageFile
from warmspare.sync.journal.sentlog import SentFrame
from warmspare.sync.rows import Filtered, Reused

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
            mask = _bits(frame.carried)
            rows["hash"][mask] = frame.pages[mask]
            rows["frame"][mask] = base + len(known)
            self._rows.put(frame.block, rows)
        self._frames = np.concatenate((self._frames, np.array(known, dtype=FRAME)))

    def frames(self, numbers: U32) -> list[tuple[int, int, int]]:
        """(pack index, offset, length) of frames; their packs count as used."""
        rows = self._frames[numbers.astype(np.int64) - 1]
        self.used.update(rows["pack"].tolist())
        return [(int(row["pack"]), int(row["offset"]), int(row["bytes"])) for row in rows]

    def split(self, found: Filtered) -> tuple[Filtered, Reused | None]:
        """What must be sent of what was found, and what lies in the store."""
        if not found.block.size:
            return found, None
        known = self._rows.get(found.block)
        carried = _bits(found.carried)
        same = carried & (known["frame"] > 0) & (known["hash"] == found.pages)
        if not same.any():
            return found, None
        self.reused_pages += int(same.sum())
        # a record for each frame that a block's pages lie in
        frame = np.where(same, known["frame"], 0)
        pairs = [(row, number) for row in np.flatnonzero(same.any(axis=1)).tolist() for number in _distinct(frame[row])]
        rows = np.array([row for row, _ in pairs], dtype=np.int64)
        numbers = np.array([number for _, number in pairs], dtype=np.uint32)
        masks = _mask(frame[rows] == numbers[:, None])
        left = found.carried & ~_mask(same)
        # what became zero goes with the pages that are sent, or with the first of the others
        first = np.concatenate(([True], rows[1:] != rows[:-1]))
        zero = np.where(first & (left[rows] == 0), found.zero[rows], 0).astype(np.uint16)
        reused = Reused(found.block[rows], masks, zero, found.hashes[rows], numbers)
        keep = (left != 0) | (~same.any(axis=1))
        new = Filtered(
            found.block[keep],
            found.row[keep],
            left[keep],
            found.zero[keep],
            found.hashes[keep],
            found.zero_blocks,
            found.changed_bytes,
            found.untracked,
            found.pages[keep],
        )
        return new, reused


def _bits(masks: U16) -> np.ndarray:
    """Masks as booleans, shape (n, 16)."""
    return ((masks[:, None] >> np.arange(BLOCK_PAGES, dtype=np.uint16)) & np.uint16(1)).astype(bool)


def _mask(bits: np.ndarray) -> U16:
    weights = np.uint16(1) << np.arange(BLOCK_PAGES, dtype=np.uint16)
    out: U16 = (bits * weights).sum(axis=1).astype(np.uint16)
    return out


def _distinct(frames: np.ndarray) -> list[int]:
    return [number for number in np.unique(frames).tolist() if number]
