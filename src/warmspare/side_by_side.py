"""Many small pieces of work, so many of them at once; owns their order, and nothing of the work."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def side_by_side(work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], most: int) -> list[R]:
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


async def ahead(
    work: Callable[[T], Coroutine[Any, Any, R]], items: Iterable[T], most: int
) -> AsyncGenerator[tuple[T, asyncio.Task[R]]]:
    """Each item and its work, in their order, while that of the next ones goes on; `most` are under way together. The
    caller awaits each, so that what is wrong with one is said when its turn has come. Close it, and none goes on."""
    todo = iter(items)
    under_way: deque[tuple[T, asyncio.Task[R]]] = deque()
    try:
        while True:
            while len(under_way) < most:
                try:
                    item = next(todo)
                except StopIteration:
                    break
                under_way.append((item, asyncio.create_task(work(item))))
            if not under_way:
                return
            yield under_way[0]
            under_way.popleft()
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)
