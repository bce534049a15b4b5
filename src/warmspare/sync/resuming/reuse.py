"""What earlier runs that were never published have sent of one disk, and which of it can be used as it is.

A page is not sent again if its hash is that of a page that lies in a complete pack; whether the snapshot is still the
same does not matter. Lookups are in a sparse file, so that memory does not follow the disk; it is made anew each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from warmspare.format.packlist import PackRef
from warmspare.model.columns import U16, U32
from warmspare.model.ids import PackId, RunId
from warmspare.model.units import BLOCK_PAGES
from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import STATE_DIRECTORY, local_io, pwrite_all
from warmspare.sync.journal.sentlog import SentFrame
from warmspare.sync.rows import Filtered, Reused

ROW = np.dtype([("hash", "<u8", (BLOCK_PAGES,)), ("frame", "<u4", (BLOCK_PAGES,))])  # frame 0: nothing is known
FRAME = np.dtype([("pack", "<u4"), ("offset", "<u4"), ("bytes", "<u4")])


class Resume:
    """One disk's. path: of the lookup file. packs: complete in the store, and checked; frames of others are passed
    over."""

    def __init__(self, path: Path, packs: list[PackRef]) -> None:
        self.packs = packs
        self.used: set[int] = set()
        self.reused_pages = 0
        self._numbers = {pack.id: index for index, pack in enumerate(packs)}
        self._path = path
        self._frames = np.zeros(0, dtype=FRAME)
        with local_io(STATE_DIRECTORY, path):
            self._fd = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            path.unlink()  # it goes with this process

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def learn(self, run: RunId, frames: Iterable[SentFrame]) -> None:
        """Of an earlier run; call it with the oldest first."""
        known: list[tuple[int, int, int]] = []
        base = self._frames.size
        for frame in frames:
            pack = self._numbers.get(PackId(run, frame.pack))
            if pack is None:
                continue
            known.append((pack, frame.offset, frame.bytes))
            rows = self._read(frame.block)
            mask = _bits(frame.carried)
            rows["hash"][mask] = frame.pages[mask]
            rows["frame"][mask] = base + len(known)
            self._write(frame.block, rows)
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
        known = self._read(found.block)
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

    def _read(self, blocks: U32) -> np.ndarray:
        out = np.zeros(blocks.size, dtype=ROW)
        with local_io(STATE_DIRECTORY, self._path):
            for first, stop in _runs(blocks):
                raw = os.pread(self._fd, (stop - first) * ROW.itemsize, int(blocks[first]) * ROW.itemsize)
                whole = len(raw) // ROW.itemsize
                out[first : first + whole] = np.frombuffer(raw, dtype=ROW, count=whole)
        return out

    def _write(self, blocks: U32, rows: np.ndarray) -> None:
        with local_io(STATE_DIRECTORY, self._path):
            for first, stop in _runs(blocks):
                pwrite_all(self._fd, rows[first:stop].tobytes(), int(blocks[first]) * ROW.itemsize)


def _bits(masks: U16) -> np.ndarray:
    """Masks as booleans, shape (n, 16)."""
    return ((masks[:, None] >> np.arange(BLOCK_PAGES, dtype=np.uint16)) & np.uint16(1)).astype(bool)


def _mask(bits: np.ndarray) -> U16:
    weights = np.uint16(1) << np.arange(BLOCK_PAGES, dtype=np.uint16)
    out: U16 = (bits * weights).sum(axis=1).astype(np.uint16)
    return out


def _distinct(frames: np.ndarray) -> list[int]:
    return [number for number in np.unique(frames).tolist() if number]


def _runs(blocks: U32) -> list[tuple[int, int]]:
    """[first, stop) of the rows whose blocks follow each other."""
    if not blocks.size:
        return []
    cuts = np.flatnonzero(np.diff(blocks.astype(np.int64)) != 1) + 1
    return list(zip([0, *cuts.tolist()], [*cuts.tolist(), blocks.size], strict=True))
