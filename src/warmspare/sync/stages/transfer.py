"""One disk through the stages: read, filter, compress, pack, upload; owns the queues between them.

Each stage is a coroutine with a bounded queue behind it; bytes are worked on in threads with the GIL released.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from warmspare.format.packlist import PackRef
from warmspare.model.extents import Extents, normalise
from warmspare.model.ids import RunId, VmKey
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Meter
from warmspare.source.ports import Hole, Source, Span
from warmspare.store.contract import Store
from warmspare.sync.journal.manifest_file import ManifestFile
from warmspare.sync.journal.sentlog import SentFrame, SentLog
from warmspare.sync.planning.read_plan import ReadPlan, rest
from warmspare.sync.resuming.reuse import Resume
from warmspare.sync.rows import Draft, Encoded, Filtered, Untracked
from warmspare.sync.stages.filter import PageFilter
from warmspare.sync.stages.frame_builder import FrameBuilder, encode
from warmspare.sync.stages.level import Level
from warmspare.sync.stages.pack_writer import PackWriter
from warmspare.threads import finish

# Enough of each that a stage which is kept off the processor for a while does not starve the next.
SPANS_AHEAD = 4
DRAFTS_AHEAD = 8
FRAMES_AHEAD = 8
NICENESS = 5


@dataclass(frozen=True, slots=True)
class Codec:
    """Worker threads: `pool` compresses, one a core; `single` filters, in order."""

    pool: ThreadPoolExecutor
    single: ThreadPoolExecutor
    cores: int
    level: Level


def _stand_back() -> None:
    """Let the other stages preempt this thread: what feeds the compressors must never wait behind them. Measured:
    a tenth of the time of a first sync on two cores."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@asynccontextmanager
async def codec(level: Level) -> AsyncIterator[Codec]:
    cores = len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(cores, thread_name_prefix="codec", initializer=_stand_back)
    single = ThreadPoolExecutor(1, thread_name_prefix="filter")
    try:
        yield Codec(pool, single, cores, level)
    finally:  # they are at rest, or what they are at is not for the event loop to wait for
        for each in (pool, single):
            each.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class PackTarget:
    """Where packs go. numbers: of packs, unique in the run. pack_bytes: their size."""

    store: Store
    vm: VmKey
    run: RunId
    disk: int
    numbers: Iterator[int]
    pack_bytes: Callable[[], int]


class Transfer:
    """Runs once, for one disk.

    on_untracked: hears of pages that changed outside the reported extents. on_read: called when the source has given
    its last byte, while what it gave is still on its way; with what of the plan is left. sent: where it is written down
    what is in the store. resume: what earlier runs have sent. until_s: by time.monotonic(), reading ends then, and what
    was read is sent all the same.
    """

    def __init__(
        self,
        source: Source,
        plan: ReadPlan,
        page_filter: PageFilter,
        manifest: ManifestFile,
        target: PackTarget,
        codec: Codec,
        meter: Meter,
        on_untracked: Callable[[Untracked], None],
        on_read: Callable[[Extents], None],
        sent: SentLog,
        resume: Resume | None,
        until_s: float | None = None,
    ) -> None:
        self._source, self._plan, self._filter = source, plan, page_filter
        self._manifest, self._target, self._codec = manifest, target, codec
        self._meter, self._on_untracked, self._on_read = meter, on_untracked, on_read
        self._sent, self._resume, self._until_s = sent, resume, until_s
        self._spans: asyncio.Queue[Span | Hole | None] = asyncio.Queue(SPANS_AHEAD)
        self._drafts: asyncio.Queue[Draft | None] = asyncio.Queue(DRAFTS_AHEAD)
        self._frames: asyncio.Queue[asyncio.Future[Encoded] | None] = asyncio.Queue(FRAMES_AHEAD)
        self._builder = FrameBuilder()
        self.changed_blocks = 0

    async def run(self) -> list[PackRef]:
        """Returns the packs when every one of them is complete in the store."""
        async with asyncio.TaskGroup() as tasks:
            packs = PackWriter(
                self._target.store,
                self._target.vm,
                self._target.run,
                self._target.disk,
                self._target.numbers,
                tasks,
                self._resume.packs if self._resume else [],
                self._sent.complete,
                self._target.pack_bytes,
            )
            tasks.create_task(self._read(), name="read")
            tasks.create_task(self._filter_spans(), name="filter")
            tasks.create_task(self._compress(), name="compress")
            done = tasks.create_task(self._pack(packs), name="pack")
        return done.result()

    async def _read(self) -> None:
        after = 0  # the end of the last item that was passed on
        limit = asyncio.timeout(None if self._until_s is None else self._until_s - time.monotonic())
        left = normalise([], [])
        if self._until_s is not None and self._until_s <= time.monotonic():
            left = self._plan.read
        else:
            try:
                # Wherever it waits then, for the source or for a link that takes nothing, it waits no longer.
                async with limit, contextlib.aclosing(self._source.read(self._plan.read)) as items:
                    async for item in items:
                        await self._pass_on(item)
                        after = item.stop if isinstance(item, Hole) else int(item.blocks[-1]) + 1
            except TimeoutError:
                if not limit.expired():
                    raise
                left = rest(self._plan.read, after * BLOCK_BYTES)
        self._on_read(left)
        await self._spans.put(None)

    async def _pass_on(self, item: Span | Hole) -> None:
        try:
            await self._spans.put(item)
        except asyncio.CancelledError:
            if isinstance(item, Span):
                item.release()
            raise

    def _look(self, items: list[Span | Hole]) -> list[tuple[list[Draft], list[Filtered]]]:
        """In the filter's thread: compare, then gather while the span is still in the cache."""
        out: list[tuple[list[Draft], list[Filtered]]] = []
        for item in items:
            if isinstance(item, Hole):
                found = self._filter.hole(item)
                out.append(([draft for part in found for draft in self._builder.add(None, part)], found))
            else:
                part = self._filter.span(item)
                new, reused = self._resume.split(part) if self._resume else (part, None)
                out.append((self._builder.add(item, new, reused), [part]))
        return out

    async def _filter_spans(self) -> None:
        loop = asyncio.get_running_loop()
        ended = False
        while not ended:
            # All that is waiting goes in one visit to the thread; a visit costs as much as filtering half a span.
            items = [await self._spans.get()]
            while not self._spans.empty():
                items.append(self._spans.get_nowait())
            ended = items[-1] is None
            work = [item for item in items if item is not None]
            results = await finish(loop.run_in_executor(self._codec.single, self._look, work))
            for item, (drafts, found) in zip(work, results, strict=True):
                self._count(item, found)
                for draft in drafts:
                    await self._drafts.put(draft)
        for draft in self._builder.finish():
            await self._drafts.put(draft)
        await self._drafts.put(None)

    def _count(self, item: Span | Hole, found: list[Filtered]) -> None:
        if isinstance(item, Span):
            self._meter.read_bytes += len(item.data)
            self._meter.done_bytes += len(item.data)
            item.release()
        else:
            self._meter.done_bytes += (item.stop - item.start) * BLOCK_BYTES
        for part in found:
            self._meter.changed_bytes += part.changed_bytes
            self.changed_blocks += len(part.records) + part.zero_blocks.size
            for finding in part.untracked:
                self._on_untracked(finding)

    async def _compress(self) -> None:
        loop = asyncio.get_running_loop()
        while (draft := await self._drafts.get()) is not None:
            level = self._codec.level.now
            await self._frames.put(loop.run_in_executor(self._codec.pool, encode, draft, level))
        await self._frames.put(None)

    async def _pack(self, packs: PackWriter) -> list[PackRef]:
        level = self._codec.level
        while (future := await self._frames.get()) is not None:
            began = time.monotonic()
            encoded = await future
            ready = time.monotonic()
            place = await packs.add(encoded.buffers) if encoded.buffers else None
            level.waited(codec_s=ready - began, link_s=time.monotonic() - ready)
            encoded.release()
            if place is not None:
                index, offset, number = place
                frame = (number, offset, encoded.frame_bytes)
                records = encoded.records
                self._sent.add(SentFrame(*frame, records.block, records.carried, encoded.page_hashes))
                self._manifest.add(encoded, (index, offset))
            else:
                self._manifest.add(encoded, None)
        return await packs.finish()
