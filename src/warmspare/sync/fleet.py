"""Several syncs at once, bounded in all and on each host; owns who waits for whom.

One that fails does not stop the others: each VM is protected for itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """One VM's sync. host: what it loads. run: to its exit code; it raises nothing but a cancel."""

    name: str
    host: str
    run: Callable[[], Awaitable[int]]


async def run_all(jobs: Sequence[Job], *, at_once: int, per_host: int) -> dict[str, int]:
    """The exit code of each job by name. Jobs begin in their order, as far as their hosts have room."""
    everywhere = asyncio.Semaphore(at_once)
    hosts = {job.host: asyncio.Semaphore(per_host) for job in jobs}
    codes: dict[str, int] = {}

    async def run(job: Job) -> None:
        # The host first: a job that waits for its host must not keep one of another host from running.
        async with hosts[job.host], everywhere:
            codes[job.name] = await job.run()

    async with asyncio.TaskGroup() as tasks:
        for job in jobs:
            tasks.create_task(run(job), name=f"sync {job.name}")
    return codes
