"""Frames that were unpacked, kept for neighbours that need them too; owns how many, by their bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from warmspare.format.frame import Frame

K = TypeVar("K")


class KeptFrames(Generic[K]):
    """By a key of the owner's. most_bytes: of their pages together; those that were not used for longest go first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._frames: OrderedDict[K, Frame] = OrderedDict()

    def get(self, key: K) -> Frame | None:
        held = self._frames.get(key)
        if held is not None:
            self._frames.move_to_end(key)
        return held

    def keep(self, key: K, frame: Frame) -> None:
        if key not in self._frames:
            self._frames[key] = frame
            self._bytes += len(frame.payload)
        while self._bytes > self._most_bytes:
            _, gone = self._frames.popitem(last=False)
            self._bytes -= len(gone.payload)

    def clear(self) -> None:
        self._frames.clear()
        self._bytes = 0
