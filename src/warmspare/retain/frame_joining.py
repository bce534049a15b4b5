"""Frames of which only some pages are still needed, made into fewer that hold just those; owns when that is done.

A frame holds the pages that one sync sent together. Those that were written again since are of no use any more, and
with the frame copied as it is they would stay until the last of the others is written again: of pages that are written
at random a long interval would keep three or four times what it needs. So such frames are taken apart, and their pages
put together with those of the frames that come next in their packs. All others are copied as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare.errors import IntegrityError
from warmspare.format import frame
from warmspare.format.manifest import ManifestReader
from warmspare.model import masks
from warmspare.model.block_records import NO_FRAME
from warmspare.model.columns import U16, U32, U64
from warmspare.model.units import FRAME_PAGES, PAGE_BYTES
from warmspare.repository.history.frame_names import names_of

LEVEL = 3  # of zstd
MOST_ROWS = 4 << 20  # that are kept in memory; a frame beyond stays whole until another time

Joined = tuple[list[int], bytes | memoryview]  # the names of the frames whose needed pages it holds, and its bytes


def to_join(needed: Any, held: Any) -> Any:
    """Whether a frame is taken apart, by how many of its pages are needed of how many that it has; also of columns."""
    return needed * 16 < held * 15


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Of frames by their names, ascending: which pages of which block are needed."""

    name: U64
    block: U32
    mask: U16

    @classmethod
    def of(cls, manifest: ManifestReader, packs: npt.NDArray[np.bool_]) -> _Rows:
        """packs: whether it is one of those that are meant, by index."""
        parts: list[tuple[U64, U32, U16]] = [
            (np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty(0, np.uint16)),
        ]
        count = 0
        for chunk in manifest.chunks():
            records = chunk.records
            some = np.flatnonzero(records.frame != NO_FRAME)
            of = records.frame[some].astype(np.intp)
            meant = packs[chunk.frames.pack[of]]
            some, of = some[meant], of[meant]
            name = names_of(chunk.frames.pack[of], chunk.frames.offset[of])
            parts.append((name, records.block[some], records.carried[some]))
            count += some.size
            if count > MOST_ROWS:
                break
        name, block, mask = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((block, name))
        return cls(name[order], block[order], mask[order])

    def pages(self, name: int) -> U64:
        """Ascending."""
        start, stop = np.searchsorted(self.name, np.array([name, name + 1], dtype=np.uint64)).tolist()
        return np.sort(masks.page_numbers(self.block[start:stop], self.mask[start:stop]))


class FrameJoining:
    """Of one manifest's frames in the order of their packs. packs: those that are rewritten, by index."""

    def __init__(self, manifest: ManifestReader, packs: npt.NDArray[np.bool_]) -> None:
        self._rows = _Rows.of(manifest, packs)
        self._names: list[int] = []
        self._pages: list[U64] = []
        self._data: list[npt.NDArray[np.void]] = []
        self._count = self._short = 0  # pages; bytes that the disk's last page lacks, if it is among them

    def take(self, name: int, needed: int, data: memoryview, where: str) -> Iterator[Joined]:
        """One more frame, whose bytes are whole; what there is to write now. needed: how many of its pages are.
        FormatError, IntegrityError where it has not what the manifest says of it."""
        pages = self._rows.pages(name) if to_join(needed, frame.page_count(data)) else None
        if pages is None or pages.size != needed:  # the rows of the last few may not have been kept
            yield [name], data
            return
        held = frame.decode(data, where)
        row = np.searchsorted(held.pages, pages)
        if not np.array_equal(held.pages[np.minimum(row, held.pages.size - 1)], pages):
            raise IntegrityError(
                "a frame has not the pages that its manifest names", where=where, hint="audit the repository"
            )
        if self._count + pages.size > FRAME_PAGES:
            yield from self.rest()
        padded = np.frombuffer(held.payload.ljust(held.pages.size * PAGE_BYTES, b"\0"), dtype=f"V{PAGE_BYTES}")
        self._names.append(name)
        self._pages.append(pages)
        self._data.append(padded[row])
        if pages[-1] == held.pages[-1]:
            self._short += held.pages.size * PAGE_BYTES - len(held.payload)
        self._count += pages.size

    def rest(self) -> Iterator[Joined]:
        """What was put together and not given yet."""
        if not self._count:
            return
        pages = np.concatenate(self._pages)
        order = np.argsort(pages)
        raw = np.concatenate(self._data)[order].tobytes()
        raw = raw[: len(raw) - self._short]
        made = b"".join(frame.encode(pages[order], raw, LEVEL))
        again = frame.decode(made, "a frame that was put together")
        if again.payload != raw or not np.array_equal(again.pages, pages[order]):
            raise AssertionError("a frame does not hold what it was made of")
        names, self._names, self._pages, self._data = self._names, [], [], []
        self._count = self._short = 0
        yield names, made
