"""A log of records that is appended to and read in order; owns what of it is believed after a crash, and no meaning.

A record is a head (magic, number of rows, fields, checksum of all that and of the rows) and its rows. Reading ends in
front of the first record that is damaged or cut off: what follows is as good as never written, even if it is sound,
for it may stand on what was lost. Writing goes on there, too, so that nothing is ever written where no reader comes.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import local_io
from warmspare.state.page_file import PageFile

MAX_ROWS = 1 << 16  # of a record: what a damaged number may ask for
_NO_ROWS = np.dtype([])


@dataclass(frozen=True, slots=True)
class RecordForm:
    """magic: 4 bytes that name the kind of log and its version. fields: what a head holds, as `struct` says it. row: of
    a record's table, if it has one."""

    magic: bytes
    fields: str = ""
    row: np.dtype[Any] = _NO_ROWS
    head: struct.Struct = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "head", struct.Struct(f"<4sI{self.fields}Q"))


@dataclass(frozen=True, slots=True, eq=False)
class LogRecord:
    """fields: as they were appended. rows: of the form's type; read-only. end: where the next record begins."""

    fields: tuple[Any, ...]
    rows: np.ndarray
    end: int


class CheckedLog:
    """The log at `path`, made if absent. Close it. what: for messages, "the state directory". anew: empty it first.

    One caller at a time. StoreError from all, a full disk as a NoRoomError; a record that could not be written whole is
    none, and the next one takes its place.
    """

    def __init__(self, path: Path, what: str, form: RecordForm, *, anew: bool = False) -> None:
        self._form = form
        self._file = PageFile(path, what, anew=anew)
        self._end = 0 if anew else -1  # -1: where the sound records end was not looked for yet

    @property
    def empty(self) -> bool:
        """Whether nothing was ever written, sound or not."""
        return not self._file.read_there(0, 1)

    def append(self, *fields: object, rows: np.ndarray | None = None) -> None:
        """A record, at the end. Buffered by the kernel only."""
        form = self._form
        count, raw = (rows.size, rows.tobytes()) if rows is not None else (0, b"")
        if count > MAX_ROWS:
            raise ValueError(f"a record of {count} rows, and none has more than {MAX_ROWS}")
        if self._end < 0:
            self._end = max((record.end for record in self.records()), default=0)
            self._file.cut(self._end)
        head = form.head.pack(form.magic, count, *fields, 0)[:-8]
        data = head + _sum(head, raw) + raw
        self._file.write(self._end, data)
        self._end += len(data)

    def sync(self) -> None:
        """What was appended is durable when this returns."""
        self._file.sync(data_only=True)

    def close(self) -> None:
        """May be called again."""
        self._file.close()

    def records(self) -> Iterator[LogRecord]:
        """In the order in which they were appended, up to the first that is damaged or cut off."""
        return _records(self._file.read_there, self._form)


def records_of(path: Path, what: str, form: RecordForm) -> Iterator[LogRecord]:
    """The records of a log that nobody writes; none where there is no file. StoreError."""
    with contextlib.ExitStack() as stack:
        with local_io(what, path):
            try:
                fd = open_regular(path)
            except FileNotFoundError:
                return
        stack.callback(os.close, fd)

        def read(offset: int, length: int) -> bytes:
            with local_io(what, path):
                return os.pread(fd, length, offset)

        yield from _records(read, form)


def _records(read: Callable[[int, int], bytes], form: RecordForm) -> Iterator[LogRecord]:
    begins = 0
    while len(head := read(begins, form.head.size)) == form.head.size:
        magic, count, *fields, _ = form.head.unpack(head)
        if magic != form.magic or count > MAX_ROWS:
            return
        size = count * form.row.itemsize
        raw = read(begins + form.head.size, size) if size else b""
        if len(raw) != size or _sum(head[:-8], raw) != head[-8:]:
            return
        begins += form.head.size + size
        rows = np.frombuffer(raw, dtype=form.row) if size else np.empty(0, dtype=form.row)
        yield LogRecord(tuple(fields), rows, begins)


def _sum(head: bytes, raw: bytes) -> bytes:
    summed = xxhash.xxh3_64(head)
    summed.update(raw)
    return summed.intdigest().to_bytes(8, "little")
