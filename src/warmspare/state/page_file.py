"""A sparse file of fixed-size pages, by pread and pwrite; owns growing, bounds, short reads and errors, and no meaning.

What was never written reads as zeros. A file is never mapped: a full disk is then an error of ours and not a SIGBUS,
and its pages never count as this process's memory. Writers and audits share this, as they share the format; what they
keep in such files, their tables and trees above all, they don't, so that they can't be wrong together.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from warmspare.errors import StoreError
from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import io_error, pwrite_all

_ALLOCATION_UNIT = 512  # of st_blocks


class PageFile:
    """The file at `path`, made empty if absent, its folder too. Close it, or use it as a context manager.

    what: for messages, "the state directory". anew: empty it first. nameless: unlink it at once, so that it goes with
    this process. Reading and writing are safe from several threads. Every error is a StoreError that names the path,
    a full disk a NoRoomError.
    """

    def __init__(self, path: Path, what: str, *, anew: bool = False, nameless: bool = False) -> None:
        self.path, self._what, self.nameless = path, what, nameless
        self.fd = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.fd = open_regular(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if anew else 0))
            if nameless:
                path.unlink()
        except OSError as error:
            self.close()
            raise self._failed(error) from error

    def __enter__(self) -> PageFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """May be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _failed(self, error: OSError) -> StoreError:
        return io_error(error, self._what, self.path)

    def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes, zeros where the file ends before them."""
        try:  # not by `read_there`: this is called for each page, and a call more shows
            data = os.pread(self.fd, length, offset)
        except OSError as error:
            raise self._failed(error) from error
        if len(data) == length:
            return data
        # Nothing at all is the end of the file; less than was asked for need not be.
        return self.read_there(offset, length).ljust(length, b"\0") if data else bytes(length)

    def read_there(self, offset: int, length: int) -> bytes:
        """These bytes; fewer only where the file ends before them."""
        try:
            data = os.pread(self.fd, length, offset)
            while len(data) < length and (more := os.pread(self.fd, length - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise self._failed(error) from error
        return data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """All of it. Buffered by the kernel only."""
        try:
            done = os.pwrite(self.fd, data, offset)
            if done != len(data):
                pwrite_all(self.fd, memoryview(data)[done:], offset + done)
        except OSError as error:
            raise self._failed(error) from error

    def punch(self, offset: int, length: int) -> None:
        """These bytes are zeros; whole pages of the file system become a hole."""
        from warmspare._native import holes  # a sync's files need none of it

        try:
            holes.punch(self.fd, offset, length)
        except OSError as error:
            raise self._failed(error) from error

    def cut(self, length: int) -> None:
        """All from there on is zeros, and takes no room."""
        try:
            os.ftruncate(self.fd, length)
        except OSError as error:
            raise self._failed(error) from error

    def empty(self) -> None:
        """All of it is zeros."""
        self.cut(0)

    def sync(self, *, data_only: bool = False) -> None:
        """Durable when this returns. data_only: without times; a length that has grown is durable all the same."""
        try:
            (os.fdatasync if data_only else os.fsync)(self.fd)
        except OSError as error:
            raise self._failed(error) from error

    def data_from(self, offset: int) -> int | None:
        """Where the first bytes from there on lie that may not be zeros; None if only zeros follow."""
        return self._sought(offset, os.SEEK_DATA)

    def hole_from(self, offset: int) -> int:
        """Where the first zeros from there on begin that are nowhere kept; `offset` lies in data."""
        found = self._sought(offset, os.SEEK_HOLE)
        return offset if found is None else found

    def _sought(self, offset: int, which: int) -> int | None:
        try:
            return os.lseek(self.fd, offset, which)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise self._failed(error) from error

    @property
    def allocated_bytes(self) -> int:
        try:
            return os.fstat(self.fd).st_blocks * _ALLOCATION_UNIT
        except OSError as error:
            raise self._failed(error) from error


class Pages:
    """`count` pages of `page_bytes` each, from byte `begins` of a file on. ValueError for what lies outside of them: it
    would be another region's."""

    __slots__ = ("_begins", "_count", "_file", "page_bytes")

    def __init__(self, file: PageFile, page_bytes: int, count: int, *, begins: int = 0) -> None:
        self._file, self.page_bytes, self._count, self._begins = file, page_bytes, count, begins

    def _outside(self, number: int, count: int) -> ValueError:
        return ValueError(f"pages [{number}, {number + count}) of {self._count} in {self._file.path}")

    def read(self, number: int, count: int = 1) -> bytes:
        """A page, or several that follow each other. StoreError."""
        if number < 0 or count < 0 or number + count > self._count:
            raise self._outside(number, count)
        return self._file.read(self._begins + number * self.page_bytes, count * self.page_bytes)

    def write(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """Whole pages, from that one on. StoreError."""
        count = 1
        if len(data) != self.page_bytes:
            count, odd = divmod(len(data), self.page_bytes)
            if odd:
                raise ValueError(f"{len(data)} bytes are no whole pages of {self.page_bytes} in {self._file.path}")
        if number < 0 or number + count > self._count:
            raise self._outside(number, count)
        self._file.write(self._begins + number * self.page_bytes, data)
