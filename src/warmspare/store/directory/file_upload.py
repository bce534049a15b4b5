"""Files on their way to becoming objects: made in the temporary area, published by link(2) once durable;
refuses to publish over another object.
"""
# ruff: noqa: PTH108, PTH112, PTH120

from __future__ import annotations

import builtins
import contextlib
import os
import random
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import crc32c as crc

from warmspare.errors import StoreError
from warmspare.outside.regular_files import open_below
from warmspare.store.contract import PART_BYTES, Pace, unpaced
from warmspare.store.directory.durable import link_new, make_directories, naming, prune, sync_directory, write_all
from warmspare.store.directory.root import Root
from warmspare.threads import Threads

_TRIES = 64  # of making a directory that others prune at the same moment
_T = TypeVar("_T")


class Staging:
    """The directory of a repository and its temporary area. Everything here blocks and raises OSErrors."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.place = Root(root)
        self.temporary = f"{root}/.tmp~"
        self.uploads = f"{self.temporary}/uploads"

    def path(self, key: str) -> str:
        """Where the object of a key stands."""
        return f"{self.root}/{key}"

    def open_new(self, key: str) -> tuple[int, str]:
        """A new file in the temporary area, open for writing and reading, and its path."""
        staged = f"{self.uploads}/{key}/{secrets.token_hex(8)}"
        self.place.check()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return self.in_parent(staged, lambda: os.open(staged, flags, 0o666), durable=False), staged

    def stage(self, key: str, data: bytes) -> str:
        """The path of a new, synced file in the temporary area that holds the data."""
        fd, staged = self.open_new(key)
        try:
            try:
                write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            self.discard(staged)
            raise
        return staged

    def discard(self, staged: str) -> None:
        """Remove a file of the temporary area, which was published under its name or is of no use; fine if it is gone.
        One that can't be removed is left as an unfinished upload: whatever was done with it stands."""
        with contextlib.suppress(OSError):
            self.remove(staged)

    def remove(self, staged: str) -> None:
        """The same, where removing it is what was asked for."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(staged)
        prune(self.uploads, os.path.dirname(staged))

    def in_parent(self, path: str, call: Callable[[], _T], *, durable: bool) -> _T:
        """What `call` returns once the directory of `path` exists; others may prune it at the same time."""
        for attempt in range(_TRIES):
            try:
                make_directories(self.root, os.path.dirname(path), durable=durable)
                return call()
            except FileNotFoundError:
                if attempt == _TRIES - 1 or not os.path.isdir(os.path.dirname(self.root)):
                    raise
            if attempt > 3:
                time.sleep(random.random() / 1000)  # noqa: S311 (to get out of step)
        raise AssertionError("unreachable")


class FileUpload:
    """An `Upload` (contract.py) into a file of the temporary area, published once it is durable. pace: of a `Paced`."""

    def __init__(self, staging: Staging, threads: Threads, key: str, pace: Pace = unpaced) -> None:
        self._staging, self._threads, self._key, self._pace = staging, threads, key, pace
        self._path = staging.path(key)
        self._fd: int | None = None
        self._staged: str | None = None
        self._crc32c = self._bytes = 0
        self._ended = False

    @property
    def crc32c(self) -> int:
        """CRC32C of the bytes written so far; of the object once the block was left."""
        return self._crc32c

    @property
    def bytes(self) -> int:
        """Bytes handed over so far."""
        return self._bytes

    async def __aenter__(self) -> Self:
        try:
            await self._threads.run(self._begin)
        except BaseException:
            await self._threads.run(self._abort)
            raise
        return self

    def reader(self) -> int:
        """A descriptor of its own for what is written, good for as long as it is open, whatever becomes of the object.
        For while the block runs."""
        assert self._fd is not None
        return os.dup(self._fd)

    async def write(self, part: builtins.bytes | bytearray | memoryview) -> None:
        """See Upload.write. ValueError for a part after a short one, or a longer one than PART_BYTES."""
        view = memoryview(part).cast("B")
        length = view.nbytes
        if self._ended or length > PART_BYTES:
            raise ValueError(f"a part of {length} bytes: only the last may differ from {PART_BYTES}, by being shorter")
        self._ended = length < PART_BYTES
        self._bytes += length
        while view:
            count = await self._pace(view.nbytes)
            await self._threads.run(self._write, view[:count])
            view = view[count:]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        await self._threads.run(self._abort if kind is not None else self._complete)

    def _begin(self) -> None:
        with naming("cannot begin an upload", self._path):
            self._fd, self._staged = self._staging.open_new(self._key)

    def _write(self, part: memoryview) -> None:
        assert self._fd is not None
        self._crc32c = crc.crc32c(part, self._crc32c)
        with naming("cannot write the object", self._path):
            write_all(self._fd, part)

    def _complete(self) -> None:
        assert self._fd is not None and self._staged is not None
        path, staged = self._path, self._staged
        try:
            with naming("cannot complete the object", path):
                os.fsync(self._fd)
                if os.fstat(self._fd).st_size != self._bytes:
                    raise StoreError("the file's size is not what was written", where=staged, hint="check the disk")
                if (
                    not self._staging.in_parent(path, lambda: link_new(staged, path), durable=True)
                    and not self._is_there()
                ):
                    raise StoreError(
                        "another object stands under the key of an upload",
                        where=path,
                        hint="it is not of this run; run again",
                    )
                sync_directory(os.path.dirname(path))
                self._staging.place.check()
        finally:
            self._abort()

    def _is_there(self) -> bool:
        """Whether the object under our key has our bytes (an earlier try may have put it there)."""
        there = 0
        with open(open_below(self._staging.root, self._key), "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != self._bytes:
                return False
            while chunk := file.read(1 << 20):
                there = crc.crc32c(chunk, there)
        return there == self._crc32c

    def _abort(self) -> None:
        """Remove the partial file; a failure to do so leaves a stale upload and hides no other error."""
        with contextlib.suppress(OSError):
            if self._fd is not None:
                os.close(self._fd)
        if self._staged is not None:
            self._staging.discard(self._staged)
        self._fd = self._staged = None
