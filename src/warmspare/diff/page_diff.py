"""Blocks of a disk fetched at two restore points, proved, and compared page by page; holds 8 MiB of each at most."""

from __future__ import annotations

import numpy as np

from warmspare.errors import IntegrityError
from warmspare.format.restore_point import Disk
from warmspare.model.columns import U8, U16, U32
from warmspare.model.masks import Bits, from_bits
from warmspare.model.units import BLOCK_PAGES
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.repository.blocks.chain_blocks import ChainBlocks
from warmspare.threads import Threads

MOST_BLOCKS = 128  # compared at once


class DiskSide:
    """The disk at one of the points. chain: the way to its blocks there."""

    def __init__(self, disk: Disk, chain: ChainBlocks, threads: Threads) -> None:
        self._disk, self._chain, self._threads = disk, chain, threads

    async def pages(self, blocks: U32, hashes: U8) -> U8:
        """The bytes of ascending blocks, shape (blocks, 16, 4096), zeros beyond the end. hashes: what they must have.
        IntegrityError if they can't be proved; StoreError."""
        window = BlockWindow(blocks, self._disk.capacity_bytes, hashes)
        positions = np.flatnonzero(window.filled).tolist()
        if positions:
            await self._chain.fill(window, positions)
            wrong = await self._threads.run(window.wrong, positions)
            if wrong:
                raise IntegrityError(
                    f"block {int(blocks[wrong[0]])} of disk {self._disk.id} does not verify",
                    hint="leave out --exact to compare by hashes; `warmspare audit repository --deep` finds all "
                    "that is damaged",
                )
        return window.pages.reshape(blocks.size, BLOCK_PAGES, -1)


def differing(before: U8 | None, after: U8 | None) -> U16:
    """The masks of the pages that differ; both of the shape (blocks, 16, 4096), None for zeros, of at most one."""
    if before is None or after is None:
        there = after if before is None else before
        assert there is not None
    else:
        there = np.bitwise_xor(before, after)
    pages: Bits = np.asarray(there.any(axis=2))
    return from_bits(pages)
