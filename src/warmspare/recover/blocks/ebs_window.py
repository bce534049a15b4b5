"""A few EBS blocks in the making, and the proof that they are right; refuses to give out what it could not prove."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from warmspare.model.columns import U8, U32
from warmspare.model.units import block_count
from warmspare.recover.blocks.ebs_blocks import BLOCKS_EACH, EBS_BLOCK_BYTES
from warmspare.repository.blocks.block_window import BlockWindow

WINDOW = 8  # EBS blocks: 4 MiB


@dataclass(frozen=True, slots=True)
class EbsBlock:
    """512 KiB as they are to be put, and their SHA-256."""

    index: int
    data: bytes
    sha256: bytes


class EbsWindow(BlockWindow):
    """The EBS blocks `indices` (ascending) of a disk: a window of our blocks in them, zeros beyond the end of the disk.

    expected: the hash of each of `blocks_of` them, from a hash table that was held against its root.
    """

    def __init__(self, indices: U32, capacity_bytes: int, expected: U8) -> None:
        # Only the last EBS block can have fewer of ours, so ours are dense in them.
        super().__init__(blocks_of(indices, capacity_bytes), capacity_bytes, expected, room=indices.size * BLOCKS_EACH)
        self.indices = indices

    def finished(self) -> list[EbsBlock]:
        """The blocks to put; only once `wrong` has found none."""
        out = []
        flat = self.pages.reshape(-1)
        for number, index in enumerate(self.indices.tolist()):
            data = flat[number * EBS_BLOCK_BYTES : (number + 1) * EBS_BLOCK_BYTES].tobytes()
            out.append(EbsBlock(index, data, hashlib.sha256(data).digest()))
        return out


def blocks_of(indices: U32, capacity_bytes: int) -> U32:
    """Our blocks in those EBS blocks, ascending, those beyond the end of the disk left out."""
    blocks = (indices.astype(np.int64)[:, None] * BLOCKS_EACH + np.arange(BLOCKS_EACH)).reshape(-1)
    return blocks[blocks < block_count(capacity_bytes)].astype(np.uint32)
