"""How the bytes to be read become spans: pieces of data gathered to a megabyte, holes kept apart; does no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from warmspare.model.columns import U32
from warmspare.model.units import BLOCK_BYTES, SPAN_BYTES
from warmspare.source.ports import Hole

MIN_HOLE_BYTES = SPAN_BYTES  # a smaller hole is cheaper to read than to report

Piece = tuple[int, int, bool]  # start, stop (bytes, on block boundaries or the disk's end), whether it is data
Batch = list[tuple[int, int]]  # what fills one span: (start, stop), ascending


def batches(pieces: Iterable[Piece]) -> Iterator[Hole | Batch]:
    """Holes, and lists of (start, stop) that together fill a span. pieces: ascending."""
    batch: Batch = []
    room = SPAN_BYTES
    for start, stop, is_data in pieces:
        if not is_data:
            if batch:
                yield batch
                batch, room = [], SPAN_BYTES
            yield Hole(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))
            continue
        at = start
        while at < stop:
            # a long stretch stays on span boundaries: then a span is one segment of the page map
            size = min(stop - at, room, SPAN_BYTES - at % SPAN_BYTES if stop - at > room else room)
            batch.append((at, at + size))
            at += size
            room -= -(-size // BLOCK_BYTES) * BLOCK_BYTES
            if room <= 0 or at % SPAN_BYTES == 0:
                yield batch
                batch, room = [], SPAN_BYTES
    if batch:
        yield batch


def block_numbers(batch: Batch) -> U32:
    """The blocks of a batch, ascending."""
    runs = [np.arange(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES), dtype=np.uint32) for start, stop in batch]
    return np.concatenate(runs) if len(runs) > 1 else runs[0]
