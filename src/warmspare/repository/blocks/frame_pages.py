"""Where in a frame the pages of a block lie; refuses a frame that holds none of a block whose record names it."""

from __future__ import annotations

import numpy as np

from warmspare.errors import FormatError
from warmspare.model import masks
from warmspare.model.columns import U16, U32, U64


def locate(pages: U64, block: U32, where: str) -> tuple[U16, U32]:
    """(mask of the block's pages that the frame holds, how many pages of the frame come before them) for each
    block. FormatError if the frame holds no page of one."""
    owner, framed, slot = masks.of_pages(pages)
    place = np.searchsorted(owner, block.astype(np.uint64))
    if np.any(place >= owner.size) or np.any(owner[np.minimum(place, owner.size - 1)] != block):
        raise FormatError("a frame holds no page of a block whose record names it", where=where)
    return framed[place], slot[place].astype(np.uint32)
