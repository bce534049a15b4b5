"""The rolling audit: in each sync a share of what change tracking calls unchanged is read and held against the hash
table. Owns which share and the comparison; refuses to say what follows from a difference (sync/diskrun.py).

docs/audits.md, "Audits of a source". Where the next share begins is local state; it moves when a point is published.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from warmspare._native import pages as native
from warmspare.errors import SourceError
from warmspare.format.hashtable import ENTRY_BYTES
from warmspare.model.columns import U32
from warmspare.model.extents import Extents
from warmspare.model.runs import Runs
from warmspare.model.units import BLOCK_BYTES, SPAN_BLOCKS
from warmspare.source.ports import Hole, Source, Span
from warmspare.state.local_table import HashTable
from warmspare.threads import finish

# In the `hardware` of a restore point: the disks on which its sync found changes that the tracker had not reported.
MISSED = "missed_changes"
FOUND = "the rolling audit found a change that change tracking had missed"
DISTRUSTED = "at the last restore point change tracking had missed changes"


@dataclass(frozen=True, slots=True)
class Rolling:
    """period_s: the time in which all of a disk is to be covered, 0: nothing is audited, and only what was found
    anyway counts. may_compare: whether a disk may be compared in full for what was found."""

    period_s: float
    may_compare: bool = True
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class RollingShare:
    """What a share came to. wrong: blocks that differ, of the first span or hole with a difference, the last that
    was read. whole: whether all of it was read. blocks: how many were judged. bytes_read: without holes. trouble: why
    some of it could not be read, "" if it could."""

    wrong: list[int]
    whole: bool
    blocks: int
    bytes_read: int
    trouble: str = ""


async def audit(
    source: Source, extents: Extents, table: HashTable, thread: Executor, until_s: float | None
) -> RollingShare:
    """Read block-aligned extents and hold each block's hash against the table, until one differs.

    until_s: by time.monotonic(), it ends then. A source that fails ends it too: what is already protected must not
    keep what is not from being protected. TableDamagedError, StoreError from the table.
    """
    loop = asyncio.get_running_loop()
    look = _Look(source.capacity_bytes, table)
    if not len(extents):
        return look.result(whole=True)  # some sources open a disk for each reading
    limit = asyncio.timeout(None if until_s is None else until_s - time.monotonic())
    try:
        async with limit, contextlib.aclosing(source.read(extents)) as items:
            async for item in items:
                try:
                    await finish(loop.run_in_executor(thread, look.at, item))
                finally:
                    if isinstance(item, Span):
                        item.release()
                if look.wrong:
                    return look.result(whole=False)
    except TimeoutError:
        if not limit.expired():
            raise
        return look.result(whole=False)
    except SourceError as error:
        return look.result(whole=False, trouble=error.sentence)
    return look.result(whole=True)


class _Look:
    """Compares; one call at a time."""

    def __init__(self, capacity_bytes: int, table: HashTable) -> None:
        self._capacity, self._table = capacity_bytes, table
        self.wrong: list[int] = []
        self._blocks = self._bytes = 0
        self._hashes = np.empty((SPAN_BLOCKS, ENTRY_BYTES), dtype=np.uint8)

    def at(self, item: Span | Hole) -> None:
        if isinstance(item, Hole):
            self._blocks += item.stop - item.start
            self.wrong += next((blocks.tolist() for blocks in self._table.nonzero(item.start, item.stop)), [])
            return
        blocks: U32 = item.blocks
        self._blocks += blocks.size
        self._bytes += len(item.data)
        native.hash_span(item.data, self._hashes.reshape(-1))
        different = (self._hashes[: blocks.size] != self._table.read(blocks)).any(axis=1)
        self.wrong += blocks[different].tolist()

    def result(self, *, whole: bool, trouble: str = "") -> RollingShare:
        return RollingShare(self.wrong, whole, self._blocks, self._bytes, trouble)


def first_run(wrong: list[int], capacity_bytes: int) -> tuple[int, int]:
    """(offset, length) in bytes of the first neighbouring blocks of an ascending list."""
    start, count = next(Runs.of(np.array(wrong, dtype=np.uint32)).pairs())
    return start * BLOCK_BYTES, min(count * BLOCK_BYTES, capacity_bytes - start * BLOCK_BYTES)
