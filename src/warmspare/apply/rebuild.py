"""Single blocks from the chain, newest restore point first; owns the repair of a replica.

docs/format.md, "Reading one block". The replica's own bytes are never used: every page comes from the newest
record that names it, and what no record names is zeros.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash

from warmspare._native import holes
from warmspare.apply.decode import locate
from warmspare.apply.fetch import PackObject, pack_objects
from warmspare.errors import FormatError, IntegrityError
from warmspare.format import frame
from warmspare.format.chunk import Chunk
from warmspare.format.hashtable import ZERO_ENTRY
from warmspare.model import masks
from warmspare.model.block_records import NO_FRAME
from warmspare.model.columns import U8, U32
from warmspare.model.ids import DiskId
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES, block_bytes
from warmspare.repository.chain import Point, Repository
from warmspare.repository.verified_objects import manifest_of, read_range, read_sound
from warmspare.state.local_files import pwrite_all
from warmspare.threads import in_thread

BATCH_BLOCKS = 256
FRAMES_KEPT = 8
_ZERO_PAGE = bytes(PAGE_BYTES)


@dataclass(slots=True)
class _Wanted:
    """A block in the making. missing: mask of pages not found yet. lost: why it can't be rebuilt."""

    image: bytearray
    missing: int
    lost: str = ""


@dataclass(slots=True)
class Outcome:
    """sound: blocks that are right now (rebuilt or always). rebuilt: those of them that were written.
    lost: (block, why) of the rest."""

    sound: list[int] = field(default_factory=list)
    rebuilt: list[int] = field(default_factory=list)
    lost: list[tuple[int, str]] = field(default_factory=list)


class Rebuilder:
    """Repairs one disk of a replica at `head`. fd: of the replica's file, which has the disk's capacity."""

    def __init__(self, repository: Repository, head: Point, disk_id: DiskId, fd: int, scratch: Path) -> None:
        self._repository, self._head, self._disk_id, self._fd, self._scratch = repository, head, disk_id, fd, scratch
        disk = head.record.disk(disk_id)
        assert disk
        self._capacity = disk.capacity_bytes
        self._frames: OrderedDict[tuple[str, int], frame.Frame | FormatError | IntegrityError] = OrderedDict()

    async def repair(self, blocks: U32, expected: U8) -> Outcome:
        """Look at up to BATCH_BLOCKS ascending blocks and rebuild those whose hash is not the expected one.

        expected: shape (n, 16), from the verified hash table. StoreError; OSError from the replica.
        """
        out = Outcome()
        hashes = {int(b): expected[i].tobytes() for i, b in enumerate(blocks.tolist())}
        wrong: dict[int, _Wanted] = {}
        for block, digest in hashes.items():
            size = block_bytes(block, self._capacity)
            if self._matches(os.pread(self._fd, size, block * BLOCK_BYTES), size, digest):
                out.sound.append(block)
            else:
                wrong[block] = _Wanted(bytearray(size), masks.whole_mask(block, self._capacity))
        if wrong:
            await self._collect(wrong)
        for block, wanted in wrong.items():
            if not wanted.lost and self._matches(wanted.image, len(wanted.image), hashes[block]):
                await in_thread(self._write, block, wanted.image)
                out.sound.append(block)
                out.rebuilt.append(block)
            else:
                out.lost.append((block, wanted.lost or "the chain gives other bytes than the hash table states"))
        return out

    @staticmethod
    def _matches(data: bytes | bytearray, size: int, digest: bytes) -> bool:
        if len(data) != size:
            return False
        if digest == ZERO_ENTRY:
            return not any(data)
        return xxhash.xxh3_128_digest(data) == digest

    async def _collect(self, wrong: dict[int, _Wanted]) -> None:
        open_blocks = dict(wrong)
        try:
            async for point in self._repository.ancestors(self._head):
                disk = point.record.disk(self._disk_id)
                if disk is None:
                    return
                first, stop = min(open_blocks), max(open_blocks) + 1
                async with manifest_of(self._repository, point.record, disk, self._scratch) as manifest:
                    packs = pack_objects(point.record, manifest.packs)
                    for chunk in manifest.chunks(first, stop):
                        await self._take(chunk, packs, open_blocks)
                for block in [b for b, w in open_blocks.items() if w.lost or not w.missing]:
                    del open_blocks[block]
                if not open_blocks:
                    return
        except IntegrityError as error:
            # A damaged record or manifest hides whatever pages of these blocks it names.
            for wanted in open_blocks.values():
                wanted.lost = error.sentence

    async def _take(self, chunk: Chunk, packs: Sequence[PackObject], wanted: dict[int, _Wanted]) -> None:
        records, numbers = chunk.records, np.array(sorted(wanted), dtype=np.uint32)
        for block in numbers[chunk.zeros.hold(numbers)].tolist():
            wanted[block].missing = 0
        for row in np.flatnonzero(np.isin(records.block, numbers)).tolist():
            into = wanted[int(records.block[row])]
            carried = int(records.carried[row]) & into.missing
            into.missing &= ~int(records.zero[row])
            if not carried:
                continue
            assert int(records.frame[row]) != NO_FRAME
            try:
                await self._copy(chunk, row, packs, carried, into)
            except IntegrityError as error:
                into.lost = error.sentence

    async def _copy(self, chunk: Chunk, row: int, packs: Sequence[PackObject], carried: int, into: _Wanted) -> None:
        records = chunk.records
        number, offset, size = chunk.frames.place(int(records.frame[row]))
        pack = packs[number]
        held = await self._frame(pack, offset, size)
        where = f"{self._repository.where(pack.key)}, offset {offset}"
        framed, slot = (int(column[0]) for column in locate(held.pages, records.block[row : row + 1], where))
        if carried & ~framed:
            raise FormatError("a frame lacks a page that a record says it holds", where=where)
        for page in masks.pages_of(carried):
            at = (slot + masks.count_before(framed, page)) * PAGE_BYTES
            size = min(PAGE_BYTES, len(into.image) - page * PAGE_BYTES)
            data = held.payload[at : at + size]
            # A page that was the disk's short last one, before it grew, goes on as zeros.
            into.image[page * PAGE_BYTES : page * PAGE_BYTES + len(data)] = data
        into.missing &= ~carried

    async def _frame(self, pack: PackObject, offset: int, size: int) -> frame.Frame:
        key = (pack.key, offset)
        found = self._frames.get(key)
        if found is None:
            where = f"{self._repository.where(pack.key)}, offset {offset}"
            try:
                found = await read_sound(
                    lambda: read_range(self._repository, pack, offset, size, "a pack"),
                    lambda data: in_thread(frame.decode, data, where),
                )
            except IntegrityError as error:
                found = error
            self._frames[key] = found
            while len(self._frames) > FRAMES_KEPT:
                self._frames.popitem(last=False)
        if isinstance(found, IntegrityError):
            raise found
        return found

    def _write(self, block: int, image: bytearray) -> None:
        """Pages of zeros as holes, the rest as data."""
        for at in range(0, len(image), PAGE_BYTES):
            page = image[at : at + PAGE_BYTES]
            if page == _ZERO_PAGE[: len(page)]:
                holes.punch(self._fd, block * BLOCK_BYTES + at, len(page))
            else:
                pwrite_all(self._fd, page, block * BLOCK_BYTES + at)
