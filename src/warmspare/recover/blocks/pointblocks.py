"""Any bytes of one disk at a restore point, from its chain; refuses to hand out a block that its hash does not prove.

Put together as they are asked for (repository/blocks), each block held against the hash table. What was
asked for last is kept, for all disks of the point together, since readers come back to the same places. Whoever goes on
where he ended is read more at once, twice as much each time: what a request costs by itself, the requests of a
sequential reader would pay for each 128 KiB.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from warmspare.errors import IntegrityError
from warmspare.format.restore_point import Disk
from warmspare.model.units import BLOCK_BYTES
from warmspare.recover.blocks.ebs_blocks import BLOCKS_EACH
from warmspare.recover.blocks.ebs_window import blocks_of
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.state.local_table import HashTable
from warmspare.threads import Threads

KEPT = 32  # pieces of 512 KiB
STRETCH = 8  # pieces that are read at once at most


@dataclass(slots=True)
class _Piece:
    """512 KiB of a disk. proved: positions in the window that hold what their hashes say; the others are zeros."""

    window: BlockWindow
    proved: set[int] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def whole(self) -> bool:
        return len(self.proved) == self.window.blocks.size

    def lacking(self, positions: Sequence[int]) -> list[int]:
        return [each for each in positions if each not in self.proved]


Kept = OrderedDict[tuple[str, int], _Piece]  # (disk ID, index): those used last, of all disks of a point


class BlockGiver(Protocol):
    """Where the bytes of blocks come from: their chain, or a replica."""

    async def gather(self, window: BlockWindow) -> dict[int, IntegrityError]:
        """Fill the window; why some of its blocks can't be had, by their positions. StoreError."""
        ...


FROM_CHAIN = (
    "put the damaged objects back from a copy of the repository, or sync this block again from the source; "
    "`warmspare audit repository --deep` finds all that is damaged"
)


class PointBlocks:
    """Reads one disk. table: its hashes at the restore point, held against the root. giver: where its blocks come from.
    kept: shared by the disks of a point. remedy: what is to be done where a block is not what its hash says. verified:
    how many blocks were put together and proved, each time anew."""

    def __init__(
        self,
        disk: Disk,
        table: HashTable,
        giver: BlockGiver,
        threads: Threads,
        kept: Kept,
        remedy: str = FROM_CHAIN,
    ) -> None:
        self._disk, self._table, self._giver, self._threads, self._kept = disk, table, giver, threads, kept
        self._remedy = remedy
        self.capacity_bytes = disk.capacity_bytes
        self._pieces = -(-disk.capacity_bytes // (BLOCKS_EACH * BLOCK_BYTES))
        self.verified = 0

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes; the range lies inside the disk. IntegrityError, naming a block, if they can't be proved;
        StoreError. A block of zeros costs nothing."""
        out = bytearray()
        end = offset + length
        piece_bytes = BLOCKS_EACH * BLOCK_BYTES
        for index in range(offset // piece_bytes, -(-end // piece_bytes)):
            first = index * piece_bytes
            start, stop = max(offset - first, 0), min(end - first, piece_bytes)
            piece = self._piece(index)
            async with piece.lock:
                wanted = range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
                if piece.lacking(wanted):
                    await self._prove(index, piece, wanted, self._stretch(index, start))
            out += piece.window.pages.reshape(-1)[start:stop].data
        return bytes(out)

    def _stretch(self, index: int, start: int) -> int:
        """How many pieces somebody is to be read at once who reads from that byte of a piece on; 0: what he wants."""
        before = self._kept.get((self._disk.id, index if start else index - 1))
        if before is None or (start - 1) // BLOCK_BYTES % BLOCKS_EACH not in before.proved:
            return 0
        pieces = 1
        while pieces < STRETCH and (piece := self._kept.get((self._disk.id, index - pieces))) and piece.whole:
            pieces += 1
        return pieces

    def _piece(self, index: int) -> _Piece:
        pieces, key = self._kept, (self._disk.id, index)
        piece = pieces.get(key)
        if piece is None:
            capacity = self.capacity_bytes
            blocks = blocks_of(np.array([index], dtype=np.uint32), capacity)
            piece = pieces[key] = _Piece(BlockWindow(blocks, capacity, self._table.read(blocks)))
        pieces.move_to_end(key)
        while len(pieces) > KEPT:
            pieces.popitem(last=False)
        return piece

    async def _prove(self, index: int, piece: _Piece, wanted: Sequence[int], stretch: int) -> None:
        """Make blocks of a piece, whose lock is held, what they must be, or raise. stretch: with all others of so many
        pieces; what is wrong with one of these is said when it is wanted."""
        async with AsyncExitStack() as stack:
            lacking = [(piece, each) for each in piece.lacking(range(piece.window.blocks.size) if stretch else wanted)]
            for following in range(index + 1, min(index + stretch, self._pieces)):
                other = self._piece(following)
                if other.lock.locked():
                    break
                await stack.enter_async_context(other.lock)
                lacking += [(other, each) for each in other.lacking(range(other.window.blocks.size))]
            filled = []
            for each, position in lacking:
                if each.window.filled[position]:
                    filled.append((each, position))
                else:
                    each.proved.add(position)
            lost = await self._gather(filled) if filled else {}
        for position in wanted:
            if error := lost.get(int(piece.window.blocks[position])):
                raise error

    async def _gather(self, filled: Sequence[tuple[_Piece, int]]) -> dict[int, IntegrityError]:
        """Bring blocks, ascending, into their pieces; why some can't be had, by their numbers."""
        blocks = np.array([piece.window.blocks[position] for piece, position in filled], dtype=np.uint32)
        expected = np.stack([piece.window.expected[position] for piece, position in filled])
        window = BlockWindow(blocks, self.capacity_bytes, expected)
        lost = await self._giver.gather(window)
        for position in await self._threads.run(window.wrong):
            message = f"block {int(blocks[position])} of disk {self._disk.id} does not verify"
            lost.setdefault(position, IntegrityError(message, hint=self._remedy))
        for at, (piece, position) in enumerate(filled):
            if at not in lost:
                piece.window.block(position)[:] = window.block(at)
                piece.proved.add(position)
                self.verified += 1
        return {int(blocks[at]): error for at, error in lost.items()}
