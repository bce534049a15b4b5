"""What comes out of a port of a machine: its log, bounded, and what was seen in it; refuses to send anything."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from warmspare.outside.regular_files import open_regular
from warmspare.recover.drills.evidence import WHAT
from warmspare.recover.drills.signs import Sign, Watch
from warmspare.state.local_files import local_io

MAX_LOG_BYTES = 16 << 20
_READ_BYTES = 1 << 16
_SETTLE_S = 1.0  # after a sign of failure: what explains it often follows, or came with it


class SerialLog:
    """Follows a port into a file. `seen`: the wanted text has come. `failed`: a sign of failure has."""

    def __init__(self, end: socket.socket, path: Path, wanted: str | None) -> None:
        self._end, self._path, self._watch = end, path, Watch(wanted)
        self.seen, self.failed = asyncio.Event(), asyncio.Event()
        self.bytes = 0

    @property
    def line(self) -> str:
        """The last that it said, for people."""
        return self._watch.line

    @property
    def failure(self) -> Sign | None:
        """The first sign of failure."""
        return self._watch.failure

    async def follow(self) -> None:
        """Until the machine is gone. StoreError where the log can't be written; what exceeds its bound is not kept."""
        loop = asyncio.get_running_loop()
        with local_io(WHAT, self._path):
            fd = open_regular(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            while True:
                try:
                    data = await loop.sock_recv(self._end, _READ_BYTES)
                except ConnectionError:
                    return
                if not data:
                    return
                room = MAX_LOG_BYTES - self.bytes
                self.bytes += len(data)
                if room > 0:
                    with local_io(WHAT, self._path):
                        os.write(fd, data[:room])
                self._watch.feed(data)
                if self._watch.seen:
                    self.seen.set()
                if self._watch.failure:
                    self.failed.set()
        finally:
            os.close(fd)

    async def hopeless(self) -> None:
        """Wait for a sign of failure, and a moment longer for what belongs to it."""
        await self.failed.wait()
        await asyncio.sleep(_SETTLE_S)
