"""Several syncs at once: bounds in all and per host, and the exit code that speaks for all."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from warmspare.errors import worst
from warmspare.sync.fleet import Job, run_all


async def test_bounds_hold_and_are_used() -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def job(number: int, host: str) -> Job:
        async def run() -> int:
            for name in ("all", host):
                running[name] += 1
                most[name] = max(most[name], running[name])
            await asyncio.sleep(0.01)
            for name in ("all", host):
                running[name] -= 1
            return number

        return Job(f"vm{number}", host, run)

    jobs = [job(n, "a") for n in range(6)] + [job(n, "b") for n in range(6, 9)] + [job(9, "c")]
    codes = await run_all(jobs, at_once=4, per_host=2)
    assert codes == {f"vm{n}": n for n in range(10)}
    assert most == {"all": 4, "a": 2, "b": 2, "c": 1}


async def test_one_that_fails_stops_no_other() -> None:
    async def run(code: int) -> int:
        await asyncio.sleep(0.01 * (code == 0))
        return code

    codes = await run_all([Job("a", "h", lambda: run(4)), Job("b", "h", lambda: run(0))], at_once=1, per_host=1)
    assert codes == {"a": 4, "b": 0}


async def test_a_cancel_reaches_all() -> None:
    ended: list[str] = []

    def job(name: str) -> Job:
        async def run() -> int:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(name)
            return 0

        return Job(name, "h", run)

    task = asyncio.create_task(run_all([job("a"), job("b")], at_once=2, per_host=2))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == ["a", "b"]


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([0, 0], 0), ([0, 7], 7), ([7, 6], 6), ([6, 2], 2), ([2, 4], 4), ([4, 3], 3), ([3, 5], 5), ([5, 1], 1)],
)
def test_the_code_for_all(codes: list[int], code: int) -> None:
    assert worst(codes) == code == worst(list(reversed(codes)))
