"""One pack on its way into the spool, or past it to the store where the spool takes no more; owns that turn.

Room that was there when a pack began may be gone before it ends: others write there too, and nothing tells of a quota
before it is used up. What was written of the pack by then is read back, and the store gets all of it.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import crc32c

from warmspare.errors import NoRoomError, StoreError
from warmspare.state.local_files import local_io
from warmspare.store.contract import PART_BYTES, Store, Upload
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.directory.file_upload import FileUpload
from warmspare.threads import in_thread

WHAT = "the spool"


class SpooledUpload:
    """An `Upload` (store/contract.py). medium: the spool's own store, None if it has no room. on_full: called where
    that turns out on the way."""

    def __init__(self, key: str, medium: DirectoryStore | None, store: Store, on_full: Callable[[], None]) -> None:
        self._key, self._medium, self._store, self._on_full = key, medium, store, on_full
        self._spooled: FileUpload | None = None
        self._reader = -1  # of what went into the spool
        self._direct: Upload | None = None
        self._stack = AsyncExitStack()  # of the direct one

    @property
    def waits(self) -> bool:
        """Whether it lies in the spool, once the block was left."""
        return self._spooled is not None

    @property
    def crc32c(self) -> int:
        return self._chosen.crc32c

    @property
    def bytes(self) -> int:
        return self._chosen.bytes

    @property
    def _chosen(self) -> Upload:
        chosen = self._spooled or self._direct
        assert chosen is not None
        return chosen

    async def __aenter__(self) -> Self:
        if self._medium is None or not await self._begun(self._medium.upload(self._key)):
            await self._turn(0, 0)
        return self

    async def _begun(self, upload: FileUpload) -> bool:
        """Whether the spool has room for its file."""
        try:
            await upload.__aenter__()
        except NoRoomError:
            return False
        self._spooled = upload
        try:
            with local_io(WHAT, self._where):
                self._reader = upload.reader()
        except StoreError as error:
            await upload.__aexit__(StoreError, error, None)
            raise
        return True

    async def write(self, part: builtins.bytes | bytearray | memoryview) -> None:
        """See Upload.write."""
        if self._spooled is not None:
            crc, size = self._spooled.crc32c, self._spooled.bytes
            try:
                await self._spooled.write(part)
            except NoRoomError as error:
                await self._turn(crc, size)
                spooled, self._spooled = self._spooled, None
                await spooled.__aexit__(NoRoomError, error, None)
        if self._direct is not None:
            await self._direct.write(part)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._spooled is not None:
                await self._end_spooled(self._spooled, kind, error, trace)
            if self._direct is not None:
                await self._stack.__aexit__(kind, error, trace)
        finally:
            if self._reader >= 0:
                os.close(self._reader)

    async def _end_spooled(
        self,
        spooled: FileUpload,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await spooled.__aexit__(kind, error, trace)
        except NoRoomError:  # a file system may tell so late, or have no room for the name
            self._spooled = None
            await self._turn(spooled.crc32c, spooled.bytes)

    async def _turn(self, crc: int, size: int) -> None:
        """Begin at the store, with what went into the spool so far."""
        self._on_full()
        async with AsyncExitStack() as stack:
            direct = await stack.enter_async_context(self._store.upload(self._key))
            again = 0
            for at in range(0, size, PART_BYTES):
                part = await in_thread(self._read_back, at, min(PART_BYTES, size - at))
                again = crc32c.crc32c(part, again)
                if at + PART_BYTES >= size and again != crc:
                    raise self._damaged()
                await direct.write(part)
            self._direct, self._stack = direct, stack.pop_all()

    def _read_back(self, at: int, length: int) -> builtins.bytes:
        with local_io(WHAT, self._where):
            part = os.pread(self._reader, length, at)
        if len(part) != length:
            raise self._damaged()
        return part

    def _damaged(self) -> StoreError:
        return StoreError(
            "a pack in the spool does not read as it was written",
            where=self._where,
            hint="nothing was published; check the medium and run again",
            retryable=True,
        )

    @property
    def _where(self) -> str:
        assert self._medium is not None
        return f"{self._medium.uri}/{self._key}"
