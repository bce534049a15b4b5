"""Where in a frame the pages of a block lie; refuses a frame that holds none of a block whose record names it."""

from __future__ import annotations

import numpy as np

from warmspare.errors import FormatError
from warmspare.model.columns import U16, U32, U64
from warmspare.model.units import BLOCK_PAGES


def locate(pages: U64, block: U32, where: str) -> tuple[U16, U32]:
    """(mask of the block's pages that the frame holds, how many pages of the frame come before them) for each
    block. FormatError if the frame holds no page of one."""
    owner = (pages // np.uint64(BLOCK_PAGES)).astype(np.uint64)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(owner)) + 1))
    bits = np.left_shift(np.uint16(1), (pages % np.uint64(BLOCK_PAGES)).astype(np.uint16))
    masks = np.bitwise_or.reduceat(bits, starts)
    place = np.searchsorted(owner[starts], block.astype(np.uint64))
    if np.any(place >= starts.size) or np.any(owner[starts[np.minimum(place, starts.size - 1)]] != block):
        raise FormatError("a frame holds no page of a block whose record names it", where=where)
    return masks[place].astype(np.uint16), starts[place].astype(np.uint32)
