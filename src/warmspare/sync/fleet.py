"""Several syncs at once, bounded in all and on each host; owns who waits for whom.

One that fails does not stop the others: each VM is protected for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """One VM's sync. host: what it loads. run: to what became of it; it raises nothing but a cancel."""

    name: str
    host: str
    run: Callable[[], Awaitable[T]]


async def run_all(jobs: Sequence[Job[T]], *, at_once: int, per_host: int) -> dict[str, T]:
    """What became of each job, by name. Jobs begin in their order, as far as their hosts have room."""
    everywhere = asyncio.Semaphore(at_once)
    hosts = {job.host: asyncio.Semaphore(per_host) for job in jobs}
    ends: dict[str, T] = {}

    async def run(job: Job[T]) -> None:
        # The host first: a job that waits for its host must not keep one of another host from running.
        async with hosts[job.host], everywhere:
            ends[job.name] = await job.run()

    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(run(job), name=f"sync {job.name}")
    return ends
