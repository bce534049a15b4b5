"""Blocks of a disk at a restore point, put together from the chain; owns what is fetched for that and how often.

docs/format.md, "Reading one block": each page comes from the newest record that names it. Manifests are fetched once
and kept in one unlinked file, however long the chain; frames are held for the neighbours that share them. What is
filled in is not proved: who asked holds each block against its hash. The audits read the chain in ways of their own
(audit/replica/recall.py, audit/repository/deep/), so that they can't be wrong together with this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from warmspare.errors import FormatError, IntegrityError
from warmspare.format import frame
from warmspare.format.chunk import Chunk
from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import Disk
from warmspare.model.block_records import NO_FRAME
from warmspare.model.columns import U16, U32
from warmspare.model.ids import PointId
from warmspare.model.masks import total
from warmspare.model.runs import Rows, by_value
from warmspare.observe.events import Meter
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.repository.blocks.frame_pages import copy_pages
from warmspare.repository.blocks.held_frames import HeldFrames
from warmspare.repository.blocks.pack_ranges import PackObject, PackRange, RangeFrame, pack_objects, ranges
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.step import Step
from warmspare.repository.history.steps import ancestors
from warmspare.repository.verified_objects import ObjectShelf, read_manifest, read_sound
from warmspare.threads import Threads

RANGES_UNDER_WAY = 6  # of up to 4 MiB, for all windows together
FRAMES_KEPT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class _Level:
    """One step of the chain: its manifest of the disk."""

    manifest: ManifestReader
    packs: Sequence[PackObject]
    where: str


@dataclass(frozen=True, slots=True, eq=False)
class _WindowPart:
    """What a chunk gives to a window: for each of its rows the mask of pages to take, 0 for none."""

    level: _Level
    chunk: Chunk
    take: U16

    def pages(self, rows: Rows) -> tuple[U32, U16]:
        """(block, the pages to take) of each of these rows."""
        return self.chunk.records.block[rows], self.take[rows]

    def frame(self, index: int) -> tuple[str, int]:
        """Which one the chunk calls so: the pack's key, and where it begins in it."""
        number, offset, _ = self.chunk.frames.place(index)
        return self.level.packs[number].key, offset


class _Losses:
    """Which blocks of a window can't be had, by their positions, and why: the first reason of each."""

    def __init__(self, window: BlockWindow) -> None:
        self._blocks = window.blocks
        self.found: dict[int, IntegrityError] = {}

    def at(self, positions: npt.NDArray[np.intp], error: IntegrityError) -> None:
        for position in positions.tolist():
            self.found.setdefault(position, error)

    def of(self, part: _WindowPart, rows: Rows, error: IntegrityError) -> None:
        """Those of some rows of a chunk."""
        self.at(np.searchsorted(self._blocks, part.chunk.records.block[rows]), error)


class ChainBlocks:
    """Reads one disk at `head`. Use it as an asynchronous context manager. meter: bytes read are added to it.
    kept_bytes: of frames."""

    def __init__(
        self,
        repository: Repository,
        head: Point,
        disk: Disk,
        scratch: Path,
        threads: Threads,
        meter: Meter,
        kept_bytes: int = FRAMES_KEPT_BYTES,
    ) -> None:
        self._repository, self._disk, self._scratch = repository, disk, scratch
        self._threads, self._meter = threads, meter
        self._lowest = head  # of the points whose manifests are there; the head before any
        self._before: PointId | None = None  # where its step begins
        self._steps: AsyncIterator[Step] | None = None
        self._levels: list[_Level] = []
        self._bottom = False
        self._loading = asyncio.Lock()
        self._shelf: ObjectShelf | None = None
        self._slots = asyncio.Semaphore(RANGES_UNDER_WAY)
        self._frames = HeldFrames(kept_bytes, scratch)
        self._coming: dict[tuple[str, int], asyncio.Event] = {}  # frames that are being fetched

    async def __aenter__(self) -> ChainBlocks:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._frames.close()
        if self._shelf is not None:
            self._shelf.close()
            self._shelf = None

    async def fill(self, window: BlockWindow, positions: list[int] | None = None) -> None:
        """Fill the window, or just those of its blocks; they must be zeros now. What it holds then is not proved yet.

        IntegrityError if the chain, a manifest or a pack that is needed is damaged or missing; StoreError.
        """
        lost = await self.gather(window, positions)
        if lost:
            raise lost[min(lost)]

    async def gather(self, window: BlockWindow, positions: list[int] | None = None) -> dict[int, IntegrityError]:
        """The same, where damage costs the blocks that it is of and no others: why, by their positions. Their bytes are
        of no use then. StoreError."""
        missing = np.where(window.filled, window.masks(), 0).astype(np.uint16)
        if positions is not None:
            chosen = np.zeros(missing.size, dtype=bool)
            chosen[positions] = True
            missing[~chosen] = 0
        losses = _Losses(window)
        parts: list[_WindowPart] = []
        depth = 0
        try:
            while missing.any() and (level := await self._level(depth)) is not None:
                given, missing = await self._threads.run(self._locate, level, window, missing)
                parts += given
                depth += 1
        except IntegrityError as error:
            # A damaged record or manifest hides whatever pages of these blocks it names.
            losses.at(np.flatnonzero(missing), error)
        later: list[tuple[_WindowPart, Rows, list[asyncio.Event]]] = []
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                rows = await self._from_held(part, np.flatnonzero(part.take), window, losses)
                rows, others, coming = self._unclaimed(part, rows)
                if others.size:
                    later.append((part, others, coming))
                for wanted in _requests(part, rows, losses):
                    task = tasks.create_task(self._range(wanted, part, window, losses))
                    task.add_done_callback(self._claim(wanted))
        for part, rows, coming in later:
            for one in coming:
                await one.wait()
            rows = await self._from_held(part, rows, window, losses)
            for wanted in _requests(part, rows, losses):  # whoever fetched them failed, or they are gone again
                await self._range(wanted, part, window, losses)
        return losses.found

    def _unclaimed(self, part: _WindowPart, rows: Rows) -> tuple[Rows, Rows, list[asyncio.Event]]:
        """(rows whose frames are to be fetched, the rest, what is waited for first): neighbours that are read side by
        side share frames, and each is fetched once."""
        mine, others, coming = [rows[:0]], [rows[:0]], []
        for index, using in by_value(part.chunk.records.frame, rows):
            key = part.frame(index)
            if fetching := self._coming.get(key):
                coming.append(fetching)
            (others if fetching or key in self._frames else mine).append(using)
        return np.sort(np.concatenate(mine)), np.sort(np.concatenate(others)), coming

    def _claim(self, wanted: PackRange) -> Callable[[object], None]:
        """Its frames are being fetched, until what is given is called."""
        keys, came = [(wanted.pack.key, piece.pack_offset) for piece in wanted.pieces], asyncio.Event()
        self._coming.update(dict.fromkeys(keys, came))

        def over(_: object) -> None:
            for key in keys:
                self._coming.pop(key, None)
            came.set()

        return over

    async def _level(self, depth: int) -> _Level | None:
        """The depth-th step from the head on down; None below the one in which the disk began."""
        async with self._loading:
            while len(self._levels) <= depth and not self._bottom:
                try:
                    await self._load()
                except BaseException:
                    self._steps = None  # it has ended with this, and its end is no end of the chain
                    raise
            return self._levels[depth] if depth < len(self._levels) else None

    async def _load(self) -> None:
        """One step more."""
        again = self._steps is None and self._levels
        if self._steps is None:  # points may have been dropped since, the head among them
            self._steps = ancestors(self._repository, self._lowest, lingering=True)
        step = await anext(self._steps, None)
        if again and step is not None and step.before == self._before:
            step = await anext(self._steps, None)  # that one is there; else it is a fold now, which says more
        stated = step.manifest(self._disk.id) if step else None
        if step is None or stated is None:
            self._bottom = True
            return
        if self._shelf is None:
            self._shelf = ObjectShelf(self._repository, self._scratch)
        copy = await self._shelf.fetch(stated.ref, stated.name)
        manifest = read_manifest(copy, stated)
        self._meter.read_bytes += stated.ref.bytes
        where = self._repository.where(stated.ref.key)
        packs = pack_objects(step.point.record.vm_id, manifest.packs)
        self._bottom = bool(stated.from_nothing)
        self._levels.append(_Level(manifest, packs, where))
        self._lowest, self._before = step.point, step.before

    @staticmethod
    def _locate(level: _Level, window: BlockWindow, missing: U16) -> tuple[list[_WindowPart], U16]:
        """In a worker thread: what this level gives, and what is missing then."""
        missing = missing.copy()  # where the manifest ends early, it gave nothing
        blocks = window.blocks
        parts = []
        for chunk in level.manifest.chunks(int(blocks[0]), int(blocks[-1]) + 1):
            missing[chunk.zeros.hold(blocks)] = 0
            records = chunk.records
            place = np.minimum(np.searchsorted(blocks, records.block), blocks.size - 1)
            rows = np.flatnonzero(blocks[place] == records.block)
            place = place[rows]
            take = np.zeros(len(records), dtype=np.uint16)
            take[rows] = records.carried[rows] & missing[place]
            # A block may have several records here, with disjoint masks.
            np.bitwise_and.at(missing, place, ~records.pages[rows])
            if take.any():
                parts.append(_WindowPart(level, chunk, take))
        return parts, missing

    async def _from_held(self, part: _WindowPart, rows: Rows, window: BlockWindow, losses: _Losses) -> Rows:
        """Take what frames that are held give to these rows; the rows that are left."""
        frame_of = part.chunk.records.frame
        none = frame_of[rows] == NO_FRAME
        if none.any():
            losses.of(
                part, rows[none], FormatError("a record carries pages and names no frame", where=part.level.where)
            )
            rows = rows[~none]
        using = by_value(frame_of, rows)
        if not any(part.frame(index) in self._frames for index, _ in using):
            return rows
        left, damaged = await self._threads.run(self._copy_held, part, using, window)
        for some, error in damaged:
            losses.of(part, some, error)
        return np.sort(np.concatenate(left)) if left else rows[:0]

    def _copy_held(
        self, part: _WindowPart, using: Sequence[tuple[int, Rows]], window: BlockWindow
    ) -> tuple[list[Rows], list[tuple[Rows, FormatError]]]:
        """In a worker thread: (rows whose frames are not held, those that a held one lacks pages of)."""
        left, damaged = [], []
        for index, rows in using:
            key = part.frame(index)
            held = self._frames.take(key, total(part.take[rows]))
            if held is None:
                left.append(rows)
                continue
            try:
                copy_pages(held, *part.pages(rows), window, f"{key[0]}, offset {key[1]}")
            except FormatError as error:
                damaged.append((rows, error))
        return left, damaged

    async def _range(self, wanted: PackRange, part: _WindowPart, window: BlockWindow, losses: _Losses) -> None:
        async with self._slots:
            await self._fetch(wanted, part, window, losses)

    async def _fetch(self, wanted: PackRange, part: _WindowPart, window: BlockWindow, losses: _Losses) -> None:
        try:
            await read_sound(
                lambda: self._read(wanted), lambda data: self._threads.run(self._decode, wanted, part, window, data)
            )
        except FormatError as error:  # one of its frames is damaged
            if len(wanted.pieces) == 1:
                losses.of(part, wanted.rows, error)
                return
            for piece in wanted.pieces:
                alone = RangeFrame(0, piece.size, piece.pack_offset, piece.rows)
                await self._fetch(PackRange(wanted.pack, piece.pack_offset, piece.size, [alone]), part, window, losses)
        except IntegrityError as error:  # there is no such pack
            losses.of(part, wanted.rows, error)

    async def _read(self, wanted: PackRange) -> bytes:
        data = await wanted.read(self._repository)
        self._meter.read_bytes += len(data)
        return data

    def _decode(self, wanted: PackRange, part: _WindowPart, window: BlockWindow, data: bytes) -> None:
        """In a worker thread: every frame of a range."""
        view, decoded = memoryview(data), []
        for piece in wanted.pieces:
            where = f"{self._repository.where(wanted.pack.key)}, offset {piece.pack_offset}"
            unpacked = frame.decode(view[piece.start : piece.start + piece.size], where)
            copy_pages(unpacked, *part.pages(piece.rows), window, where)
            decoded.append(unpacked)
        for piece, unpacked in zip(wanted.pieces, decoded, strict=True):  # once all of them are sound
            self._frames.keep((wanted.pack.key, piece.pack_offset), unpacked, total(part.take[piece.rows]))


def _requests(part: _WindowPart, rows: Rows, losses: _Losses) -> list[PackRange]:
    """What to fetch for some rows; those whose frames can't lie where the manifest says are lost."""
    try:
        return list(ranges(part.chunk, rows, part.level.packs, part.level.where))
    except FormatError as error:
        each = by_value(part.chunk.records.frame, rows)
        if len(each) > 1:
            return [wanted for _, using in each for wanted in _requests(part, using, losses)]
        losses.of(part, rows, error)
        return []
