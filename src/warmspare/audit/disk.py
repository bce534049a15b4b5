"""One disk of a replica, judged block by block against its table; owns what is known of each block, writes nothing.

Blocks that are not as expected are *suspects* until the replica is known to have held still while they were read: then
they are wrong (audit/replica.py).
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmspare._native import judge as native
from warmspare.audit.blockset import BlockSet
from warmspare.audit.report import MAX_FINDINGS, SOUND, WRONG, ZERO, MapBuilder
from warmspare.audit.sample import Sample
from warmspare.audit.table import ExpectedTable
from warmspare.format.hashtable import ENTRY_BYTES
from warmspare.format.point import Disk
from warmspare.model import BLOCK_BYTES, U8, U32
from warmspare.observe.events import Meter
from warmspare.state.files import local_io
from warmspare.store.threads import Threads

WHAT = "reading the replica"
UNIT_BLOCKS = 512  # judged in one go: 32 MiB
HOLE_BLOCKS = 1 << 22  # of a hole: 256 GiB
UNDER_WAY = 6
BATCH_BLOCKS = 4096


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of some blocks. zero, sound: how many are as expected. wrong: numbers of those that are not,
    verdict and actual (n, 16) belong to them. read_bytes: from the file."""

    zero: int
    sound: int
    wrong: U32
    verdict: U8
    actual: U8
    read_bytes: int


_NONE = Judged(0, 0, np.empty(0, np.uint32), np.empty(0, np.uint8), np.empty((0, ENTRY_BYTES), np.uint8), 0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was read of a block that is wrong: the kernel's verdict, and its hash."""

    verdict: int
    actual: bytes


@dataclass(frozen=True, slots=True)
class Unit:
    """Blocks [first, stop) to be judged together; a hole of the file if not `data`."""

    first: int
    stop: int
    data: bool


class DiskAudit:
    """fd: the file's, open for reading; -1 where it is missing. device: it has no length of its own to judge.

    next_block: blocks before it have a result or are suspects.
    """

    def __init__(
        self, disk: Disk, path: Path, fd: int, table: ExpectedTable, *, device: bool, percent: float | None, seed: int,
        uncached: bool, threads: Threads, meter: Meter,
    ) -> None:  # fmt: skip
        self.disk, self.path, self.fd, self.table, self.device = disk, path, fd, table, device
        self._percent, self._seed, self._uncached = percent, seed, uncached
        self._threads, self._meter = threads, meter
        self.seconds = 0.0
        self.restart(disk, table)

    def restart(self, disk: Disk, table: ExpectedTable) -> None:
        """Forget all results, and judge against another table."""
        self.disk, self.table = disk, table
        self.sample = Sample(self._percent, self._seed, table.blocks)
        self.map = MapBuilder(disk.capacity_bytes)
        self.suspects = BlockSet()
        self.evidence: dict[int, Evidence] = {}  # of suspects as last read, at most MAX_FINDINGS
        self.next_block = 0
        self.read_bytes = 0

    def reseed(self, seed: int) -> None:
        """Look at the blocks that another run would have looked at; before anything is judged."""
        self._seed = seed
        self.restart(self.disk, self.table)

    def is_suspect(self, block: int) -> bool:
        return bool(self.suspects.holds(np.array([block]))[0])

    # the file

    def size(self) -> int:
        """Bytes of the file now; 0 where it is missing."""
        if self.fd < 0:
            return 0
        with local_io(WHAT, self.path):
            return os.lseek(self.fd, 0, os.SEEK_END)

    @property
    def present_blocks(self) -> int:
        """How many of the disk's blocks lie in the file from end to end."""
        size = self.size()
        return self.table.blocks if size >= self.disk.capacity_bytes else size // BLOCK_BYTES

    def _units(self, stop_block: int) -> Iterator[Unit]:
        """The file from next_block on, data and holes apart, ascending and without gaps."""
        at, stop = self.next_block * BLOCK_BYTES, min(stop_block * BLOCK_BYTES, self.disk.capacity_bytes)
        while at < stop:
            try:
                data = os.lseek(self.fd, at, os.SEEK_DATA)
                hole = os.lseek(self.fd, data, os.SEEK_HOLE) if data < stop else stop
            except OSError as error:
                if error.errno == errno.ENXIO:  # no data from here to the end
                    data = hole = stop
                elif error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # a device, or a file system that can't tell
                    data, hole = at, stop
                else:
                    raise
            start = min(data, stop) // BLOCK_BYTES if data < stop else stop_block
            yield from self._cut(at // BLOCK_BYTES, start, HOLE_BLOCKS, data=False)
            if data >= stop:
                return
            # The file may change under us: always get on by a block.
            end = min(max(-(-hole // BLOCK_BYTES), start + 1), stop_block)
            yield from self._cut(start, end, UNIT_BLOCKS, data=True)
            at = end * BLOCK_BYTES

    def _next(self, units: Iterator[Unit]) -> Unit | None:
        with local_io(WHAT, self.path):
            return next(units, None)

    @staticmethod
    def _cut(first: int, stop: int, most: int, *, data: bool) -> Iterator[Unit]:
        for at in range(first, stop, most):
            yield Unit(at, min(at + most, stop), data)

    # judging

    async def scan(self) -> None:
        """Judge what was not judged yet, up to the end of the file, in order. StoreError if it can't be read.

        Cancelled, what came before next_block stands.
        """
        began = self._meter.seconds
        try:
            await self._scan(self.present_blocks)
        finally:
            self.seconds += self._meter.seconds - began

    async def _scan(self, stop_block: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            pending: deque[tuple[Unit, asyncio.Task[Judged]]] = deque()

            async def take() -> None:
                unit, task = pending.popleft()
                self._count(unit, await task)

            units = self._units(stop_block)
            while (unit := self._next(units)) is not None:
                pending.append((unit, tasks.create_task(self._threads.run(self._judge_unit, unit))))
                if len(pending) >= UNDER_WAY:
                    await take()
            while pending:
                await take()
        self.next_block = max(self.next_block, stop_block)

    def _count(self, unit: Unit, judged: Judged) -> None:
        self._map(unit, judged)
        self.suspects.add(judged.wrong)
        self.read_bytes += judged.read_bytes
        self._meter.read_bytes += judged.read_bytes
        self._meter.done_bytes += min(unit.stop * BLOCK_BYTES, self.disk.capacity_bytes) - unit.first * BLOCK_BYTES
        self.next_block = unit.stop

    def _map(self, unit: Unit, judged: Judged) -> None:
        if unit.first // self.map.cell_blocks == (unit.stop - 1) // self.map.cell_blocks:
            self.map.add_run(ZERO, unit.first, 1, judged.zero)
            self.map.add_run(SOUND, unit.first, 1, judged.sound)
            return
        for first, stop in self.sample.runs(unit.first, unit.stop):
            if not unit.data:
                self.map.add_run(ZERO, first, stop - first)
                continue
            filled = self.table.read(first, stop - first).view(np.uint64).reshape(-1, 2).any(axis=1)
            blocks = np.arange(first, stop)
            fine = ~np.isin(blocks, judged.wrong)
            self.map.add(ZERO, blocks[fine & ~filled])
            self.map.add(SOUND, blocks[fine & filled])
        if not unit.data:
            self.map.add(ZERO, judged.wrong, -1)

    def _judge_unit(self, unit: Unit) -> Judged:
        """In a thread."""
        judge = self._judge_data if unit.data else self._judge_hole
        with local_io(WHAT, self.path):
            parts = [judge(first, stop) for first, stop in self.sample.runs(unit.first, unit.stop)]
        return parts[0] if len(parts) == 1 else _join(parts)

    def _judge_hole(self, first: int, stop: int) -> Judged:
        """A hole is zeros: wrong where the table has anything else."""
        wrong = list(self.table.nonzero(first, stop))
        blocks = np.concatenate(wrong) if wrong else _NONE.wrong
        return Judged(
            stop - first - blocks.size, 0, blocks, np.full(blocks.size, native.WRONG, np.uint8),
            np.zeros((blocks.size, ENTRY_BYTES), np.uint8), 0,
        )  # fmt: skip

    def _judge_data(self, first: int, stop: int) -> Judged:
        count = stop - first
        expected = self.table.read(first, count)
        actual, verdict = np.empty(count * ENTRY_BYTES, np.uint8), np.empty(count, np.uint8)
        if self._uncached:
            os.posix_fadvise(self.fd, first * BLOCK_BYTES, count * BLOCK_BYTES, os.POSIX_FADV_DONTNEED)
        read = native.judge(self.fd, self.disk.capacity_bytes, first, expected, actual, verdict)
        zero, sound = (int(np.count_nonzero(verdict == kind)) for kind in (native.ZERO, native.SOUND))
        if zero + sound == count:
            return Judged(zero, sound, _NONE.wrong, _NONE.verdict, _NONE.actual, read)
        rows = np.flatnonzero(verdict > native.ZERO)
        wrong = (rows + first).astype(np.uint32)
        return Judged(zero, sound, wrong, verdict[rows], actual.reshape(-1, ENTRY_BYTES)[rows], read)

    def judge_blocks(self, blocks: U32) -> Judged:
        """Read some ascending blocks again, from the medium if it can be; counts nothing. Runs in a thread."""
        edges: list[int] = [0, *(np.flatnonzero(np.diff(blocks) != 1) + 1).tolist(), blocks.size]
        parts = []
        with local_io(WHAT, self.path):
            for start, stop in itertools.pairwise(edges):
                first, last = int(blocks[start]), int(blocks[stop - 1]) + 1
                os.posix_fadvise(
                    self.fd, first * BLOCK_BYTES, (last - first) * BLOCK_BYTES, os.POSIX_FADV_DONTNEED
                )
                parts.append(self._judge_data(first, last))
        return _join(parts)

    # suspects

    async def judge_suspects(self) -> None:
        """Read every suspect again; those that are as expected get their result and are suspects no more."""
        self.evidence.clear()
        for blocks in self.suspects.batches(BATCH_BLOCKS):
            judged = await self._threads.run(self.judge_blocks, blocks)
            self._meter.read_bytes += judged.read_bytes
            self.acquit(np.setdiff1d(blocks, judged.wrong, assume_unique=True))
            for row in range(min(judged.wrong.size, MAX_FINDINGS - len(self.evidence))):
                self.evidence[int(judged.wrong[row])] = Evidence(int(judged.verdict[row]), judged.actual[row].tobytes())

    def acquit(self, blocks: U32) -> None:
        """These suspects are as expected."""
        if not blocks.size:
            return
        zero = ~self.table.entries(blocks).any(axis=1)
        self.map.add(ZERO, blocks[zero])
        self.map.add(SOUND, blocks[~zero])
        self.suspects.discard(blocks)

    def move_to(self, disk: Disk, table: ExpectedTable) -> None:
        """The replica went on to another restore point: what was judged by a hash that is not expected any more is
        suspect. What is judged by a hash that both points have stands, for it is as the new one says."""
        if disk.capacity_bytes != self.disk.capacity_bytes:
            self.restart(disk, table)
            return
        for blocks in self.table.differing(table):
            mine = blocks[(blocks < self.next_block) & self.sample.holds(blocks)]
            fresh = mine[~self.suspects.holds(mine)]
            zero = ~self.table.entries(fresh).any(axis=1)
            self.map.add(ZERO, fresh[zero], sign=-1)
            self.map.add(SOUND, fresh[~zero], sign=-1)
            self.suspects.add(fresh)
        self.disk, self.table = disk, table

    def condemn(self, present_blocks: int) -> None:
        """What is suspect still is wrong, and so is what lies behind the end of the file."""
        for blocks in self.suspects.batches(BATCH_BLOCKS):
            self.map.add(WRONG, blocks)
        self.map.add_run(WRONG, present_blocks, self.table.blocks - present_blocks)


def _join(parts: list[Judged]) -> Judged:
    if not parts:
        return _NONE
    return Judged(
        sum(part.zero for part in parts),
        sum(part.sound for part in parts),
        np.concatenate([part.wrong for part in parts]),
        np.concatenate([part.verdict for part in parts]),
        np.concatenate([part.actual for part in parts]),
        sum(part.read_bytes for part in parts),
    )
