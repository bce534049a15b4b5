"""The manifest of one disk in the making: rows in, chunks out to a local file; owns where a chunk ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from warmspare.format.chunk import MAX_FRAMES, MAX_RECORDS, MAX_RUNS, Chunk, ChunkFrames
from warmspare.format.manifest import Header, ManifestReader, ManifestWriter, Totals
from warmspare.format.packlist import PackRef
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.columns import U32
from warmspare.model.runs import Runs
from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import STATE_DIRECTORY, local_io, pwrite_all
from warmspare.sync.rows import Encoded


class ManifestFile:
    """Collects what was packed of one disk, in disk order, into the manifest at `path`.

    places: (pack index, offset, length) of frames that earlier runs have sent, for rows that use them.
    """

    def __init__(
        self, path: Path, header: Header, places: Callable[[U32], list[tuple[int, int, int]]] | None = None
    ) -> None:
        self._path, self._header, self._places = path, header, places
        with local_io(STATE_DIRECTORY, path):
            self._fd = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self._end = 0
        self._writer = ManifestWriter(header, self._write)
        self._clear()

    def _clear(self) -> None:
        self._frames: list[tuple[int, int, int]] = []
        self._earlier: dict[int, int] = {}  # frame of an earlier run -> its index in this chunk
        self._rows: list[PlacedRecords] = []
        self._zeros: list[U32] = []
        self._records = 0  # in all of them
        self._zero_blocks = 0

    def _write(self, data: bytes) -> None:
        with local_io(STATE_DIRECTORY, self._path):
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
        own, reused = len(rows.records), sum(len(part) for part in rows.reused)
        if (
            self._records + own + reused > MAX_RECORDS
            or self._zero_blocks + rows.zero_blocks.size > MAX_RUNS
            or len(self._frames) + 1 + reused >= MAX_FRAMES
        ):
            self._flush()
        index = NO_FRAME
        if place is not None:
            index = len(self._frames)
            self._frames.append((*place, rows.frame_bytes))
        placed = rows.records.placed(np.where(rows.records.carried == 0, NO_FRAME, index).astype(np.uint16))
        if reused:
            placed = PlacedRecords.join([placed, *(self._reused(part) for part in rows.reused)]).in_order()
        self._rows.append(placed)
        self._zeros.append(rows.zero_blocks)
        self._records += own + reused
        self._zero_blocks += rows.zero_blocks.size

    def _reused(self, records: PlacedRecords) -> PlacedRecords:
        """Records of earlier runs' frames, which get a place in this chunk."""
        assert self._places is not None
        numbers, nth = np.unique(records.frame, return_inverse=True)
        fresh = np.array([number for number in numbers.tolist() if number not in self._earlier], dtype=np.uint32)
        for number, place in zip(fresh.tolist(), self._places(fresh), strict=True):
            self._earlier[number] = len(self._frames)
            self._frames.append(place)
        return records.placed(np.array([self._earlier[number] for number in numbers.tolist()], dtype=np.uint16)[nth])

    def _flush(self) -> None:
        if not self._rows:
            return
        zeros = Runs.of(np.concatenate(self._zeros))
        self._writer.add(Chunk(ChunkFrames.of(self._frames), PlacedRecords.join(self._rows), zeros))
        self._clear()

    def finish(self, packs: list[PackRef]) -> int:
        """Write what is left, the pack list and the totals, and sync. Returns the length."""
        self._flush()
        self._writer.finish(packs)
        with local_io(STATE_DIRECTORY, self._path):
            os.fdatasync(self._fd)
        return self._end

    def without(self, packs: list[PackRef], unused: set[int]) -> None:
        """Write the finished manifest anew without packs that nothing in it uses. packs: as given to `finish`."""
        kept = [index for index in range(len(packs)) if index not in unused]
        renumbered = np.zeros(len(packs), dtype=np.uint32)
        renumbered[kept] = np.arange(len(kept), dtype=np.uint32)

        def renumber(old: ManifestReader, out: ManifestWriter) -> list[PackRef]:
            for chunk in old.chunks():
                out.add(replace(chunk, frames=chunk.frames.renumbered(renumbered)))
            return [packs[index] for index in kept]

        self.rewrite(renumber)

    def rewrite(self, anew: Callable[[ManifestReader, ManifestWriter], list[PackRef]]) -> None:
        """Write the finished manifest anew. anew: takes it, writes chunks, and returns the packs that they name."""
        whole, fresh = self._fd, self._path.with_suffix(".fresh")
        old = ManifestReader(lambda at, size: os.pread(whole, size, at), self._end, str(self._path))
        try:
            with local_io(STATE_DIRECTORY, fresh):
                self._fd = open_regular(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            self._end = 0
            self._writer = ManifestWriter(self._header, self._write)
            self._writer.finish(anew(old, self._writer))
            with local_io(STATE_DIRECTORY, self._path):
                os.fdatasync(self._fd)
                fresh.replace(self._path)
        finally:
            os.close(whole)

    def reader(self) -> ManifestReader:
        """Of the finished manifest."""
        return ManifestReader(lambda at, size: os.pread(self._fd, size, at), self._end, str(self._path))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
