"""Blocks of a disk counted by region and by what is said of them, in little memory however large the disk; owns the
size of a region."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare.model.units import block_count

MAX_CELLS = 4096  # of a map: enough to see where, few enough to draw


class RegionCounts:
    """Region i covers the blocks [i * cell_blocks, (i + 1) * cell_blocks). kinds: how many things there are to say of a
    block, which are known by their numbers."""

    def __init__(self, capacity_bytes: int, kinds: int) -> None:
        blocks = block_count(capacity_bytes)
        cell = 1
        while -(-blocks // cell) > MAX_CELLS:
            cell *= 2
        self.cell_blocks = cell
        self._counts = np.zeros((kinds, max(1, -(-blocks // cell))), dtype=np.int64)

    def add(self, kind: int, blocks: npt.NDArray[Any], sign: int = 1) -> None:
        """blocks: numbers of blocks of which this is said, each once. sign -1 takes them back."""
        if blocks.size:
            np.add.at(self._counts[kind], np.asarray(blocks, dtype=np.int64) // self.cell_blocks, sign)

    def add_run(self, kind: int, start: int, count: int, sign: int = 1) -> None:
        """It is said of blocks [start, start + count), each counted `sign` times; costs nothing for each."""
        if count <= 0:
            return
        cell, stop = self.cell_blocks, start + count
        first, last = start // cell, (stop - 1) // cell
        row = self._counts[kind]
        if first == last:
            row[first] += sign * count
            return
        row[first] += sign * ((first + 1) * cell - start)
        row[first + 1 : last] += sign * cell
        row[last] += sign * (stop - last * cell)

    def total(self, kind: int) -> int:
        """Of all regions."""
        return int(self._counts[kind].sum())

    def columns(self) -> list[list[int]]:
        """For each kind its count in each region."""
        columns: list[list[int]] = self._counts.tolist()
        return columns

    def restore(self, columns: list[list[int]]) -> None:
        """Go on from the counts of another. ValueError where they are of another disk."""
        if {len(column) for column in columns} != {self._counts.shape[1]}:
            raise ValueError("the map is of another disk")
        self._counts[:] = columns
