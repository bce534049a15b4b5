"""A disk's hash table on its way through the chain, with its root at each restore point; owns the audit's own tree.

docs/format.md, "Hash table". It shares the format's digests and nothing else with the tables that sender and receiver
keep, so that it can't share their mistakes. Lies in scratch space; memory stays the same for any disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from warmspare.audit.repository.scratch import Scratch
from warmspare.format.hashtable import (
    DIGEST_BYTES,
    ENTRY_BYTES,
    FANOUT,
    LEAF_BYTES,
    NODE_BYTES,
    ZERO_DIGEST,
    digest,
    root,
)
from warmspare.model.columns import U8, U32
from warmspare.model.runs import groups
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES
from warmspare.state.page_file import Pages

GROUPS = MAX_CAPACITY_BYTES // BLOCK_BYTES // FANOUT // FANOUT
_LEAVES = GROUPS * FANOUT
_THIRDS = digest(3, bytes(NODE_BYTES)) * (GROUPS // FANOUT)


class ChainTable:
    """Begins as the table of a disk of zeros."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._files = (scratch.file(), scratch.file())
        self._leaves = Pages(self._files[0], LEAF_BYTES, _LEAVES)
        self._digests = Pages(self._files[1], DIGEST_BYTES, _LEAVES)
        self._nodes = Pages(self._files[1], NODE_BYTES, GROUPS)  # the same, 256 at a time
        self._tops = bytearray(GROUPS * DIGEST_BYTES)
        self._thirds = bytearray(_THIRDS)
        self._dirty: set[int] = set()

    def close(self) -> None:
        for file in self._files:
            self._scratch.drop(file)

    def reset(self) -> None:
        """Of a disk of zeros again."""
        for file in self._files:
            file.empty()
        self._tops = bytearray(GROUPS * DIGEST_BYTES)
        self._thirds = bytearray(_THIRDS)
        self._dirty = set()

    def leaf(self, index: int) -> bytes:
        """The entries of 256 blocks."""
        return self._leaves.read(index)

    def _put(self, index: int, leaf: bytes) -> None:
        self._leaves.write(index, leaf)
        self._digests.write(index, digest(1, leaf))
        self._dirty.add(index // FANOUT)

    def put(self, blocks: U32, hashes: U8) -> None:
        """Set entries of ascending blocks, hashes of shape (n, 16)."""
        for index, rows in groups(blocks, FANOUT):
            table = np.frombuffer(bytearray(self.leaf(index)), dtype=np.uint8).reshape(FANOUT, ENTRY_BYTES)
            table[blocks[rows] % FANOUT] = hashes[rows]
            self._put(index, table.tobytes())

    def clear(self, start: int, count: int) -> None:
        """Blocks [start, start + count) are zeros."""
        stop = start + count
        for index in list(self.filled(start // FANOUT, -(-stop // FANOUT))):
            first, last = max(start - index * FANOUT, 0), min(stop - index * FANOUT, FANOUT)
            leaf = bytearray(self.leaf(index))
            leaf[first * ENTRY_BYTES : last * ENTRY_BYTES] = bytes((last - first) * ENTRY_BYTES)
            self._put(index, bytes(leaf))

    def filled(self, first: int = 0, stop: int = _LEAVES) -> Iterator[int]:
        """Leaves of [first, stop) that are not all zero, ascending."""
        for group in self._groups(first // FANOUT, -(-stop // FANOUT)):
            rows = np.frombuffer(self._nodes.read(group), dtype=np.uint64).reshape(FANOUT, 4).any(axis=1)
            for index in (np.flatnonzero(rows) + group * FANOUT).tolist():
                if first <= index < stop:
                    yield index

    def _groups(self, first: int, stop: int) -> list[int]:
        """Groups of [first, stop) of which a leaf may not be all zero, ascending."""
        tops = np.frombuffer(self._tops, dtype=np.uint8).reshape(GROUPS, DIGEST_BYTES)[first:stop]
        there = np.flatnonzero((tops != np.frombuffer(ZERO_DIGEST, dtype=np.uint8)).any(axis=1)) + first
        return sorted({*there.tolist(), *(group for group in self._dirty if first <= group < stop)})

    def load(self, leaves: Iterable[tuple[int, bytes]]) -> None:
        """What a checkpoint holds, in place of everything."""
        self.reset()
        for index, leaf in leaves:
            self._put(index, leaf)

    def differs(self, leaves: Iterable[tuple[int, bytes]]) -> int | None:
        """The first leaf in which a checkpoint differs; None if there is none."""
        mine = self.filled()
        for index, leaf in leaves:
            expected = next(mine, None)
            if expected != index or self.leaf(index) != leaf:
                return index if expected is None else min(index, expected)
        return next(mine, None)

    @property
    def unhashed_bytes(self) -> int:
        """About how much `root` has to hash."""
        return len(self._dirty) * NODE_BYTES

    def root(self, capacity_bytes: int) -> str:
        """The root that a restore point should state."""
        for group in self._dirty:
            self._tops[group * DIGEST_BYTES : (group + 1) * DIGEST_BYTES] = digest(2, self._nodes.read(group))
        for third in {group // FANOUT for group in self._dirty}:
            tops = self._tops[third * NODE_BYTES : (third + 1) * NODE_BYTES]
            self._thirds[third * DIGEST_BYTES : (third + 1) * DIGEST_BYTES] = digest(3, bytes(tops))
        self._dirty = set()
        return root(capacity_bytes, digest(4, bytes(self._thirds).ljust(NODE_BYTES, b"\0")))
