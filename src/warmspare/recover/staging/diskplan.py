"""What one disk's EBS snapshot must be given: the blocks to put, and the hash table to prove them by; sends nothing.

A full one gets every EBS block that is not all zeros. An increment on the snapshot of an older point gets those that
the manifests since then touch, whatever they hold now: a block that became zeros must be written as zeros, for what is
not written is the parent's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import Disk
from warmspare.model.ids import DiskId, PointId, disk_key
from warmspare.model.units import block_count
from warmspare.recover.blocks.ebs_blocks import BLOCKS_EACH, EbsBlockSet
from warmspare.recover.staging.ebs import Encryption
from warmspare.recover.staging.staged import StagedDisk, volume_gib
from warmspare.repository import disk_tables
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.step import Step
from warmspare.repository.history.steps import descend
from warmspare.repository.verified_objects import manifest_of
from warmspare.state.local_table import HashTable, TableDamagedError
from warmspare.threads import in_thread


@dataclass(frozen=True, slots=True)
class ParentSnapshot:
    """The snapshot to build on, and the steps from its restore point to the one to be staged, oldest first."""

    staged: StagedDisk
    path: Sequence[Step]


def table_path(state: Path, disk_id: DiskId) -> Path:
    """Where the hash table of a disk is kept between two stagings."""
    return state / "disks" / disk_key(disk_id) / "table"


async def choose_base(
    repository: Repository,
    staged: Sequence[StagedDisk],
    head: Point,
    disk: Disk,
    encryption: Encryption,
    *,
    as_begun: bool = False,
) -> ParentSnapshot | None:
    """The newest completed snapshot that an increment for `head` can build on; None: it must be a full one.

    as_begun: it was begun already, with the encryption that it has.
    Its point must be an ancestor of `head` with the same disk in every point between, for a disk that left the VM and
    came back begins anew. IntegrityError if the repository's chain does not add up, or lost a point that was staged.
    """
    key, vm = disk_key(disk.id), head.record.vm_id
    candidates = [each for each in staged if each.key == key and each.completed]
    candidates.sort(key=lambda each: (each.point.sequence, each.started), reverse=True)
    for each in candidates:
        fits = each.volume_gib <= volume_gib(disk.capacity_bytes) and each.capacity_bytes <= disk.capacity_bytes
        suits = as_begun or encryption.suits(each)
        if each.point.sequence >= head.id.sequence or not fits or not suits:
            continue
        path = [step async for step in descend(repository, vm, each.point, head.id.sequence)]
        stated = [step.manifest(disk.id) for step in path]
        if all(one is not None and not one.from_nothing for one in stated):
            return ParentSnapshot(each, path)
        return None  # an older one is on the far side of the gap too
    return None


async def plan_disk(
    repository: Repository, head: Point, disk: Disk, base: ParentSnapshot | None, table: HashTable, scratch: Path
) -> EbsBlockSet:
    """The EBS blocks to put, and `table` made the disk's at `head`. IntegrityError if the chain does not give the root
    that the point states; StoreError."""
    wanted = EbsBlockSet(-(-block_count(disk.capacity_bytes) // BLOCKS_EACH))
    if base is not None:
        await _touched(repository, base, disk, table, scratch, wanted)
    if not await _current(table, head.id, disk):
        await disk_tables.rebuild(repository, disk.id, head, table, scratch)
    if base is None:
        await in_thread(_nonzero, table, disk, wanted)
    return wanted


async def _current(table: HashTable, head: PointId, disk: Disk) -> bool:
    if table.generation != head.sha256:
        return False
    try:
        await in_thread(table.check, disk.capacity_bytes, disk.root)
    except TableDamagedError:
        return False
    return True


async def _touched(
    repository: Repository, base: ParentSnapshot, disk: Disk, table: HashTable, scratch: Path, wanted: EbsBlockSet
) -> None:
    """Collect what the manifests of the path name, and take the table along if it is at the path's beginning."""
    along = table.generation == base.staged.point.sha256
    for step in base.path:
        stated = step.manifest(disk.id)
        assert stated
        async with manifest_of(repository, stated, scratch) as manifest:
            await in_thread(_touch, manifest, wanted)
            if along:
                await in_thread(disk_tables.stage_manifest, table, manifest)
    if along:
        try:
            if await in_thread(table.staged_root, disk.capacity_bytes) == disk.root:
                await in_thread(table.commit, base.path[-1].point.id.sha256, disk.capacity_bytes)
            else:
                table.unstage()
        except TableDamagedError:
            table.unstage()


def _touch(manifest: ManifestReader, wanted: EbsBlockSet) -> None:
    for chunk in manifest.chunks():
        wanted.touch(chunk.records.block)
        for start, count in chunk.zeros.pairs():
            wanted.touch_run(start, count)


def _nonzero(table: HashTable, disk: Disk, wanted: EbsBlockSet) -> None:
    for blocks in table.nonzero(0, block_count(disk.capacity_bytes)):
        wanted.touch(blocks)
