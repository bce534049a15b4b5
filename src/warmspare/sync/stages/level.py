"""The compression level: fixed, or following whether the link or the CPU is the bottleneck.

Measured on real images (docs/architecture.md, "Decisions worth knowing"): level 3 is the default; up to 9 saves 3 to 11
% of the bytes for five times the CPU, worth it only while the link is what is waited for; 1 costs 3 to 12 % more bytes
and is worth it only while the CPU is.
"""

from __future__ import annotations

import time

DEFAULT = 3
LOWEST, HIGHEST = 1, 9
PERIOD_S = 1.0
MOSTLY = 0.5  # of a period
HARDLY = 0.05


class Level:
    """`fixed`: a level that stays, or None to follow the bottleneck. lowest: where following ends. Not thread-safe;
    read it anywhere."""

    def __init__(self, fixed: int | None, lowest: int = LOWEST) -> None:
        self._auto, self._lowest = fixed is None, lowest
        self.now = DEFAULT if fixed is None else fixed
        self._since = time.monotonic()
        self._link_s = self._codec_s = 0.0

    def waited(self, *, link_s: float = 0.0, codec_s: float = 0.0) -> None:
        """Tell it how long the packing stage waited for the link to take bytes, or for frames to come."""
        if not self._auto:
            return
        self._link_s += link_s
        self._codec_s += codec_s
        elapsed = time.monotonic() - self._since
        if elapsed < PERIOD_S:
            return
        link, codec = self._link_s / elapsed, self._codec_s / elapsed
        if link > MOSTLY and codec < link:
            self.now = min(self.now + 1, HIGHEST)
        elif codec > MOSTLY and link < HARDLY:
            self.now = max(self.now - 1, self._lowest)
        self._since += elapsed
        self._link_s = self._codec_s = 0.0
