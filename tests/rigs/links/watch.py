"""Watches what a device of a namespace sends, and says what of it fell into which time; refuses to judge."""

from __future__ import annotations

import bisect
import re
import threading
import time
from pathlib import Path
from typing import Self

from rigs.links.netns import End, enter

PERIOD_S = 0.01


class Watch:
    """Samples the counter of an end's device while the context lasts. Times are of time.monotonic()."""

    def __init__(self, end: End) -> None:
        self._end = end
        self.times: list[float] = []
        self.counts: list[int] = []  # bytes that the device had sent, Ethernet headers included
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self.times:
            time.sleep(0.001)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        enter(self._end.path)
        line = re.compile(rf"^\s*{re.escape(self._end.device)}:\s*(.*)$", re.MULTILINE)
        while not self._stop.wait(PERIOD_S):
            now = time.monotonic()
            found = line.search(Path("/proc/thread-self/net/dev").read_text())
            assert found is not None
            self.times.append(now)
            self.counts.append(int(found[1].split()[8]))

    @property
    def total(self) -> int:
        return self.counts[-1] - self.counts[0]

    def before(self, moment: float) -> int:
        """Bytes sent up to a moment since the watch began; between two samples as if evenly."""
        at = bisect.bisect_right(self.times, moment)
        if at == 0:
            return 0
        if at == len(self.times):
            return self.total
        left, right = self.times[at - 1], self.times[at]
        part = (self.counts[at] - self.counts[at - 1]) * (moment - left) / (right - left)
        return self.counts[at - 1] + round(part) - self.counts[0]

    def between(self, begin: float, end: float) -> int:
        return self.before(end) - self.before(begin)

    def rate(self, begin: float, end: float) -> float:
        """Bytes a second."""
        return self.between(begin, end) / (end - begin)

    def first(self, count: int) -> float:
        """When `count` bytes had been sent."""
        return self.times[bisect.bisect_left(self.counts, self.counts[0] + count)]

    def seconds(self, begin: float, end: float) -> list[float]:
        """Bytes of every stretch of one second within, each beginning at a sample."""
        return [self.rate(at, at + 1) for at in self.times if begin <= at <= end - 1]
