"""Frames that later chunks of a manifest may use too, kept until then; owns which those are, and for how long.

A frame holds pages that one sync sent together, from anywhere on the disk, and the chunks of a manifest go over the
disk from its front to its end: of several points together, each would fetch nearly all frames again.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from warmspare._native import holes
from warmspare.errors import FormatError
from warmspare.format import frame
from warmspare.model.units import BLOCK_PAGES
from warmspare.state.local_files import nameless_file, pwrite_all

MOST_BYTES = 4 << 30  # on the disk; what is beyond is fetched again

Key = tuple[str, int, int]  # of a pack; the frame's offset there, and its length


class FrameShelf:
    """Of one disk, in an unlinked file of `scratch`, compressed as they came. Close it when it is done with. May be
    asked from several threads."""

    def __init__(self, scratch: Path, most_bytes: int = MOST_BYTES) -> None:
        self._scratch, self._most_bytes = scratch, most_bytes
        self._fd = -1
        self._end = self._held_bytes = 0
        self._places: dict[Key, tuple[int, int, int]] = {}  # offset in the file, length, last block
        self._lock = threading.Lock()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def keep(self, key: Key, data: bytes | memoryview, behind: int) -> None:
        """A frame that came, if it has pages of blocks from `behind` on, by its own word. OSError."""
        try:
            last = int(frame.page_numbers(data)[-1]) // BLOCK_PAGES
        except FormatError:  # who uses it says so; another time it may come whole
            return
        with self._lock:
            if last < behind or key in self._places or self._held_bytes + len(data) > self._most_bytes:
                return
            if self._fd < 0:
                self._fd = nameless_file(self._scratch)
            at = self._end
            self._end += len(data)
            self._held_bytes += len(data)
            pwrite_all(self._fd, data, at)
            self._places[key] = at, len(data), last

    def read(self, key: Key) -> bytes:
        """One that is there. OSError."""
        at, length, _ = self._places[key]
        return os.pread(self._fd, length, at)

    def forget(self, before: int) -> None:
        """Those that have no page of a block from `before` on. OSError."""
        with self._lock:
            for key, (at, length, last) in list(self._places.items()):
                if last < before:
                    del self._places[key]
                    self._held_bytes -= length
                    holes.punch(self._fd, at, length)
