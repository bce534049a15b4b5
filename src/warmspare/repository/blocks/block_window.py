"""Some blocks of a disk in the making, and the proof that they are right; owns the bytes until they are proved."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import xxhash

from warmspare.model.columns import U8, U16, U32
from warmspare.model.masks import whole_masks
from warmspare.model.units import BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES, block_bytes

_ZEROS = bytes(BLOCK_BYTES)


class BlockWindow:
    """The blocks `blocks` (ascending) of a disk. pages: their bytes, shape (pages, 4096), zeros at first and beyond the
    end of the disk.

    expected: the hash of each block, shape (n, 16), from a hash table that was held against its root; zeros: the block
    is zeros. room: for how many blocks there are pages, if for more than these.
    """

    def __init__(self, blocks: U32, capacity_bytes: int, expected: U8, *, room: int = 0) -> None:
        self.blocks, self.capacity_bytes, self.expected = blocks, capacity_bytes, expected
        self.pages: U8 = np.zeros((max(blocks.size, room) * BLOCK_PAGES, PAGE_BYTES), dtype=np.uint8)
        # Where each block begins in `pages`.
        self.rows: npt.NDArray[np.intp] = np.arange(blocks.size) * BLOCK_PAGES
        self.filled: npt.NDArray[np.bool_] = np.asarray(expected.any(axis=1))  # the others read as zeros

    def masks(self) -> U16:
        """The pages that each of `blocks` has: all 16 but at the end of the disk."""
        return whole_masks(self.blocks, self.capacity_bytes)

    def block(self, position: int) -> memoryview:
        """The bytes of one of `blocks`, at its length."""
        size = block_bytes(int(self.blocks[position]), self.capacity_bytes)
        row = int(self.rows[position])
        return self.pages[row : row + BLOCK_PAGES].reshape(-1).data[:size]

    def load(self, fd: int) -> int:
        """Take the blocks from a file of the disk, each from its place; how many bytes it has of them. OSError."""
        return sum(
            os.preadv(fd, [self.block(position)], int(block) * BLOCK_BYTES)
            for position, block in enumerate(self.blocks.tolist())
        )

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
