"""Packs on their way up: frames collected to parts, parts handed to the store; owns pack boundaries.

A pack that is being finished (its last parts, its fsync or its completion) does not hold up the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmspare.format.pack import PACK_BYTES, PackHeader
from warmspare.format.packlist import PackRef
from warmspare.model.ids import PackId, RunId, VmKey
from warmspare.store import layout
from warmspare.store.contract import PART_BYTES, Store
from warmspare.threads import in_thread

MAX_OPEN_PACKS = 3  # two go up, which fills any link between them, and the next is there when one of them is done
# A pack that is complete is not sent again by a run that goes on after this one died. So on a slow link packs are
# small: those that are under way hold about as much as goes in this time. (Filling one takes no time there: it is not
# enough to close it when it is old.)
PACK_S = 5.0
LEAST_PACK_BYTES = 256 << 10
FIRST_PACK_BYTES = 2 << 20  # while it is not known yet what the link takes


def full_pack() -> int:
    """How large packs become where nothing speaks for smaller ones."""
    return PACK_BYTES


class PartBuffers:
    """Buffers for parts, used again once nothing refers to them: fresh ones cost a page fault every 4 KiB, of what is
    filled of them."""

    def __init__(self) -> None:
        self._free: list[npt.NDArray[np.uint8]] = []

    def take(self) -> memoryview:
        """PART_BYTES to fill. Every view made of it keeps it from being used again."""
        buffer = self._free.pop() if self._free else np.empty(PART_BYTES, dtype=np.uint8)
        loan = np.frombuffer(buffer, dtype=np.uint8)  # what all views of this use hold on to
        weakref.finalize(loan, self._free.append, buffer).atexit = False
        return memoryview(loan.data)


@dataclass(slots=True)
class _Open:
    index: int
    size: int
    parts: asyncio.Queue[memoryview | None]
    part: memoryview
    filled: int
    number: int
    began: float


class PackWriter:
    """Writes the packs of one disk.

    numbers: of packs, unique in the run. tasks: owns the uploads; if one fails,
    the group is cancelled. earlier: packs of earlier runs, which come first in the list. completed: told of each pack
    when it is in the store. pack_bytes: how large a pack may become, now. Frames come one at a time.
    """

    def __init__(
        self,
        store: Store,
        vm: VmKey,
        run: RunId,
        disk: int,
        numbers: Iterator[int],
        tasks: asyncio.TaskGroup,
        earlier: list[PackRef],
        completed: Callable[[PackRef], None],
        pack_bytes: Callable[[], int],
    ) -> None:
        self._store, self._vm, self._run, self._disk = store, vm, run, disk
        self._numbers, self._tasks = numbers, tasks
        self._refs: list[PackRef | None] = [*earlier]
        self._completed, self._pack_bytes = completed, pack_bytes
        self._uploads: list[asyncio.Task[None]] = []
        self._slots = asyncio.Semaphore(MAX_OPEN_PACKS)
        self._open: _Open | None = None
        self._parts = PartBuffers()
        self._enough = FIRST_PACK_BYTES  # for a pack, as fast as the store took the last

    async def add(self, buffers: list[bytes | memoryview]) -> tuple[int, int, int]:
        """Append a frame given in pieces. Returns (index of its pack in `finish`'s list, offset in it, the pack's
        number). The pack is complete only after a later call, so whoever writes down what was sent can do so first.

        Waits while the store takes no more; that is the back-pressure of the link.
        """
        pack = self._open
        if pack and (pack.size >= min(self._pack_bytes(), self._enough) or self._old(pack)):
            await self._end()
            pack = None
        pack = pack or await self._begin()
        offset = pack.size
        for buffer in buffers:
            await self._append(pack, buffer)
        return pack.index, offset, pack.number

    @staticmethod
    def _old(pack: _Open) -> bool:
        return pack.size >= LEAST_PACK_BYTES and time.monotonic() - pack.began >= PACK_S

    async def finish(self) -> list[PackRef]:
        """Complete every pack; what the manifest says of them."""
        await self._end()
        for task in self._uploads:
            await task
        return [ref for ref in self._refs if ref is not None]

    async def _begin(self) -> _Open:
        await self._slots.acquire()
        number = next(self._numbers)
        index = len(self._refs)
        self._refs.append(None)
        pack = self._open = _Open(index, 0, asyncio.Queue(1), self._parts.take(), 0, number, time.monotonic())
        self._uploads.append(self._tasks.create_task(self._send(index, number, pack.parts)))
        await self._append(pack, PackHeader(PackId(self._run, number), self._disk).encode())
        return pack

    async def _append(self, pack: _Open, data: bytes | memoryview) -> None:
        view = memoryview(data)
        pack.size += len(view)
        while view:
            count = min(len(view), PART_BYTES - pack.filled)
            pack.part[pack.filled : pack.filled + count] = view[:count]
            pack.filled += count
            view = view[count:]
            if pack.filled == PART_BYTES:
                await pack.parts.put(pack.part)
                pack.part, pack.filled = self._parts.take(), 0

    async def _end(self) -> None:
        pack, self._open = self._open, None
        if pack:
            if pack.filled:
                await pack.parts.put(pack.part[: pack.filled])
            await pack.parts.put(None)

    async def _send(self, index: int, number: int, parts: asyncio.Queue[memoryview | None]) -> None:
        summed, pack = hashlib.sha256(), PackId(self._run, number)
        began = time.monotonic()
        try:
            async with self._store.upload(layout.pack_key(self._vm, pack)) as upload:
                while (part := await parts.get()) is not None:
                    await in_thread(summed.update, part)
                    await upload.write(part)
            ref = self._refs[index] = PackRef(pack, upload.bytes, upload.crc32c, summed.digest())
            await in_thread(self._completed, ref)
            # Packs share the link, so that all which are under way hold what goes in that time.
            rate = ref.bytes / max(0.001, time.monotonic() - began)
            self._enough = max(LEAST_PACK_BYTES, int(rate * PACK_S))
        finally:
            self._slots.release()
