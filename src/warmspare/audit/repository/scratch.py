"""Scratch space of an audit: sparse files with a value for each block of a disk, bounded in memory; owns no meaning.

What lies here is a cache of one audit. Files without a name go with the process; those with one serve an audit that
goes on after it was interrupted.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare._native import holes
from warmspare.errors import StoreError
from warmspare.model.columns import U32
from warmspare.model.runs import groups
from warmspare.model.units import BLOCK_BYTES
from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import local_io, pwrite_all

WHAT = "the scratch space"
GROUP = 4096  # values that are read, changed and written together
_BLOCK_UNIT = 512  # of st_blocks


class StaleScratchError(StoreError):
    """Scratch space does not hold what was written to it; an audit that was resumed begins anew."""


class Scratch:
    """Files below a directory, made if absent. Close it, or use it as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.peak_bytes = 0
        self._fds: dict[int, int] = {}  # descriptor: bytes allocated when last looked at
        with local_io(WHAT, directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in list(self._fds):
            self.drop(fd)

    def file(self, name: str = "", *, left: bool = False) -> int:
        """A descriptor; of a file with that name, kept, or of one without. left: of one that is there already;
        StaleScratchError if it is not."""
        path = self.directory / (name or f".{secrets.token_hex(8)}")
        if left and not path.exists():
            raise StaleScratchError("a working file of an interrupted audit is gone", where=str(path))
        with local_io(WHAT, path):
            fd = open_regular(path, os.O_RDWR | os.O_CREAT)
            if not name:
                path.unlink()
        self._fds[fd] = 0
        return fd

    def drop(self, fd: int) -> None:
        """Done with it."""
        self.measure()
        if self._fds.pop(fd, None) is not None:
            os.close(fd)

    def measure(self) -> None:
        """Look at how much is allocated now, for peak_bytes."""
        with local_io(WHAT, self.directory):
            used = sum(os.fstat(fd).st_blocks * _BLOCK_UNIT for fd in self._fds)
        self.peak_bytes = max(self.peak_bytes, used)


class Column:
    """A value of one numpy type for each block, zero where none was put. fd: the caller's."""

    def __init__(self, fd: int, kind: npt.DTypeLike, width: int = 1) -> None:
        """width: values of that type a block; arrays have the shape (n, width) where it is not 1."""
        self._fd, self._kind, self._width = fd, np.dtype(kind), width
        self._row = self._kind.itemsize * width

    def _shape(self, raw: bytes | bytearray) -> npt.NDArray[Any]:
        values = np.frombuffer(raw, dtype=self._kind)
        return values.reshape(-1, self._width) if self._width > 1 else values

    def _load(self, group: int) -> npt.NDArray[Any]:
        size = GROUP * self._row
        with local_io(WHAT, f"descriptor {self._fd}"):
            return self._shape(bytearray(os.pread(self._fd, size, group * size)).ljust(size, b"\0"))

    def get(self, blocks: U32) -> npt.NDArray[Any]:
        """Values of ascending blocks."""
        parts = [self._load(group)[blocks[rows] % GROUP] for group, rows in groups(blocks, GROUP)]
        return np.concatenate(parts) if parts else self._shape(b"")

    def put(self, blocks: U32, values: npt.NDArray[Any] | int) -> None:
        """Set ascending blocks; of a block that stands there twice the last counts."""
        for group, rows in groups(blocks, GROUP):
            table = self._load(group)
            table[blocks[rows] % GROUP] = values if isinstance(values, int) else values[rows]
            with local_io(WHAT, f"descriptor {self._fd}"):
                pwrite_all(self._fd, table.tobytes(), group * GROUP * self._row)

    def clear(self, start: int, count: int) -> None:
        """Blocks [start, start + count) have zero; costs nothing for each."""
        with local_io(WHAT, f"descriptor {self._fd}"):
            holes.punch(self._fd, start * self._row, count * self._row)

    def filled(self, start: int, stop: int) -> Iterator[tuple[U32, npt.NDArray[Any]]]:
        """(blocks, values) of those in [start, stop) that are not zero, ascending, at most GROUP at a time."""
        end, at = stop * self._row, start * self._row
        while at < end:
            try:
                at = os.lseek(self._fd, at, os.SEEK_DATA)
            except OSError:  # no data beyond
                return
            group = at // (GROUP * self._row)
            if at >= end:
                return
            values = self._load(group)
            rows = np.flatnonzero(values.any(axis=1) if self._width > 1 else values)
            rows = rows[(rows + group * GROUP >= start) & (rows + group * GROUP < stop)]
            if rows.size:
                yield (rows + group * GROUP).astype(np.uint32), values[rows]
            at = (group + 1) * GROUP * self._row


def read_block(fd: int, block: int, size: int) -> bytearray:
    """A block of a sparse image; what was never written is zeros."""
    with local_io(WHAT, f"descriptor {fd}"):
        return bytearray(os.pread(fd, size, block * BLOCK_BYTES)).ljust(size, b"\0")
