"""Frames that were unpacked, for windows that need more of their pages: those used last in memory, and in an unlinked
file those that memory has no room for and that have pages which nobody took yet.

Where many points changed a little each, somebody who reads a disk from end to end needs one frame of every point at any
time, each for a few pages: far more than memory should have, and fetched anew for each window otherwise. The file is
never needed: what it has no room for is fetched again.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from warmspare.errors import StoreError
from warmspare.format.frame import Frame
from warmspare.model.columns import U64
from warmspare.model.units import SPAN_BYTES
from warmspare.state.local_files import nameless_file, pwrite_all

Key = tuple[str, int]  # of the pack; where the frame begins in it
FILE_FOR_MEMORY = 64  # how many times as much as in memory is kept in the file: 1 GiB for 16 MiB
LEFT_FREE_BYTES = 1 << 30  # of the file system: others need it more


class HeldFrames:
    """Of one disk. memory_bytes: of pages. scratch: for the file, which is made when it is needed first. Safe from
    several threads; all but `in` may wait for the file. Close it."""

    def __init__(self, memory_bytes: int, scratch: Path) -> None:
        self._most_bytes, self._scratch = memory_bytes, scratch
        self._lock = Lock()
        self._left: dict[Key, int] = {}  # pages that nobody took yet, of each frame that is held
        self._memory: OrderedDict[Key, Frame] = OrderedDict()
        self._bytes = 0
        self._filed: OrderedDict[Key, tuple[int, U64, int]] = OrderedDict()  # slot, pages, length
        self._free = list(range(max(memory_bytes * FILE_FOR_MEMORY // SPAN_BYTES, 1)))
        self._fd = -1

    def close(self) -> None:
        """Nothing is held any more."""
        with self._lock:
            self._left.clear()
            self._memory.clear()
            self._filed.clear()
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1

    def __contains__(self, key: Key) -> bool:
        return key in self._left

    def take(self, key: Key, pages: int) -> Frame | None:
        """A frame, of which so many pages are taken now; None where it is not held."""
        with self._lock:
            if key not in self._left:
                return None
            self._left[key] -= pages
            if key not in self._memory:
                return self._from_file(key)
            self._memory.move_to_end(key)
            return self._memory[key]

    def keep(self, key: Key, frame: Frame, taken: int) -> None:
        """One that was fetched, of which so many pages were taken."""
        with self._lock:
            if key in self._left:
                self._left[key] -= taken
                return
            self._left[key] = frame.pages.size - taken
            self._memory[key] = frame
            self._bytes += len(frame.payload)
            while self._bytes > self._most_bytes:
                other, gone = self._memory.popitem(last=False)
                self._bytes -= len(gone.payload)
                if self._left[other] <= 0 or not self._to_file(other, gone):
                    del self._left[other]

    def _to_file(self, key: Key, frame: Frame) -> bool:
        """Whether it went there."""
        try:
            if self._fd < 0:
                self._fd = nameless_file(self._scratch)
            room = os.fstatvfs(self._fd)
            if room.f_bavail * room.f_frsize < LEFT_FREE_BYTES:
                return False
            if not self._free:
                oldest, (slot, _, _) = self._filed.popitem(last=False)
                self._free.append(slot)
                del self._left[oldest]
            pwrite_all(self._fd, frame.payload, self._free[-1] * SPAN_BYTES)
        except (OSError, StoreError):
            return False
        self._filed[key] = self._free.pop(), frame.pages, len(frame.payload)
        return True

    def _from_file(self, key: Key) -> Frame | None:
        slot, pages, length = self._filed[key]
        try:
            payload = os.pread(self._fd, length, slot * SPAN_BYTES)
        except OSError:
            payload = b""
        if self._left[key] <= 0 or len(payload) != length:
            del self._filed[key], self._left[key]
            self._free.append(slot)
        else:
            self._filed.move_to_end(key)
        return Frame(pages, payload) if len(payload) == length else None
