"""What a VDDK says is allocated on a disk, believed only where it answers alike twice; owns that comparison.

A list that lacks an area would make us publish zeros for data, and nothing in one answer tells a short list from a
whole one. So each window of the disk is asked about in fine and in coarse chunks: answers that were cut, or lost, or
mixed up, do not fit together, since they have different numbers of entries. Then all of the window is read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from warmspare.model.columns import U64
from warmspare.model.extents import Extents, normalise, widen
from warmspare.model.units import BLOCK_BYTES, SPAN_BYTES
from warmspare.source.spans import MIN_HOLE_BYTES, Piece

FINE_BYTES = BLOCK_BYTES  # the least a VDDK takes: 128 sectors
COARSE_BYTES = SPAN_BYTES
WINDOW_BYTES = 4 << 30  # in fine chunks at most 32768 areas of 16 bytes: half a slot of the ring
ASK_BYTES = 16 << 20  # below that, reading is as quick as asking

Window = tuple[int, int, bool]  # start, stop, whether to ask what of it is allocated


def windows(extents: Extents) -> Iterator[Window]:
    """The windows over the extents. What is asked about lies on coarse chunks; what is left at the
    ends of an extent, the disk's unaligned tail among it, is for reading."""
    for offset, length in zip(extents.offsets.tolist(), extents.lengths.tolist(), strict=True):
        at, end = offset, offset + length
        first, last = -(-at // COARSE_BYTES) * COARSE_BYTES, end // COARSE_BYTES * COARSE_BYTES
        if last - first < ASK_BYTES:
            yield at, end, False
            continue
        if at < first:
            yield at, first, False
        at = first
        while at < last:
            stop = min(at + WINDOW_BYTES, last)
            yield at, stop, True
            at = stop
        if last < end:
            yield last, end, False


def areas(raw: U64, chunk_bytes: int, start: int, stop: int) -> Extents | None:
    """A list's (offset, length) pairs in bytes; None if they are not ascending whole chunks inside [start, stop).
    Libraries round up: the first may begin before it and the last end beyond it, and the disk; they are cut there."""
    if not raw.size:
        return normalise([], [])
    if int(raw.max()) > 1 << 62:
        return None
    pairs = raw.astype(np.int64).reshape(-1, 2)
    offset, length = pairs[:, 0], pairs[:, 1]
    end = offset + length
    fits = (
        bool(np.all(offset % chunk_bytes == 0))
        and bool(np.all(length[:-1] % chunk_bytes == 0))
        and (int(length[-1]) % chunk_bytes == 0 or int(end[-1]) >= stop)
        and bool(np.all(length > 0))
        and int(end[0]) > start
        and int(offset[-1]) < stop
        and bool(np.all(offset[1:] >= end[:-1]))
    )
    if not fits:
        return None
    offset = np.maximum(offset, start)
    return normalise(offset, np.minimum(end, stop) - offset)


def agreed(fine: Extents | None, coarse: Extents | None, stop: int) -> Extents | None:
    """The allocated areas if both answers are of one disk, else None."""
    if fine is None or coarse is None:
        return None
    rounded = widen(fine, COARSE_BYTES, stop)
    return fine if rounded.pairs() == coarse.pairs() else None


def pieces(start: int, stop: int, allocated: Extents | None) -> Iterator[Piece]:
    """Data and holes of a window; None: all of it is data. Holes of less than a span count as data."""
    at = start
    if allocated is None:
        yield start, stop, True
        return
    data_from = start
    for offset, length in allocated.pairs():
        if offset - at >= MIN_HOLE_BYTES:
            if at > data_from:
                yield data_from, at, True
            yield at, offset, False
            data_from = offset
        at = offset + length
    if stop - at >= MIN_HOLE_BYTES:
        if at > data_from:
            yield data_from, at, True
        yield at, stop, False
    elif stop > data_from:
        yield data_from, stop, True
