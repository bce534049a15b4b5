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
import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Sequence

from warmspare.errors import FULL, StoreError
from warmspare.outside.regular_files import NotRegularError, kind_of, open_below, open_regular, stat_below
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
from warmspare.store.layout import check_key, check_prefix, names_object
from warmspare.threads import Threads

TAGGED_BYTES = 4096  # objects up to this size have a hash of their content in the tag
LAST_S = 253_402_300_799.0  # 9999-12-31
_LIST_BATCH = 512
_DELETE_BATCH = 256
_TOKEN = re.compile(r"[0-9a-f]{16}")


class DirectoryStore:
    """A `Store` (base.py) under one directory, which the first write makes; its parent must exist. `Paced`."""

    def __init__(self, root: str, *, uri: str | None = None, concurrency: int = 4) -> None:
        """root: absolute path. uri: what messages call it. concurrency: threads for file operations."""
        self.uri = uri if uri is not None else root
        self.pace: Pace = unpaced
        self._staging = Staging(root.rstrip("/") or "/")
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
        return await self._threads.run(self._get, check_key(key), max_bytes)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See Store.get_range."""
        if offset < 0 or length < 0:
            raise ValueError("offset and length must not be negative")
        return await self._threads.run(self._get_range, check_key(key), offset, length)

    async def head(self, key: str) -> ObjectInfo | None:
        """See Store.head; no CRC32C is kept."""
        return await self._threads.run(self._head, check_key(key))

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """See Store.list. An empty or missing directory lists nothing."""
        walk = walk_keys(self._staging.root, check_prefix(prefix), start_after)
        while batch := await self._threads.run(self._list_batch, walk):
            for info in batch:
                yield info

    def _get(self, key: str, max_bytes: int) -> bytes:
        path = self._staging.path(key)
        with naming("cannot read the object", path):
            fd = self._open(key)
            try:
                size = os.fstat(fd).st_size
                if size > max_bytes:
                    raise StoreError(
                        f"the object has {size} bytes where at most {max_bytes} are expected",
                        where=path,
                        hint="it is damaged or not an object of this repository",
                    )
                data = _read_exactly(fd, 0, size)
            finally:
                os.close(fd)
        if len(data) != size:
            raise _short(path, 0, size, len(data))
        return data

    def _get_range(self, key: str, offset: int, length: int) -> bytes:
        path = self._staging.path(key)
        with naming("cannot read the object", path):
            fd = self._open(key)
            try:
                size = os.fstat(fd).st_size
                data = b"" if offset + length > size else _read_exactly(fd, offset, length)
            finally:
                os.close(fd)
        if len(data) != length or offset > size:
            raise _short(path, offset, length, max(0, min(length, size - offset)))
        return data

    def _open(self, key: str) -> int:
        self._staging.place.check()
        try:
            return open_below(self._staging.root, key)
        except (FileNotFoundError, NotADirectoryError):
            self._staging.place.check()  # which may have gone in this very moment
            raise not_found(self._staging.path(key)) from None
        except NotRegularError as error:
            if error.is_folder and not names_object(key):  # of a longer key
                raise not_found(self._staging.path(key)) from None
            raise

    def _head(self, key: str) -> ObjectInfo | None:
        path = self._staging.path(key)
        with naming("cannot look at the object", path):
            self._staging.place.check()
            try:
                return self._info(key)
            except (FileNotFoundError, NotADirectoryError):
                self._staging.place.check()
                return None

    def _list_batch(self, walk: Iterator[tuple[str, str]]) -> builtins.list[ObjectInfo]:
        found: list[ObjectInfo] = []
        with naming("cannot list the directory", self._staging.root):
            self._staging.place.check()
        for key, path in walk:
            with naming("cannot look at the object", path):
                try:
                    info = self._info(key)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # deleted meanwhile
            if info is not None:
                found.append(info)
            if len(found) == _LIST_BATCH:
                break
        with naming("cannot list the directory", self._staging.root):
            self._staging.place.check()
        return found

    def _info(self, key: str) -> ObjectInfo | None:
        """What the file system says of an object; None for a directory. FileNotFoundError if absent,
        NotRegularError for what is neither."""
        root = self._staging.root
        status = stat_below(root, key)
        if not stat.S_ISREG(status.st_mode):
            if stat.S_ISDIR(status.st_mode) and not names_object(key):
                return None
            raise NotRegularError(kind_of(status.st_mode), self._staging.path(key), "an object")
        content = ""
        if status.st_size <= TAGGED_BYTES:
            fd = open_below(root, key)
            try:
                status = os.fstat(fd)  # of the same file as the content: another may have replaced it
                data = _read_exactly(fd, 0, min(status.st_size, TAGGED_BYTES))
            finally:
                os.close(fd)
            content = "-" + hashlib.sha256(data).hexdigest()[:32]
        tag = f"{status.st_mtime_ns:x}-{status.st_ino:x}-{status.st_size:x}{content}"
        return ObjectInfo(key, status.st_size, _modified_s(status), tag)

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
            info = self._info(key)
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
                ours = self._same(key, data)
            if ours:  # also on "exists": the earlier try may not have come as far as the sync
                sync_directory(os.path.dirname(path))
                self._staging.place.check()
        return ours

    def _same(self, key: str, data: bytes) -> bool:
        try:
            with open(open_below(self._staging.root, key), "rb") as file:
                return os.fstat(file.fileno()).st_size == len(data) and file.read(len(data) + 1) == data
        except FileNotFoundError:
            return False  # it stood there a moment ago, so another's it was

    def _replace(self, key: str, data: bytes, etag: str | None) -> ObjectInfo | None:
        path = self._staging.path(key)
        with naming("cannot replace the object", path):
            self._staging.place.check()
            make_directories(self._staging.root, self._staging.temporary, durable=False)
            with locked(f"{self._staging.temporary}/lock"):
                try:
                    before = self._info(key)
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
                return self._info(key)  # not synced: see the docstring of replace

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
                    found.append(StaleUpload(key, token, _modified_s(os.lstat(path))))
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


def _modified_s(status: os.stat_result) -> float:
    """When a file was written; a date that no calendar has is one that it has."""
    return min(max(status.st_mtime_ns / 1e9, 0.0), LAST_S)


def _make_newer(staged: str, path: str) -> None:
    """Give the staged file a later modification time than the object has that it will replace.

    Within one tick of the kernel's clock (4 ms) two writes get the same time, and the second file may get the
    inode of the first; their tags must differ even where the content does not.
    """
    before, after = os.stat(path).st_mtime_ns, os.stat(staged).st_mtime_ns
    if after <= before:
        os.utime(staged, ns=(before + 1, before + 1))


def _read_exactly(fd: int, offset: int, length: int) -> bytes:
    """`length` bytes from `offset`, fewer only at the end of the file (Linux reads at most 2 GiB at once)."""
    first = os.pread(fd, length, offset)
    if len(first) == length or not first:
        return first
    parts, done = [first], len(first)
    while done < length and (more := os.pread(fd, length - done, offset + done)):
        parts.append(more)
        done += len(more)
    return b"".join(parts)


def _short(path: str, offset: int, length: int, got: int) -> StoreError:
    return StoreError(
        f"the object is shorter than expected: {got} of {length} bytes at offset {offset}",
        where=path,
        hint="it is damaged; verify the repository",
    )
