"""A few EBS blocks in the making, and the proof that they are right; refuses to give out what it could not prove."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from warmspare.model.columns import U8, U16, U32
from warmspare.model.masks import whole_masks
from warmspare.model.units import BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES, block_bytes, block_count
from warmspare.recover.blocks.ebs_blocks import BLOCKS_EACH, EBS_BLOCK_BYTES

WINDOW = 8  # EBS blocks: 4 MiB
_ZEROS = bytes(BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class EbsBlock:
    """512 KiB as they are to be put, and their SHA-256."""

    index: int
    data: bytes
    sha256: bytes


class BlockWindow:
    """The EBS blocks `indices` (ascending) of a disk. pages: their bytes, shape (pages, 4096), zeros at first and
    beyond the end of the disk. blocks: the numbers of our blocks in them, those beyond the end left out.

    expected: the hash of each of `blocks`, shape (n, 16), from a hash table that was held against its root.
    """

    def __init__(self, indices: U32, capacity_bytes: int, expected: U8) -> None:
        self.indices, self.capacity_bytes = indices, capacity_bytes
        self.blocks = blocks_of(indices, capacity_bytes)
        self.expected = expected
        self.pages: U8 = np.zeros((indices.size * BLOCKS_EACH * BLOCK_PAGES, PAGE_BYTES), dtype=np.uint8)
        # Where each of our blocks begins in `pages`. Only the last EBS block can have fewer of ours, so they are dense.
        self.rows: npt.NDArray[np.intp] = np.arange(self.blocks.size) * BLOCK_PAGES
        self.filled: npt.NDArray[np.bool_] = np.asarray(expected.any(axis=1))  # the others read as zeros

    def masks(self) -> U16:
        """The pages that each of `blocks` has: all 16 but at the end of the disk."""
        return whole_masks(self.blocks, self.capacity_bytes)

    def block(self, position: int) -> memoryview:
        """The bytes of one of `blocks`, at its length."""
        size = block_bytes(int(self.blocks[position]), self.capacity_bytes)
        row = int(self.rows[position])
        return self.pages[row : row + BLOCK_PAGES].reshape(-1).data[:size]

    def clear(self, positions: list[int]) -> None:
        """Make some of `blocks` zeros again."""
        for position in positions:
            row = int(self.rows[position])
            self.pages[row : row + BLOCK_PAGES] = 0

    def wrong(self, positions: list[int] | None = None) -> list[int]:
        """Positions of those of `blocks`, or of those that are given, that are not what their hash says."""
        out = []
        for position in range(self.blocks.size) if positions is None else positions:
            data = self.block(position)
            if self.filled[position]:
                good = xxhash.xxh3_128_digest(data) == self.expected[position].tobytes()
            else:
                good = bytes(data) == _ZEROS[: len(data)]
            if not good:
                out.append(position)
        return out

    def finished(self) -> list[EbsBlock]:
        """The blocks to put; only once `wrong` has found none."""
        out = []
        flat = self.pages.reshape(-1)
        for number, index in enumerate(self.indices.tolist()):
            data = flat[number * EBS_BLOCK_BYTES : (number + 1) * EBS_BLOCK_BYTES].tobytes()
            out.append(EbsBlock(index, data, hashlib.sha256(data).digest()))
        return out


def blocks_of(indices: U32, capacity_bytes: int) -> U32:
    """Our blocks in those EBS blocks, ascending, those beyond the end of the disk left out."""
    blocks = (indices.astype(np.int64)[:, None] * BLOCKS_EACH + np.arange(BLOCKS_EACH)).reshape(-1)
    return blocks[blocks < block_count(capacity_bytes)].astype(np.uint32)
