"""Blocks packed by LZO1X, unpacked; refuses a block that does not come out as long as it is stated to be.

The kernel's documentation, Documentation/staging/lzo.rst.
"""

from __future__ import annotations


def unpacked(data: bytes, length: int) -> bytes:
    """A block of this length. ValueError where it is none."""
    try:
        out = _unpacked(data, length)
    except IndexError:
        raise ValueError("a block ends too early") from None
    if len(out) != length:
        raise ValueError("a block has another length than is stated")
    return bytes(out)


def _unpacked(data: bytes, length: int) -> bytearray:
    out = bytearray()
    at = state = 0  # state: literals that were copied last, four for more
    if data[0] > 17:
        count = data[0] - 17
        out += data[1 : 1 + count]
        at = 1 + count
        state = min(count, 4)
    while True:
        code = data[at]
        at += 1
        if code >= 64:
            distance = (data[at] << 3) + (code >> 2 & 7) + 1
            count = (code >> 5) + 1
            at += 1
            literals = code & 3
        elif code >= 16:
            far = code < 32
            count, at = _count(data, at, code & (7 if far else 31), 7 if far else 31)
            count += 2
            word = data[at] | data[at + 1] << 8
            at += 2
            distance = (word >> 2) + 1
            literals = word & 3
            if far:
                distance += (16384 if code & 8 else 0) + 16383
                if distance == 16384:  # the mark of the end
                    return out
        elif state == 0:
            count, at = _count(data, at, code, 15)
            count += 3
            if at + count > len(data) or count > length - len(out):
                raise IndexError
            out += data[at : at + count]
            at += count
            state = 4
            continue
        else:
            distance = (data[at] << 2) + (code >> 2) + 1 + (2048 if state == 4 else 0)
            count = 3 if state == 4 else 2
            at += 1
            literals = code & 3
        start = len(out) - distance
        if start < 0:
            raise ValueError("a block refers to what is before it")
        if count > length - len(out):
            raise ValueError("a block is longer than is stated")
        if distance >= count:
            out += out[start : start + count]
        else:
            out += (out[start:] * (count // distance + 1))[:count]
        if literals:
            out += data[at : at + literals]
            at += literals
        state = literals


def _count(data: bytes, at: int, first: int, most: int) -> tuple[int, int]:
    """A length, and where what follows it begins: zeros are 255 each."""
    if first:
        return first, at
    begin = at
    while not data[at]:
        at += 1
    return (at - begin) * 255 + most + data[at], at + 1
