"""Where in a frame the pages of a block lie, and their way into a window; refuses a frame that lacks what is named."""

from __future__ import annotations

import numpy as np

from warmspare.errors import FormatError
from warmspare.format.frame import Frame
from warmspare.model import masks
from warmspare.model.columns import U16, U32, U64
from warmspare.model.units import BLOCK_PAGES, PAGE_BYTES
from warmspare.repository.blocks.block_window import BlockWindow


def locate(pages: U64, block: U32, where: str) -> tuple[U16, U32]:
    """(mask of the block's pages that the frame holds, how many pages of the frame come before them) for each
    block. FormatError if the frame holds no page of one."""
    owner, framed, slot = masks.of_pages(pages)
    place = np.searchsorted(owner, block.astype(np.uint64))
    if np.any(place >= owner.size) or np.any(owner[np.minimum(place, owner.size - 1)] != block):
        raise FormatError("a frame holds no page of a block whose record names it", where=where)
    return framed[place], slot[place].astype(np.uint32)


def copy_pages(held: Frame, block: U32, take: U16, window: BlockWindow, where: str) -> None:
    """Copy pages of a frame into a window. block, take: of each block of the window that is meant the mask of pages.
    FormatError if the frame lacks one."""
    framed, slot = locate(held.pages, block, where)
    if np.any(take & ~framed):
        raise FormatError("a frame lacks a page that a record says it holds", where=where)
    wanted = masks.bits(take)
    source = slot[:, None].astype(np.int64) + masks.pages_before(framed)  # pages of the frame before each
    place = np.searchsorted(window.blocks, block)
    target = window.rows[place][:, None] + np.arange(BLOCK_PAGES)
    payload = held.payload
    if len(payload) % PAGE_BYTES:  # the disk's short last page; what a disk grew by after it is zeros
        payload = payload + bytes(-len(payload) % PAGE_BYTES)
    window.pages[target[wanted]] = np.frombuffer(payload, dtype=np.uint8).reshape(-1, PAGE_BYTES)[source[wanted]]
