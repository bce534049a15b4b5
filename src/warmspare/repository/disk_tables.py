"""A disk's hash table as the chain gives it: staged from manifests, or rebuilt from a checkpoint on.

Owns no table and trusts none: what it staged must have the root that the restore point states.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from warmspare.errors import IntegrityError
from warmspare.format import tablefile
from warmspare.format.hashtable import ENTRY_BYTES, FANOUT
from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import Disk
from warmspare.model.ids import DiskId
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.steps import since_checkpoint
from warmspare.repository.verified_objects import fetched, manifest_of
from warmspare.state.local_files import STATE_DIRECTORY, local_io
from warmspare.state.local_table import HashTable
from warmspare.threads import in_thread


def stage_manifest(table: HashTable, manifest: ManifestReader) -> None:
    """Stage what a manifest says of the hash table."""
    for chunk in manifest.chunks():
        table.stage(chunk.records.block, chunk.records.hashes)
        for start, count in chunk.zeros.pairs():
            table.stage_zero(start, count)


def demand_root(table: HashTable, disk: Disk, point: Point, where: str) -> None:
    """IntegrityError, with nothing left staged, unless the staged table has the root that the point states."""
    if table.staged_root(disk.capacity_bytes) != disk.root:
        table.unstage()
        raise IntegrityError(
            f"the chain does not give the hash table that restore point {point.id.label} states for disk {disk.id}",
            where=where,
            hint="the repository was tampered with or its writer had a bug; audit it",
        )


async def rebuild(repository: Repository, disk_id: DiskId, head: Point, table: HashTable, scratch: Path) -> None:
    """Make `table` that of a disk at `head`: from the newest checkpoint and the manifests after it, or from
    the first manifest on. The disk must be in `head`. IntegrityError, StoreError."""
    disk = head.record.disk(disk_id)
    if disk is None:
        raise ValueError(f"disk {disk_id} is not in restore point {head.id.label}")
    await in_thread(table.reset)
    begun, path = await since_checkpoint(repository, disk, head)
    if begun and disk.checkpoint:
        what = f"the hash table checkpoint of restore point {disk.checkpoint.sequence}"
        async with fetched(repository, disk.checkpoint.table, scratch, what) as copy:
            leaves = tablefile.decode(copy.read_at, copy.total_bytes, disk.capacity_bytes, copy.where)
            await in_thread(_stage_leaves, table, leaves)
    for step in reversed(path):
        stated = step.manifest(disk_id)
        assert stated
        async with manifest_of(repository, stated, scratch) as manifest:
            await in_thread(stage_manifest, table, manifest)
    await in_thread(demand_root, table, disk, head, repository.store.uri)
    await in_thread(table.commit, head.id.sha256, disk.capacity_bytes)


async def temporary(repository: Repository, disk: Disk | None, point: Point, scratch: Path) -> HashTable:
    """The table of a disk at a point, its root checked, in a file that has no name any more; of no disk that of zeros.
    scratch: a directory for it, made if absent. Close it. IntegrityError, StoreError."""
    with local_io(STATE_DIRECTORY, scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=scratch, prefix="table-")
    with folder as name:
        table = HashTable(Path(name) / "table")
        try:
            if disk is not None:
                await rebuild(repository, disk.id, point, table, scratch)
        except BaseException:
            await in_thread(table.close)
            raise
    return table


def _stage_leaves(table: HashTable, leaves: Iterator[tuple[int, bytes]]) -> None:
    for index, leaf in leaves:
        blocks = np.arange(index * FANOUT, (index + 1) * FANOUT, dtype=np.uint32)
        table.stage(blocks, np.frombuffer(leaf, dtype=np.uint8).reshape(FANOUT, ENTRY_BYTES))
