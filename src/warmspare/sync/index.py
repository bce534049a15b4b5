"""The manifest of one disk in the making: rows in, chunks out to a local file; owns where a chunk ends."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from warmspare.format.manifest import (
    MAX_FRAMES,
    MAX_RECORDS,
    MAX_RUNS,
    NO_FRAME,
    Chunk,
    Header,
    ManifestReader,
    ManifestWriter,
    PackRef,
    Totals,
)
from warmspare.model import U32
from warmspare.state.files import local_io, pwrite_all
from warmspare.sync.encode import Encoded

WHAT = "the state directory"


def runs(blocks: U32) -> tuple[U32, U32]:
    """(start, count) of the runs in ascending blocks."""
    if not blocks.size:
        return blocks, blocks
    first = np.concatenate(([0], np.flatnonzero(np.diff(blocks) != 1) + 1))
    counts = np.diff(np.concatenate((first, [blocks.size])))
    return blocks[first], counts.astype(np.uint32)


class ManifestFile:
    """Collects what was packed of one disk, in disk order, into the manifest at `path`."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        with local_io(WHAT, path):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._end = 0
        self._writer = ManifestWriter(header, self._write)
        self._clear()

    def _clear(self) -> None:
        self._frames: list[tuple[int, int, int]] = []
        self._rows: list[tuple[int, Encoded]] = []
        self._records = 0
        self._zero_blocks = 0

    def _write(self, data: bytes) -> None:
        with local_io(WHAT, self._path):
            pwrite_all(self._fd, data, self._end)
        self._end += len(data)

    @property
    def totals(self) -> Totals:
        return self._writer.totals

    @property
    def raw_bytes(self) -> int:
        return self._writer.raw_bytes

    def add(self, rows: Encoded, place: tuple[int, int] | None) -> None:
        """place: (pack index, offset) of the frame; None if the rows carry no page."""
        if (
            self._records + rows.block.size > MAX_RECORDS
            or self._zero_blocks + rows.zero_blocks.size > MAX_RUNS
            or len(self._frames) + 1 >= MAX_FRAMES
        ):
            self._flush()
        index = NO_FRAME
        if place is not None:
            index = len(self._frames)
            self._frames.append((*place, rows.frame_bytes))
        self._rows.append((index, rows))
        self._records += rows.block.size
        self._zero_blocks += rows.zero_blocks.size

    def _flush(self) -> None:
        if not self._rows:
            return
        frames = np.array(self._frames, dtype=np.uint32).reshape(-1, 3)
        column = [
            np.where(rows.carried == 0, NO_FRAME, index).astype(np.uint16) for index, rows in self._rows
        ]
        start, count = runs(np.concatenate([rows.zero_blocks for _, rows in self._rows]))
        self._writer.add(
            Chunk(
                frames[:, 0], frames[:, 1], frames[:, 2],
                np.concatenate([rows.block for _, rows in self._rows]),
                np.concatenate(column),
                np.concatenate([rows.carried for _, rows in self._rows]),
                np.concatenate([rows.zero for _, rows in self._rows]),
                np.concatenate([rows.hashes for _, rows in self._rows]),
                start, count,
            )
        )  # fmt: skip
        self._clear()

    def finish(self, packs: list[PackRef]) -> int:
        """Write what is left, the pack list and the totals, and sync. Returns the length."""
        self._flush()
        self._writer.finish(packs)
        with local_io(WHAT, self._path):
            os.fdatasync(self._fd)
        return self._end

    def reader(self) -> ManifestReader:
        """Of the finished manifest."""
        return ManifestReader(lambda at, size: os.pread(self._fd, size, at), self._end, str(self._path))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
