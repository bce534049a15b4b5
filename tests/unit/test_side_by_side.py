"""Small pieces of work: their order, how many of them at once, and what is left of them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from warmspare.side_by_side import ahead


class Work:
    """Items are numbers; the later, the sooner it is done. Number 5 fails."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []

    async def __call__(self, number: int) -> int:
        self.begun.append(number)
        try:
            await asyncio.sleep(0.02 / (number + 1))
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        if number == 5:
            raise ValueError("five")
        return number * number


async def test_each_comes_in_its_turn_and_fails_there() -> None:
    work, results = Work(), []
    async with aclosing(ahead(work, range(9), 3)) as items:
        async for number, task in items:
            assert len(work.begun) <= number + 3
            try:
                results.append((number, await task))
            except ValueError:
                results.append((number, -1))
    assert results == [(number, -1 if number == 5 else number * number) for number in range(9)]


async def test_what_is_under_way_ends_with_who_asked() -> None:
    work = Work()
    with pytest.raises(ValueError, match="five"):
        async with aclosing(ahead(work, range(100), 4)) as items:
            async for _, task in items:
                await task
    assert work.begun == list(range(len(work.begun))) and 6 <= len(work.begun) <= 9
    assert len(asyncio.all_tasks()) == 1
