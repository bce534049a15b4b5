"""Which blocks an audit looks at: all, or a share that is drawn evenly over the disk; owns the draw and no reading."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from warmspare.errors import ConfigError
from warmspare.model.columns import distinct
from warmspare.model.units import SPAN_BLOCKS

STRATUM_SPANS = 128  # a share is drawn from each 128 MiB by itself, so that no region is passed over
STRATUM_BLOCKS = STRATUM_SPANS * SPAN_BLOCKS


def parse_percent(text: str | None) -> float | None:
    """What --sample says: above 0 and up to 100, with or without a %. None, or 100: all. ConfigError."""
    if text is None:
        return None
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = -1.0
    return demand_percent(percent, repr(text))


def demand_percent(percent: float | None, shown: str = "") -> float | None:
    """A share in percent; None, or 100: all. shown: as it was written. ConfigError."""
    if percent is None:
        return None
    if not 0 < percent <= 100:
        raise ConfigError(
            f"--sample is to be a share in percent, above 0 and at most 100, and is {shown or percent}",
            hint="give for example 10",
        )
    return None if percent == 100 else percent


class Sample:
    """Spans of 1 MiB. percent: None for all blocks. seed: the same gives the same spans."""

    def __init__(self, percent: float | None, seed: int, blocks: int) -> None:
        self.percent, self.seed, self._blocks = percent, seed, blocks
        self._stratum = functools.lru_cache(maxsize=64)(self._draw)

    def _draw(self, stratum: int) -> tuple[int, ...]:
        """The spans of a stratum that are looked at, ascending."""
        assert self.percent is not None
        first = stratum * STRATUM_SPANS
        there = min(STRATUM_SPANS, -(-self._blocks // SPAN_BLOCKS) - first)
        draw = random.Random(f"{self.seed}:{stratum}")  # noqa: S311
        exact = there * self.percent / 100
        wanted = int(exact) + (draw.random() < exact % 1)  # the share is met on average, however small it is
        if not stratum:
            wanted = max(1, wanted)  # never nothing at all
        drawn = draw.sample(range(there), wanted)
        return tuple(first + span for span in sorted(drawn))

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """[first, stop) ranges of the blocks of [start, stop) that are looked at, ascending."""
        if self.percent is None:
            if start < stop:
                yield start, stop
            return
        for stratum in range(start // STRATUM_BLOCKS, -(-stop // STRATUM_BLOCKS)):
            for span in self._stratum(stratum):
                first, last = max(start, span * SPAN_BLOCKS), min(stop, (span + 1) * SPAN_BLOCKS)
                if first < last:
                    yield first, last

    def holds(self, blocks: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """For each block whether it is looked at."""
        numbers = np.asarray(blocks, dtype=np.int64)
        if self.percent is None:
            return np.ones(numbers.shape, dtype=np.bool_)
        out = np.zeros(numbers.shape, dtype=np.bool_)
        for stratum in distinct(numbers // STRATUM_BLOCKS).tolist():
            mine = numbers // STRATUM_BLOCKS == stratum
            out[mine] = np.isin(numbers[mine] // SPAN_BLOCKS, self._stratum(stratum))
        return out
