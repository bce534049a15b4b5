"""A whole block that was proved, written to a replica: pages of zeros as holes, the rest as data."""

from __future__ import annotations

from warmspare._native import holes
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES
from warmspare.state.local_files import pwrite_all

_ZERO_PAGE = bytes(PAGE_BYTES)


def write_block(fd: int, block: int, image: memoryview) -> int:
    """How many bytes of data it has. image: of the block, at its length. OSError."""
    written = 0
    for at in range(0, len(image), PAGE_BYTES):
        page = image[at : at + PAGE_BYTES]
        if page == _ZERO_PAGE[: len(page)]:
            holes.punch(fd, block * BLOCK_BYTES + at, len(page))
        else:
            pwrite_all(fd, page, block * BLOCK_BYTES + at)
            written += len(page)
    return written
