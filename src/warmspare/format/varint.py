"""Unsigned LEB128 integers over numpy columns; owns their bounds checks.

At most five bytes each (values below 2**35), the least significant seven bits first; the high bit says that
another byte follows.
"""

from __future__ import annotations

import numpy as np

from warmspare.errors import FormatError
from warmspare.model.columns import U8, U64

MAX_BYTES = 5


def encode(values: U64) -> bytes:
    """values: uint64 below 2**35. Returns their concatenated encodings."""
    if not values.size:
        return b""
    if int(values.max()) >> 35:
        raise ValueError("a value needs more than 35 bits")
    groups = np.arange(MAX_BYTES, dtype=np.uint64)
    parts = (values[:, None] >> (groups * np.uint64(7))) & np.uint64(0x7F)
    size = np.ones(values.size, dtype=np.int64)
    for bits in (7, 14, 21, 28):
        size += (values >= np.uint64(1 << bits)).astype(np.int64)
    column = np.arange(MAX_BYTES)
    parts = parts | ((column[None, :] < (size - 1)[:, None]).astype(np.uint64) << np.uint64(7))
    return parts[column[None, :] < size[:, None]].astype(np.uint8).tobytes()


def decode(data: bytes | memoryview | U8, where: str = "") -> U64:
    """All integers of `data`. FormatError if the last one is cut off or one is longer than five bytes."""
    raw = np.frombuffer(data, dtype=np.uint8)
    if not raw.size:
        return np.empty(0, dtype=np.uint64)
    last = raw < 0x80
    if not last[-1]:
        raise FormatError("a variable-length integer is cut off", where=where)
    stop = np.flatnonzero(last)
    start = np.concatenate(([0], stop[:-1] + 1))
    if int((stop - start).max()) >= MAX_BYTES:
        raise FormatError("a variable-length integer is longer than five bytes", where=where)
    shift = (np.arange(raw.size) - np.repeat(start, stop - start + 1)) * 7
    return np.add.reduceat((raw & 0x7F).astype(np.uint64) << shift.astype(np.uint64), start)
