"""The page map: a secret-seeded 64-bit hash of every page as last committed; a filter, never the truth.

A sparse file; each segment of 16 blocks has a checksum in a second one, and a segment that does not match reads as
unknown. An entry of 0 is unknown, never zero.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import xxhash

from warmspare.model.columns import U32, U64
from warmspare.model.runs import groups
from warmspare.model.units import BLOCK_BYTES, BLOCK_PAGES, MAX_CAPACITY_BYTES
from warmspare.state.header import HEADER_BYTES, CacheHeader
from warmspare.state.local_files import STATE_DIRECTORY
from warmspare.state.page_file import PageFile, Pages

MAGIC = b"WSPAGE01"
SEGMENT_BLOCKS = 16
ROW_BYTES = BLOCK_PAGES * 8
SEGMENT_BYTES = SEGMENT_BLOCKS * ROW_BYTES
MAX_SEGMENTS = MAX_CAPACITY_BYTES // BLOCK_BYTES // SEGMENT_BLOCKS
SUM_BYTES = 8
_UNKNOWN = bytes(SEGMENT_BYTES)
_EVERY = np.arange(SEGMENT_BLOCKS)


class PageMap:
    """The map at `path`, made empty if absent. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.damaged_segments = 0
        with ExitStack() as stack:
            self._file = stack.enter_context(PageFile(path, STATE_DIRECTORY))
            self._sum_file = stack.enter_context(PageFile(path.with_name(path.name + ".sums"), STATE_DIRECTORY))
            self._segments = Pages(self._file, SEGMENT_BYTES, MAX_SEGMENTS, begins=HEADER_BYTES)
            self._sums = Pages(self._sum_file, SUM_BYTES, MAX_SEGMENTS)
            self._header = CacheHeader(self._file, MAGIC)
            if not self._header.known:
                self.reset()
            self._files = stack.pop_all()

    def __enter__(self) -> PageMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._files.close()

    @property
    def generation(self) -> str | None:
        """SHA-256 of the restore point record it belongs to; None: not to be trusted."""
        return self._header.generation

    @property
    def seed(self) -> int:
        """Seed of the page hashes: secret, so that no one can craft pages that look unchanged."""
        return self._header.seed

    def reset(self) -> None:
        """Forget every page, with a new seed."""
        self._file.empty()
        self._sum_file.empty()
        self._header.seed = secrets.randbits(63) | 1
        self._header.write(None)

    def _sum(self, segment: int, data: bytes) -> int:
        if data == _UNKNOWN:
            return 0
        return xxhash.xxh3_64_intdigest(data, self._header.seed ^ segment) or 1

    def _segment(self, segment: int) -> bytes:
        data = self._segments.read(segment)
        if int.from_bytes(self._sums.read(segment), "little") != self._sum(segment, data):
            self.damaged_segments += 1
            return _UNKNOWN
        return data

    def read(self, blocks: U32) -> U64:
        """Hashes of the pages of ascending blocks, shape (n, 16). StoreError if the file can't be read."""
        out = np.empty((blocks.size, BLOCK_PAGES), dtype=np.uint64)
        for segment, rows in groups(blocks, SEGMENT_BLOCKS):
            hashes = np.frombuffer(self._segment(segment), dtype=np.uint64)
            out[rows] = hashes.reshape(SEGMENT_BLOCKS, BLOCK_PAGES)[blocks[rows] % SEGMENT_BLOCKS]
        return out

    def begin(self) -> None:
        """Mark it invalid, durably, before the first write of an update."""
        self._header.write(None)

    def write(self, blocks: U32, hashes: U64) -> None:
        """Set rows between `begin` and `finish`: ascending blocks, hashes of shape (n, 16)."""
        for segment, rows in groups(blocks, SEGMENT_BLOCKS):
            places = blocks[rows] % SEGMENT_BLOCKS
            if places.size == SEGMENT_BLOCKS and np.array_equal(places, _EVERY):
                raw = hashes[rows].tobytes()  # what stood there does not matter
            else:
                data = np.frombuffer(bytearray(self._segment(segment)), dtype=np.uint64)
                data.reshape(SEGMENT_BLOCKS, BLOCK_PAGES)[places] = hashes[rows]
                raw = data.tobytes()
            self._segments.write(segment, raw)
            self._sums.write(segment, self._sum(segment, raw).to_bytes(SUM_BYTES, "little"))

    def finish(self, generation: str) -> None:
        """Make it the map of that restore point, durably."""
        self._file.sync()
        self._sum_file.sync()
        self._header.write(generation)

    def advance(self, generation: str) -> None:
        """The same content stands for a newer restore point."""
        self._header.write(generation)
