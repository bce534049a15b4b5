"""From a frame's bytes to the arguments of the native writer; owns the check that a frame holds what records claim."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from warmspare._native import sparse as native
from warmspare.errors import FormatError
from warmspare.format import frame
from warmspare.model.block_records import Records
from warmspare.model.columns import U8, U16, U32
from warmspare.repository.blocks.frame_pages import locate


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """written_bytes: of data. blocks: how many verified. bad: blocks that did not, left as they were."""

    written_bytes: int
    blocks: int
    bad: U32


def apply_frame(fd: int, capacity_bytes: int, data: bytes | memoryview, records: Records, where: str) -> Applied:
    """Decode one frame and merge the records that use it into the replica. Runs in a worker thread.

    FormatError if the frame is damaged or is not what the records need; nothing is written then. OSError.
    """
    decoded = frame.decode(data, where)
    framed, slot = locate(decoded.pages, records.block, where)
    return _write(fd, capacity_bytes, decoded.payload, records, framed, slot, where)


def apply_zeroed(fd: int, capacity_bytes: int, records: Records, where: str) -> Applied:
    """Merge records that carry no page, only pages that became zero."""
    none = np.zeros(len(records), dtype=np.uint32)
    return _write(fd, capacity_bytes, b"", records, none.astype(np.uint16), none, where)


def _write(
    fd: int, capacity_bytes: int, payload: bytes, records: Records, framed: U16, slot: U32, where: str
) -> Applied:
    verdict = np.empty(len(records), dtype=np.uint8)
    block = records.block
    expected: U8 = np.ascontiguousarray(records.hashes).reshape(-1)
    try:
        written = native.apply_records(
            fd, capacity_bytes, payload, block, records.carried, records.zero, framed, slot, expected, verdict
        )
    except ValueError as error:
        raise FormatError(f"a frame does not fit its records: {error}", where=where) from None
    bad = block[verdict == native.MISMATCH]
    return Applied(written, block.size - bad.size, bad)
