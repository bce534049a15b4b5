"""What to fetch of the packs and in which requests; owns the merging of neighbouring frames into one range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from warmspare.errors import FormatError
from warmspare.format.chunk import Chunk
from warmspare.format.packlist import PackRef, Viewed
from warmspare.model.block_records import NO_FRAME
from warmspare.model.ids import VmId, vm_key
from warmspare.model.runs import Rows, by_value
from warmspare.repository.chain import Repository
from warmspare.repository.verified_objects import read_range
from warmspare.store import layout

RANGE_BYTES = 4 << 20  # the most that one request asks for, unless a single frame is larger
GAP_BYTES = 32 << 10  # a gap between two frames that is cheaper to read than to make a request for


@dataclass(frozen=True, slots=True)
class PackObject:
    """A pack as the repository's reader wants it: key and whole length."""

    key: str
    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class RangeFrame:
    """One frame in a range: where it begins in it, its length, its offset in the pack, and the rows of the
    chunk that use it, ascending by block."""

    start: int
    size: int
    pack_offset: int
    rows: Rows


@dataclass(frozen=True, slots=True, eq=False)
class PackRange:
    """One request: [offset, offset + length) of a pack, and the frames in it."""

    pack: PackObject
    offset: int
    length: int
    pieces: list[RangeFrame]

    @property
    def rows(self) -> Rows:
        return np.concatenate([piece.rows for piece in self.pieces])

    async def read(self, repository: Repository) -> bytes:
        """IntegrityError if the pack is missing or of another length; StoreError."""
        return await read_range(repository, self.pack, self.offset, self.length, "a pack")


def pack_objects(vm: VmId, packs: Viewed[PackRef]) -> Sequence[PackObject]:
    """The packs of a manifest of that VM by their index."""
    key = vm_key(vm)
    return packs.seen(lambda pack: PackObject(layout.pack_key(key, pack.id), pack.bytes))


def ranges(chunk: Chunk, rows: Rows, packs: Sequence[PackObject], where: str) -> Iterator[PackRange]:
    """The requests that bring every frame which `rows` of a chunk use, each frame once.

    rows: ascending row numbers; those without a frame are passed over. FormatError if a frame reaches beyond
    its pack.
    """
    frame = chunk.records.frame
    used = by_value(frame, rows[frame[rows] != NO_FRAME])
    places = sorted((*chunk.frames.place(index), nth) for nth, (index, _) in enumerate(used))
    pieces: list[RangeFrame] = []
    pack = start = end = length = -1
    looked = -1
    for number, offset, size, nth in places:
        if number != looked:
            looked, length = number, packs[number].bytes
        if offset + size > length:
            raise FormatError("a manifest names a frame beyond its pack", where=where)
        full = offset + size - start > RANGE_BYTES
        if pieces and (number != pack or offset < end or offset - end > GAP_BYTES or full):
            yield PackRange(packs[pack], start, end - start, pieces)
            pieces = []
        if not pieces:
            pack, start = number, offset
        end = offset + size
        pieces.append(RangeFrame(offset - start, size, offset, used[nth][1]))
    if pieces:
        yield PackRange(packs[pack], start, end - start, pieces)
