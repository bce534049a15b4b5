"""Blocks of a disk that may not be what they should: a set, bounded in memory; owns nothing on disk."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator

import numpy as np

from warmspare.model.columns import U32

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
        blocks = np.unique(np.concatenate(self._fresh)).astype(np.int64)
        self._fresh = []
        edges = np.flatnonzero(np.diff(blocks) != 1)
        starts = blocks[np.concatenate(([0], edges + 1))].tolist()
        stops = (blocks[np.concatenate((edges, [blocks.size - 1]))] + 1).tolist()
        merged: list[tuple[int, int]] = []
        for start, stop in sorted([*self._runs, *zip(starts, stops, strict=True)]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
            else:
                merged.append((start, stop))
        while len(merged) > MAX_RUNS:
            gaps = np.array([b[0] - a[1] for a, b in itertools.pairwise(merged)])
            limit = np.partition(gaps, len(merged) - MAX_RUNS)[len(merged) - MAX_RUNS]
            joined = [merged[0]]
            for start, stop in merged[1:]:
                if start - joined[-1][1] <= limit:
                    joined[-1] = (joined[-1][0], stop)
                else:
                    joined.append((start, stop))
            merged = joined
        self._runs = merged

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
