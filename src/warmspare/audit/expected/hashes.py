"""The hashes that a disk must have at one restore point: rebuilt from the chain, held against the Merkle root.

Shares nothing with the tables that sender and receiver keep (state/local_table.py), so that an error there does not
hide what it did; only the page file below both is one. Lies in an unlinked temporary one, 16 bytes a block; holes of it
are blocks of zeros.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from warmspare.errors import IntegrityError
from warmspare.format import tablefile
from warmspare.format.chunk import Chunk
from warmspare.format.hashtable import (
    ENTRY_BYTES,
    FANOUT,
    LEAF_BYTES,
    LEVELS,
    NODE_BYTES,
    ZERO_DIGEST,
    digest,
    root,
)
from warmspare.format.restore_point import Disk
from warmspare.model.columns import U8, U32
from warmspare.model.ids import DiskId
from warmspare.model.runs import group_starts, groups, run_rows
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES, block_count
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.steps import since_checkpoint
from warmspare.repository.verified_objects import fetched, manifest_of
from warmspare.state.page_file import PageFile, Pages
from warmspare.threads import in_thread

WHAT = "temporary space"
WINDOW_BYTES = FANOUT * LEAF_BYTES  # of entries: 256 leaves, the group of one digest of level 2
WINDOW_BLOCKS = WINDOW_BYTES // ENTRY_BYTES
MAX_WINDOWS = MAX_CAPACITY_BYTES // BLOCK_BYTES // WINDOW_BLOCKS
_ZEROS = bytes(WINDOW_BYTES)


class ExpectedTable:
    """Made by `expected_table`. Reading is safe from several threads."""

    def __init__(self, file: PageFile, disk: Disk) -> None:
        self._file = file
        self.capacity_bytes, self.root = disk.capacity_bytes, disk.root
        self.blocks = block_count(disk.capacity_bytes)
        self._windows = Pages(file, WINDOW_BYTES, MAX_WINDOWS)
        self._leaves = Pages(file, LEAF_BYTES, MAX_WINDOWS * FANOUT)  # the same, leaf by leaf
        self._entries = Pages(file, ENTRY_BYTES, MAX_WINDOWS * WINDOW_BLOCKS)  # and block by block

    def read(self, first: int, count: int) -> U8:
        """The entries of [first, first + count), 16 bytes each, flat."""
        return np.frombuffer(self._entries.read(first, count), dtype=np.uint8)

    def entries(self, blocks: U32) -> U8:
        """The entries of ascending blocks, shape (n, 16)."""
        out = np.empty((blocks.size, ENTRY_BYTES), dtype=np.uint8)
        for _, rows in groups(blocks, WINDOW_BLOCKS):
            first, last = int(blocks[rows.start]), int(blocks[rows.stop - 1])
            table = self.read(first, last + 1 - first).reshape(-1, ENTRY_BYTES)
            out[rows] = table[blocks[rows] - first]
        return out

    def filled(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """[first, stop) ranges of blocks, at most a window each, outside of which [start, stop) is zeros."""
        at, end = start * ENTRY_BYTES, stop * ENTRY_BYTES
        while at < end:
            data = self._file.data_from(at)
            if data is None or data >= end:
                return
            hole = min(self._file.hole_from(data), end)
            data, hole = data // ENTRY_BYTES * ENTRY_BYTES, max(hole, data + ENTRY_BYTES)
            while data < hole:
                until = min(data // WINDOW_BYTES * WINDOW_BYTES + WINDOW_BYTES, hole)
                yield data // ENTRY_BYTES, -(-until // ENTRY_BYTES)
                data = until
            at = hole

    def nonzero(self, start: int, stop: int) -> Iterator[U32]:
        """Blocks of [start, stop) that are not all zeros, ascending, up to a window at a time."""
        for first, last in self.filled(start, stop):
            words = self.read(first, last - first).view(np.uint64).reshape(-1, 2)
            blocks = np.flatnonzero(words.any(axis=1)) + first
            if blocks.size:
                yield blocks.astype(np.uint32)

    def differing(self, other: ExpectedTable) -> Iterator[U32]:
        """Blocks whose entries differ between two tables of one capacity, ascending, up to a window at a time."""
        windows = {first // WINDOW_BLOCKS for table in (self, other) for first, _ in table.filled(0, self.blocks)}
        for window in sorted(windows):
            first = window * WINDOW_BLOCKS
            count = min(WINDOW_BLOCKS, self.blocks - first)
            mine, others = (table.read(first, count).view(np.uint64).reshape(-1, 2) for table in (self, other))
            blocks = np.flatnonzero((mine != others).any(axis=1)) + first
            if blocks.size:
                yield blocks.astype(np.uint32)

    # making it

    def put_leaves(self, leaves: Iterator[tuple[int, bytes]]) -> None:
        """Take over a checkpoint."""
        for index, leaf in leaves:
            self._leaves.write(index, leaf)

    def put_chunk(self, chunk: Chunk) -> None:
        """Take over what a chunk of a manifest says."""
        told = chunk.records.take(group_starts(chunk.records.block))  # records of one block carry the same hash
        for rows in run_rows(told.block):
            self._entries.write(int(told.block[rows.start]), told.hashes[rows].tobytes())
        for start, count in chunk.zeros.pairs():
            for first, stop in list(self.filled(start, start + count)):
                self._entries.write(first, _ZEROS[: (stop - first) * ENTRY_BYTES])

    def merkle_root(self) -> str:
        """The root of what lies here (docs/format.md, "Hash table")."""
        level: dict[int, bytes] = {}
        for window in dict.fromkeys(first // WINDOW_BLOCKS for first, _ in self.filled(0, self.blocks)):
            data = self._windows.read(window)
            leaves = b"".join(digest(1, data[at : at + LEAF_BYTES]) for at in range(0, WINDOW_BYTES, LEAF_BYTES))
            level[window] = digest(2, leaves)
        for number in range(3, LEVELS + 1):
            groups: dict[int, bytearray] = {}
            for index, value in level.items():
                group = groups.setdefault(index // FANOUT, bytearray(NODE_BYTES))
                at = index % FANOUT * len(value)
                group[at : at + len(value)] = value
            level = {index: digest(number, bytes(group)) for index, group in groups.items()}
        return root(self.capacity_bytes, level.get(0, ZERO_DIGEST))


@asynccontextmanager
async def expected_table(
    repository: Repository, point: Point, disk_id: DiskId, scratch: Path
) -> AsyncIterator[ExpectedTable]:
    """The table of a disk at a point, from the newest checkpoint and the manifests after it; also of a point that was
    dropped, as long as they are there.

    scratch: a directory for it, made if absent. IntegrityError if an object on the way is missing or damaged, or what
    the chain gives does not have the root that the point states. ConfigError if it was dropped and they are gone.
    StoreError.
    """
    disk = point.record.disk(disk_id)
    assert disk
    with PageFile(scratch / f".table-{secrets.token_hex(8)}", WHAT, nameless=True) as file:
        table = ExpectedTable(file, disk)
        await _fill(table, repository, point, disk, scratch)
        yield table


async def _fill(table: ExpectedTable, repository: Repository, point: Point, disk: Disk, scratch: Path) -> None:
    begun, path = await since_checkpoint(repository, disk, point, lingering=True)
    if begun and disk.checkpoint:
        what = f"the hash table checkpoint of restore point {disk.checkpoint.sequence}"
        async with fetched(repository, disk.checkpoint.table, scratch, what) as copy:
            leaves = tablefile.decode(copy.read_at, copy.total_bytes, disk.capacity_bytes, copy.where)
            await in_thread(table.put_leaves, leaves)
    for step in reversed(path):
        stated = step.manifest(disk.id)
        assert stated
        async with manifest_of(repository, stated, scratch) as manifest:
            chunks = manifest.chunks()
            while (chunk := await in_thread(next, chunks, None)) is not None:
                await in_thread(table.put_chunk, chunk)
    if await in_thread(table.merkle_root) != disk.root:
        raise IntegrityError(
            f"the chain does not give the hash table that restore point {point.id.label} states for disk {disk.id}, so "
            "nothing can be judged against it",
            where=repository.store.uri,
            hint="audit the repository: it was tampered with or its writer had a bug",
        )
