"""A set of blocks of a disk, as bits; owns nothing else. Costs memory only where there are any: 128 KiB for 64 GiB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare.model.columns import U8, U32, distinct
from warmspare.model.runs import Runs

CHUNK_BLOCKS = 1 << 20


class BlockSet:
    """Empty at first."""

    def __init__(self) -> None:
        self._chunks: dict[int, U8] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, blocks: npt.NDArray[Any]) -> None:
        """blocks: ascending numbers, without repeats."""
        self._change(blocks, present=True)

    def discard(self, blocks: npt.NDArray[Any]) -> None:
        self._change(blocks, present=False)

    def _change(self, blocks: npt.NDArray[Any], *, present: bool) -> None:
        if not blocks.size:
            return
        numbers = np.asarray(blocks, dtype=np.int64)
        for chunk in distinct(numbers // CHUNK_BLOCKS).tolist():
            bits = self._chunks.get(chunk)
            if bits is None:
                if not present:
                    continue
                bits = self._chunks[chunk] = np.zeros(CHUNK_BLOCKS // 8, dtype=np.uint8)
            flat = np.unpackbits(bits)
            before = int(flat.sum())
            flat[numbers[numbers // CHUNK_BLOCKS == chunk] % CHUNK_BLOCKS] = present
            after = int(flat.sum())
            self._count += after - before
            if after:
                self._chunks[chunk] = np.packbits(flat)
            else:
                del self._chunks[chunk]

    def holds(self, blocks: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """For each block whether it is in the set."""
        numbers = np.asarray(blocks, dtype=np.int64)
        out = np.zeros(numbers.shape, dtype=np.bool_)
        for chunk in distinct(numbers // CHUNK_BLOCKS).tolist():
            bits = self._chunks.get(chunk)
            if bits is not None:
                mine = numbers // CHUNK_BLOCKS == chunk
                out[mine] = np.unpackbits(bits)[numbers[mine] % CHUNK_BLOCKS].astype(np.bool_)
        return out

    def batches(self, most: int) -> Iterator[U32]:
        """The blocks, ascending, up to `most` at a time. The set may change meanwhile; what was there when a chunk of
        it is come to is given."""
        for chunk in sorted(self._chunks):
            bits = self._chunks.get(chunk)
            if bits is None:
                continue
            blocks = (np.flatnonzero(np.unpackbits(bits)) + chunk * CHUNK_BLOCKS).astype(np.uint32)
            for at in range(0, blocks.size, most):
                yield blocks[at : at + most]

    def runs(self) -> Iterator[tuple[int, int]]:
        """(start, count) of neighbouring blocks, ascending; joined within a chunk."""
        for blocks in self.batches(CHUNK_BLOCKS):
            yield from Runs.of(blocks).pairs()
