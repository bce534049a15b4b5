"""Rows on their way through a sync: what is passed from stage to stage, and to a manifest; owns no work.

Columns are as in a manifest's chunk (format/chunk.py); one row a record, ascending by block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from warmspare.model.columns import U8, U16, U32, U64
from warmspare.model.units import BLOCK_PAGES


@dataclass(frozen=True, slots=True)
class Untracked:
    """Pages that changed though the tracker did not report them: [offset, offset + length) of the disk."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Filtered:
    """What of a span (or hole) goes into the restore point.

    block, carried, zero, hashes: one row a record, ascending; row: the record's place in the span.
    zero_blocks: blocks that became zero. changed_bytes: bytes of all pages recorded or in them. pages: hashes of the
    records' pages, shape (n, 16).
    """

    block: U32
    row: U32
    carried: U16
    zero: U16
    hashes: U8
    zero_blocks: U32
    changed_bytes: int
    untracked: list[Untracked] = field(default_factory=list)
    pages: U64 = field(default_factory=lambda: np.empty((0, BLOCK_PAGES), dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class Reused:
    """Records whose pages lie in the store already; a row a record, ascending by block. frame: as Resume numbers it."""

    block: U32
    carried: U16
    zero: U16
    hashes: U8
    frame: U32

    def between(self, first: int, stop: int) -> Reused:
        """Rows [first, stop)."""
        part = slice(first, stop)
        return Reused(self.block[part], self.carried[part], self.zero[part], self.hashes[part], self.frame[part])


@dataclass(slots=True)
class Draft:
    """A frame before compression with the records that use it, and blocks that became zero on the way.

    buffer[:used]: the pages, in ascending order; the buffer goes back to `home` when its frame is packed. Columns as in
    a manifest's chunk, as lists of pieces.
    """

    buffer: bytearray
    home: list[bytearray]
    used: int = 0
    pages: int = 0
    records: int = 0
    block: list[U32] = field(default_factory=list)
    carried: list[U16] = field(default_factory=list)
    zero: list[U16] = field(default_factory=list)
    hashes: list[U8] = field(default_factory=list)
    zero_blocks: list[U32] = field(default_factory=list)
    page_hashes: list[U64] = field(default_factory=list)
    reused: list[Reused] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not self.records


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame ready to be packed (no buffers if its records carry no page) and its rows.

    `release` once the buffers were copied; they are used again.
    """

    buffers: list[bytes | memoryview]
    frame_bytes: int
    release: Callable[[], None]
    block: U32
    carried: U16
    zero: U16
    hashes: U8
    zero_blocks: U32
    page_hashes: U64
    reused: list[Reused] = field(default_factory=list)
