"""One disk of a replica, judged block by block against its table; owns what is known of each block, writes nothing.

Blocks that are not as expected are *suspects* until the replica is known to have held still while they were read: then
they are wrong (audit/replica/replica_audit.py).
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from warmspare._native import judge as native
from warmspare.audit.expected.blockset import BlockSet
from warmspare.audit.expected.hashes import ExpectedTable
from warmspare.audit.expected.sample import Sample
from warmspare.audit.reports.report import MAX_FINDINGS, SOUND, WRONG, ZERO, MapBuilder
from warmspare.format.hashtable import ENTRY_BYTES
from warmspare.format.restore_point import Disk
from warmspare.model.columns import U8, U32
from warmspare.model.runs import Runs, numbers_in
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Meter
from warmspare.state.local_files import local_io
from warmspare.threads import Threads

WHAT = "reading the replica"
UNIT_BLOCKS = 512  # read in one go: 32 MiB
UNIT_RANGE = 1 << 22  # blocks that one go covers at most, holes with it: 256 GiB
UNDER_WAY = 6
BATCH_BLOCKS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class JudgedBlocks:
    """What was found of some blocks. zero, sound: numbers of blocks that were read and are as expected. wrong: those
    that are not, read or in holes; verdict and actual, shape (n, 16), belong to them. read_bytes: from the file."""

    zero: U32
    sound: U32
    wrong: U32
    verdict: U8
    actual: U8
    read_bytes: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was read of a block that is wrong: the kernel's verdict, and its hash."""

    verdict: int
    actual: bytes


@dataclass(frozen=True, slots=True)
class Unit:
    """Blocks [first, stop), to be judged together. runs: [start, end) of those that the file has data for, ascending;
    the rest are holes."""

    first: int
    stop: int
    runs: list[tuple[int, int]]


class DiskAudit:
    """fd: the file's, open for reading; -1 where it is missing. device: it has no length of its own to judge.

    next_block: blocks before it have a result or are suspects.
    """

    def __init__(
        self,
        disk: Disk,
        path: Path,
        fd: int,
        table: ExpectedTable,
        *,
        device: bool,
        percent: float | None,
        seed: int,
        uncached: bool,
        threads: Threads,
        meter: Meter,
    ) -> None:
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

    def _runs(self, stop_block: int) -> Iterator[tuple[int, int]]:
        """[first, stop) of the blocks that the file has data for, from next_block on, ascending."""
        at, stop = self.next_block * BLOCK_BYTES, min(stop_block * BLOCK_BYTES, self.disk.capacity_bytes)
        while at < stop:
            try:
                data = os.lseek(self.fd, at, os.SEEK_DATA)
                if data >= stop:
                    return
                hole = os.lseek(self.fd, data, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no data from here to the end
                    return
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                data, hole = at, stop  # a device, or a file system that can't tell
            first = max(data, at) // BLOCK_BYTES
            # The file may change under us: always get on by a block.
            last = min(max(-(-hole // BLOCK_BYTES), first + 1), stop_block)
            yield first, last
            at = last * BLOCK_BYTES

    def _units(self, stop_block: int) -> Iterator[Unit]:
        """Everything from next_block on, ascending and without gaps: data of many small extents goes together."""
        first = self.next_block
        runs: list[tuple[int, int]] = []
        room = UNIT_BLOCKS
        for start, end in self._runs(stop_block):
            while start < end:
                if start - first >= UNIT_RANGE:  # up to here there is but hole
                    yield Unit(first, first + UNIT_RANGE, runs)
                    first, runs, room = first + UNIT_RANGE, [], UNIT_BLOCKS
                    continue
                taken = min(end, start + room, first + UNIT_RANGE)
                runs.append((start, taken))
                room -= taken - start
                start = taken
                if not room:
                    yield Unit(first, taken, runs)
                    first, runs, room = taken, [], UNIT_BLOCKS
        while first < stop_block:
            stop = min(first + UNIT_RANGE, stop_block)
            yield Unit(first, stop, runs)
            first, runs = stop, []

    def _next(self, units: Iterator[Unit]) -> Unit | None:
        with local_io(WHAT, self.path):
            return next(units, None)

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
            pending: deque[tuple[Unit, asyncio.Task[JudgedBlocks]]] = deque()

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

    def _count(self, unit: Unit, judged: JudgedBlocks) -> None:
        for first, stop in self.sample.runs(unit.first, unit.stop):
            self.map.add_run(ZERO, first, stop - first)  # all that is not taken out again here
        self.map.add(ZERO, judged.sound, -1)
        self.map.add(ZERO, judged.wrong, -1)
        self.map.add(SOUND, judged.sound)
        self.suspects.add(judged.wrong)
        self.read_bytes += judged.read_bytes
        self._meter.read_bytes += judged.read_bytes
        self._meter.done_bytes += min(unit.stop * BLOCK_BYTES, self.disk.capacity_bytes) - unit.first * BLOCK_BYTES
        self.next_block = unit.stop

    def _judge_unit(self, unit: Unit) -> JudgedBlocks:
        """In a thread."""
        with local_io(WHAT, self.path):
            blocks = _expand(unit.runs)
            holes = self._filled_holes(unit, blocks)
            judged = self._read(blocks[self.sample.holds(blocks)])
        if not holes.size:
            return judged
        wrong = np.concatenate((judged.wrong, holes))
        order = np.argsort(wrong)
        return JudgedBlocks(
            judged.zero,
            judged.sound,
            wrong[order],
            np.concatenate((judged.verdict, np.full(holes.size, native.WRONG, np.uint8)))[order],
            np.concatenate((judged.actual, np.zeros((holes.size, ENTRY_BYTES), np.uint8)))[order],
            judged.read_bytes,
        )

    def _filled_holes(self, unit: Unit, data: U32) -> U32:
        """Blocks of the unit's holes that should be something else than zeros."""
        found = []
        for filled in self.table.nonzero(unit.first, unit.stop):
            there = np.searchsorted(data, filled)
            hole = data[np.minimum(there, data.size - 1)] != filled if data.size else np.ones(filled.size, np.bool_)
            found.append(filled[hole & self.sample.holds(filled)])
        return np.concatenate(found) if found else np.empty(0, np.uint32)

    def _read(self, blocks: U32) -> JudgedBlocks:
        """Read ascending blocks and hold them against the table."""
        count = blocks.size
        expected = self.table.entries(blocks).reshape(-1)
        actual, verdict = np.empty((count, ENTRY_BYTES), np.uint8), np.empty(count, np.uint8)
        if self._uncached:
            self._advise(blocks, os.POSIX_FADV_DONTNEED)
        if count and int(blocks[-1]) - int(blocks[0]) >= count:
            self._advise(blocks, os.POSIX_FADV_WILLNEED)  # apart from each other, the kernel would read one at a time
        read = native.judge(self.fd, self.disk.capacity_bytes, blocks, expected, actual.reshape(-1), verdict)
        bad = verdict > native.ZERO
        zero, sound = blocks[verdict == native.ZERO], blocks[verdict == native.SOUND]
        return JudgedBlocks(zero, sound, blocks[bad], verdict[bad], actual[bad], read)

    def _advise(self, blocks: U32, advice: int) -> None:
        """Tell the kernel of these blocks; DONTNEED has the next read come from the medium, as far as it does so."""
        for start, count in Runs.of(blocks).pairs():
            os.posix_fadvise(self.fd, start * BLOCK_BYTES, count * BLOCK_BYTES, advice)

    def judge_blocks(self, blocks: U32) -> JudgedBlocks:
        """Read some ascending blocks again, from the medium if it can be; counts nothing. Runs in a thread."""
        with local_io(WHAT, self.path):
            self._advise(blocks, os.POSIX_FADV_DONTNEED)
            return self._read(blocks)

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


def _expand(runs: list[tuple[int, int]]) -> U32:
    """The numbers in ascending [start, end) runs."""
    start, stop = np.array(runs, dtype=np.int64).reshape(-1, 2).T
    return numbers_in(start, stop - start).astype(np.uint32)
