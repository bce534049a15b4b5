"""A repository in a directory: objects are files, published by link(2) once they are durable; refuses to
replace an object unless asked by its tag, and to show one that is not whole.

Beside the objects there is `.tmp~` (no key holds a `~`, so it can't be one) with
    .tmp~/uploads/<key>/<token>   what is being written; a killed writer leaves it (stale_uploads finds it)
    .tmp~/lock                    excludes two compare-and-swaps
A file system can't hold the keys `a` and `a/b` at once, nor parts of keys beyond 255 bytes.
"""

# ruff: noqa: PTH105, PTH108, PTH116, PTH120
# Plain strings instead of pathlib: a listing must not pay for a Path a file.

from __future__ import annotations

import builtins
import contextlib
import os
import re
from collections.abc import AsyncIterator, Sequence

from warmspare.errors import FULL, StoreError
from warmspare.outside.regular_files import open_regular
from warmspare.store.contract import ObjectInfo, Pace, StaleUpload, paced, unpaced
from warmspare.store.directory.durable import (
    link_new,
    locked,
    make_directories,
    naming,
    not_found,
    prune,
    store_error,
    sync_directory,
    walk_keys,
)
from warmspare.store.directory.file_upload import FileUpload, Staging
from warmspare.store.directory.object_files import ObjectFiles, modified_s
from warmspare.store.layout import check_key, check_prefix
from warmspare.threads import Threads

_DELETE_BATCH = 256
_TOKEN = re.compile(r"[0-9a-f]{16}")


class DirectoryStore:
    """A `Store` (contract.py) under one directory, which the first write makes; its parent must exist. `Paced`."""

    def __init__(self, root: str, *, uri: str | None = None, concurrency: int = 4) -> None:
        """root: absolute path. uri: what messages call it. concurrency: threads for file operations."""
        self.uri = uri if uri is not None else root
        self.pace: Pace = unpaced
        self._staging = Staging(root.rstrip("/") or "/")
        self._objects = ObjectFiles(self._staging)
        self._threads = Threads(concurrency, "store")

    @property
    def server(self) -> str:
        """See Store.server: the file system, by the number of its device; one that is mounted later has another."""
        try:
            return f"device {os.stat(self._staging.root).st_dev:x}"
        except OSError:
            return ""

    # -- reading ------------------------------------------------------------------------------------------

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        """See Store.get."""
        return await self._threads.run(self._objects.get, check_key(key), max_bytes)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See Store.get_range."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length must not be negative")
        return await self._threads.run(self._objects.get_range, check_key(key), offset, length)

    async def head(self, key: str) -> ObjectInfo | None:
        """See Store.head; no CRC32C is kept."""
        return await self._threads.run(self._objects.head, check_key(key))

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """See Store.list. An empty or missing directory lists nothing."""
        walk = walk_keys(self._staging.root, check_prefix(prefix), start_after)
        while batch := await self._threads.run(self._objects.list_batch, walk):
            for info in batch:
                yield info

    # -- writing ------------------------------------------------------------------------------------------

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """See Store.put: durable on return; replaces an object of that key."""
        await paced(self.pace, len(data))
        return await self._threads.run(self._put, check_key(key), data)

    async def create(self, key: str, data: bytes) -> bool:
        """See Store.create: durable on return, also where an identical object stood there already."""
        await paced(self.pace, len(data))
        return await self._threads.run(self._create, check_key(key), data)

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        """See Store.replace. After a power failure either the old or the new object is there, whole."""
        await paced(self.pace, len(data))
        return await self._threads.run(self._replace, check_key(key), data, etag)

    async def delete(self, keys: Sequence[str]) -> None:
        """See Store.delete: durable on return. Directories left empty are removed."""
        todo = [check_key(key) for key in keys]
        failures = []
        for at in range(0, len(todo), _DELETE_BATCH):
            failures += await self._threads.run(self._delete, todo[at : at + _DELETE_BATCH])
        if failures:
            raise failures[0]

    def _put(self, key: str, data: bytes) -> ObjectInfo:
        path = self._staging.path(key)
        with naming("cannot write the object", path):
            staged = self._staging.stage(key, data)
            try:
                self._staging.in_parent(path, lambda: os.replace(staged, path), durable=True)
                sync_directory(os.path.dirname(path))
                self._staging.place.check()
            finally:
                self._staging.discard(staged)
            info = self._objects.info(key)
        if info is None:
            raise not_found(path)
        return info

    def _create(self, key: str, data: bytes) -> bool:
        path = self._staging.path(key)
        with naming("cannot create the object", path):
            staged = self._staging.stage(key, data)
            try:
                ours = self._staging.in_parent(path, lambda: link_new(staged, path), durable=True)
            finally:
                self._staging.discard(staged)
            if not ours:
                ours = self._objects.same(key, data)
            if ours:  # also on "exists": the earlier try may not have come as far as the sync
                sync_directory(os.path.dirname(path))
                self._staging.place.check()
        return ours

    def _replace(self, key: str, data: bytes, etag: str | None) -> ObjectInfo | None:
        path = self._staging.path(key)
        with naming("cannot replace the object", path):
            self._staging.place.check()
            make_directories(self._staging.root, self._staging.temporary, durable=False)
            with locked(f"{self._staging.temporary}/lock"):
                try:
                    before = self._objects.info(key)
                except FileNotFoundError:
                    before = None
                if (before.etag if before is not None else None) != etag:
                    return None
                staged = self._staging.stage(key, data)
                try:
                    if before is None:
                        if not self._staging.in_parent(path, lambda: link_new(staged, path), durable=False):
                            return None  # create() takes no lock
                    else:
                        _make_newer(staged, path)
                        os.replace(staged, path)
                finally:
                    self._staging.discard(staged)
                return self._objects.info(key)  # not synced: see the docstring of replace

    def _delete(self, keys: builtins.list[str]) -> builtins.list[StoreError]:
        """Those that stay; all are tried."""
        paths = [self._staging.path(key) for key in keys]
        touched: set[str] = set()
        failures: builtins.list[StoreError] = []
        with naming("cannot delete objects", paths[0]):
            if not self._staging.place.check():
                return failures
            with contextlib.ExitStack() as stack:
                try:
                    make_directories(self._staging.root, self._staging.temporary, durable=False)
                    stack.enter_context(locked(f"{self._staging.temporary}/lock", needed=False))
                except OSError as error:
                    if error.errno not in FULL:  # no room for the lock's file: removing is what makes room
                        raise
                for path in paths:
                    try:
                        os.unlink(path)
                    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                        continue  # no object of that key
                    except OSError as error:
                        failures.append(store_error(error, "cannot delete an object", path))
                        failures[-1].__cause__ = error
                        continue
                    touched.add(os.path.dirname(path))
            for directory in sorted(touched, reverse=True):
                try:
                    sync_directory(directory)
                except FileNotFoundError:
                    continue  # pruned by another
                prune(self._staging.root, directory)
        return failures

    # -- uploads ------------------------------------------------------------------------------------------

    def upload(self, key: str) -> FileUpload:
        """See Store.upload."""
        return FileUpload(self._staging, self._threads, check_key(key), self.pace)

    async def stale_uploads(self, prefix: str) -> builtins.list[StaleUpload]:
        """See Store.stale_uploads. began_s is when the upload was last written to."""
        return await self._threads.run(self._stale_uploads, check_prefix(prefix))

    async def abort_upload(self, stale: StaleUpload) -> None:
        """See Store.abort_upload."""
        if not _TOKEN.fullmatch(stale.handle):
            raise ValueError(f"not a handle of this store: {stale.handle!r}")
        staged = f"{self._staging.uploads}/{check_key(stale.key)}/{stale.handle}"
        with naming("cannot remove an unfinished upload", staged):
            await self._threads.run(self._staging.remove, staged)

    def _stale_uploads(self, prefix: str) -> builtins.list[StaleUpload]:
        found = []
        for below, path in walk_keys(self._staging.uploads, prefix, objects=False):
            key, _, token = below.rpartition("/")
            if not key.startswith(prefix) or not _TOKEN.fullmatch(token):
                continue
            with naming("cannot look at an unfinished upload", path):
                try:
                    found.append(StaleUpload(key, token, modified_s(os.lstat(path))))
                except FileNotFoundError:
                    continue  # completed meanwhile
        return found

    async def takes_damage(self, key: str) -> bool | None:
        """See Store.takes_damage: no checksum goes to a file system."""
        return None

    # -- housekeeping -------------------------------------------------------------------------------------

    async def now(self) -> float:
        """See Store.now: the time that the file system gives a file touched there (a server's, over NFS)."""
        return await self._threads.run(self._now)

    async def close(self) -> None:
        """See Store.close."""
        self._threads.close()

    def _now(self) -> float:
        with naming("cannot ask the file system for the time", self._staging.temporary):
            try:
                fd, staged = self._staging.open_new("clock")
            except OSError as error:
                if error.errno not in FULL:
                    raise
                return self._now_without_room(error)
            try:
                os.utime(staged)
                return os.stat(staged).st_mtime_ns / 1e9
            finally:
                os.close(fd)
                self._staging.discard(staged)

    def _now_without_room(self, full: OSError) -> float:
        """By the lock's file, which is there wherever something was ever replaced; nobody asks for its date."""
        lock = f"{self._staging.temporary}/lock"
        try:
            os.close(open_regular(lock, os.O_RDWR))
        except FileNotFoundError:
            raise full from None
        os.utime(lock)
        return os.stat(lock).st_mtime_ns / 1e9


def _make_newer(staged: str, path: str) -> None:
    """Give the staged file a later modification time than the object has that it will replace.

    Within one tick of the kernel's clock (4 ms) two writes get the same time, and the second file may get the
    inode of the first; their tags must differ even where the content does not.
    """
    before, after = os.stat(path).st_mtime_ns, os.stat(staged).st_mtime_ns
    if after <= before:
        os.utime(staged, ns=(before + 1, before + 1))
