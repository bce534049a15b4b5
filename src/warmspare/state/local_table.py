"""A disk's hash table in a sparse local file, with its Merkle tree; owns staging and committing changes.

Every leaf read is verified up the tree to the root that the restore point states, so damage and lost writes
show as `TableDamagedError` and never as a wrong answer. Changes are staged in a file beside it and reach the
table by `commit`, after publication. Not thread-safe; one caller at a time.
"""

from __future__ import annotations

import contextlib
import os
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
from warmspare.model.columns import U8, U32
from warmspare.model.runs import groups
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES
from warmspare.outside.regular_files import open_regular
from warmspare.state.header import HEADER_BYTES, CacheHeader
from warmspare.state.local_files import STATE_DIRECTORY, local_io, pwrite_all

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


class HashTable:
    """The table at `path`, made empty if absent. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with local_io(STATE_DIRECTORY, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = open_regular(path, os.O_RDWR | os.O_CREAT)
            self._staged_path = path.with_name(path.name + ".staged")
            self._staged_fd = -1
            self._header = CacheHeader(self._fd, MAGIC)
            self._level2 = bytearray(self._read(self._fd, TOPS_AT, MAX_NODES * DIGEST_BYTES))
        self._forget()

    def _forget(self) -> None:
        self._node: tuple[int, bytes] = (-1, b"")  # the group of leaf digests read last, verified
        self._leaf: tuple[int, U8] = (-1, np.empty((0, 16), dtype=np.uint8))
        self._dirty = np.zeros(0, dtype=bool)  # leaves that are staged
        self._staged2: dict[int, bytes] = {}

    @staticmethod
    def _read(fd: int, offset: int, length: int) -> bytes:
        return os.pread(fd, length, offset).ljust(length, b"\0")

    def __enter__(self) -> HashTable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._staged_fd >= 0:
            os.close(self._staged_fd)
            self._staged_fd = -1
            with contextlib.suppress(OSError):  # the next run truncates it; it must not hide an error
                self._staged_path.unlink(missing_ok=True)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

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
        with local_io(STATE_DIRECTORY, self._path):
            os.ftruncate(self._fd, 0)
            self._level2 = bytearray(MAX_NODES * DIGEST_BYTES)
            self._header.capacity_bytes = 0
            self._header.write(None)
        self._forget()

    # reading

    def _node_group(self, group: int) -> bytes:
        """The digests of 256 leaves, verified against level 2."""
        if self._node[0] != group:
            data = self._read(self._fd, NODES_AT + group * NODE_BYTES, NODE_BYTES)
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
        data = self._read(self._fd, LEAVES_AT + index * LEAF_BYTES, LEAF_BYTES)
        if digest(1, data) != expected:
            raise self._damage(f"leaf {index} does not match")
        return data

    def read(self, blocks: U32) -> U8:
        """Committed hashes of ascending blocks, shape (n, 16). TableDamagedError, StoreError."""
        out = np.empty((blocks.size, ENTRY_BYTES), dtype=np.uint8)
        if not blocks.size:
            return out
        with local_io(STATE_DIRECTORY, self._path):
            for index, rows in groups(blocks, FANOUT):
                if self._leaf[0] != index:
                    data = self._committed_leaf(index)
                    self._leaf = (index, np.frombuffer(data, dtype=np.uint8).reshape(FANOUT, ENTRY_BYTES))
                out[rows] = self._leaf[1][blocks[rows] % FANOUT]
        return out

    def nonzero(self, start: int, stop: int) -> Iterator[U32]:
        """Committed blocks of [start, stop) that are not all zero, ascending, up to 256 at a time."""
        for index in self._filled_leaves(start // FANOUT, -(-stop // FANOUT), staged=False):
            with local_io(STATE_DIRECTORY, self._path):
                data = self._committed_leaf(index)
            entries = np.frombuffer(data, dtype=np.uint64).reshape(FANOUT, 2)
            blocks = np.flatnonzero(entries.any(axis=1)) + index * FANOUT
            blocks = blocks[(blocks >= start) & (blocks < stop)]
            if blocks.size:
                yield blocks.astype(np.uint32)

    def _filled_leaves(self, first: int, stop: int, *, staged: bool) -> Iterator[int]:
        for group in range(first // FANOUT, -(-stop // FANOUT)):
            level2 = self._level2[group * DIGEST_BYTES : (group + 1) * DIGEST_BYTES]
            fresh = self._staged2.get(group) if staged else None
            if (fresh or level2) == ZERO_DIGEST:
                continue
            with local_io(STATE_DIRECTORY, self._path):
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
        with local_io(STATE_DIRECTORY, self._staged_path):
            self._open_staged(int(blocks[-1]) // FANOUT)
            for index, rows in groups(blocks, FANOUT):
                leaf = np.frombuffer(bytearray(self._current_leaf(index)), dtype=np.uint8)
                leaf.reshape(FANOUT, ENTRY_BYTES)[blocks[rows] % FANOUT] = hashes[rows]
                self._put_leaf(index, leaf.tobytes())

    def stage_zero(self, start: int, count: int) -> None:
        """Set [start, start + count) to blocks of zeros; costs only where something else stood."""
        first, stop = start // FANOUT, -(-(start + count) // FANOUT)
        with local_io(STATE_DIRECTORY, self._staged_path):
            self._open_staged(stop - 1)
            touched = {*self._filled_leaves(first, stop, staged=False)}
            touched.update((np.flatnonzero(self._dirty[first:stop]) + first).tolist())
            for index in sorted(touched):
                leaf = bytearray(self._current_leaf(index))
                a = max(start - index * FANOUT, 0) * ENTRY_BYTES
                b = min(start + count - index * FANOUT, FANOUT) * ENTRY_BYTES
                leaf[a:b] = bytes(b - a)
                self._put_leaf(index, bytes(leaf))

    def _open_staged(self, leaf: int) -> None:
        if self._staged_fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
            self._staged_fd = open_regular(self._staged_path, flags)
        if leaf >= self._dirty.size:
            self._dirty = np.concatenate((self._dirty, np.zeros(leaf + 1 - self._dirty.size, dtype=bool)))

    def _current_leaf(self, index: int) -> bytes:
        if index < self._dirty.size and self._dirty[index]:
            return self._read(self._staged_fd, LEAVES_AT + index * LEAF_BYTES, LEAF_BYTES)
        return self._committed_leaf(index)

    def _put_leaf(self, index: int, leaf: bytes) -> None:
        pwrite_all(self._staged_fd, leaf, LEAVES_AT + index * LEAF_BYTES)
        pwrite_all(self._staged_fd, digest(1, leaf), NODES_AT + index * DIGEST_BYTES)
        self._dirty[index] = True
        self._staged2.pop(index // FANOUT, None)

    def _merged_group(self, group: int) -> bytes:
        """Leaf digests as they will be: staged where dirty, committed elsewhere."""
        base = np.frombuffer(bytearray(self._node_group(group)), dtype=np.uint8).reshape(FANOUT, DIGEST_BYTES)
        dirty = self._dirty[group * FANOUT : (group + 1) * FANOUT]
        if dirty.any():
            at = NODES_AT + group * NODE_BYTES
            fresh = np.frombuffer(self._read(self._staged_fd, at, NODE_BYTES), dtype=np.uint8)
            rows = np.flatnonzero(dirty)
            base[rows] = fresh.reshape(FANOUT, DIGEST_BYTES)[rows]
        return base.tobytes()

    def staged_root(self, capacity_bytes: int) -> str:
        """The root as it will be when what is staged is committed; for a disk of that capacity."""
        level2 = bytearray(self._level2)
        groups = np.unique(np.flatnonzero(self._dirty) // FANOUT).tolist()
        with local_io(STATE_DIRECTORY, self._staged_path):
            for group in groups:
                if group not in self._staged2:
                    self._staged2[group] = digest(2, self._merged_group(group))
                level2[group * DIGEST_BYTES : (group + 1) * DIGEST_BYTES] = self._staged2[group]
        return root(capacity_bytes, _top(level2))

    def staged_leaves(self, capacity_bytes: int) -> Iterator[tuple[int, bytes]]:
        """(index, 4 KiB) of every leaf that will not be all zero; call `staged_root` first."""
        stop = -(-capacity_bytes // (BLOCK_BYTES * FANOUT))
        for index in self._filled_leaves(0, stop, staged=True):
            with local_io(STATE_DIRECTORY, self._path):
                yield index, self._current_leaf(index)

    def weight_bytes(self) -> int:
        """About how large a checkpoint of the table as staged is: 4 KiB a leaf that is not all zero."""
        return sum(LEAF_BYTES for _ in self._filled_leaves(0, MAX_LEAVES, staged=True))

    def unstage(self) -> None:
        """Drop what was staged."""
        if self._staged_fd >= 0:
            os.close(self._staged_fd)
            self._staged_fd = -1
            with local_io(STATE_DIRECTORY, self._staged_path):
                self._staged_path.unlink(missing_ok=True)
        self._dirty = np.zeros(0, dtype=bool)
        self._staged2 = {}

    def commit(self, generation: str, capacity_bytes: int) -> None:
        """Make what is staged the table of that restore point. Killed inside, the table is invalid."""
        dirty = np.flatnonzero(self._dirty).tolist()
        with local_io(STATE_DIRECTORY, self._path):
            self._header.capacity_bytes = capacity_bytes
            self._header.seed = 1
            if dirty:
                self.staged_root(capacity_bytes)
                self._header.write(None)
                for index in dirty:
                    at = LEAVES_AT + index * LEAF_BYTES
                    pwrite_all(self._fd, self._read(self._staged_fd, at, LEAF_BYTES), at)
                for group, value in self._staged2.items():
                    pwrite_all(self._fd, self._merged_group(group), NODES_AT + group * NODE_BYTES)
                    self._level2[group * DIGEST_BYTES : (group + 1) * DIGEST_BYTES] = value
                    pwrite_all(self._fd, value, TOPS_AT + group * DIGEST_BYTES)
                self._node = (-1, b"")
                self._leaf = (-1, self._leaf[1])
                os.fsync(self._fd)
            self._header.write(generation)
        self.unstage()
