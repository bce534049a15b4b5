"""Any bytes of one disk at a restore point, from its chain; refuses to hand out a block that its hash does not prove.

Put together as they are asked for (repository/blocks), each block held against the hash table. What was
asked for last is kept, for all disks of the point together, since readers come back to the same places.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
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


@dataclass(slots=True)
class _Piece:
    """512 KiB of a disk. proved: positions in the window that hold what their hashes say."""

    window: BlockWindow
    proved: set[int] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


Kept = OrderedDict[tuple[str, int], _Piece]  # (disk ID, index): those used last, of all disks of a point


class BlockGiver(Protocol):
    """Where the bytes of blocks come from: their chain, or a replica."""

    async def fill(self, window: BlockWindow, positions: list[int] | None = None) -> None: ...


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
                await self._prove(piece, list(range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))))
            out += piece.window.pages.reshape(-1)[start:stop].data
        return bytes(out)

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

    async def _prove(self, piece: _Piece, positions: list[int]) -> None:
        """Make blocks of a piece what they must be, or raise with them as zeros again."""
        window = piece.window
        missing = [each for each in positions if each not in piece.proved]
        filled = [each for each in missing if window.filled[each]]
        if filled:
            good = False
            try:
                await self._giver.fill(window, filled)
                wrong = await self._threads.run(window.wrong, filled)
                good = not wrong
            finally:
                if not good:
                    window.clear(filled)
            if wrong:
                raise IntegrityError(
                    f"block {int(window.blocks[wrong[0]])} of disk {self._disk.id} does not verify",
                    hint=self._remedy,
                )
            self.verified += len(filled)
        piece.proved.update(missing)
