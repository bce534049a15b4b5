"""A value of one numpy type for each block of a disk, in pages of a sparse file, bounded in memory; owns no meaning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare.model.columns import U32
from warmspare.model.runs import groups
from warmspare.model.units import BLOCK_BYTES, MAX_CAPACITY_BYTES
from warmspare.state.page_file import PageFile, Pages

PAGE_VALUES = 4096  # values that are read, changed and written together


class PageColumn:
    """Zero where none was put. The file is the caller's. Every call raises StoreError as the file does."""

    def __init__(self, file: PageFile, kind: npt.DTypeLike, width: int = 1, *, page_values: int = PAGE_VALUES) -> None:
        """width: values of that type a block; arrays have the shape (n, width) where it is not 1."""
        self._file, self._kind, self._width, self._page_values = file, np.dtype(kind), width, page_values
        self._row = self._kind.itemsize * width
        count = -(-(MAX_CAPACITY_BYTES // BLOCK_BYTES) // page_values)
        self._pages = Pages(file, page_values * self._row, count)

    def _shape(self, raw: bytes | bytearray) -> npt.NDArray[Any]:
        values = np.frombuffer(raw, dtype=self._kind)
        return values.reshape(-1, self._width) if self._width > 1 else values

    def get(self, blocks: U32) -> npt.NDArray[Any]:
        """Values of ascending blocks."""
        size = self._page_values
        parts = [self._shape(self._pages.read(page))[blocks[rows] % size] for page, rows in groups(blocks, size)]
        return np.concatenate(parts) if parts else self._shape(b"")

    def put(self, blocks: U32, values: npt.NDArray[Any] | int) -> None:
        """Set ascending blocks; of a block that stands there twice the last counts."""
        for page, rows in groups(blocks, self._page_values):
            table = self._shape(bytearray(self._pages.read(page)))
            table[blocks[rows] % self._page_values] = values if isinstance(values, int) else values[rows]
            self._pages.write(page, table.tobytes())

    def clear(self, start: int, count: int) -> None:
        """Blocks [start, start + count) have zero; costs nothing for each."""
        self._file.punch(start * self._row, count * self._row)

    def filled(self, start: int, stop: int) -> Iterator[tuple[U32, npt.NDArray[Any]]]:
        """(blocks, values) of those in [start, stop) that are not zero, ascending, at most a page of them at a time."""
        end, offset = stop * self._row, start * self._row
        while offset < end:
            data = self._file.data_from(offset)
            if data is None or data >= end:
                return
            page = data // self._pages.page_bytes
            first = page * self._page_values
            values = self._shape(self._pages.read(page))
            rows = np.flatnonzero(values.any(axis=1) if self._width > 1 else values)
            rows = rows[(rows + first >= start) & (rows + first < stop)]
            if rows.size:
                yield (rows + first).astype(np.uint32), values[rows]
            offset = (page + 1) * self._pages.page_bytes
