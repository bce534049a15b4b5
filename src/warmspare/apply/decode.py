"""From a frame's bytes to the arguments of the native writer; owns the check that a frame holds what records claim."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from warmspare._native import sparse as native
from warmspare.apply.fetch import Rows
from warmspare.errors import FormatError
from warmspare.format import frame
from warmspare.format.chunk import Chunk
from warmspare.model.columns import U8, U16, U32, U64
from warmspare.model.units import BLOCK_PAGES


@dataclass(frozen=True, slots=True)
class Applied:
    """written_bytes: of data. blocks: how many verified. bad: blocks that did not, left as they were."""

    written_bytes: int
    blocks: int
    bad: U32


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


def apply_frame(
    fd: int, capacity_bytes: int, data: bytes | memoryview, chunk: Chunk, rows: Rows, where: str
) -> Applied:
    """Decode one frame and merge the records that use it into the replica. Runs in a worker thread.

    FormatError if the frame is damaged or is not what the records need; nothing is written then. OSError.
    """
    decoded = frame.decode(data, where)
    block = chunk.block[rows]
    framed, slot = locate(decoded.pages, block, where)
    return _write(fd, capacity_bytes, decoded.payload, chunk, rows, framed, slot, where)


def apply_zeroed(fd: int, capacity_bytes: int, chunk: Chunk, rows: Rows, where: str) -> Applied:
    """Merge records that carry no page, only pages that became zero."""
    none = np.zeros(rows.size, dtype=np.uint32)
    return _write(fd, capacity_bytes, b"", chunk, rows, none.astype(np.uint16), none, where)


def _write(
    fd: int, capacity_bytes: int, payload: bytes, chunk: Chunk, rows: Rows, framed: U16, slot: U32, where: str
) -> Applied:
    verdict = np.empty(rows.size, dtype=np.uint8)
    block = chunk.block[rows]
    expected: U8 = np.ascontiguousarray(chunk.hashes[rows]).reshape(-1)
    try:
        written = native.apply_records(
            fd, capacity_bytes, payload, block, chunk.carried[rows], chunk.zero[rows], framed, slot, expected, verdict
        )
    except ValueError as error:
        raise FormatError(f"a frame does not fit its records: {error}", where=where) from None
    bad = block[verdict == native.MISMATCH]
    return Applied(written, rows.size - bad.size, bad)
