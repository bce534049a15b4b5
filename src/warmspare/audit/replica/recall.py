"""Blocks recalled from the chain: which frames hold them, each fetched once, whole blocks put together from them.

docs/format.md, "Reading one block". Shares nothing with the receiver's way of doing so; owns no judgement, the caller
holds each block against its hash. Writes nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from warmspare.errors import ConfigError, FormatError, IntegrityError
from warmspare.format import frame
from warmspare.format.chunk import Chunk
from warmspare.model import masks
from warmspare.model.block_records import NO_FRAME
from warmspare.model.columns import U16, U32
from warmspare.model.ids import DiskId, vm_key
from warmspare.model.units import BLOCK_PAGES, PAGE_BYTES, block_bytes
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.steps import ancestors
from warmspare.repository.verified_objects import manifest_of, read_range, read_sound
from warmspare.store import layout
from warmspare.threads import in_thread

PLAN_BLOCKS = 1 << 18  # looked up in the chain in one walk: 16 GiB of disk
GROUP_BLOCKS = 256  # put together at a time: 16 MiB
FRAMES_KEPT = 16  # decoded, 1 MiB each: neighbouring groups share frames
REQUESTS = 8


@dataclass(frozen=True, slots=True)
class RecallPack:
    """A pack: key and whole length."""

    key: str
    bytes: int


@dataclass(frozen=True, slots=True)
class FramePlace:
    """Where a frame lies."""

    pack: RecallPack
    offset: int
    bytes: int


@dataclass(slots=True)
class Traffic:
    """What was fetched. frames: how many; frame_bytes: theirs; other_bytes: of manifests."""

    frames: int = 0
    frame_bytes: int = 0
    other_bytes: int = 0


@dataclass(slots=True, eq=False)
class RecallPlan:
    """Where the pages of some ascending blocks come from.

    missing: a mask for each block of the pages that are still looked for. rows: (index of the block, the pages to take,
    the frame), in any order. lost: index of a block -> why it can't be had.
    """

    blocks: U32
    missing: U16
    rows: list[tuple[int, int, FramePlace]] = field(default_factory=list)
    lost: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recalled:
    """A block from the chain, or why it can't be had."""

    block: int
    image: bytes | None
    lost: str = ""


class Recall:
    """Blocks of one disk as they are at `head`."""

    def __init__(self, repository: Repository, head: Point, disk_id: DiskId, scratch: Path) -> None:
        self._repository, self._head, self._disk_id, self._scratch = repository, head, disk_id, scratch
        disk = head.record.disk(disk_id)
        assert disk
        self._capacity = disk.capacity_bytes
        self._frames: OrderedDict[tuple[str, int], frame.Frame | IntegrityError] = OrderedDict()
        self._requests = asyncio.Semaphore(REQUESTS)
        self.traffic = Traffic()

    async def blocks(self, wanted: Iterator[U32]) -> AsyncIterator[list[Recalled]]:
        """The wanted blocks (ascending arrays of at most PLAN_BLOCKS), in groups. StoreError."""
        for blocks in wanted:
            plan = await self._plan(blocks)
            by_block: dict[int, list[tuple[int, FramePlace]]] = {}
            for index, mask, place in plan.rows:
                by_block.setdefault(index, []).append((mask, place))
            for start in range(0, blocks.size, GROUP_BLOCKS):
                stop = min(start + GROUP_BLOCKS, blocks.size)
                yield await self._group(plan, by_block, start, stop)

    # where the pages are

    async def _plan(self, blocks: U32) -> RecallPlan:
        plan = RecallPlan(blocks, masks.whole_masks(blocks, self._capacity))
        try:
            vm = vm_key(self._head.record.vm_id)
            async for step in ancestors(self._repository, self._head, lingering=True):
                stated = step.manifest(self._disk_id)
                if stated is None:
                    break
                open_blocks = blocks[plan.missing != 0]
                if not open_blocks.size:
                    break
                async with manifest_of(self._repository, stated, self._scratch) as manifest:
                    self.traffic.other_bytes += stated.ref.bytes
                    packs = [RecallPack(layout.pack_key(vm, pack.id), pack.bytes) for pack in manifest.packs]
                    chunks = manifest.chunks(int(open_blocks[0]), int(open_blocks[-1]) + 1)
                    while (chunk := await in_thread(next, chunks, None)) is not None:
                        _take(plan, chunk, packs)
                if stated.from_nothing:
                    break
        except (ConfigError, IntegrityError) as error:
            # A damaged record or manifest hides whatever pages of these blocks it names; so does one that is gone.
            for index in np.flatnonzero(plan.missing).tolist():
                plan.lost[index] = error.sentence
        return plan

    # fetching

    async def _group(
        self, plan: RecallPlan, by_block: dict[int, list[tuple[int, FramePlace]]], start: int, stop: int
    ) -> list[Recalled]:
        places: dict[tuple[str, int], FramePlace] = {}
        for index in range(start, stop):
            if index not in plan.lost:
                places.update({(place.pack.key, place.offset): place for _, place in by_block.get(index, [])})
        images = [bytearray(block_bytes(int(plan.blocks[index]), self._capacity)) for index in range(start, stop)]
        users: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for index in range(start, stop):
            if index not in plan.lost:
                for mask, place in by_block.get(index, []):
                    users.setdefault((place.pack.key, place.offset), []).append((index, mask))

        async def use(key: tuple[str, int], place: FramePlace) -> None:
            async with self._requests:
                held = await self._frame(place)
                for index, mask in users[key]:
                    block = int(plan.blocks[index])
                    try:
                        if isinstance(held, IntegrityError):
                            raise held
                        _copy(held, block, mask, images[index - start], self._repository.where(place.pack.key))
                    except IntegrityError as error:
                        plan.lost[index] = error.sentence

        async with asyncio.TaskGroup() as tasks:
            for key, place in sorted(places.items()):
                tasks.create_task(use(key, place))
        out = []
        for index in range(start, stop):
            block, lost = int(plan.blocks[index]), plan.lost.get(index, "")
            out.append(Recalled(block, None if lost else bytes(images[index - start]), lost))
        return out

    async def _frame(self, place: FramePlace) -> frame.Frame | IntegrityError:
        key = (place.pack.key, place.offset)
        found = self._frames.get(key)
        if found is None:
            where = f"{self._repository.where(place.pack.key)}, offset {place.offset}"
            try:
                if place.offset + place.bytes > place.pack.bytes:
                    raise FormatError("a manifest names a frame beyond its pack", where=where)
                found = await read_sound(lambda: self._read(place), lambda data: in_thread(frame.decode, data, where))
            except IntegrityError as error:
                found = error
            self._frames[key] = found
            while len(self._frames) > FRAMES_KEPT:
                self._frames.popitem(last=False)
        else:
            self._frames.move_to_end(key)
        return found

    async def _read(self, place: FramePlace) -> bytes:
        data = await read_range(self._repository, place.pack, place.offset, place.bytes, "a pack")
        self.traffic.frames += 1
        self.traffic.frame_bytes += len(data)
        return data


def _take(plan: RecallPlan, chunk: Chunk, packs: list[RecallPack]) -> None:
    """What a chunk says of the pages that are still looked for."""
    plan.missing[chunk.zeros.hold(plan.blocks)] = 0
    records = chunk.records.take(np.isin(chunk.records.block, plan.blocks))
    index = np.searchsorted(plan.blocks, records.block)
    for row, at in enumerate(index.tolist()):
        missing = plan.missing[at]
        carried = int(records.carried[row] & missing)
        plan.missing[at] = missing & ~records.pages[row]
        if carried and int(records.frame[row]) != NO_FRAME:
            pack, offset, size = chunk.frames.place(int(records.frame[row]))
            plan.rows.append((at, carried, FramePlace(packs[pack], offset, size)))


def _copy(held: frame.Frame, block: int, mask: int, image: bytearray, where: str) -> None:
    """The pages of a mask from a frame into a block. FormatError if the frame lacks one."""
    slots = np.searchsorted(held.pages, block * BLOCK_PAGES + np.arange(BLOCK_PAGES, dtype=np.uint64))
    for page in masks.pages_of(mask):
        slot = int(slots[page])
        if slot >= held.pages.size or int(held.pages[slot]) != block * BLOCK_PAGES + page:
            raise FormatError("a frame lacks a page that a record says it holds", where=where)
        at = page * PAGE_BYTES
        data = held.payload[slot * PAGE_BYTES : (slot + 1) * PAGE_BYTES][: len(image) - at]
        # A page that was the disk's short last one, before it grew, goes on as zeros.
        image[at : at + len(data)] = data
