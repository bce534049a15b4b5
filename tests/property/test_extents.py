"""The extent algebra against a bitmap of the disk; owns every rule of extents.py about ranges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from warmspare.model.extents import Extents, covered, normalise, overlaps, union, whole_disk, widen
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES, PAGE_BYTES, block_bytes, block_count, page_bytes

LIMIT = 96  # bytes of the toy disk
MANY = settings(max_examples=300, deadline=None)
Pairs = list[tuple[int, int]]
pairs = st.lists(st.tuples(st.integers(0, LIMIT - 1), st.integers(0, 24)), max_size=12)


def bitmap(extents: Pairs) -> set[int]:
    return {byte for offset, length in extents for byte in range(offset, offset + length)}


def make(extents: Pairs) -> Extents:
    return normalise([offset for offset, _ in extents], [length for _, length in extents])


def runs(bytes_: set[int]) -> Pairs:
    """The one way to write a set of bytes as sorted, disjoint, non-adjacent ranges."""
    out: Pairs = []
    for byte in sorted(bytes_):
        if out and sum(out[-1]) == byte:
            out[-1] = (out[-1][0], out[-1][1] + 1)
        else:
            out.append((byte, 1))
    return out


@MANY
@given(pairs)
@example([])
@example([(0, 0)])
@example([(5, 5), (0, 5)])
@example([(0, 20), (3, 2), (19, 1), (20, 0), (21, 1)])
def test_normalise_keeps_the_bytes_and_gives_the_canonical_form(extents: Pairs) -> None:
    found = make(extents)
    assert found.pairs() == runs(bitmap(extents))
    assert found.total_bytes == len(bitmap(extents))
    assert len(found) == len(found.pairs())
    assert make(found.pairs()).pairs() == found.pairs()


@MANY
@given(pairs, pairs)
def test_union_is_the_union_of_the_bytes(left: Pairs, right: Pairs) -> None:
    assert union(make(left), make(right)).pairs() == runs(bitmap(left) | bitmap(right))


@MANY
@given(pairs, st.integers(1, 32), st.integers(0, LIMIT + 40))
def test_widen_covers_every_touched_unit_and_stops_at_the_capacity(extents: Pairs, unit: int, capacity: int) -> None:
    touched = {byte // unit for byte in bitmap(extents)}
    wanted = {byte for u in touched for byte in range(u * unit, (u + 1) * unit) if byte < capacity}
    assert widen(make(extents), unit, capacity).pairs() == runs(wanted)


@MANY
@given(pairs, st.integers(0, LIMIT + 30), st.integers(0, LIMIT + 30))
def test_covered_and_overlaps_ask_for_all_and_for_any_byte(extents: Pairs, start: int, stop: int) -> None:
    inside = [byte in bitmap(extents) for byte in range(start, stop)]
    assert covered(make(extents), start, stop) == all(inside)
    assert overlaps(make(extents), start, stop) == any(inside)


@given(st.one_of(st.integers(0, 5000), st.sampled_from([BLOCK_BYTES, MAX_CAPACITY_BYTES])))
def test_the_whole_disk_is_one_extent_and_an_empty_one_none(capacity: int) -> None:
    assert whole_disk(capacity).pairs() == ([(0, capacity)] if capacity else [])


@pytest.mark.parametrize(("offsets", "lengths"), [([-1], [1]), ([1], [-1]), ([0, 5], [3, -9])])
def test_negative_extents_are_refused(offsets: list[int], lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="negative"):
        normalise(offsets, lengths)


@pytest.mark.parametrize(("offsets", "lengths"), [([1, 2], [1]), ([[1]], [[1]])])
def test_columns_that_do_not_belong_together_are_refused(offsets: list[int], lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="shape"):
        normalise(offsets, lengths)


def test_numbers_as_large_as_the_largest_disk() -> None:
    top = MAX_CAPACITY_BYTES
    extents = normalise([top - 5, 0, top - 70_000], [5, 1, 1])
    assert widen(extents, BLOCK_BYTES, top).pairs() == [(0, BLOCK_BYTES), (top - 2 * BLOCK_BYTES, 2 * BLOCK_BYTES)]
    assert covered(extents, top - 5, top)
    assert not covered(extents, top - 6, top)
    assert overlaps(extents, top - 6, top - 4)


def test_a_million_extents_in_two_columns() -> None:
    offsets = np.arange(1_000_000, dtype=np.int64)[::-1] * 8192
    found = normalise(offsets, np.full(offsets.size, PAGE_BYTES))
    assert (len(found), found.total_bytes) == (1_000_000, 1_000_000 * PAGE_BYTES)
    assert widen(found, 8192, 1 << 40).pairs() == [(0, 8_192_000_000)]


@given(st.integers(1, 40 * BLOCK_BYTES))
def test_blocks_and_pages_add_up_to_the_capacity(capacity: int) -> None:
    count = block_count(capacity)
    sizes = [block_bytes(b, capacity) for b in range(count)]
    assert sum(sizes) == capacity
    assert all(size == BLOCK_BYTES for size in sizes[:-1])
    assert 0 < sizes[-1] <= BLOCK_BYTES
    last = (capacity - 1) // PAGE_BYTES
    assert last * PAGE_BYTES + page_bytes(last, capacity) == capacity
    assert page_bytes(0, capacity) == min(PAGE_BYTES, capacity)
