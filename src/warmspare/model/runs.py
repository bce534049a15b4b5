"""Runs of consecutive numbers and groups of equal ones: the one place that knows where one ends and the next begins.

All ranges are half-open. Columns ascend; what is said of blocks holds for pages and rows as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare.model.columns import I64, U32

Numbers = npt.NDArray[Any]  # whole numbers of any width
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Runs of blocks, ascending and disjoint: row i is the blocks [start, start + count)."""

    start: U32
    count: U32

    @classmethod
    def none(cls) -> Runs:
        return cls(np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.uint32))

    @classmethod
    def of(cls, blocks: Numbers) -> Runs:
        """The runs that ascending blocks make up."""
        first = run_starts(blocks)
        return cls(blocks[first].astype(np.uint32), _lengths(first, blocks.size).astype(np.uint32))

    @classmethod
    def between(cls, start: I64, stop: I64) -> Runs:
        """The runs [start, stop), none of them empty."""
        return cls(start.astype(np.uint32), (stop - start).astype(np.uint32))

    @classmethod
    def join(cls, parts: Sequence[Runs]) -> Runs:
        """All of several that share no block, in order; those that touch become one."""
        if not parts:
            return cls.none()
        start = np.concatenate([part.start for part in parts]).astype(np.int64)
        return cls.between(*merged(start, start + np.concatenate([part.count for part in parts])))

    def __len__(self) -> int:
        return self.start.size

    @property
    def blocks(self) -> int:
        """How many blocks they have together."""
        return int(self.count.sum())

    @property
    def bounds(self) -> tuple[I64, I64]:
        """(start, stop) of each."""
        start = self.start.astype(np.int64)
        return start, start + self.count

    def pairs(self) -> Iterator[tuple[int, int]]:
        """(start, count) of each, as Python integers."""
        return zip(self.start.tolist(), self.count.tolist(), strict=True)

    def hold(self, blocks: Numbers) -> npt.NDArray[np.bool_]:
        """For each block whether it lies in a run."""
        return held(blocks.astype(np.int64), *self.bounds)

    def without(self, start: I64, stop: I64) -> Runs:
        """What of them lies in none of the ranges [start, stop), which ascend and are disjoint."""
        return self.between(*subtracted(*self.bounds, start, stop))

    def split(self, block: int) -> tuple[Runs, Runs]:
        """What of them lies below that block, and the rest."""
        start, stop = self.bounds
        low, high = start < block, stop > block
        return (
            self.between(start[low], np.minimum(stop[low], block)),
            self.between(np.maximum(start[high], block), stop[high]),
        )

    def bounded(self, limit: int) -> Runs:
        """At most `limit` of them, which have no block less: joined across the smallest gaps."""
        return self.between(*bounded(*self.bounds, limit))


def run_starts(numbers: Numbers) -> Rows:
    """The rows at which a run begins, the first among them; none of nothing."""
    return _starts(np.diff(numbers) != 1)[: numbers.size]


def group_starts(numbers: Numbers) -> Rows:
    """The rows whose number is another than that of the row before, the first among them; none of nothing."""
    return _starts(numbers[1:] != numbers[:-1])[: numbers.size]


def _starts(cut: npt.NDArray[np.bool_]) -> Rows:
    return np.concatenate((np.zeros(1, dtype=np.intp), np.flatnonzero(cut) + 1))


def _lengths(starts: Rows, rows: int) -> Rows:
    return np.diff(starts, append=rows)


def _slices(starts: Rows, rows: int) -> Iterator[slice]:
    first = 0
    for stop in [*starts[1:].tolist(), rows] if rows else ():
        yield slice(first, stop)
        first = stop


def run_rows(numbers: Numbers) -> Iterator[slice]:
    """For each run the rows of it."""
    return _slices(run_starts(numbers), numbers.size)


def run_columns(numbers: Numbers) -> tuple[Numbers, Rows]:
    """(first number, how many) of each run."""
    starts = run_starts(numbers)
    return numbers[starts], _lengths(starts, numbers.size)


def groups(blocks: Numbers, size: int) -> Iterator[tuple[int, slice]]:
    """(which, its rows) of the groups of `size` blocks that any of these lie in: what is read or kept together."""
    which = blocks // size
    if which.size and which[0] == which[-1]:  # so it is for a span nearly always, and each of them asks
        yield int(which[0]), slice(0, which.size)
        return
    starts = group_starts(which)
    yield from zip(which[starts].tolist(), _slices(starts, which.size), strict=True)


def by_value(keys: Numbers, rows: Rows) -> list[tuple[int, Rows]]:
    """(value, those of the rows that have it in `keys`, in the order given), ascending by value."""
    values = keys[rows]
    order = np.argsort(values, kind="stable")
    values, rows = values[order], rows[order]
    return [(int(values[part.start]), rows[part]) for part in _slices(group_starts(values), rows.size)]


def numbers_in(start: Numbers, count: Numbers) -> I64:
    """The numbers of all the ranges [start, start + count), one after the other."""
    count = count.astype(np.int64)
    behind = np.cumsum(count) - count
    numbers: I64 = np.arange(int(count.sum())) + np.repeat(start.astype(np.int64) - behind, count)
    return numbers


def merged(start: I64, stop: I64) -> tuple[I64, I64]:
    """The ranges [start, stop), given in any order and none of them empty, ascending; those that overlap or touch
    become one."""
    if not start.size:
        return start, stop
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(stop[order])
    first = _starts(start[1:] > reach[:-1])
    return start[first], reach[np.append(first[1:], start.size) - 1]


def subtracted(start: I64, stop: I64, cut_start: I64, cut_stop: I64) -> tuple[I64, I64]:
    """What of the ranges [start, stop) lies in none of [cut_start, cut_stop); both ascend and are disjoint."""
    gap_start = np.concatenate((np.zeros(1, dtype=np.int64), cut_stop))
    gap_stop = np.concatenate((cut_start, np.full(1, np.iinfo(np.int64).max)))
    low = np.searchsorted(gap_stop, start, side="right")
    high = np.searchsorted(gap_start, stop, side="left")
    count = np.maximum(high - low, 0)
    gap = numbers_in(low, count)
    start, stop = np.maximum(np.repeat(start, count), gap_start[gap]), np.minimum(np.repeat(stop, count), gap_stop[gap])
    some = stop > start
    return start[some], stop[some]


def bounded(start: I64, stop: I64, limit: int) -> tuple[I64, I64]:
    """Ascending, disjoint ranges [start, stop) as at most `limit` of them that cover no less, joined across the
    smallest gaps. limit: at least 1."""
    if start.size <= limit:
        return start, stop
    gaps = start[1:] - stop[:-1]
    apart = gaps > np.partition(gaps, start.size - limit - 1)[start.size - limit - 1]
    return start[np.append(True, apart)], stop[np.append(apart, True)]


def held(numbers: I64, start: I64, stop: I64) -> npt.NDArray[np.bool_]:
    """For each number whether it lies in one of the ranges [start, stop), which ascend and are disjoint."""
    if not start.size:
        return np.zeros(numbers.shape, dtype=np.bool_)
    row = np.searchsorted(start, numbers, side="right") - 1
    inside: npt.NDArray[np.bool_] = (row >= 0) & (numbers < stop[np.maximum(row, 0)])
    return inside
