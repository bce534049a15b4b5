"""One bucket of time for all senders of a host that keep to a rate; owns who may use the link next, not how fast.

A sender reserves the time that a piece takes at its own rate, and sends the piece when that time has come. Nothing is
ever held: the file states only until when the link is given away, so a sender that is killed costs what it had
reserved, one piece. Between one piece and the next every other sender gets its turn, which shares the link evenly.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from warmspare.outside.regular_files import open_regular
from warmspare.state.local_files import STATE_DIRECTORY, local_io, pwrite_all

BURST_S = 0.1  # time that may be made up for: who wakes late does not lose it
FARTHEST_S = 60.0  # given away beyond this is a number from before a reboot, or none at all
_UNTIL = struct.Struct("<d")  # seconds of the host's monotonic clock, the same for all its processes


class SharedBucket:
    """The bucket at `path`, made if absent. Senders of several processes open it each for itself, those of one
    process may share the object. Close it, or use it as a context manager."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._alone_until = 0.0
        with local_io(STATE_DIRECTORY, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = open_regular(path, os.O_RDWR | os.O_CREAT)

    def __enter__(self) -> SharedBucket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def reserve(self, seconds: float) -> float | None:
        """Take so much of the link's time; when it begins, by the clock. None: another process is at the file just
        now, which takes it microseconds. StoreError if the file can't be used."""
        with local_io(STATE_DIRECTORY, self._path):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            try:
                raw = os.pread(self._fd, _UNTIL.size, 0)
                until = _UNTIL.unpack(raw)[0] if len(raw) == _UNTIL.size else 0.0
                begins = self._after(until)
                pwrite_all(self._fd, _UNTIL.pack(begins + seconds), 0)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        return begins

    def reserve_alone(self, seconds: float) -> float:
        """As `reserve`, without the file: where whoever is at it was stopped there, a sync must not stop too."""
        begins = self._after(self._alone_until)
        self._alone_until = begins + seconds
        return begins

    def _after(self, until: float) -> float:
        now = self._clock()
        earliest = now - BURST_S
        return until if earliest < until <= now + FARTHEST_S else earliest
