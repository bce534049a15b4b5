"""Extents of a disk, and their algebra; refuses what is negative.

All ranges are half-open; extents travel as two parallel int64 columns (offset, length) so that a million of them
cost 16 MB and not a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmspare.model.columns import I64
from warmspare.model.runs import Numbers, held, merged, subtracted
from warmspare.model.units import BLOCK_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """Sorted, disjoint, non-adjacent half-open byte ranges. Make them with `normalise`."""

    offsets: I64
    lengths: I64

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def total_bytes(self) -> int:
        return int(self.lengths.sum())

    @property
    def bounds(self) -> tuple[I64, I64]:
        """(start, stop) of each."""
        return self.offsets, self.offsets + self.lengths

    def pairs(self) -> list[tuple[int, int]]:
        """(offset, length) as Python integers; for tests and small sets."""
        return list(zip(self.offsets.tolist(), self.lengths.tolist(), strict=True))


def normalise(offsets: npt.ArrayLike, lengths: npt.ArrayLike) -> Extents:
    """Sort, drop empty ones, merge what overlaps or touches.

    offsets, lengths: parallel integers, each at least 0 and offset + length below 2**63.
    Raises ValueError on negative values.
    """
    off = np.asarray(offsets, dtype=np.int64)
    size = np.asarray(lengths, dtype=np.int64)
    if off.shape != size.shape or off.ndim != 1:
        raise ValueError("offsets and lengths differ in shape")
    if off.size and (int(off.min()) < 0 or int(size.min()) < 0):
        raise ValueError("an extent is negative")
    keep = size > 0
    off, size = off[keep], size[keep]
    start, stop = merged(off, off + size)
    return Extents(start, stop - start)


def widen(extents: Extents, unit: int, capacity_bytes: int) -> Extents:
    """Widen each extent to whole units, clip at the capacity, merge."""
    start = extents.offsets // unit * unit
    stop = -(-(extents.offsets + extents.lengths) // unit) * unit
    start = np.minimum(start, capacity_bytes)
    stop = np.minimum(stop, capacity_bytes)
    return normalise(start, stop - start)


def whole_disk(capacity_bytes: int) -> Extents:
    """One extent that covers the disk (none for an empty disk)."""
    return normalise([0], [capacity_bytes])


def union(left: Extents, right: Extents) -> Extents:
    return normalise(np.concatenate((left.offsets, right.offsets)), np.concatenate((left.lengths, right.lengths)))


def covered(extents: Extents, start: int, stop: int) -> bool:
    """Whether [start, stop) lies wholly inside the extents."""
    if start >= stop:
        return True
    i = int(np.searchsorted(extents.offsets, start, side="right")) - 1
    return i >= 0 and int(extents.offsets[i] + extents.lengths[i]) >= stop


def overlaps(extents: Extents, start: int, stop: int) -> bool:
    """Whether any byte of [start, stop) lies inside the extents."""
    if start >= stop:
        return False
    i = int(np.searchsorted(extents.offsets, stop, side="left")) - 1
    return i >= 0 and int(extents.offsets[i] + extents.lengths[i]) > start


def without(extents: Extents, cut: Extents) -> Extents:
    """What of the extents lies in none of `cut`."""
    if not len(extents) or not len(cut):
        return extents
    start, stop = subtracted(*extents.bounds, *cut.bounds)
    return Extents(start, stop - start)


def inside(blocks: Numbers, extents: Extents) -> npt.NDArray[np.bool_]:
    """Which of these blocks begin inside the extents."""
    return held(blocks.astype(np.int64) * BLOCK_BYTES, *extents.bounds)
