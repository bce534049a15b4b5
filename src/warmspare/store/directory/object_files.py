"""Objects as files of a directory, read: whole ones, ranges, and what the file system says of them; changes nothing."""

# Plain strings instead of pathlib: a listing must not pay for a Path a file.

from __future__ import annotations

import builtins
import hashlib
import os
import stat
from collections.abc import Iterator

from warmspare.errors import StoreError
from warmspare.outside.regular_files import NotRegularError, kind_of, open_below, stat_below
from warmspare.store.contract import ObjectInfo
from warmspare.store.directory.durable import (
    naming,
    not_found,
)
from warmspare.store.directory.file_upload import Staging
from warmspare.store.layout import names_object

TAGGED_BYTES = 4096  # objects up to this size have a hash of their content in the tag
LAST_S = 253_402_300_799.0  # 9999-12-31
_LIST_BATCH = 512


class ObjectFiles:
    """Those of one store. Its calls block."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging

    def get(self, key: str, max_bytes: int) -> bytes:
        """See Store.get."""
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

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See Store.get_range."""
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

    def head(self, key: str) -> ObjectInfo | None:
        """See Store.head."""
        path = self._staging.path(key)
        with naming("cannot look at the object", path):
            self._staging.place.check()
            try:
                return self.info(key)
            except (FileNotFoundError, NotADirectoryError):
                self._staging.place.check()
                return None

    def list_batch(self, walk: Iterator[tuple[str, str]]) -> builtins.list[ObjectInfo]:
        """The next objects of a walk, up to _LIST_BATCH; none at its end."""
        found: list[ObjectInfo] = []
        with naming("cannot list the directory", self._staging.root):
            self._staging.place.check()
        for key, path in walk:
            with naming("cannot look at the object", path):
                try:
                    info = self.info(key)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # deleted meanwhile
            if info is not None:
                found.append(info)
            if len(found) == _LIST_BATCH:
                break
        with naming("cannot list the directory", self._staging.root):
            self._staging.place.check()
        return found

    def info(self, key: str) -> ObjectInfo | None:
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
        return ObjectInfo(key, status.st_size, modified_s(status), tag)

    def same(self, key: str, data: bytes) -> bool:
        """Whether the object of that key holds these bytes."""
        try:
            with open(open_below(self._staging.root, key), "rb") as file:
                return os.fstat(file.fileno()).st_size == len(data) and file.read(len(data) + 1) == data
        except FileNotFoundError:
            return False  # it stood there a moment ago, so another's it was


def modified_s(status: os.stat_result) -> float:
    """When a file was written; a date that no calendar has is one that it has."""
    return min(max(status.st_mtime_ns / 1e9, 0.0), LAST_S)


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
