"""One manifest merged into one disk: fetch, decompress, verify, write; owns how much of that is under way at once.

Blocks that do not verify are left as they were and noted as damage; the rest of the disk goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from enum import Enum, auto
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from warmspare._native import holes
from warmspare._native import sparse as native
from warmspare.apply.damage import Damage
from warmspare.apply.decode import Applied, apply_frame, apply_zeroed
from warmspare.apply.frame_shelf import FrameShelf
from warmspare.apply.pieced_blocks import PiecedBlocks
from warmspare.errors import FormatError, IntegrityError
from warmspare.format.chunk import Chunk
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.columns import U32, distinct
from warmspare.model.ids import VmId
from warmspare.model.runs import Rows, Runs
from warmspare.model.units import BLOCK_BYTES, block_bytes, block_count
from warmspare.observe.events import Meter
from warmspare.repository.blocks.pack_ranges import PackObject, PackRange, pack_objects, ranges
from warmspare.repository.chain import Repository
from warmspare.repository.history.change import DiskChange
from warmspare.state.local_files import local_io
from warmspare.state.local_table import HashTable, TableDamagedError
from warmspare.state.replica_record import REPLICA
from warmspare.threads import Threads, in_thread

RANGES_UNDER_WAY = 8  # of up to 4 MiB: enough to fill a long, fat pipe, little enough to hold in memory
MAX_FINDINGS = 100

_Read = Callable[[PackRange], Awaitable[bytes | bytearray]]


class AlreadyThere(Enum):
    """By what it is known which blocks are there already, so that they are not fetched again. NOTHING: every row is
    news. TABLE: by the hash table of what the file holds. BYTES: by the file itself."""

    NOTHING = auto()
    TABLE = auto()
    BYTES = auto()


class Merge:
    """Runs once. fd: the disk's file at `path`, at its capacity. damage: is added to. table: of what the file holds,
    where `held` says so."""

    def __init__(
        self,
        repository: Repository,
        vm: VmId,
        change: DiskChange,
        fd: int,
        path: Path,
        damage: Damage,
        threads: Threads,
        meter: Meter,
        table: HashTable | None,
        scratch: Path,
        *,
        held: AlreadyThere,
    ) -> None:
        self._repository, self._vm, self._fd, self._path = repository, vm, fd, path
        self._change, self._damage, self._threads, self._meter = change, damage, threads, meter
        self._manifest, self._capacity = change.manifest, change.disk.capacity_bytes
        self._table, self._scratch, self._held = table, scratch, held
        self._behind = 0  # the block after the last that a manifest from nothing named
        self._loop = asyncio.get_running_loop()
        self._where = change.where
        self._findings: list[str] = []
        self._shelf = FrameShelf(scratch)
        self._slots = asyncio.Semaphore(RANGES_UNDER_WAY)

    async def run(self) -> list[str]:
        """Returns what was found damaged, in sentences. StoreError if store or replica fail."""
        packs = pack_objects(self._vm, self._manifest.packs)
        chunks = self._manifest.chunks()
        with closing(self._shelf):
            chunk = await in_thread(next, chunks, None)
            while chunk is not None:
                following = await in_thread(next, chunks, None)
                # What one chunk fetches must be there for the next, which is begun after it has ended.
                await self._chunk(chunk, packs, last=following is None)
                chunk = following
        if self._change.from_nothing:
            await self._unnamed(block_count(self._capacity))
        return self._findings

    async def _chunk(self, chunk: Chunk, packs: Sequence[PackObject], *, last: bool) -> None:
        records = chunk.records
        with local_io(REPLICA, self._path):
            await self._threads.run(self._shelf.forget, chunk.first_block)
        if self._change.from_nothing:
            await self._between(chunk)
        if len(chunk.zeros):
            with local_io(REPLICA, self._path):
                await self._threads.run(self._punch, chunk.zeros)
            self._meter.blocks_verified += chunk.zeros.blocks
        rows: Rows = np.arange(len(records))
        if self._held is not AlreadyThere.NOTHING:
            with local_io(REPLICA, self._path):
                rows = rows[~await self._threads.run(self._there, records)]
        pieced = records.several()[rows]
        behind = None if last else chunk.last_block + 1
        if not pieced.any():
            await self._rows(chunk, rows, packs, None, behind)
            return
        # Several records make up one block, and each alone would not verify. Their frames must be there together.
        of_pieces = records.take(rows[pieced])
        with closing(PiecedBlocks(of_pieces, self._fd, self._capacity, self._scratch, self._where)) as pieces:
            await self._rows(chunk, rows, packs, pieces, behind)
            with local_io(REPLICA, self._path):
                self._count(await self._threads.run(pieces.write))

    async def _rows(
        self,
        chunk: Chunk,
        rows: Rows,
        packs: Sequence[PackObject],
        pieces: PiecedBlocks | None,
        behind: int | None,
    ) -> None:
        """Fetch what these rows use, each frame once. pieces: takes the frames of blocks that have several rows.
        behind: the block after the chunk; None if it is the last."""
        records = chunk.records
        several = records.several()
        loose = records.take(rows[(records.frame[rows] == NO_FRAME) & ~several[rows]])
        if len(loose):
            with local_io(REPLICA, self._path):
                done = await self._threads.run(apply_zeroed, self._fd, self._capacity, loose, self._where)
            self._count(done)
        there = self._on_shelf(chunk, rows, packs)
        async with asyncio.TaskGroup() as tasks:
            for shelved, some in ((True, rows[there]), (False, rows[~there])):
                for wanted in ranges(chunk, some, packs, self._where):
                    await self._slots.acquire()
                    read: _Read = self._read_shelf if shelved else self._fetch
                    tasks.create_task(self._range(wanted, records, several, pieces, read, None if shelved else behind))

    def _on_shelf(self, chunk: Chunk, rows: Rows, packs: Sequence[PackObject]) -> npt.NDArray[np.bool_]:
        """Which rows use frames that were fetched for an earlier chunk."""
        held = np.zeros(len(chunk.frames) + 1, dtype=np.bool_)
        if self._shelf:
            frames = chunk.frames
            places = zip(frames.pack.tolist(), frames.offset.tolist(), frames.size.tolist(), strict=True)
            held[:-1] = [(packs[pack].key, offset, size) in self._shelf for pack, offset, size in places]
        out: npt.NDArray[np.bool_] = held[np.minimum(chunk.records.frame[rows], len(chunk.frames))]
        return out

    async def _fetch(self, wanted: PackRange) -> bytes:
        data = await wanted.read(self._repository)
        self._meter.read_bytes += len(data)
        return data

    async def _read_shelf(self, wanted: PackRange) -> bytearray:
        """The frames of a range where they lie in it; nobody looks at what is between them."""
        data = bytearray(wanted.length)
        with local_io(REPLICA, self._path):
            for piece in wanted.pieces:
                key = wanted.pack.key, piece.pack_offset, piece.size
                data[piece.start : piece.start + piece.size] = await self._threads.run(self._shelf.read, key)
        return data

    def _there(self, records: PlacedRecords) -> npt.NDArray[np.bool_]:
        """In a worker thread: which rows are of blocks that have their hash already."""
        if self._table is not None:
            try:
                return np.asarray((self._table.read(records.block) == records.hashes).all(axis=1))
            except TableDamagedError:
                self._table = None
        out = np.zeros(len(records), dtype=np.bool_)
        known: tuple[int, bytes] = (-1, b"")
        for row, block in enumerate(records.block.tolist()):
            if block != known[0]:
                data = os.pread(self._fd, block_bytes(block, self._capacity), block * BLOCK_BYTES)
                known = block, xxhash.xxh3_128_digest(data)
            out[row] = known[1] == records.hashes[row].tobytes()
        return out

    async def _between(self, chunk: Chunk) -> None:
        """Make zeros of what lies before the blocks that a chunk names, and between them."""
        named = Runs.of(distinct(chunk.records.block)).bounds
        zeros = chunk.zeros.bounds
        stops = np.concatenate((named[1], zeros[1]))
        order = np.argsort(np.concatenate((named[0], zeros[0])), kind="stable")
        starts = np.concatenate((named[0], zeros[0]))[order]
        for start, stop in zip(starts.tolist(), stops[order].tolist(), strict=True):
            await self._unnamed(start)
            self._behind = stop

    async def _unnamed(self, until: int) -> None:
        if until > self._behind:
            with local_io(REPLICA, self._path):
                gap = np.array([self._behind], dtype=np.int64), np.array([until], dtype=np.int64)
                await self._threads.run(self._punch, Runs.between(*gap))
        self._behind = max(until, self._behind)

    def _punch(self, zeros: Runs) -> None:
        for start, count in zeros.pairs():
            stop = min((start + count) * BLOCK_BYTES, self._capacity)
            holes.punch(self._fd, start * BLOCK_BYTES, stop - start * BLOCK_BYTES)

    async def _range(
        self,
        wanted: PackRange,
        records: PlacedRecords,
        several: npt.NDArray[np.bool_],
        pieces: PiecedBlocks | None,
        read: _Read,
        behind: int | None,
    ) -> None:
        """behind: what has pages of blocks from there on goes to the shelf; None: nothing does."""
        try:
            try:
                data = await read(wanted)
            except IntegrityError as error:
                self._lose(records.block[wanted.rows], error)
            else:
                with local_io(REPLICA, self._path):
                    if pieces is not None:
                        self._keep(wanted, records, several, pieces, data)
                    if behind is not None:
                        await self._threads.run(self._shelve, wanted, data, behind)
                    await self._threads.run(self._apply, wanted, records, several, data)
            self._meter.done_bytes += wanted.length
        finally:
            self._slots.release()

    def _shelve(self, wanted: PackRange, data: bytes | bytearray, behind: int) -> None:
        view = memoryview(data)
        for piece in wanted.pieces:
            key = wanted.pack.key, piece.pack_offset, piece.size
            self._shelf.keep(key, view[piece.start : piece.start + piece.size], behind)

    @staticmethod
    def _keep(
        wanted: PackRange,
        records: PlacedRecords,
        several: npt.NDArray[np.bool_],
        pieces: PiecedBlocks,
        data: bytes | bytearray,
    ) -> None:
        view = memoryview(data)
        for piece in wanted.pieces:
            if several[piece.rows].any():
                pieces.keep(int(records.frame[piece.rows[0]]), view[piece.start : piece.start + piece.size])

    def _apply(
        self, wanted: PackRange, records: PlacedRecords, several: npt.NDArray[np.bool_], data: bytes | bytearray
    ) -> None:
        """In a worker thread: every frame of a range, for the blocks that it gives all that they need."""
        view = memoryview(data)
        loop = self._loop
        for piece in wanted.pieces:
            where = f"{self._repository.where(wanted.pack.key)}, offset {piece.pack_offset}"
            frame_bytes = view[piece.start : piece.start + piece.size]
            rows = piece.rows[~several[piece.rows]]
            if not rows.size:
                continue
            using = records.take(rows)
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
