"""Keeps the index of VMs up to date beside a run that publishes; refuses to keep the run waiting for it, or to fail it.

What must stand there before a point is published (VmIndex.announce) begins as soon as the point is sealed, beside what
is sent then; what follows the publication begins with it, beside the rest of the run. Each is given up shortly after
there is nothing else to be done, which costs whoever looks a VM up some time, and is mended by its next sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from warmspare.observe.housekeeping import Housekeeping
from warmspare.repository.chain import Point, Repository
from warmspare.repository.vm_index import VmIndex

ANNOUNCED_S = 2.0  # once all but the record is in the store: a name may be hidden by it, if this run then dies
GRACE_S = 1.0  # once the run is over: its point is found without


class IndexNote:
    """Of one run and its point. Leaving the block ends what is still under way."""

    def __init__(self, repository: Repository, housekeeping: Housekeeping) -> None:
        self._index, self._housekeeping = VmIndex(repository), housekeeping
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._ended(GRACE_S if error is None else 0.0, tell=error is None)

    def announce(self, point: Point, before: str | None) -> None:
        """Begin to say that the VM is here. before: what the point before called it; None if there is none."""
        self._begin(self._index.announce(point, before, self._housekeeping))

    async def announced(self) -> None:
        """It is said, or given up."""
        await self._ended(ANNOUNCED_S)

    def published(self, point: Point, before: str | None) -> None:
        """Begin to say that this is its newest point."""
        self._begin(self._index.note(point, before, self._housekeeping))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(work)

    async def _ended(self, within_s: float, *, tell: bool = True) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        try:
            await asyncio.wait([task], timeout=within_s)
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()  # it never fails, but for a bug
        elif tell:
            self._index.gave_up(self._housekeeping)
