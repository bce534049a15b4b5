"""Many manifests of one disk as one that says what they say together; owns which rows live on, and how they are cut.

Of each page the newest row that names it counts. A row lives on with the pages that no newer one names; the hash of a
block is that of its newest row. Nothing is fetched and no row is judged here: the hashes, held against the root of the
restore point, prove what comes out. A disk is done in windows of so many rows as fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare.format.chunk import MAX_RECORDS, MAX_RUNS, Chunk, ChunkFrames
from warmspare.format.manifest import ManifestReader, ManifestWriter
from warmspare.format.packlist import PackRef
from warmspare.model import masks
from warmspare.model.block_records import NO_FRAME, PlacedRecords
from warmspare.model.columns import I64, U8, U16, U32
from warmspare.model.ids import PackId
from warmspare.model.runs import Rows, Runs, group_starts, merged
from warmspare.repository.history.frame_names import names_of, offsets_of_names, packs_of_names

WINDOW_BYTES = 48 << 20  # of chunks, decompressed, that are folded at once
_NEVER = -1


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Rows of several manifests. age: which manifest, counted from the oldest. pack: by the numbers of the fold, _NEVER
    where the row carries nothing."""

    block: U32
    age: I64
    carried: U16
    zero: U16
    hashes: U8
    pack: I64
    offset: U32
    size: U32

    @classmethod
    def join(cls, parts: Sequence[_Table]) -> _Table:
        columns = zip(*(part._columns() for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.block, self.age, self.carried, self.zero, self.hashes, self.pack, self.offset, self.size

    def take(self, rows: Rows | npt.NDArray[np.bool_]) -> _Table:
        return _Table(*(column[rows] for column in self._columns()))


class _Packs:
    """The packs that rows which live on use, numbered as they are met; and where each manifest has them."""

    def __init__(self, manifests: Sequence[ManifestReader]) -> None:
        self.refs: list[PackRef] = []
        self._all: list[PackRef] = []
        numbers: dict[PackId, int] = {}
        self.of: list[I64] = []  # for each manifest, of each index the number
        for manifest in manifests:
            column = np.empty(len(manifest.packs), dtype=np.int64)
            for index, pack in enumerate(manifest.packs):
                number = numbers.setdefault(pack.id, len(self._all))
                if number == len(self._all):
                    self._all.append(pack)
                column[index] = number
            self.of.append(column)
        self._places = np.full(len(self._all), _NEVER, dtype=np.int64)

    def places(self, numbers: I64) -> U32:
        """Of each number its index in `refs`."""
        for number in np.unique(numbers[self._places[numbers] == _NEVER]).tolist():
            self._places[number] = len(self.refs)
            self.refs.append(self._all[number])
        return self._places[numbers].astype(np.uint32)


def fold(
    manifests: Sequence[ManifestReader], out: ManifestWriter, *, window_bytes: int = WINDOW_BYTES
) -> list[PackRef]:
    """Write what `manifests`, oldest first, say together: each begins where the one before ended, all of one disk.
    Returns the packs that the rows name, for the writer's end. FormatError of one that is damaged."""
    packs = _Packs(manifests)
    weights = [list(manifest.weights()) for manifest in manifests]
    stop = max((last + 1 for each in weights for _, last, _ in each), default=0)
    for first, behind in _windows(weights, stop, window_bytes):
        table, zeros = _read(manifests, packs, first, behind)
        for chunk in _chunks(*_alive(table, zeros), packs):
            out.add(chunk)
    return packs.refs


def _windows(
    weights: Sequence[Sequence[tuple[int, int, int]]], stop: int, most_bytes: int
) -> Iterator[tuple[int, int]]:
    """Stretches [first, behind) of the disk whose chunks have at most so many bytes together, or that are one block."""
    flat = np.array([each for one in weights for each in one], dtype=np.int64).reshape(-1, 3)
    todo = [(0, stop, flat)] if len(flat) else []
    while todo:
        first, behind, chunks = todo.pop()
        if int(chunks[:, 2].sum()) <= most_bytes or behind - first < 2:
            yield first, behind
            continue
        middle = (first + behind) // 2
        for low, high in ((middle, behind), (first, middle)):  # the nearer one on top
            touching = chunks[(chunks[:, 0] < high) & (chunks[:, 1] >= low)]
            if len(touching):
                # Of a chunk that reaches over the cut only a part counts.
                share = np.minimum(touching[:, 1] + 1, high) - np.maximum(touching[:, 0], low)
                touching = touching.copy()
                touching[:, 2] = touching[:, 2] * share // (touching[:, 1] + 1 - touching[:, 0])
                touching[:, 0], touching[:, 1] = np.maximum(touching[:, 0], low), np.minimum(touching[:, 1], high - 1)
                todo.append((low, high, touching))


def _read(
    manifests: Sequence[ManifestReader], packs: _Packs, first: int, behind: int
) -> tuple[_Table | None, list[tuple[int, Runs]]]:
    """The rows of all of them in a stretch; (age, runs of zeros) of each that has some."""
    parts: list[_Table] = []
    zeros: list[tuple[int, Runs]] = []
    for age, manifest in enumerate(manifests):
        for chunk in manifest.chunks(first, behind):
            inside = first <= chunk.first_block and chunk.last_block < behind
            runs = chunk.zeros if inside else chunk.zeros.split(first)[1].split(behind)[0]
            if len(runs):
                zeros.append((age, runs))
            records = chunk.records if inside else chunk.records.split(first)[1].split(behind)[0]
            if not len(records):
                continue
            carries = records.frame != NO_FRAME
            frame = np.where(carries, records.frame, 0).astype(np.intp)
            some = len(chunk.frames) > 0
            none = np.zeros(len(records), dtype=np.uint32)
            parts.append(
                _Table(
                    records.block,
                    np.full(len(records), age, dtype=np.int64),
                    records.carried,
                    records.zero,
                    records.hashes,
                    np.where(carries, packs.of[age][chunk.frames.pack[frame]], _NEVER)
                    if some
                    else np.full(len(records), _NEVER, dtype=np.int64),
                    chunk.frames.offset[frame] if some else none,
                    chunk.frames.size[frame] if some else none,
                )
            )
    return (_Table.join(parts) if parts else None), zeros


def _alive(table: _Table | None, zeros: Sequence[tuple[int, Runs]]) -> tuple[_Table | None, Runs]:
    """The rows that live on, by block and from the newest down, with the pages that are theirs; the runs of zeros."""
    if table is None:
        return None, _united(zeros)
    table = table.take(np.lexsort((-table.age, table.block)))
    starts = group_starts(table.block)
    group = _nth(starts, len(table.block))
    blocks = table.block[starts]
    zeroed = np.full(starts.size, _NEVER, dtype=np.int64)  # the newest manifest that calls the block zero
    for age, runs in zeros:
        zeroed[runs.hold(blocks)] = age
    counts = table.age > zeroed[group]
    table, group = table.take(counts), group[counts]
    if not len(group):
        return None, _united(zeros)
    starts = group_starts(table.block)
    hashes = table.hashes[starts]
    carried, zero = _own_pages(table, starts)
    # Pages that are zeros need no row of their own beside another of the block.
    zeros_of = masks.united(zero, starts)
    carries = carried != 0
    nth = _nth(starts, len(carried))
    first = np.full(starts.size, -1, dtype=np.int64)
    positions = np.flatnonzero(carries)
    first[nth[positions][::-1]] = positions[::-1]
    loose = first < 0
    first[loose] = starts[loose]
    zero = np.zeros_like(zero)
    zero[first] = zeros_of
    stays = carries.copy()
    stays[first] = True
    stays &= (carried | zero) != 0
    alive = _Table(
        table.block,
        table.age,
        carried,
        zero,
        hashes[nth],
        np.where(carries, table.pack, _NEVER),
        table.offset,
        table.size,
    ).take(stays)
    start, stop = Runs.of(alive.block[group_starts(alive.block)]).bounds
    return alive, _united(zeros).without(start, stop)


def _nth(starts: Rows, rows: int) -> I64:
    """For each row the number of its group."""
    first = np.zeros(rows, dtype=np.int64)
    first[starts] = 1
    return np.cumsum(first) - 1


def _own_pages(table: _Table, starts: Rows) -> tuple[U16, U16]:
    """(carried, zero) of each row without the pages that a newer one of its block names."""
    carried, zero = table.carried.copy(), table.zero.copy()
    count = np.diff(starts, append=len(table.block))
    done = np.zeros(starts.size, dtype=np.uint16)
    active, depth = np.arange(starts.size), 0
    while active.size:
        rows = starts[active] + depth
        names = table.carried[rows] | table.zero[rows]
        seen = done[active]
        carried[rows] &= ~seen
        zero[rows] &= ~seen
        done[active] = seen | names
        depth += 1
        active = active[count[active] > depth]
    return carried, zero


def _united(zeros: Sequence[tuple[int, Runs]]) -> Runs:
    if not zeros:
        return Runs.none()
    start = np.concatenate([runs.bounds[0] for _, runs in zeros])
    stop = np.concatenate([runs.bounds[1] for _, runs in zeros])
    return Runs.between(*merged(start, stop))


def _chunks(table: _Table | None, zeros: Runs, packs: _Packs) -> Iterator[Chunk]:
    """In pieces as large as the format allows, in the order of the disk."""
    if table is None:
        starts = np.empty(0, dtype=np.intp)
        blocks = np.empty(0, dtype=np.uint32)
    else:
        starts = group_starts(table.block)
        blocks = table.block[starts]
    row, rows = 0, 0 if table is None else len(table.block)
    while row < rows or len(zeros):
        cut = _cut(row, rows, starts, blocks, zeros)
        below, zeros = zeros.split(cut)
        stop = row if table is None else int(np.searchsorted(table.block, cut))
        if table is None or stop == row:
            yield Chunk(ChunkFrames.none(), PlacedRecords.none(), below)
        else:
            yield _chunk(table.take(np.arange(row, stop)), below, packs)
        row = stop


def _cut(row: int, rows: int, starts: Rows, blocks: U32, zeros: Runs) -> int:
    """The block before which the next chunk ends."""
    ends = 1 << 32
    if rows - row > MAX_RECORDS:  # a block has 16 rows at most, and all of them in one chunk
        ends = int(blocks[int(np.searchsorted(starts, row + MAX_RECORDS, side="right")) - 1])
    if len(zeros) > MAX_RUNS:
        ends = min(ends, int(zeros.start[MAX_RUNS]))
    return ends


def _chunk(table: _Table, zeros: Runs, packs: _Packs) -> Chunk:
    carries = table.pack != _NEVER
    frame = np.full(len(carries), NO_FRAME, dtype=np.uint16)
    frames = ChunkFrames.none()
    if carries.any():
        places = packs.places(table.pack[carries])
        # A frame is known by its pack and its offset there.
        name = names_of(places, table.offset[carries])
        names, first, nth = np.unique(name, return_index=True, return_inverse=True)
        frames = ChunkFrames(
            packs_of_names(names).astype(np.uint32),
            offsets_of_names(names).astype(np.uint32),
            table.size[carries][first],
        )
        frame[carries] = nth
    return Chunk(frames, PlacedRecords(table.block, table.carried, table.zero, table.hashes, frame), zeros)
