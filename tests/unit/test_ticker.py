"""What is done now and then beside something else: it ends with that, and never eats a cancel."""

from __future__ import annotations

import asyncio

import pytest

from warmspare.ticker import every


async def test_it_ticks_until_the_block_ends() -> None:
    ticks: list[int] = []
    thrice = asyncio.Event()

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            thrice.set()

    async with every(0.001, tick):
        await thrice.wait()
    count = len(ticks)
    await asyncio.sleep(0.02)
    assert len(ticks) == count


async def test_its_error_is_raised_where_the_block_ends_in_peace() -> None:
    ticked = asyncio.Event()

    def tick() -> None:
        ticked.set()
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        async with every(0.001, tick):
            await ticked.wait()
    with pytest.raises(KeyError, match="first"):
        async with every(0.001, tick):
            ticked.clear()
            await ticked.wait()
            raise KeyError("first")


async def test_a_cancel_that_comes_while_it_ends_is_no_ticker_s() -> None:
    """It was swallowed: `suppress(CancelledError)` around the wait takes either."""
    inside, after = asyncio.Event(), False

    async def run() -> None:
        nonlocal after
        async with every(60, lambda: None):
            inside.set()
            await asyncio.sleep(0)
        after = True

    task = asyncio.create_task(run())
    await inside.wait()
    for _ in range(20):  # at each step on the way out
        if task.done():
            break
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not after
