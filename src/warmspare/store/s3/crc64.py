"""CRC64NVME of bytes, as S3 has it, in numpy; refuses to be fast: it is for who asks for this checksum by name.

The bytes are cut into lanes of one length that are gone through side by side, two bytes a step; then neighbours are
joined, for a CRC is linear: that of A and B is that of A, shifted by as many zeros as B has bytes, and that of B.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from warmspare.model.columns import U8, U64

_POLYNOMIAL: Final = 0x9A6C9329AC4BC9B5  # reflected
_ONES: Final = (1 << 64) - 1
_LANE_BYTES: Final = 1024
_SHORT_BYTES: Final = 32  # a lane of what is shorter than SHORT
_SHORT: Final = 1 << 18

Columns = tuple[int, ...]


def crc64nvme(data: bytes | bytearray | memoryview) -> int:
    """The CRC of some bytes."""
    raw = np.frombuffer(data, dtype=np.uint8)
    return _raw(raw) ^ _apply(_shift(len(raw)), _ONES) ^ _ONES


def join_crc64nvme(left: int, right: int, right_bytes: int) -> int:
    """The CRC of two stretches of bytes one after the other, from theirs and the second's length."""
    return _apply(_shift(right_bytes), left) ^ right


def _raw(data: U8) -> int:
    """The CRC that begins with zero and is not inverted: zeros in front make no difference to it."""
    lane_bytes = _LANE_BYTES if len(data) >= _SHORT else _SHORT_BYTES
    lanes = 1 << max(0, (len(data) + lane_bytes - 1) // lane_bytes - 1).bit_length()
    padded = np.zeros(lanes * lane_bytes, dtype=np.uint8)
    padded[len(padded) - len(data) :] = data
    words = np.ascontiguousarray(padded.view("<u2").reshape(lanes, lane_bytes // 2).T)
    table, state = _pairs(), np.zeros(lanes, dtype=np.uint64)
    low, step = np.uint64(0xFFFF), np.uint64(16)
    for column in words:
        state = (state >> step) ^ table[((state & low) ^ column).astype(np.intp)]
    while len(state) > 1:
        state = _apply_each(_shift(lane_bytes), state[0::2]) ^ state[1::2]
        lane_bytes *= 2
    return int(state[0])


@lru_cache(maxsize=1)
def _pairs() -> U64:
    """What two bytes do to a CRC of zero."""
    table = np.arange(1 << 16, dtype=np.uint64)
    for _ in range(16):
        table = (table >> np.uint64(1)) ^ np.where(table & np.uint64(1), np.uint64(_POLYNOMIAL), np.uint64(0))
    return table


@lru_cache(maxsize=64)
def _shift(count: int) -> Columns:
    """What appending `count` zero bytes does: a matrix over GF(2), as its 64 columns."""
    square: Columns = (_POLYNOMIAL, *(1 << bit for bit in range(63)))  # one zero bit
    for _ in range(3):
        square = _times(square, square)
    result: Columns = tuple(1 << bit for bit in range(64))
    while count:
        if count & 1:
            result = _times(square, result)
        square, count = _times(square, square), count >> 1
    return result


def _apply(matrix: Columns, vector: int) -> int:
    value = 0
    for bit, column in enumerate(matrix):
        if vector >> bit & 1:
            value ^= column
    return value


def _times(left: Columns, right: Columns) -> Columns:
    return tuple(_apply(left, column) for column in right)


def _apply_each(matrix: Columns, vectors: U64) -> U64:
    value = np.zeros(len(vectors), dtype=np.uint64)
    for bit, column in enumerate(matrix):
        value ^= np.where(vectors >> np.uint64(bit) & np.uint64(1), np.uint64(column), np.uint64(0))
    return value
