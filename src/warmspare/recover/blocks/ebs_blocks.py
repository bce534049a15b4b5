"""Which 512 KiB blocks of an EBS snapshot are to be put: a set of numbers in bits; owns no data of theirs.

2 MiB of memory for each 8 TiB of disk.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from warmspare.model.columns import U32, distinct
from warmspare.model.units import BLOCK_BYTES

EBS_BLOCK_BYTES = 512 << 10
BLOCKS_EACH = EBS_BLOCK_BYTES // BLOCK_BYTES  # of ours in one of EBS
_STEP_BYTES = 1 << 16  # of the bits, looked at in one go


class EbsBlockSet:
    """A set of EBS blocks below `count`. It is filled with our blocks, of 64 KiB; each adds the EBS block around it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._bits = np.zeros(-(-count // 8), dtype=np.uint8)

    def touch(self, blocks: U32) -> None:
        """Add the EBS blocks around blocks of ours."""
        index = distinct(blocks // BLOCKS_EACH)
        np.bitwise_or.at(self._bits, index >> 3, np.left_shift(np.uint8(1), (index & 7).astype(np.uint8)))

    def touch_run(self, start: int, count: int) -> None:
        """Add the EBS blocks around `count` blocks of ours from `start` on, however many."""
        if not count:
            return
        first, stop = start // BLOCKS_EACH, (start + count - 1) // BLOCKS_EACH + 1
        whole, end = -(-first // 8), stop // 8
        if whole < end:
            self._bits[whole:end] = 0xFF
            edges = [*range(first, whole * 8), *range(end * 8, stop)]
        else:
            edges = list(range(first, stop))
        for index in edges:
            self._bits[index >> 3] |= 1 << (index & 7)

    def __len__(self) -> int:
        steps = range(0, self._bits.size, _STEP_BYTES)
        return sum(int(np.bitwise_count(self._bits[at : at + _STEP_BYTES]).sum()) for at in steps)

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self._count and bool(self._bits[index >> 3] >> (index & 7) & 1)

    def batches(self, size: int) -> Iterator[U32]:
        """The numbers, ascending, `size` at a time."""
        held = np.zeros(0, dtype=np.uint32)
        for at in range(0, self._bits.size, _STEP_BYTES):
            step = self._bits[at : at + _STEP_BYTES]
            if not step.any():
                continue
            found = np.flatnonzero(np.unpackbits(step, bitorder="little")) + at * 8
            held = np.concatenate((held, found.astype(np.uint32)))
            full = held.size // size * size
            for start in range(0, full, size):
                yield held[start : start + size]
            held = held[full:]
        if held.size:
            yield held
