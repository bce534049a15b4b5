"""Two restore points of a VM held against each other: owns the order, and which of its numbers are exact.

Which blocks differ is told by the hash tables of both points, each held against the root that its point states, so that
nothing of the chain between them matters for it. Pages have no hashes of their own: either the manifests between the
points say which of them can differ at most, or the blocks that differ are fetched at both and compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmspare.diff.disk_diff import DiskDiff
from warmspare.diff.page_diff import MOST_BLOCKS, DiskSide, differing
from warmspare.diff.written_pages import WrittenPages
from warmspare.format.restore_point import Disk
from warmspare.model.columns import U8, U32
from warmspare.model.ids import DiskId, VmId
from warmspare.observe.events import Meter
from warmspare.repository import disk_tables
from warmspare.repository.blocks.chain_blocks import FRAMES_KEPT_BYTES, ChainBlocks
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.steps import descend
from warmspare.state.local_table import HashTable
from warmspare.threads import Threads, in_thread

_STEP_LEAVES = 16  # of the hash tables, of up to 256 blocks each, that are looked at in one go


@dataclass(frozen=True, slots=True, eq=False)
class DifferingBlocks:
    """Ascending blocks, and their hashes at the first and at the second point, of the shape (n, 16)."""

    blocks: U32
    before: U8
    after: U8

    @classmethod
    def join(cls, parts: Sequence[DifferingBlocks]) -> DifferingBlocks:
        """All of these, in the order given."""
        return cls(
            np.concatenate([part.blocks for part in parts]),
            np.concatenate([part.before for part in parts]),
            np.concatenate([part.after for part in parts]),
        )

    def pieces(self, most: int) -> Iterator[DifferingBlocks]:
        """The same, so many blocks at a time."""
        for at in range(0, self.blocks.size, most):
            rows = slice(at, at + most)
            yield DifferingBlocks(self.blocks[rows], self.before[rows], self.after[rows])


@dataclass(frozen=True, slots=True)
class PointDiff:
    """first, second: as they were asked for. disks: of both, as the second point orders them, those that left last."""

    vm: VmId
    first: Point
    second: Point
    disks: Sequence[DiskDiff]


class PointComparison:
    """exact: whether pages are compared by their bytes. scratch: a directory for what is fetched, made if absent.
    meter: hears of bytes that are read."""

    def __init__(self, repository: Repository, scratch: Path, meter: Meter, *, exact: bool) -> None:
        self._repository, self._scratch, self._meter, self._exact = repository, scratch, meter, exact

    async def run(self, first: Point, second: Point) -> PointDiff:
        """From the first to the second, which may be the older one. IntegrityError where the chain does not prove what
        is compared, or one of the points is not in the other's past; StoreError."""
        same = first.id == second.id
        ids = [disk.id for disk in second.record.disks]
        ids += [disk.id for disk in first.record.disks if disk.id not in ids]
        disks = [DiskDiff(first.record.disk(one), second.record.disk(one), self._exact or same) for one in ids]
        if not same:
            await self._compare(first, second, disks)
        return PointDiff(VmId(second.record.vm_id), first, second, disks)

    async def _compare(self, first: Point, second: Point, disks: list[DiskDiff]) -> None:
        with ExitStack() as stack:
            written = {} if self._exact else await self._written(first, second, disks, stack)
            for disk in disks:
                await self._disk(first, second, disk, written.get(disk.disk.id))

    async def _written(
        self, first: Point, second: Point, disks: list[DiskDiff], stack: ExitStack
    ) -> dict[DiskId, WrittenPages]:
        """What is named between the two, of each disk."""
        older, newer = sorted((first, second), key=lambda point: point.id.sequence)
        written = {}
        for disk in disks:
            one = WrittenPages(disk.disk.id, self._scratch, began=older.record.disk(disk.disk.id) is not None)
            stack.callback(one.close)
            written[one.disk] = one
        async for step in descend(self._repository, older.record.vm_id, older.id, newer.id.sequence):
            for one in written.values():
                await one.step(self._repository, step, self._scratch)
        return written

    async def _disk(self, first: Point, second: Point, diff: DiskDiff, written: WrittenPages | None) -> None:
        async with AsyncExitStack() as stack:
            before = await disk_tables.temporary(self._repository, diff.before, first, self._scratch)
            stack.enter_context(before)
            after = await disk_tables.temporary(self._repository, diff.after, second, self._scratch)
            stack.enter_context(after)
            if written is not None:
                await in_thread(_by_manifests, before, after, diff, written)
                return
            threads = Threads(len(os.sched_getaffinity(0)), "diff")
            stack.callback(threads.close)
            sides = []
            for point, disk in ((first, diff.before), (second, diff.after)):
                side = None if disk is None else await self._side(point, disk, threads, stack)
                sides.append(side)
            found = _differing(before, after)
            while (several := await in_thread(next, found, None)) is not None:
                await self._by_bytes(several, sides, diff)

    async def _side(self, point: Point, disk: Disk, threads: Threads, stack: AsyncExitStack) -> DiskSide:
        chain = ChainBlocks(self._repository, point, disk, self._scratch, threads, self._meter, FRAMES_KEPT_BYTES)
        return DiskSide(disk, await stack.enter_async_context(chain), threads)

    async def _by_bytes(self, found: DifferingBlocks, sides: list[DiskSide | None], diff: DiskDiff) -> None:
        diff.add_blocks(found.blocks, found.before, found.after)
        for some in found.pieces(MOST_BLOCKS):
            before, after = [
                None if side is None else await side.pages(some.blocks, hashes)
                for side, hashes in zip(sides, (some.before, some.after), strict=True)
            ]
            masks = await in_thread(differing, before, after)
            diff.add_pages(some.blocks, masks)


def _by_manifests(before: HashTable, after: HashTable, diff: DiskDiff, written: WrittenPages) -> None:
    """In a worker thread."""
    for found in _differing(before, after):
        diff.add_blocks(found.blocks, found.before, found.after)
        diff.add_pages(found.blocks, written.of(found.blocks))


def _differing(before: HashTable, after: HashTable) -> Iterator[DifferingBlocks]:
    """Blocks whose hashes are not the same, some at a time."""
    kept: list[DifferingBlocks] = []
    for blocks, mine, its in before.differing(after):
        kept.append(DifferingBlocks(blocks, mine, its))
        if len(kept) == _STEP_LEAVES:
            yield DifferingBlocks.join(kept)
            kept = []
    if kept:
        yield DifferingBlocks.join(kept)
