"""Something done now and then while something else goes on; owns its task, which never outlives the block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


@contextlib.asynccontextmanager
async def every(period_s: float, tick: Callable[[], None]) -> AsyncIterator[None]:
    """Call `tick` each `period_s` for as long as the block runs. What it raises ends the ticking, and is raised where
    the block ends in peace; a cancel of the caller is never taken for that of the ticker."""

    async def work() -> None:
        while True:
            await asyncio.sleep(period_s)
            tick()

    ticker = asyncio.create_task(work())
    try:
        yield
    finally:
        ticker.cancel()
        await asyncio.wait([ticker])
    if not ticker.cancelled():
        ticker.result()
