"""Packs on their way through a local directory: written at reading speed, sent at the link's; owns their order.

A pack that is in the spool counts as sent for whoever wrote it, so the machine's snapshot can go. Nothing names a pack
before it is in the store: the run that wrote it waits for that, or the one that finishes it (sealed.py). What finds no
room goes to the store straight away (spool_upload.py): a full spool costs time and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import crc32c

from warmspare.errors import NoRoomError, NotFoundError, StoreError
from warmspare.format.pack import PACK_BYTES
from warmspare.model.ids import VmId, vm_key
from warmspare.observe.housekeeping import Housekeeping
from warmspare.outside.regular_files import demand_folders
from warmspare.state.local_files import local_io, locked
from warmspare.store.around.passing import PassingStore
from warmspare.store.clearing import Clearing
from warmspare.store.contract import PART_BYTES, Store, Upload
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.sync.publishing.spool_upload import WHAT, SpooledUpload
from warmspare.sync.stages.pack_writer import LEAST_PACK_BYTES, PACK_S
from warmspare.threads import in_thread

SENDERS = 2  # packs under way at a time: while one ends, the next keeps the link busy
FIRST_PACK_BYTES = 1 << 20  # until it is known how fast the link is
FREE_BYTES = 256 << 20  # of the file system, that are left to others
POLL_S = 1.0  # others that share the directory may make room too
RATE_S = 10.0


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """Where packs may wait. size_bytes: of all that waits there, other VMs' too; None for all the file system has."""

    directory: Path
    size_bytes: int | None = None

    def of(self, vm: VmId, repository: str) -> Path:
        """The directory of one VM's packs for one repository."""
        return self.directory / vm_key(vm) / repository


class Spool(PassingStore):
    """The store, with its uploads going through `directory`. Use it as a context manager, which owns the senders: leave
    it after `drained`, or what waits stays there. One at a time may use a directory.

    room: the place it shares with others. rate: bytes a second of the link, as far as it is known. on_full: called
    once if the spool fills up, for then reading goes no faster than the link.
    """

    def __init__(
        self,
        store: Store,
        directory: Path,
        room: SpoolPlace,
        housekeeping: Housekeeping,
        *,
        rate: float | None = None,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(store)
        self._directory, self._room, self._rate, self._on_full = directory, room, rate, on_full
        self._medium = DirectoryStore(str(directory), uri=str(directory))
        self._clearing = Clearing(self._medium, housekeeping)
        self._queue: asyncio.Queue[tuple[str, int, int]] = asyncio.Queue()  # key, length, CRC32C
        self._waiting = 0  # packs that are not in the store yet
        self._sent = asyncio.Event()  # set when one has gone
        self._usable, self._full = True, False
        self._counted = (time.monotonic(), 0)  # since when, and how much was sent since
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            try:
                self._claim(stack)
            except NoRoomError:  # not even for a lock, so nothing waits there either
                self._usable = False
                self._tell_full()
            stack.push_async_callback(self._medium.close)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            senders = [tasks.create_task(self._send_all(), name="send from the spool") for _ in range(SENDERS)]
            stack.callback(lambda: [task.cancel() for task in senders])
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, trace)

    def _claim(self, stack: AsyncExitStack) -> None:
        """Make the directory, and keep others from it."""
        with local_io(WHAT, self._directory):
            demand_folders(self._room.directory, self._directory)
            self._directory.mkdir(parents=True, exist_ok=True)
        beside = self._directory.with_name(self._directory.name + ".lock")  # inside it would be an object
        if not stack.enter_context(locked(beside, WHAT)):
            raise StoreError(
                "the spool is in use by another run",
                where=str(self._directory),
                hint="give each state directory a spool of its own",
                retryable=True,
            )

    def pack_bytes(self) -> int:
        """How large a pack should be: its sending takes about PACK_S at most, for that is lost with the sender."""
        if self._rate is None:
            return FIRST_PACK_BYTES
        return max(LEAST_PACK_BYTES, min(int(self._rate * PACK_S / SENDERS), PACK_BYTES))

    @asynccontextmanager
    async def _upload(self, key: str) -> AsyncIterator[Upload]:
        medium = self._medium if await self._have_room() else None
        async with SpooledUpload(key, medium, self._store, self._tell_full) as upload:
            yield upload
        if upload.waits:
            self._enqueue(key, upload.bytes, upload.crc32c)

    def _enqueue(self, key: str, size: int, crc: int) -> None:
        self._waiting += 1
        self._queue.put_nowait((key, size, crc))

    async def _have_room(self) -> bool:
        """Wait while the spool is full of our packs; whether there is room then. Nobody waits for others' packs, or two
        VMs could wait for each other."""
        while self._usable and not await in_thread(self._fits, self.pack_bytes() + PART_BYTES):
            self._tell_full()
            if not self._waiting:
                return False
            self._sent.clear()
            try:
                async with asyncio.timeout(POLL_S):
                    await self._sent.wait()
            except TimeoutError:
                continue
        return self._usable

    def _tell_full(self) -> None:
        if not self._full:
            self._full = True
            self._on_full()

    def _fits(self, more: int) -> bool:
        with local_io(WHAT, self._room.directory):
            at = os.statvfs(self._directory)
            if at.f_bavail * at.f_frsize < more + FREE_BYTES:
                return False
            return self._room.size_bytes is None or _weight(self._room.directory) + more <= self._room.size_bytes

    # what an earlier run left

    async def take(self, wanted: Mapping[str, tuple[int, int]]) -> set[str]:
        """Of what an earlier run left here keep what is wanted, given by key with length and CRC32C, and remove the
        rest, as far as that can be. The keys that are here; `send` sends them."""
        if not self._usable:
            return set()
        await self._clearing.uploads("")
        found = [info async for info in self._medium.list("")]
        here = {info.key for info in found if info.key in wanted and wanted[info.key][0] == info.bytes}
        await self._clearing.objects([info.key for info in found if info.key not in here])
        return here

    def send(self, packs: Mapping[str, tuple[int, int]]) -> None:
        """Have packs sent that are here already: length and CRC32C by key."""
        for key, (size, crc) in sorted(packs.items()):
            self._enqueue(key, size, crc)

    # sending

    async def drained(self) -> None:
        """Returns when everything that was put here is in the store."""
        await self._queue.join()

    async def _send_all(self) -> None:
        while True:
            await self._send(*await self._queue.get())
            self._queue.task_done()
            self._waiting -= 1
            self._sent.set()

    async def _send(self, key: str, size: int, crc: int) -> None:
        found = 0
        try:
            async with self._store.upload(key) as upload:
                for at in range(0, size, PART_BYTES):
                    part = await self._medium.get_range(key, at, min(PART_BYTES, size - at))
                    found = crc32c.crc32c(part, found)
                    if at + len(part) == size and found != crc:
                        raise self._damaged(key, "does not read as it was written")
                    await upload.write(part)
        except NotFoundError:
            raise self._damaged(key, "is gone") from None
        except _DamagedError:
            await self._clearing.objects([key])  # so that the next run knows that it has to be read again
            raise
        await self._clearing.objects([key])
        self._measure(size)

    def _damaged(self, key: str, what: str) -> StoreError:
        return _DamagedError(
            f"a pack in the spool {what}",
            where=str(self._directory / key),
            hint="nothing was published; check the medium and run again: what it held is read once more",
            retryable=True,
        )

    def _measure(self, size: int) -> None:
        since, sent = self._counted
        elapsed, sent = time.monotonic() - since, sent + size
        self._counted = (since, sent)
        if elapsed >= RATE_S:
            self._rate, self._counted = sent / elapsed, (since + elapsed, 0)


class _DamagedError(StoreError):
    pass


def _weight(root: Path) -> int:
    """Bytes of all files below a directory; of those that stay while it is looked at."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118 (there can be many)
            except FileNotFoundError:
                continue
    return total
