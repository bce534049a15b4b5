"""Page masks, against lists of pages."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from warmspare.model import masks
from warmspare.model.runs import group_starts
from warmspare.model.units import BLOCK_BYTES, BLOCK_PAGES, PAGE_BYTES, block_bytes, block_count

MANY = settings(max_examples=200, deadline=None)
pages = st.sets(st.integers(0, BLOCK_PAGES - 1))
columns = st.lists(pages, max_size=12)


def mask(of: set[int]) -> int:
    return sum(2**page for page in of)


def column(of: list[set[int]]) -> np.ndarray:
    return np.array([mask(one) for one in of], dtype=np.uint16)


@MANY
@given(columns)
@example([])
@example([set(), set(range(16))])
def test_columns_of_masks(some: list[set[int]]) -> None:
    found = column(some)
    bits = masks.bits(found)
    assert bits.shape == (len(some), BLOCK_PAGES) and bits.dtype == bool
    assert bits.tolist() == [[page in one for page in range(BLOCK_PAGES)] for one in some]
    assert masks.from_bits(bits).tolist() == found.tolist() and masks.from_bits(bits).dtype == np.uint16
    assert masks.counts(found).tolist() == [len(one) for one in some]
    assert masks.total(found) == sum(len(one) for one in some)
    before = [[sum(other < page for other in one) for page in range(BLOCK_PAGES)] for one in some]
    assert masks.pages_before(found).tolist() == before


@MANY
@given(pages)
@example(set(range(16)))
def test_one_mask(some: set[int]) -> None:
    one = mask(some)
    assert masks.pages_of(one) == sorted(some)
    assert masks.count(one) == len(some)
    for page in range(BLOCK_PAGES + 1):
        assert masks.count_before(one, page) == sum(other < page for other in some)
    for base in (0, 7 * BLOCK_PAGES):  # pages of a block by their numbers on the disk
        assert masks.mask_of(np.array([base + page for page in sorted(some)], dtype=np.uint64)) == one


@MANY
@given(st.dictionaries(st.one_of(st.integers(0, 9), st.integers(2**31, 2**32 - 1)), pages, max_size=8))
def test_masks_and_page_numbers_say_the_same(blocks: dict[int, set[int]]) -> None:
    blocks = dict(sorted(blocks.items()))
    numbers = [block * BLOCK_PAGES + page for block, some in blocks.items() for page in sorted(some)]
    found = masks.page_numbers(np.array(list(blocks), dtype=np.uint32), column(list(blocks.values())))
    assert found.dtype == np.uint64 and found.tolist() == numbers
    there = {block: some for block, some in blocks.items() if some}
    if there:
        block, mask_, first = masks.of_pages(found)
        assert (block.tolist(), mask_.tolist()) == (list(there), column(list(there.values())).tolist())
        assert mask_.dtype == np.uint16
        assert [numbers[row] // BLOCK_PAGES for row in first.tolist()] == list(there)
        assert first.tolist() == [sum(map(len, list(there.values())[:nth])) for nth in range(len(there))]


@MANY
@given(st.lists(st.tuples(st.integers(0, 5), pages), max_size=12))
def test_masks_of_a_group_united(rows: list[tuple[int, set[int]]]) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    keys = np.array([key for key, _ in rows], dtype=np.uint32)
    found = masks.united(column([some for _, some in rows]), group_starts(keys))
    assert found.tolist() == [
        mask(set().union(*(some for other, some in rows if other == key))) for key in sorted({key for key, _ in rows})
    ]


@MANY
@given(st.integers(1, 40 * BLOCK_BYTES))
@example(BLOCK_BYTES)
@example(BLOCK_BYTES + 1)
@example(2 * BLOCK_BYTES - PAGE_BYTES)
def test_a_block_has_16_pages_or_those_up_to_the_end_of_its_disk(capacity: int) -> None:
    blocks = np.arange(block_count(capacity), dtype=np.uint32)
    wanted = [2 ** -(-block_bytes(block, capacity) // PAGE_BYTES) - 1 for block in blocks.tolist()]
    assert masks.whole_masks(blocks, capacity).tolist() == wanted
    assert [masks.whole_mask(block, capacity) for block in blocks.tolist()] == wanted
    assert masks.whole_masks(blocks[:0], capacity).size == 0
