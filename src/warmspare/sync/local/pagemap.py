"""The page map: a secret-seeded 64-bit hash of every page as last committed; a filter, never the truth.

A sparse file, read and written by pread and pwrite (a full disk is then an error and not a SIGBUS, and its
pages never count as this process's memory). Each segment of 16 blocks has a checksum in a second file; a
segment that does not match reads as unknown. An entry of 0 is unknown, never zero.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import numpy as np
import xxhash

from warmspare.model.columns import U32, U64
from warmspare.model.runs import groups
from warmspare.model.units import BLOCK_PAGES
from warmspare.outside.regular_files import open_regular
from warmspare.state.header import HEADER_BYTES, CacheHeader
from warmspare.state.local_files import STATE_DIRECTORY, local_io, pwrite_all

MAGIC = b"WSPAGE01"
SEGMENT_BLOCKS = 16
ROW_BYTES = BLOCK_PAGES * 8
SEGMENT_BYTES = SEGMENT_BLOCKS * ROW_BYTES
_UNKNOWN = bytes(SEGMENT_BYTES)


class PageMap:
    """The map at `path`, made empty if absent. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damaged_segments = 0
        with local_io(STATE_DIRECTORY, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = open_regular(path, os.O_RDWR | os.O_CREAT)
            self._sums = open_regular(path.with_name(path.name + ".sums"), os.O_RDWR | os.O_CREAT)
            self._header = CacheHeader(self._fd, MAGIC)
            if not self._header.known:
                self.reset()

    def __enter__(self) -> PageMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for name in ("_fd", "_sums"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

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
        with local_io(STATE_DIRECTORY, self._path):
            os.ftruncate(self._fd, 0)
            os.ftruncate(self._sums, 0)
            self._header.seed = secrets.randbits(63) | 1
            self._header.write(None)

    def _sum(self, segment: int, data: bytes) -> int:
        if data == _UNKNOWN:
            return 0
        return xxhash.xxh3_64_intdigest(data, self._header.seed ^ segment) or 1

    def _segment(self, segment: int) -> bytes:
        data = os.pread(self._fd, SEGMENT_BYTES, HEADER_BYTES + segment * SEGMENT_BYTES)
        data = data.ljust(SEGMENT_BYTES, b"\0")
        stated = int.from_bytes(os.pread(self._sums, 8, segment * 8), "little")
        if stated != self._sum(segment, data):
            self.damaged_segments += 1
            return _UNKNOWN
        return data

    def read(self, blocks: U32) -> U64:
        """Hashes of the pages of ascending blocks, shape (n, 16). StoreError if the file can't be read."""
        out = np.empty((blocks.size, BLOCK_PAGES), dtype=np.uint64)
        with local_io(STATE_DIRECTORY, self._path):
            for segment, rows in groups(blocks, SEGMENT_BLOCKS):
                data = np.frombuffer(self._segment(segment), dtype=np.uint64)
                out[rows] = data.reshape(SEGMENT_BLOCKS, BLOCK_PAGES)[blocks[rows] % SEGMENT_BLOCKS]
        return out

    def begin(self) -> None:
        """Mark it invalid, durably, before the first write of an update."""
        with local_io(STATE_DIRECTORY, self._path):
            self._header.write(None)

    def write(self, blocks: U32, hashes: U64) -> None:
        """Set rows between `begin` and `finish`: ascending blocks, hashes of shape (n, 16)."""
        with local_io(STATE_DIRECTORY, self._path):
            for segment, rows in groups(blocks, SEGMENT_BLOCKS):
                data = np.frombuffer(bytearray(self._segment(segment)), dtype=np.uint64)
                data.reshape(SEGMENT_BLOCKS, BLOCK_PAGES)[blocks[rows] % SEGMENT_BLOCKS] = hashes[rows]
                raw = data.tobytes()
                pwrite_all(self._fd, raw, HEADER_BYTES + segment * SEGMENT_BYTES)
                pwrite_all(self._sums, self._sum(segment, raw).to_bytes(8, "little"), segment * 8)

    def finish(self, generation: str) -> None:
        """Make it the map of that restore point, durably."""
        with local_io(STATE_DIRECTORY, self._path):
            os.fsync(self._fd)
            os.fsync(self._sums)
            self._header.write(generation)

    def advance(self, generation: str) -> None:
        """The same content stands for a newer restore point."""
        with local_io(STATE_DIRECTORY, self._path):
            self._header.write(generation)
