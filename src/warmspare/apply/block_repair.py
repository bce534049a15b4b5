"""Blocks of a replica that are not what they should be, made anew from the chain; owns the receiver's repair.

The replica's own bytes are never used: every page comes from the newest record that names it (docs/format.md, "Reading
one block"), and a block is written only once it has its hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from warmspare.apply.block_writing import write_block
from warmspare.model.columns import U8, U32
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.repository.blocks.chain_blocks import ChainBlocks
from warmspare.threads import in_thread

BATCH_BLOCKS = 256


@dataclass(slots=True)
class Outcome:
    """sound: blocks that are correct now (rebuilt or always). rebuilt: those of them that were written.
    lost: (block, why) of the rest."""

    sound: list[int] = field(default_factory=list)
    rebuilt: list[int] = field(default_factory=list)
    lost: list[tuple[int, str]] = field(default_factory=list)


class BlockRepair:
    """Repairs one disk of a replica. chain: of the disk at the point that the replica is at. fd: of the replica's file,
    which has the disk's capacity."""

    def __init__(self, chain: ChainBlocks, fd: int, capacity_bytes: int) -> None:
        self._chain, self._fd, self._capacity = chain, fd, capacity_bytes

    async def repair(self, blocks: U32, expected: U8) -> Outcome:
        """Look at up to BATCH_BLOCKS ascending blocks and make those anew whose hash is not the expected one.

        expected: shape (n, 16), from the verified hash table. StoreError; OSError from the replica.
        """
        out = Outcome()
        window = BlockWindow(blocks, self._capacity, expected)
        wrong = await in_thread(self._look, window)
        unlike = set(wrong)
        out.sound += [block for position, block in enumerate(blocks.tolist()) if position not in unlike]
        if not wrong:
            return out
        window.clear(wrong)
        lost = await self._chain.gather(window, wrong)
        bad = set(await in_thread(window.wrong, [position for position in wrong if position not in lost]))
        for position in wrong:
            block = int(blocks[position])
            if position in lost:
                out.lost.append((block, lost[position].sentence))
            elif position in bad:
                out.lost.append((block, "the chain gives other bytes than the hash table states"))
            else:
                await in_thread(write_block, self._fd, block, window.block(position))
                out.sound.append(block)
                out.rebuilt.append(block)
        return out

    def _look(self, window: BlockWindow) -> list[int]:
        window.load(self._fd)
        return window.wrong()
