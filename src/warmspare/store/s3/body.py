"""Bytes of requests and answers on their way through the AWS client, without copies, and their CRC32C as S3 writes it;
refuses to know what they are for."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Any

import crc32c as crc

from warmspare.store.contract import Pace, unpaced

CHUNK_BYTES = 256 << 10
LEAST_BYTES = 4096  # of a body, in the time that counts as a stall
_POLYNOMIAL = 0x82F63B78


class Body:
    """The bytes of a request: botocore sees a file, aiohttp an asynchronous iterable of views.

    pace: is asked before each chunk. on_sent: hears of each once the network has taken it, with what is left.
    """

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.pace: Pace = unpaced
        self.on_sent: Callable[[int, int], None] = lambda sent, left: None
        self._view = memoryview(data).cast("B")
        self._at = 0

    def __len__(self) -> int:
        return self._view.nbytes

    def read(self, count: int = -1) -> bytes:
        """Read on, for a signature over the payload."""
        end = self._view.nbytes if count is None or count < 0 else self._at + count
        chunk = self._view[self._at : end]
        self._at += chunk.nbytes
        return bytes(chunk)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position; botocore does after it has signed the payload."""
        self._at = offset + (0, self._at, self._view.nbytes)[whence]
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        at, total = 0, self._view.nbytes
        while at < total:
            count = await self.pace(min(CHUNK_BYTES, total - at))
            yield self._view[at : at + count]
            at += count
            self.on_sent(count, total - at)


def body_of(data: bytes | bytearray | memoryview) -> Body | bytes:
    """What to hand to the client as a body."""
    return Body(data) if memoryview(data).nbytes else b""


async def receive(answer: dict[str, Any], on_received: Callable[[int], None], stall_s: float) -> bytes:
    """The body of an answer, at most as long as it says; shorter if it broke off in a way that looks like its end.
    TimeoutError where less than LEAST_BYTES come in `stall_s`: a byte now and then is no progress.

    It goes into one buffer of the right size as it comes; the client's own read() keeps every piece until the end.
    """
    length = int(answer["ContentLength"])
    async with answer["Body"] as stream:
        if not length:
            return b""
        whole = io.BytesIO()
        whole.seek(length - 1)
        whole.write(b"\0")
        at = counted = 0
        loop = asyncio.get_running_loop()
        with whole.getbuffer() as view:
            content = stream.raw_stream.content
            async with asyncio.timeout(stall_s) as limit:
                while at < length and (piece := await content.readany()):
                    piece = memoryview(piece)[: length - at]
                    view[at : at + len(piece)] = piece
                    at += len(piece)
                    if at - counted >= LEAST_BYTES:
                        counted = at
                        limit.reschedule(loop.time() + stall_s)
                    on_received(len(piece))
        return whole.getvalue() if at == length else whole.getvalue()[:at]


def encode_crc32c(value: int) -> str:
    """As S3 writes a CRC32C: base64 of four bytes, big-endian."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def decode_crc32c(answer: dict[str, Any]) -> int | None:
    """The full-object CRC32C in a server's answer; None if there is none (composite ones end in `-N`)."""
    text = answer.get("ChecksumCRC32C")
    if not text or answer.get("ChecksumType") == "COMPOSITE" or "-" in text:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


def crc32c_of(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """CRC32C of the bytes, going on from that of the ones before them."""
    return int(crc.crc32c(data, before))


def join_crc32c(left: int, right: int, right_bytes: int) -> int:
    """CRC32C of two stretches of bytes one after the other, from theirs and the second's length: a part's is computed
    once, for the part and the object."""
    shifted = 0
    for bit, column in enumerate(_shift(right_bytes)):
        if left >> bit & 1:
            shifted ^= column
    return shifted ^ right


@lru_cache(maxsize=16)
def _shift(count: int) -> tuple[int, ...]:
    """What appending `count` zero bytes does to a CRC, which is linear: a matrix over GF(2), as its 32 columns."""
    square = (_POLYNOMIAL, *(1 << bit for bit in range(31)))  # one zero bit
    for _ in range(3):
        square = _times(square, square)
    result = tuple(1 << bit for bit in range(32))
    while count:
        if count & 1:
            result = _times(square, result)
        square, count = _times(square, square), count >> 1
    return result


def _times(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    out = []
    for column in right:
        value = 0
        for bit in range(32):
            if column >> bit & 1:
                value ^= left[bit]
        out.append(value)
    return tuple(out)
