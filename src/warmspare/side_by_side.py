"""Many small pieces of work, so many of them at once; owns their order, and nothing of the work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def side_by_side(work: Callable[[T], Awaitable[R]], items: Iterable[T], most: int) -> list[R]:
    """What comes of each item, in their order. The first that fails ends the others, and its error is raised."""
    slots = asyncio.Semaphore(most)

    async def one(item: T) -> R:
        async with slots:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            todo = [tasks.create_task(one(item)) for item in items]
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return [task.result() for task in todo]
