"""One manifest merged into one disk: fetch, decompress, verify, write; owns how much of that is under way at once.

Blocks that do not verify are left as they were and noted as damage; the rest of the disk goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from warmspare._native import holes
from warmspare._native import sparse as native
from warmspare.apply.damage import Damage
from warmspare.apply.decode import Applied, apply_frame, apply_zeroed
from warmspare.errors import FormatError, IntegrityError
from warmspare.format.chunk import Chunk
from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import Disk
from warmspare.model.block_records import NO_FRAME, Records
from warmspare.model.columns import U32, distinct
from warmspare.model.runs import Rows, Runs
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Meter
from warmspare.repository.blocks.pack_ranges import PackObject, PackRange, pack_objects, ranges
from warmspare.repository.chain import Point, Repository
from warmspare.state.local_files import local_io
from warmspare.state.replica_record import REPLICA
from warmspare.threads import Threads, in_thread

RANGES_UNDER_WAY = 8  # of up to 4 MiB: enough to fill a long, fat pipe, little enough to hold in memory
MAX_FINDINGS = 100


class Merge:
    """Runs once. fd: the disk's file at `path`, at its capacity. damage: is added to."""

    def __init__(
        self,
        repository: Repository,
        point: Point,
        disk: Disk,
        fd: int,
        path: Path,
        manifest: ManifestReader,
        damage: Damage,
        threads: Threads,
        meter: Meter,
    ) -> None:
        self._repository, self._point, self._fd, self._path = repository, point, fd, path
        self._manifest, self._damage, self._threads, self._meter = manifest, damage, threads, meter
        self._capacity = disk.capacity_bytes
        self._loop = asyncio.get_running_loop()
        self._where = repository.where(disk.manifest.key)
        self._findings: list[str] = []
        self._slots = asyncio.Semaphore(RANGES_UNDER_WAY)

    async def run(self) -> list[str]:
        """Returns what was found damaged, in sentences. StoreError if store or replica fail."""
        packs = pack_objects(self._point.record, self._manifest.packs)
        async with asyncio.TaskGroup() as tasks:
            chunks = self._manifest.chunks()
            while (chunk := await in_thread(next, chunks, None)) is not None:
                await self._chunk(chunk, packs, tasks)
        return self._findings

    async def _chunk(self, chunk: Chunk, packs: Sequence[PackObject], tasks: asyncio.TaskGroup) -> None:
        records = chunk.records
        if len(chunk.zeros):
            with local_io(REPLICA, self._path):
                await self._threads.run(self._punch, chunk.zeros)
            self._meter.blocks_verified += chunk.zeros.blocks
        rows: Rows = np.arange(len(records))
        split = records.several()
        if split.any():
            # Several records make up one block: each alone would not verify, so it is put together from the chain.
            self._damage.add(distinct(records.block[split]))
            rows = rows[~split]
        loose = records.take(rows[records.frame[rows] == NO_FRAME])
        if len(loose):
            with local_io(REPLICA, self._path):
                done = await self._threads.run(apply_zeroed, self._fd, self._capacity, loose, self._where)
            self._count(done)
        for wanted in ranges(chunk, rows, packs, self._where):
            await self._slots.acquire()
            tasks.create_task(self._range(wanted, records))

    def _punch(self, zeros: Runs) -> None:
        for start, count in zeros.pairs():
            stop = min((start + count) * BLOCK_BYTES, self._capacity)
            holes.punch(self._fd, start * BLOCK_BYTES, stop - start * BLOCK_BYTES)

    async def _range(self, wanted: PackRange, records: Records) -> None:
        try:
            try:
                data = await wanted.read(self._repository)
            except IntegrityError as error:
                self._lose(records.block[wanted.rows], error)
            else:
                self._meter.read_bytes += len(data)
                with local_io(REPLICA, self._path):
                    await self._threads.run(self._apply, wanted, records, data)
            self._meter.done_bytes += wanted.length
        finally:
            self._slots.release()

    def _apply(self, wanted: PackRange, records: Records, data: bytes) -> None:
        """In a worker thread: every frame of a range."""
        view = memoryview(data)
        loop = self._loop
        for piece in wanted.pieces:
            where = f"{self._repository.where(wanted.pack.key)}, offset {piece.pack_offset}"
            frame_bytes = view[piece.start : piece.start + piece.size]
            using = records.take(piece.rows)
            try:
                done = apply_frame(self._fd, self._capacity, frame_bytes, using, where)
            except FormatError as error:
                loop.call_soon_threadsafe(self._lose, using.block, error)
            else:
                loop.call_soon_threadsafe(self._count, done)
            # Written out while the next is fetched, so that the sync at the end has little left to wait for.
            first, last = int(using.block[0]), int(using.block[-1])
            native.start_writeback(self._fd, first * BLOCK_BYTES, (last + 1 - first) * BLOCK_BYTES)

    def _count(self, done: Applied) -> None:
        self._meter.written_bytes += done.written_bytes
        self._meter.blocks_verified += done.blocks
        self._damage.add(done.bad)

    def _lose(self, blocks: U32, error: IntegrityError) -> None:
        self._damage.add(blocks)
        if len(self._findings) < MAX_FINDINGS:
            self._findings.append(error.sentence)
