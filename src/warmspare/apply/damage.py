"""Blocks of a disk that may not be what they should: a set, bounded in memory; owns nothing on disk."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

import numpy as np

from warmspare.model.columns import U32, distinct
from warmspare.model.runs import Runs, bounded, merged

MAX_RUNS = 4096  # as stored; beyond it runs are joined across their smallest gaps, which names too many


class Damage:
    """Ascending, disjoint [start, start + count) runs. Naming a sound block costs a look at it, nothing else."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self._runs = sorted((start, start + count) for start, count in runs)
        self._fresh: list[U32] = []

    def add(self, blocks: U32) -> None:
        if blocks.size:
            self._fresh.append(blocks)
            if len(self._fresh) > 1024:
                self._fold()

    def discard(self, blocks: Iterable[int]) -> None:
        """Blocks that were proved sound."""
        self._fold()
        sound = sorted(blocks)
        out: list[tuple[int, int]] = []
        for start, stop in self._runs:
            at = start
            for block in sound[bisect_left(sound, start) : bisect_left(sound, stop)]:
                if block > at:
                    out.append((at, block))
                at = block + 1
            if at < stop:
                out.append((at, stop))
        self._runs = out

    def _fold(self) -> None:
        if not self._fresh:
            return
        known = np.array(self._runs, dtype=np.int64).reshape(-1, 2)
        fresh = Runs.of(distinct(np.concatenate(self._fresh))).bounds
        self._fresh = []
        start, stop = merged(np.concatenate((known[:, 0], fresh[0])), np.concatenate((known[:, 1], fresh[1])))
        start, stop = bounded(start, stop, MAX_RUNS)
        self._runs = list(zip(start.tolist(), stop.tolist(), strict=True))

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(start, count), ascending."""
        self._fold()
        return [(start, stop - start) for start, stop in self._runs]

    def __len__(self) -> int:
        return sum(count for _, count in self.runs)

    def batches(self, size: int) -> Iterator[U32]:
        """The blocks, ascending, up to `size` at a time; a copy, so that the set may change meanwhile."""
        for start, count in self.runs:
            for at in range(start, start + count, size):
                yield np.arange(at, min(at + size, start + count), dtype=np.uint32)

    def describe(self, limit: int = 8) -> str:
        """The first few block numbers, for a message."""
        names: list[str] = []
        for start, count in self.runs[: limit + 1]:
            names.append(str(start) if count == 1 else f"{start}-{start + count - 1}")
        return ", ".join(names[:limit]) + (" and more" if len(names) > limit else "")
