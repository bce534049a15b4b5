"""The units of a disk: blocks, pages, spans; owns their sizes and how long the short last ones are."""

from __future__ import annotations

BLOCK_BYTES = 1 << 16  # the unit of hashing, auditing and addressing
PAGE_BYTES = 1 << 12  # the unit of change
BLOCK_PAGES = BLOCK_BYTES // PAGE_BYTES
SPAN_BYTES = 1 << 20  # the unit of reading, and the most pages of a frame
SPAN_BLOCKS = SPAN_BYTES // BLOCK_BYTES
FRAME_PAGES = SPAN_BYTES // PAGE_BYTES
MAX_CAPACITY_BYTES = 64 << 40


def block_count(capacity_bytes: int) -> int:
    """Blocks of a disk, the short last one included."""
    return -(-capacity_bytes // BLOCK_BYTES)


def block_bytes(block: int, capacity_bytes: int) -> int:
    """Length of a block: 64 KiB, or less for the last one of the disk."""
    return min(BLOCK_BYTES, capacity_bytes - block * BLOCK_BYTES)


def page_bytes(page: int, capacity_bytes: int) -> int:
    """Length of a page: 4 KiB, or less for the last one of the disk."""
    return min(PAGE_BYTES, capacity_bytes - page * PAGE_BYTES)
