"""A disk's hash table in a sparse local file, with its Merkle tree; owns staging and committing changes.

Every leaf read is verified up the tree to the root that the restore point states, so damage and lost writes
show as `TableDamagedError` and never as a wrong answer. Changes are staged in a file beside it and reach the
table by `commit`, after publication. Not thread-safe; one caller at a time. The audits keep trees of their own
(audit/expected/hashes.py, audit/repository/merkle.py) and share with this one the page file and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from warmspare.errors import IntegrityError
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
from warmspare.model.columns import U8, U32, distinct
from warmspare.model.runs import groups
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES
from warmspare.state.header import HEADER_BYTES, CacheHeader
from warmspare.state.local_files import STATE_DIRECTORY, local_io
from warmspare.state.page_file import PageFile, Pages

MAGIC = b"WSHASH01"
MAX_BLOCKS = MAX_CAPACITY_BYTES // BLOCK_BYTES
MAX_LEAVES = MAX_BLOCKS // FANOUT
MAX_NODES = MAX_LEAVES // FANOUT
# The small levels first, so that the file is no longer than its disk needs.
TOPS_AT = HEADER_BYTES  # level 2: the digest of each 256 leaves, kept in memory
NODES_AT = TOPS_AT + MAX_NODES * DIGEST_BYTES  # level 1: the digest of each leaf
LEAVES_AT = NODES_AT + MAX_LEAVES * DIGEST_BYTES


class TableDamagedError(IntegrityError):
    """The local table is not the one its restore point describes; it must be rebuilt from the repository."""


def _top(level2: bytearray | bytes) -> bytes:
    third = b"".join(
        digest(3, bytes(level2[at : at + NODE_BYTES])) for at in range(0, MAX_NODES * DIGEST_BYTES, NODE_BYTES)
    )
    return digest(4, third.ljust(NODE_BYTES, b"\0"))


class _TableFile:
    """A file with the levels of the tree: that of the table, or that of what is staged."""

    def __init__(self, path: Path, *, anew: bool = False) -> None:
        self.file = PageFile(path, STATE_DIRECTORY, anew=anew)
        self.tops = Pages(self.file, DIGEST_BYTES, MAX_NODES, begins=TOPS_AT)
        self.nodes = Pages(self.file, NODE_BYTES, MAX_NODES, begins=NODES_AT)
        self.digests = Pages(self.file, DIGEST_BYTES, MAX_LEAVES, begins=NODES_AT)  # the nodes, digest by digest
        self.leaves = Pages(self.file, LEAF_BYTES, MAX_LEAVES, begins=LEAVES_AT)


class HashTable:
    """The table at `path`, made empty if absent. Close it, or use it as a context manager. StoreError from all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._staged_path = path.with_name(path.name + ".staged")
        self._table = _TableFile(path)
        self._staged: _TableFile | None = None
        try:
            self._header = CacheHeader(self._table.file, MAGIC)
            self._level2 = bytearray(self._table.tops.read(0, MAX_NODES))
        except BaseException:
            self._table.file.close()
            raise
        self._forget()

    def _forget(self) -> None:
        self._node: tuple[int, bytes] = (-1, b"")  # the group of leaf digests read last, verified
        self._leaf: tuple[int, U8] = (-1, np.empty((0, 16), dtype=np.uint8))
        self._dirty = np.zeros(0, dtype=bool)  # leaves that are staged
        self._staged2: dict[int, bytes] = {}

    def __enter__(self) -> HashTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._staged:
            self._staged.file.close()
            self._staged = None
            with contextlib.suppress(OSError):  # the next run truncates it; it must not hide an error
                self._staged_path.unlink(missing_ok=True)
        self._table.file.close()

    @property
    def generation(self) -> str | None:
        """SHA-256 of the restore point record it belongs to; None: not to be trusted."""
        return self._header.generation

    def check(self, capacity_bytes: int, expected_root: str) -> None:
        """TableDamagedError unless the upper levels give that root; leaves are checked as they are read."""
        if root(capacity_bytes, _top(self._level2)) != expected_root:
            raise self._damage("its root does not match")

    def _damage(self, what: str) -> TableDamagedError:
        return TableDamagedError(f"the local hash table is damaged: {what}", where=str(self._path))

    def reset(self) -> None:
        """Empty it: the table of a disk of zeros, of no generation."""
        self.unstage()
        self._table.file.empty()
        self._level2 = bytearray(MAX_NODES * DIGEST_BYTES)
        self._header.capacity_bytes = 0
        self._header.write(None)
        self._forget()

    # reading

    def _node_group(self, group: int) -> bytes:
        """The digests of 256 leaves, verified against level 2."""
        if self._node[0] != group:
            data = self._table.nodes.read(group)
            if digest(2, data) != self._level2[group * DIGEST_BYTES : (group + 1) * DIGEST_BYTES]:
                raise self._damage(f"group {group} does not match")
            self._node = (group, data)
        return self._node[1]

    def _committed_leaf(self, index: int) -> bytes:
        group = self._node_group(index // FANOUT)
        at = index % FANOUT * DIGEST_BYTES
        expected = group[at : at + DIGEST_BYTES]
        if expected == ZERO_DIGEST:
            return bytes(LEAF_BYTES)
        data = self._table.leaves.read(index)
        if digest(1, data) != expected:
            raise self._damage(f"leaf {index} does not match")
        return data

    def read(self, blocks: U32) -> U8:
        """Committed hashes of ascending blocks, shape (n, 16). TableDamagedError, StoreError."""
        out = np.empty((blocks.size, ENTRY_BYTES), dtype=np.uint8)
        for index, rows in groups(blocks, FANOUT):
            if self._leaf[0] != index:
                data = self._committed_leaf(index)
                self._leaf = (index, np.frombuffer(data, dtype=np.uint8).reshape(FANOUT, ENTRY_BYTES))
            out[rows] = self._leaf[1][blocks[rows] % FANOUT]
        return out

    def nonzero(self, start: int, stop: int) -> Iterator[U32]:
        """Committed blocks of [start, stop) that are not all zero, ascending, up to 256 at a time."""
        for index in self._filled_leaves(start // FANOUT, -(-stop // FANOUT), staged=False):
            data = self._committed_leaf(index)
            entries = np.frombuffer(data, dtype=np.uint64).reshape(FANOUT, 2)
            blocks = np.flatnonzero(entries.any(axis=1)) + index * FANOUT
            blocks = blocks[(blocks >= start) & (blocks < stop)]
            if blocks.size:
                yield blocks.astype(np.uint32)

    def differing(self, other: HashTable) -> Iterator[tuple[U32, U8, U8]]:
        """(blocks, their hashes here, and there) of committed blocks that are not the same in both, ascending, up to
        256 at a time. Leaves that are the same in both are not read. TableDamagedError, StoreError."""
        ours, theirs = (np.frombuffer(bytes(one._level2), np.uint8).reshape(-1, DIGEST_BYTES) for one in (self, other))
        for group in np.flatnonzero((ours != theirs).any(axis=1)).tolist():
            here, there = (
                np.frombuffer(one._node_group(group), np.uint8).reshape(FANOUT, DIGEST_BYTES) for one in (self, other)
            )
            for leaf in (np.flatnonzero((here != there).any(axis=1)) + group * FANOUT).tolist():
                mine, its = (
                    np.frombuffer(one._committed_leaf(leaf), np.uint8).reshape(FANOUT, ENTRY_BYTES)
                    for one in (self, other)
                )
                rows = np.flatnonzero((mine != its).any(axis=1))
                yield (rows + leaf * FANOUT).astype(np.uint32), mine[rows], its[rows]

    def _filled_leaves(self, first: int, stop: int, *, staged: bool) -> Iterator[int]:
        begin, end = first // FANOUT, -(-stop // FANOUT)
        level2 = np.frombuffer(bytes(self._level2[begin * DIGEST_BYTES : end * DIGEST_BYTES]), dtype=np.uint64)
        committed = (np.flatnonzero(level2.reshape(-1, 4).any(axis=1)) + begin).tolist()  # of 16,384, mostly few
        for group in sorted({*committed, *self._staged2} if staged else committed):
            fresh = self._staged2.get(group) if staged else None
            if fresh == ZERO_DIGEST or not begin <= group < end:
                continue
            data = self._merged_group(group) if fresh else self._node_group(group)
            filled = np.frombuffer(data, dtype=np.uint64).reshape(FANOUT, 4).any(axis=1)
            for index in (np.flatnonzero(filled) + group * FANOUT).tolist():
                if first <= index < stop:
                    yield index

    # staging

    def stage(self, blocks: U32, hashes: U8) -> None:
        """Set entries: ascending blocks, hashes of shape (n, 16); repeats of a block carry the same hash."""
        if not blocks.size:
            return
        staged = self._open_staged(int(blocks[-1]) // FANOUT)
        for index, rows in groups(blocks, FANOUT):
            leaf = np.frombuffer(bytearray(self._current_leaf(index)), dtype=np.uint8)
            leaf.reshape(FANOUT, ENTRY_BYTES)[blocks[rows] % FANOUT] = hashes[rows]
            self._put_leaf(staged, index, leaf.tobytes())

    def stage_zero(self, start: int, count: int) -> None:
        """Set [start, start + count) to blocks of zeros; costs only where something else stood."""
        first, stop = start // FANOUT, -(-(start + count) // FANOUT)
        staged = self._open_staged(stop - 1)
        touched = {*self._filled_leaves(first, stop, staged=False)}
        touched.update((np.flatnonzero(self._dirty[first:stop]) + first).tolist())
        for index in sorted(touched):
            leaf = bytearray(self._current_leaf(index))
            a = max(start - index * FANOUT, 0) * ENTRY_BYTES
            b = min(start + count - index * FANOUT, FANOUT) * ENTRY_BYTES
            leaf[a:b] = bytes(b - a)
            self._put_leaf(staged, index, bytes(leaf))

    def _open_staged(self, leaf: int) -> _TableFile:
        if self._staged is None:
            self._staged = _TableFile(self._staged_path, anew=True)
        if leaf >= self._dirty.size:
            self._dirty = np.concatenate((self._dirty, np.zeros(leaf + 1 - self._dirty.size, dtype=bool)))
        return self._staged

    def _current_leaf(self, index: int) -> bytes:
        if index < self._dirty.size and self._dirty[index]:
            assert self._staged
            return self._staged.leaves.read(index)
        return self._committed_leaf(index)

    def _put_leaf(self, staged: _TableFile, index: int, leaf: bytes) -> None:
        staged.leaves.write(index, leaf)
        staged.digests.write(index, digest(1, leaf))
        self._dirty[index] = True
        self._staged2.pop(index // FANOUT, None)

    def _merged_group(self, group: int) -> bytes:
        """Leaf digests as they will be: staged where dirty, committed elsewhere."""
        base = np.frombuffer(bytearray(self._node_group(group)), dtype=np.uint8).reshape(FANOUT, DIGEST_BYTES)
        dirty = self._dirty[group * FANOUT : (group + 1) * FANOUT]
        if dirty.any():
            assert self._staged
            fresh = np.frombuffer(self._staged.nodes.read(group), dtype=np.uint8)
            rows = np.flatnonzero(dirty)
            base[rows] = fresh.reshape(FANOUT, DIGEST_BYTES)[rows]
        return base.tobytes()

    def staged_root(self, capacity_bytes: int) -> str:
        """The root as it will be when what is staged is committed; for a disk of that capacity."""
        level2 = bytearray(self._level2)
        groups = distinct(np.flatnonzero(self._dirty) // FANOUT).tolist()
        for group in groups:
            if group not in self._staged2:
                self._staged2[group] = digest(2, self._merged_group(group))
            level2[group * DIGEST_BYTES : (group + 1) * DIGEST_BYTES] = self._staged2[group]
        return root(capacity_bytes, _top(level2))

    def staged_leaves(self, capacity_bytes: int) -> Iterator[tuple[int, bytes]]:
        """(index, 4 KiB) of every leaf that will not be all zero; call `staged_root` first."""
        stop = -(-capacity_bytes // (BLOCK_BYTES * FANOUT))
        for index in self._filled_leaves(0, stop, staged=True):
            yield index, self._current_leaf(index)

    def weight_bytes(self) -> int:
        """About how large a checkpoint of the table as staged is: 4 KiB a leaf that is not all zero."""
        return sum(LEAF_BYTES for _ in self._filled_leaves(0, MAX_LEAVES, staged=True))

    def unstage(self) -> None:
        """Drop what was staged."""
        if self._staged:
            self._staged.file.close()
            self._staged = None
            with local_io(STATE_DIRECTORY, self._staged_path):
                self._staged_path.unlink(missing_ok=True)
        self._dirty = np.zeros(0, dtype=bool)
        self._staged2 = {}

    def commit(self, generation: str, capacity_bytes: int) -> None:
        """Make what is staged the table of that restore point. Killed inside, the table is invalid."""
        dirty = np.flatnonzero(self._dirty).tolist()
        self._header.capacity_bytes = capacity_bytes
        self._header.seed = 1
        if dirty:
            assert self._staged
            self.staged_root(capacity_bytes)
            self._header.write(None)
            for index in dirty:
                self._table.leaves.write(index, self._staged.leaves.read(index))
            for group, value in self._staged2.items():
                self._table.nodes.write(group, self._merged_group(group))
                self._level2[group * DIGEST_BYTES : (group + 1) * DIGEST_BYTES] = value
                self._table.tops.write(group, value)
            self._node = (-1, b"")
            self._leaf = (-1, self._leaf[1])
            self._table.file.sync()
        self._header.write(generation)
        self.unstage()
