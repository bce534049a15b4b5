"""Page masks: 16 bits that say which pages of a block are meant, bit p for page p; the one place that takes them apart.

Masks are combined by &, | and ~ anywhere. A single one is a Python integer, a column of them an array of uint16.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from warmspare.model.columns import U8, U16, U32, U64
from warmspare.model.runs import Numbers, Rows, group_starts
from warmspare.model.units import BLOCK_PAGES, PAGE_BYTES, block_bytes, block_count

FULL_MASK = (1 << BLOCK_PAGES) - 1
_PAGES = np.arange(BLOCK_PAGES, dtype=np.uint16)
_WEIGHTS = np.left_shift(np.uint16(1), _PAGES)

Bits = npt.NDArray[np.bool_]  # shape (n, 16)


def bits(masks: U16) -> Bits:
    """Masks as booleans, shape (n, 16)."""
    octets = masks.astype("<u2").view(np.uint8).reshape(-1, 2)
    return np.unpackbits(octets, axis=1, bitorder="little").view(np.bool_)


def from_bits(pages: Bits) -> U16:
    """Masks of booleans, shape (n, 16)."""
    masks: U16 = (pages * _WEIGHTS).sum(axis=1, dtype=np.uint16)
    return masks


def counts(masks: U16) -> U8:
    """How many pages each names."""
    return np.bitwise_count(masks)


def total(masks: U16) -> int:
    """How many pages they name together."""
    return int(np.bitwise_count(masks).sum())


def united(masks: U16, starts: Rows) -> U16:
    """The pages that any mask of a group names, for each group. starts: the rows at which groups begin."""
    return np.bitwise_or.reduceat(masks, starts) if starts.size else masks[:0]


def pages_before(masks: U16) -> U8:
    """How many pages of its mask come before each page, shape (n, 16)."""
    there = bits(masks).astype(np.uint8)
    return np.cumsum(there, axis=1, dtype=np.uint8) - there


def page_numbers(blocks: U32, masks: U16) -> U64:
    """The numbers of the pages that the masks of ascending blocks name, ascending."""
    row, page = np.nonzero(bits(masks))
    return blocks.astype(np.uint64)[row] * np.uint64(BLOCK_PAGES) + page.astype(np.uint64)


def of_pages(pages: U64) -> tuple[U64, U16, Rows]:
    """(block, mask, the row of its first page) of the blocks in which ascending page numbers lie, at least one."""
    block = pages // np.uint64(BLOCK_PAGES)
    starts = group_starts(block)
    return block[starts], united(_WEIGHTS[(pages % np.uint64(BLOCK_PAGES)).astype(np.intp)], starts), starts


def whole_mask(block: int, capacity_bytes: int) -> int:
    """All pages that a block has: 16, or fewer for the last one of the disk."""
    return _first(-(-block_bytes(block, capacity_bytes) // PAGE_BYTES))


def whole_masks(blocks: Numbers, capacity_bytes: int) -> U16:
    """The same of each of some blocks."""
    out: U16 = np.full(blocks.size, FULL_MASK, dtype=np.uint16)
    last = block_count(capacity_bytes) - 1
    out[blocks == last] = whole_mask(last, capacity_bytes)
    return out


def _first(pages: int) -> int:
    return (1 << pages) - 1


# A single mask.


def mask_of(pages: U64) -> int:
    """The mask of some pages of one block; of each the number on the disk, or in the block."""
    return sum(1 << page % BLOCK_PAGES for page in pages.tolist())


def pages_of(mask: int) -> list[int]:
    """The pages in a mask, ascending."""
    return [page for page in range(BLOCK_PAGES) if mask >> page & 1]


def count(mask: int) -> int:
    """How many pages it names."""
    return mask.bit_count()


def count_before(mask: int, page: int) -> int:
    """How many pages it names before that one."""
    return (mask & _first(page)).bit_count()
