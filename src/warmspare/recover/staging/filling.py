"""Blocks from where they are to a pending EBS snapshot; owns how many are in memory and under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from warmspare.errors import IntegrityError
from warmspare.format.restore_point import Disk
from warmspare.model.columns import U32
from warmspare.observe.events import Meter
from warmspare.recover.blocks.ebs_blocks import EBS_BLOCK_BYTES, EbsBlockSet
from warmspare.recover.blocks.ebs_window import WINDOW, EbsBlock, EbsWindow, blocks_of
from warmspare.recover.staging.digests import Digests
from warmspare.recover.staging.ebs import Ebs, SnapshotGoneError
from warmspare.repository.blocks.block_window import BlockWindow
from warmspare.state.local_table import HashTable
from warmspare.threads import Threads

READERS = 3  # windows of 4 MiB in the making
PUTS_UNDER_WAY = 48  # of 512 KiB; at AWS's 1000 a second, what 48 ms take
QUEUED = 16


class FillingSource(Protocol):
    """Where the bytes of a disk come from."""

    async def fill(self, window: BlockWindow) -> None:
        """Give the window its bytes."""


class Filling:
    """Puts the blocks `wanted` of one disk, but for those that `digests` says were put. Runs once."""

    def __init__(
        self,
        ebs: Ebs,
        snapshot_id: str,
        disk: Disk,
        source: FillingSource,
        table: HashTable,
        wanted: EbsBlockSet,
        digests: Digests,
        threads: Threads,
        meter: Meter,
        *,
        unseen_until: float,
    ) -> None:
        self._ebs, self._snapshot_id, self._disk, self._source = ebs, snapshot_id, disk, source
        self._table, self._wanted, self._digests = table, wanted, digests
        self._threads, self._meter, self._unseen_until = threads, meter, unseen_until
        self._queue: asyncio.Queue[EbsBlock | None] = asyncio.Queue(QUEUED)
        self.put = self.kept = 0

    async def run(self) -> None:
        """Return when all of them are in the snapshot and in `digests`.

        IntegrityError, naming blocks, if bytes are not what the hash table says: none of them is put. StoreError,
        SnapshotGoneError, AwsError; the most telling one of several. A cancel leaves what was put, to go on from.
        """
        try:
            await self._run()
        except BaseExceptionGroup as group:
            raise _telling(group) from group

    async def _run(self) -> None:
        batches = self._batches()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(PUTS_UNDER_WAY):
                tasks.create_task(self._putter(), name="put")
            async with asyncio.TaskGroup() as readers:
                for _ in range(READERS):
                    readers.create_task(self._reader(batches), name="read")
            for _ in range(PUTS_UNDER_WAY):
                await self._queue.put(None)

    def _batches(self) -> Iterator[U32]:
        for batch in self._wanted.batches(WINDOW):
            left = self._digests.left(batch)
            self.kept += batch.size - left.size
            self._meter.done_bytes += (batch.size - left.size) * EBS_BLOCK_BYTES
            if left.size:
                yield left

    async def _reader(self, batches: Iterator[U32]) -> None:
        for indices in batches:
            for block in await self._blocks(indices):
                await self._queue.put(block)

    async def _blocks(self, indices: U32) -> list[EbsBlock]:
        capacity = self._disk.capacity_bytes
        window = EbsWindow(indices, capacity, self._table.read(blocks_of(indices, capacity)))
        await self._source.fill(window)
        wrong = await self._threads.run(window.wrong)
        if wrong:
            names = ", ".join(str(int(window.blocks[position])) for position in wrong[:8])
            raise IntegrityError(
                f"blocks of disk {self._disk.id} do not verify: {names}{' and more' if len(wrong) > 8 else ''}",
                hint="put the damaged objects back from a copy of the repository and stage again, or sync these blocks "
                "again from the source; nothing wrong was put",
            )
        self._meter.blocks_verified += window.blocks.size
        return await self._threads.run(window.finished)

    async def _putter(self) -> None:
        while (block := await self._queue.get()) is not None:
            await self._ebs.put(self._snapshot_id, block, unseen_until=self._unseen_until)
            self._digests.put(block.index, block.sha256)
            self.put += 1
            self._meter.sent_bytes += EBS_BLOCK_BYTES
            self._meter.done_bytes += EBS_BLOCK_BYTES


def _telling(group: BaseExceptionGroup) -> BaseException:
    found: list[BaseException] = [group]
    for error in found:
        if isinstance(error, BaseExceptionGroup):
            found += error.exceptions
    plain = [error for error in found if not isinstance(error, BaseExceptionGroup)]
    first = [error for kind in (IntegrityError, SnapshotGoneError) for error in plain if isinstance(error, kind)]
    return (first or plain)[0]
