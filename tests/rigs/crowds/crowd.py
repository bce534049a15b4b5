"""Many requests handed to one engine at once: when each had its turn and its end, what the process took meanwhile, and
how fair that was. Also for benchmarks."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import warmspare
from rigs.host.peak import memory_of
from warmspare.engine.budget import BUDGET, Share

SAMPLE_S = 0.05


@dataclass(slots=True, eq=False)
class Turn:
    """One request: what it took of the budget, in seconds since all were handed in when it had its turn and its end,
    and what came of it."""

    kind: str
    share: Share
    begun_s: float = 0.0
    ended_s: float = 0.0
    result: Any = None

    @property
    def took_s(self) -> float:
        return self.ended_s - self.begun_s

    def within_s(self, until_s: float) -> float:
        """How long it had its share, up to that moment."""
        return max(0.0, min(self.ended_s, until_s) - self.begun_s)

    def beside(self, other: Turn) -> bool:
        """Whether the two ran at once."""
        return self.begun_s < other.ended_s and other.begun_s < self.ended_s


@dataclass(slots=True)
class Peaks:
    """The most that was seen of this process."""

    bytes: int = 0
    threads: int = 0
    files: int = 0


@dataclass(slots=True)
class Crowd:
    """budget: the engine's. turns: in the order in which they were handed in."""

    engine: warmspare.Engine
    budget: Share = BUDGET
    turns: list[Turn] = field(default_factory=list)
    peaks: Peaks = field(default_factory=Peaks)
    wall_s: float = 0.0

    async def run(self, requests: Sequence[warmspare.Request[Any]]) -> list[Any]:
        """All at once; their values, in that order."""
        self.turns = [Turn(type(each).__name__, each.share().at_most(self.budget)) for each in requests]
        handed_s = time.monotonic()

        async def one(turn: Turn, request: warmspare.Request[Any]) -> None:
            def begin() -> None:
                turn.begun_s = time.monotonic() - handed_s

            turn.result = await self.engine.run(request, on_begin=begin)
            turn.ended_s = time.monotonic() - handed_s

        with self._watched():
            async with asyncio.TaskGroup() as tasks:
                for turn, request in zip(self.turns, requests, strict=True):
                    tasks.create_task(one(turn, request))
        self.wall_s = time.monotonic() - handed_s
        return [turn.result for turn in self.turns]

    @contextmanager
    def _watched(self) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            peaks = self.peaks
            while not over.wait(SAMPLE_S):
                memory = memory_of(os.getpid())
                peaks.bytes = max(peaks.bytes, memory["RssAnon"] + memory["RssShmem"])
                peaks.threads = max(peaks.threads, threading.active_count() - 1)
                peaks.files = max(peaks.files, open_files())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # how fair it was: docs/api.md, "What waits"

    def of(self, kind: str) -> list[Turn]:
        return [turn for turn in self.turns if turn.kind == kind]

    def unevenness(self) -> float:
        """While all kinds waited: what the kind with most had of the budget over that time, by what it had most of, as
        a multiple of what the kind with least had."""
        kinds = {turn.kind for turn in self.turns}
        until_s = min(max(turn.begun_s for turn in self.of(kind)) for kind in kinds)
        had = [
            sum(turn.share.part_of(self.budget) * turn.within_s(until_s) for turn in self.of(kind)) for kind in kinds
        ]
        return max(had) / min(had)

    def overtaken(self) -> int:
        """How many had their turn after one of their kind that was handed in later."""
        late = 0
        for kind in {turn.kind for turn in self.turns}:
            soonest_s = float("inf")
            for turn in reversed(self.of(kind)):
                late += turn.begun_s > soonest_s
                soonest_s = min(soonest_s, turn.begun_s)
        return late

    def slowness(self) -> list[float]:
        """How long each took from its turn to its end, as a multiple of the median of those of its kind that ran beside
        it; of runs of like size."""
        return [
            turn.took_s / statistics.median(each.took_s for each in self.of(turn.kind) if each.beside(turn))
            for turn in self.turns
        ]


def open_files() -> int:
    """Descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # without the one that lists them
