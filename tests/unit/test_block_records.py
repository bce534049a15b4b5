"""Records as columns, against lists of rows; and the rules that rows keep to."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmspare.model.block_records import NO_FRAME, PlacedRecords, Records

MANY = settings(max_examples=200, deadline=None)
Row = tuple[int, int, int, bytes, int]  # block, carried, zero, hash, frame
mask = st.integers(0, 0xFFFF)
rows_of = st.lists(
    st.tuples(st.integers(0, 9), mask, mask, st.binary(min_size=16, max_size=16), st.integers(0, NO_FRAME)), max_size=12
)


def placed(rows: list[Row]) -> PlacedRecords:
    block, carried, zero, hashes, frame = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return PlacedRecords(
        np.array(block, dtype=np.uint32),
        np.array(carried, dtype=np.uint16),
        np.array(zero, dtype=np.uint16),
        np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, 16),
        np.array(frame, dtype=np.uint16),
    )


def plain(records: PlacedRecords) -> list[Row]:
    hashes = [one.tobytes() for one in records.hashes]
    columns = (records.block.tolist(), records.carried.tolist(), records.zero.tolist(), hashes, records.frame.tolist())
    return list(zip(*columns, strict=True))


@MANY
@given(rows_of, st.data())
def test_rows_are_taken_whole(rows: list[Row], data: st.DataObject) -> None:
    records = placed(rows)
    assert len(records) == len(rows) and plain(records) == rows
    some = data.draw(st.lists(st.integers(0, len(rows) - 1))) if rows else []
    assert plain(records.take(np.array(some, dtype=np.intp))) == [rows[row] for row in some]
    keep = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    assert plain(records.take(np.array(keep, dtype=bool))) == [
        row for row, stays in zip(rows, keep, strict=True) if stays
    ]
    first, stop = data.draw(st.integers(0, len(rows))), data.draw(st.integers(0, len(rows)))
    assert plain(records.take(slice(first, stop))) == rows[first:stop]
    assert records.pages.tolist() == [row[1] | row[2] for row in rows]


@MANY
@given(st.lists(rows_of, max_size=4), st.integers(0, 10))
def test_records_are_joined_ordered_and_split(parts: list[list[Row]], at: int) -> None:
    rows = [row for part in parts for row in part]
    joined = PlacedRecords.join([placed(part) for part in parts])
    assert plain(joined) == rows
    ordered = joined.in_order()
    rows = sorted(rows, key=lambda row: row[0])  # stable, as it must be
    assert plain(ordered) == rows
    below, rest = ordered.split(at)
    assert plain(below) == [row for row in rows if row[0] < at] and plain(rest) == [row for row in rows if row[0] >= at]
    blocks = [row[0] for row in rows]
    assert ordered.several().tolist() == [blocks.count(block) > 1 for block in blocks]


def test_there_may_be_none() -> None:
    for kind in (Records, PlacedRecords):
        none = kind.none()
        assert type(none) is kind and not len(none) and not none.broken_rule() and not none.several().size
        assert len(kind.join([])) == 0 and len(kind.join([none, none])) == 0
        assert [column.dtype for column in none._columns()] == [column.dtype for column in none.in_order()._columns()]
        assert none.block.dtype == np.uint32 and none.hashes.shape == (0, 16)


def test_columns_of_different_lengths_are_refused() -> None:
    records = placed([(1, 1, 0, bytes(16), 0), (2, 1, 0, bytes(16), 0)])
    for column in dataclasses.fields(records):
        with pytest.raises(ValueError):
            replace(records, **{column.name: getattr(records, column.name)[:1]})
    with pytest.raises(ValueError):
        replace(records, hashes=records.hashes.reshape(-1))


def rule(rows: list[Row]) -> str:
    """In words that the format has, the first rule that is broken, row by row."""
    if any(carried & zero for _, carried, zero, _, _ in rows):
        return "has masks that overlap"
    if any(not carried | zero for _, carried, zero, _, _ in rows):
        return "has a record of no page"
    blocks = [row[0] for row in rows]
    if blocks != sorted(blocks):
        return "has records out of order"
    hashes: dict[int, bytes] = {}
    if any(hashes.setdefault(row[0], row[3]) != row[3] for row in rows):
        return "gives one block two hashes"
    seen: dict[int, int] = {}
    for block, carried, zero, _, _ in rows:
        if seen.get(block, 0) & (carried | zero):
            return "gives one page twice"
        seen[block] = seen.get(block, 0) | carried | zero
    return ""


@st.composite
def nearly_good(draw: st.DrawFn) -> list[Row]:
    """Rows that keep to the rules, but for one change perhaps."""
    rows: list[Row] = []
    for block in sorted(draw(st.sets(st.integers(0, 9), max_size=6))):
        free, digest = 0xFFFF, draw(st.binary(min_size=16, max_size=16))
        for _ in range(draw(st.integers(1, 4))):
            pages = draw(mask) & free
            if pages:
                free &= ~pages
                carried = draw(mask) & pages
                rows.append((block, carried, pages & ~carried, digest, 0 if carried else NO_FRAME))
    if rows and draw(st.booleans()):
        at, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, 3))
        changed: list[Any] = list(rows[at])
        changed[column] = draw((st.integers(0, 9), mask, mask, st.binary(min_size=16, max_size=16))[column])
        rows[at] = tuple(changed)
    return rows


@settings(max_examples=400, deadline=None)
@given(nearly_good())
def test_a_broken_rule_is_named(rows: list[Row]) -> None:
    assert placed(rows).broken_rule() == rule(rows)
