"""Runs, groups and their algebra, against sets and loops of plain Python."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from warmspare.model.extents import inside, normalise
from warmspare.model.runs import (
    Runs,
    by_value,
    group_starts,
    groups,
    held,
    merged,
    numbers_in,
    run_columns,
    run_rows,
    subtracted,
)
from warmspare.model.units import BLOCK_BYTES

MANY = settings(max_examples=200, deadline=None)
LAST = 0xFFFF_FFFF
sets = st.sets(st.integers(0, 60), max_size=40)
Ranges = list[tuple[int, int]]


def column(numbers: list[int] | set[int], kind: type = np.uint32) -> np.ndarray:
    return np.array(sorted(numbers), dtype=kind)


def ranges(numbers: set[int]) -> Ranges:
    """The (start, stop) of what follows each other."""
    out: Ranges = []
    for number in sorted(numbers):
        if out and out[-1][1] == number:
            out[-1] = (out[-1][0], number + 1)
        else:
            out.append((number, number + 1))
    return out


def columns(pairs: Ranges) -> tuple[np.ndarray, np.ndarray]:
    start, stop = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return start, stop


def pairs(start: np.ndarray, stop: np.ndarray) -> Ranges:
    return list(zip(start.tolist(), stop.tolist(), strict=True))


def numbers(of: Ranges) -> set[int]:
    return {number for start, stop in of for number in range(start, stop)}


@MANY
@given(sets)
@example(set())
@example({0})
@example({LAST})
@example({0, LAST - 1, LAST})
def test_runs_are_what_follows_each_other(blocks: set[int]) -> None:
    wanted = [(start, stop - start) for start, stop in ranges(blocks)]
    runs = Runs.of(column(blocks))
    assert list(runs.pairs()) == wanted
    assert (len(runs), runs.blocks) == (len(wanted), len(blocks))
    assert (runs.start.dtype, runs.count.dtype) == (np.uint32, np.uint32)
    assert numbers_in(runs.start, runs.count).tolist() == sorted(blocks)
    for kind in (np.uint32, np.uint64, np.int64):
        first, count = run_columns(column(blocks, kind))
        assert first.dtype == kind and list(zip(first.tolist(), count.tolist(), strict=True)) == wanted
        rows = [column(blocks, kind)[part].tolist() for part in run_rows(column(blocks, kind))]
        assert rows == [list(range(start, start + count)) for start, count in wanted]


@MANY
@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 9))
@example([0, 0, 1], 1)
def test_groups_are_equal_numbers(values: list[int], size: int) -> None:
    values = sorted(values)
    found = [(which, column(values)[rows].tolist()) for which, rows in groups(column(values), size)]
    assert found == [(which, list(part)) for which, part in itertools.groupby(values, lambda value: value // size)]
    starts = [row for row, value in enumerate(values) if not row or values[row - 1] != value]
    assert group_starts(column(values)).tolist() == starts


@MANY
@given(st.lists(st.integers(0, 5), max_size=30), st.data())
def test_rows_by_their_value(keys: list[int], data: st.DataObject) -> None:
    """Those of one value in the order in which they were given."""
    rows = data.draw(st.permutations(range(len(keys)))) if keys else []
    rows = rows[: data.draw(st.integers(0, len(rows)))]
    found = by_value(np.array(keys, dtype=np.uint16), np.array(rows, dtype=np.intp))
    wanted = {value: [row for row in rows if keys[row] == value] for value in sorted({keys[row] for row in rows})}
    assert [(value, part.tolist()) for value, part in found] == list(wanted.items())


@MANY
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=12))
def test_the_numbers_in_ranges(given_ranges: Ranges) -> None:
    start, count = columns(given_ranges)
    assert numbers_in(start, count).tolist() == [n for at, size in given_ranges for n in range(at, at + size)]


@MANY
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=12), sets, sets)
def test_ranges_are_sets_of_numbers(some: Ranges, left: set[int], right: set[int]) -> None:
    some = [(start, start + size) for start, size in some]
    assert pairs(*merged(*columns(some))) == ranges(numbers(some))
    assert pairs(*subtracted(*columns(ranges(left)), *columns(ranges(right)))) == ranges(left - right)
    probe = np.arange(70, dtype=np.int64)
    assert held(probe, *columns(ranges(left))).tolist() == [number in left for number in range(70)]
    extents = normalise([start * BLOCK_BYTES for start, _ in ranges(left)], [
        (stop - start) * BLOCK_BYTES - 5 for start, stop in ranges(left)
    ])  # fmt: skip
    assert inside(probe.astype(np.uint32), extents).tolist() == [number in left for number in range(70)]


@MANY
@given(sets, sets, st.integers(0, 61))
def test_runs_are_sets_of_blocks(left: set[int], right: set[int], at: int) -> None:
    runs = Runs.of(column(left))
    assert list(runs.without(*columns(ranges(right))).pairs()) == list(Runs.of(column(left - right)).pairs())
    below, rest = runs.split(at)
    assert list(below.pairs()) == list(Runs.of(column({block for block in left if block < at})).pairs())
    assert list(rest.pairs()) == list(Runs.of(column({block for block in left if block >= at})).pairs())
    parts = [Runs.of(column(right - left)), rest, below]
    assert list(Runs.join(parts).pairs()) == list(Runs.of(column(left | right)).pairs())
    assert runs.hold(np.arange(70, dtype=np.uint32)).tolist() == [block in left for block in range(70)]
    assert not len(Runs.join([])) and not len(Runs.none())


@MANY
@given(st.sets(st.integers(0, 2**30), min_size=1, max_size=300), st.integers(1, 50))
@example({0, 2, 4, 9}, 2)
def test_few_runs_cover_no_less(blocks: set[int], limit: int) -> None:
    """And what they cover more is gaps none of which is larger than one that stays."""
    many = Runs.of(column(blocks))
    few = list(many.bounded(limit).pairs())
    assert len(few) <= limit
    left = [after - start - count for (start, count), (after, _) in itertools.pairwise(few)]
    assert all(gap > 0 for gap in left)
    assert all(any(start <= block < start + count for start, count in few) for block in blocks)
    gaps = [after - start - count for (start, count), (after, _) in itertools.pairwise(many.pairs())]
    filled = sorted(gaps)[: len(gaps) - len(left)]
    assert sum(count for _, count in few) == many.blocks + sum(filled)
    assert len(many) > limit or few == list(many.pairs())


def test_the_end_of_the_largest_disk_does_not_wrap() -> None:
    """A run may end where 32 bits do."""
    runs = Runs(np.array([5, LAST - 1], dtype=np.uint32), np.array([2, 2], dtype=np.uint32))
    assert runs.bounds[1].tolist() == [7, LAST + 1] and runs.hold(np.array([LAST, 7], dtype=np.uint32)).tolist() == [
        True,
        False,
    ]
    below, rest = runs.split(LAST)
    assert (list(below.pairs()), list(rest.pairs())) == ([(5, 2), (LAST - 1, 1)], [(LAST, 1)])
