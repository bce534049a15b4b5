"""Extents of a disk read afresh and held against its hashes, a window at a time; owns no judgement of a difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing

import numpy as np

from warmspare._native import judge as native
from warmspare.audit.expected.hashes import ExpectedTable
from warmspare.audit.expected.sample import Sample
from warmspare.audit.reports.report import MAX_FINDINGS, SOUND, WRONG, ZERO
from warmspare.audit.source.source_verdict import DiskVerdict
from warmspare.format.hashtable import ENTRY_BYTES
from warmspare.model.columns import U8, U32
from warmspare.model.extents import Extents, normalise
from warmspare.model.units import BLOCK_BYTES, SPAN_BLOCKS, block_count
from warmspare.observe.events import Meter
from warmspare.source.ports import DiskInput, Hole, Span
from warmspare.threads import Threads

WINDOW_BLOCKS = 1 << 22  # 256 GiB: what is drawn of a sample at a time


class SourceScan:
    """Reads extents of a disk and holds what is there against the table."""

    def __init__(
        self, given: DiskInput, table: ExpectedTable, verdict: DiskVerdict, threads: Threads, meter: Meter
    ) -> None:
        self._source, self._table, self._verdict = given.source, table, verdict
        self._threads, self._meter = threads, meter
        self._actual = np.empty(SPAN_BLOCKS * ENTRY_BYTES, dtype=np.uint8)
        self._said = np.empty(SPAN_BLOCKS, dtype=np.uint8)

    async def read(self, extents: Extents) -> None:
        if not len(extents):
            return
        verdict = self._verdict
        async with aclosing(self._source.read(extents)) as items:
            async for item in items:
                if isinstance(item, Hole):
                    await self._threads.run(self._hole, item)
                    self._meter.done_bytes += (item.stop - item.start) * BLOCK_BYTES
                    continue
                size = len(item.data)
                try:
                    await self._threads.run(self._span, item)
                finally:
                    item.release()
                verdict.read_bytes += size
                self._meter.read_bytes += size
                self._meter.done_bytes += size

    def _hole(self, hole: Hole) -> None:
        """The medium says that it is zeros; what the table has there otherwise differs."""
        self._verdict.map.add_run(ZERO, hole.start, hole.stop - hole.start)
        for blocks in self._table.nonzero(hole.start, hole.stop):
            self._verdict.map.add(ZERO, blocks, -1)
            self._found(blocks, self._table.entries(blocks), np.zeros((blocks.size, ENTRY_BYTES), dtype=np.uint8))

    def _span(self, span: Span) -> None:
        blocks, count = span.blocks, span.blocks.size
        expected, said = self._table.entries(blocks), self._said[:count]
        native.judge_span(span.data, expected.reshape(-1), self._actual, said)
        self._verdict.map.add(ZERO, blocks[said == native.ZERO])
        self._verdict.map.add(SOUND, blocks[said == native.SOUND])
        rows = np.flatnonzero(said == native.WRONG)
        if rows.size:
            self._found(blocks[rows], expected[rows], self._actual.reshape(-1, ENTRY_BYTES)[rows])

    def _found(self, blocks: U32, expected: U8, actual: U8) -> None:
        verdict = self._verdict
        verdict.map.add(WRONG, blocks)
        verdict.wrong.add(blocks)
        for row in range(min(blocks.size, MAX_FINDINGS - len(verdict.evidence))):
            verdict.evidence[int(blocks[row])] = (expected[row].tobytes(), actual[row].tobytes())


def window_bounds(end: int) -> Iterator[tuple[int, int]]:
    """[first, stop) of windows of a disk, in bytes."""
    step = WINDOW_BLOCKS * BLOCK_BYTES
    for first in range(0, end, step):
        yield first, min(first + step, end)


def windows(sample: Sample, end: int) -> Iterator[Extents]:
    """What a sample draws of [0, end) in bytes, a window at a time."""
    for first, stop in window_bounds(end):
        runs = np.array(list(sample.runs(first // BLOCK_BYTES, block_count(stop))), dtype=np.int64).reshape(-1, 2)
        offsets, stops = runs[:, 0] * BLOCK_BYTES, np.minimum(runs[:, 1] * BLOCK_BYTES, stop)
        yield normalise(offsets, stops - offsets)
