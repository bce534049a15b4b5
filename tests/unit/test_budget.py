"""Who may run, of what is handed to one engine at once: nobody beyond the budget, each in its even part of it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from warmspare.engine.budget import Share, Turns

BUDGET = Share(100, 100, 100)
NEVER = float("inf")


@dataclass(eq=False)
class Run:
    """begun, ended: when it had its turn, and gave it back; infinite until then."""

    kind: str
    share: Share
    takes: float
    begun: float = NEVER
    ended: float = NEVER


@dataclass
class Day:
    """Runs within a budget, in a time that goes on as soon as nothing else does."""

    turns: Turns = field(default_factory=lambda: Turns(BUDGET))
    now: float = 0.0
    runs: list[Run] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _alarms: list[tuple[float, int, asyncio.Future[None]]] = field(default_factory=list)

    def hand(self, kind: str, size: int, takes: float) -> asyncio.Task[None]:
        """size: of the budget's memory; of the rest it takes a hundredth."""
        self.runs.append(Run(kind, Share(size, 1, 1), takes))
        return asyncio.ensure_future(self._do(self.runs[-1]))

    async def _do(self, run: Run) -> None:
        async with self.turns.taken(run.kind, run.share):
            run.begun = self.now
            alarm = asyncio.get_running_loop().create_future()
            heapq.heappush(self._alarms, (self.now + run.takes, next(self._numbers), alarm))
            try:
                await alarm
            finally:
                run.ended = self.now

    async def settle(self) -> None:
        """Whoever can go on has."""
        for _ in range(8):
            await asyncio.sleep(0)
            assert Share(0, 0, 0).within(self.turns.free) and self.turns.free.within(BUDGET)

    async def until(self, end: float = NEVER) -> None:
        """To that moment, or until nothing runs."""
        await self.settle()
        while self._alarms and self._alarms[0][0] <= end:
            self.now, _, alarm = heapq.heappop(self._alarms)
            if not alarm.done():
                alarm.set_result(None)
            await self.settle()

    def begun(self, kind: str) -> list[Run]:
        return [run for run in self.runs if run.kind == kind and run.begun < NEVER]


async def test_turns_are_taken() -> None:
    """Of kinds in turn, within a kind as they came; one that waits is passed by nobody of its kind."""
    day = Day()
    day.hand("x", 100, 1)
    await day.settle()
    tasks = (
        [day.hand("a", 100, 1) for _ in range(4)] + [day.hand("b", 100, 1) for _ in range(2)] + [day.hand("c", 1000, 1)]
    )
    await day.settle()
    tasks[1].cancel()
    await day.until()
    began = sorted((run for run in day.runs if run.begun < NEVER), key=lambda run: run.begun)
    assert "".join(run.kind for run in began) == "xabcaba" and day.runs[2].begun == NEVER
    assert [run.begun for run in began] == list(range(7)) and day.turns.free == BUDGET


async def test_each_kind_has_its_even_part_however_long_its_runs_take() -> None:
    day = Day()
    for _ in range(500):
        day.hand("plan", 10, 1)
    for _ in range(50):
        day.hand("sync", 10, 4)
    await day.until()
    both = max(run.begun for run in day.begun("sync"))
    had = {
        kind: sum(min(run.ended, both) - run.begun for run in day.begun(kind) if run.begun < both)
        for kind in ("plan", "sync")
    }
    assert both == pytest.approx(50 * 4 / 5, abs=4)  # five at a time
    assert had["plan"] == pytest.approx(had["sync"], rel=0.1)
    assert max(run.ended for run in day.runs) == pytest.approx((500 + 200) / 10, abs=4)  # no room stays empty


async def test_what_a_large_one_can_not_use_is_used_while_it_waits() -> None:
    """Two large syncs run for an hour, and a third waits: what is small need not."""
    day = Day()
    for _ in range(3):
        day.hand("sync", 40, 3600)
    for _ in range(40):
        day.hand("sync", 5, 1)
        day.hand("plan", 5, 1)
    await day.until(100)
    small = [run for run in day.runs if run.share.memory_bytes == 5]
    assert all(run.ended <= 25 for run in small)
    await day.until()
    assert [run.begun for run in day.runs[:3]] == [0, 0, 3600] and day.turns.free == BUDGET


async def test_one_that_waits_for_room_waits_for_nobody_who_came_later() -> None:
    """Small ones without end: the large one goes when those that ran before it have ended."""
    day = Day()
    for number in range(10):
        day.hand("plan", 10, 5 + number)
    await day.settle()
    day.hand("sync", 70, 1)
    day.hand("copy", 100, 1)  # alone
    for _ in range(300):
        day.hand("plan", 10, 3)
    await day.until()
    (sync,), (copy,) = day.begun("sync"), day.begun("copy")
    assert sync.begun <= 14 and copy.begun <= 20
    assert not [run for run in day.begun("plan") if run.begun < copy.begun + 1 and run.ended > copy.begun]


async def test_one_that_is_cancelled_while_others_wait_for_it_does_not_keep_them() -> None:
    day = Day()
    day.hand("plan", 60, 10)
    await day.settle()
    alone = day.hand("copy", 100, 1)
    day.hand("plan", 10, 1)
    await day.settle()
    assert day.runs[2].begun == NEVER
    alone.cancel()
    await day.settle()
    assert day.runs[2].begun == 0
    await day.until()
    assert day.turns.free == BUDGET


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_comes_and_is_cancelled(seed: int) -> None:
    """Never beyond the budget (`settle` looks), in order within a kind and size; all have a turn and give it back."""
    rng, day, tasks = random.Random(seed), Day(), list[tuple[Run, asyncio.Task[None]]]()
    cancelled = set[int]()
    for _ in range(60):
        for _ in range(rng.randrange(6)):
            size = rng.choice((1, 5, 20, 24, 26, 50, 75, 100, 500))
            task = day.hand(rng.choice("abc"), size, rng.random() * 4)
            tasks.append((day.runs[-1], task))
        if tasks and rng.random() < 0.4:
            number = rng.randrange(len(tasks))
            cancelled.add(number)
            tasks[number][1].cancel()
            if rng.random() < 0.5:
                await day.settle()
        await day.until(day.now + rng.random())
    await day.until()
    assert day.turns.free == BUDGET
    kept = [run for number, (run, _) in enumerate(tasks) if number not in cancelled]
    assert all(run.ended < NEVER for run in kept)
    for kind in "abc":
        for large in (False, True):
            began = [run.begun for run in kept if run.kind == kind and (run.share.memory_bytes > 25) == large]
            assert began == sorted(began)


async def test_one_that_is_cancelled_when_its_turn_comes_takes_nothing() -> None:
    """It has not noticed yet when the one before it gives back; or it had its turn, and is cancelled in that moment."""
    turns, ran = Turns(Share(10, 10, 10)), list[str]()

    async def one(kind: str, name: str) -> None:
        async with turns.taken(kind, Share(10, 1, 1)):
            ran.append(name)

    for first, second in (("a", "a"), ("a", "b")):
        async with turns.taken("x", Share(10, 1, 1)):
            tasks = [asyncio.ensure_future(one(first, "first")), asyncio.ensure_future(one(second, "second"))]
            await asyncio.sleep(0)
            tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with turns.taken("x", Share(10, 1, 1)):
            tasks = [asyncio.ensure_future(one(first, "third")), asyncio.ensure_future(one(second, "fourth"))]
            await asyncio.sleep(0)
        tasks[0].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError) and ends[1] is None
    assert ran == ["second", "fourth"] * 2 and turns.free == Share(10, 10, 10)
