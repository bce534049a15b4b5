"""Records on their way through a sync: what is passed from stage to stage, and to a manifest; owns no work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from warmspare.model.block_records import PlacedRecords, Records
from warmspare.model.columns import U32, U64
from warmspare.model.runs import Rows
from warmspare.model.units import BLOCK_PAGES


@dataclass(frozen=True, slots=True)
class Untracked:
    """Pages that changed though the tracker did not report them: [offset, offset + length) of the disk."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """What of a span (or hole) goes into the restore point.

    row: of each record the place of its block in the span. pages: the hashes of its pages, shape (n, 16). zero_blocks:
    blocks that became zero. changed_bytes: bytes of all pages recorded or in them.
    """

    records: Records
    row: Rows
    pages: U64
    zero_blocks: U32
    changed_bytes: int
    untracked: list[Untracked] = field(default_factory=list)

    @classmethod
    def zeroed(cls, blocks: U32, changed_bytes: int, untracked: list[Untracked]) -> Filtered:
        """Nothing but blocks that became zero."""
        none = np.empty((0, BLOCK_PAGES), dtype=np.uint64)
        return cls(Records.none(), np.empty(0, dtype=np.intp), none, blocks, changed_bytes, untracked)


@dataclass(slots=True, eq=False)
class Draft:
    """A frame before compression with the records that use it, and blocks that became zero on the way.

    buffer[:used]: the pages, in ascending order; the buffer goes back to `home` when its frame is packed. rows: how
    many records and blocks. records, page_hashes, zero_blocks: in pieces. reused: as in Encoded.
    """

    buffer: bytearray
    home: list[bytearray]
    used: int = 0
    pages: int = 0
    rows: int = 0
    records: list[Records] = field(default_factory=list)
    page_hashes: list[U64] = field(default_factory=list)
    zero_blocks: list[U32] = field(default_factory=list)
    reused: list[PlacedRecords] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not self.rows


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A frame ready to be packed (no buffers if its records carry no page) and its records.

    `release` once the buffers were copied; they are used again. reused: records from the same stretch of the disk whose
    pages lie in the store already, their frames as Resume numbers them.
    """

    buffers: list[bytes | memoryview]
    frame_bytes: int
    release: Callable[[], None]
    records: Records
    page_hashes: U64
    zero_blocks: U32
    reused: list[PlacedRecords] = field(default_factory=list)
