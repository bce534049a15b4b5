"""Messages over a connection, each behind its length; refuses one that is too long before any of it is read.

What the other side is slow to take waits in memory, then in a file that has no name: whoever says something goes on.
Where there is no room for that file, the connection ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from typing import Any, Generic, TypeVar

from warmspare.daemon.carrying import NotCarriedError, decoded, encoded
from warmspare.daemon.messages import LENGTH_BYTES, Message

T = TypeVar("T")
IN_MEMORY_BYTES = 1 << 20
MOST_WAITING_BYTES = 1 << 30
_PIECE_BYTES = 1 << 18


class BrokenOffError(Exception):
    """The other side went away, or does not speak as messages.py has it."""


class Frames(Generic[T]):
    """Both ways of one connection. kind: what may come; most_bytes: of one message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Any, most_bytes: int) -> None:
        self._reader, self._writer = reader, writer
        self._kind, self._most_bytes = kind, most_bytes
        self._waiting = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 (closed by `close`)
        self._written = self._taken = 0  # bytes of it
        self._passing: asyncio.Task[None] | None = None
        self._lost = False

    @property
    def full(self) -> bool:
        """More waits than may, or than there is room for; what is said from here on is lost."""
        return self._lost or self._written - self._taken > MOST_WAITING_BYTES

    @staticmethod
    def fits(message: Message, most_bytes: int) -> bool:
        """Whether the other side would take it. NotCarriedError."""
        return len(encoded(message)) <= most_bytes

    def say(self, message: Message) -> None:
        """Goes out in the order of the calls; nothing is waited for. NotCarriedError."""
        data = encoded(message)
        if self.full or self._writer.is_closing():
            return
        try:
            self._waiting.seek(self._written)
            count = self._waiting.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
            self._waiting.flush()
        except OSError:  # a full disk, or no descriptor left; what waited may be gone with it
            self._lost = True
            self._writer.transport.abort()
            return
        self._written += count
        if self._passing is None or self._passing.done():
            self._passing = asyncio.ensure_future(self._pass_on())

    async def _pass_on(self) -> None:
        with contextlib.suppress(OSError):  # whoever hears notices that nobody is there
            while self._taken < self._written and not self._writer.is_closing():  # uvloop would not have it
                self._waiting.seek(self._taken)
                piece = self._waiting.read(_PIECE_BYTES)
                self._taken += len(piece)
                self._writer.write(piece)
                await self._writer.drain()
        if not self._lost:
            self._written = self._taken = 0
            self._waiting.seek(0)
            self._waiting.truncate()

    async def hear(self) -> T:
        """The next message. BrokenOffError."""
        try:
            length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
            if length > self._most_bytes:
                raise BrokenOffError(f"a message of {length} bytes")
            message: T = decoded(await self._reader.readexactly(length), self._kind)
        except (asyncio.IncompleteReadError, OSError):
            raise BrokenOffError("the connection ended") from None
        except NotCarriedError as error:
            raise BrokenOffError(str(error)) from None
        return message

    async def close(self) -> None:
        """What was said goes out first, however long the other side takes to take it; a cancel drops it."""
        try:
            if self._passing is not None:
                await self._passing
        finally:
            self._writer.close()
            with contextlib.suppress(OSError):
                self._waiting.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def drop(self) -> None:
        """The same, and what did not go out yet never does."""
        self._writer.transport.abort()
        await self.close()
