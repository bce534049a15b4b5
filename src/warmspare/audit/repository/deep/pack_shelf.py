"""The packs of one manifest on their way through scratch space: each fetched once, whole, and proved by its SHA-256.

Owns how many lie there at once and fetching the next ahead; a pack that is asked for again after it had to go is
fetched again, which happens only where a manifest leaps to and fro between more packs than fit.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from warmspare.audit.repository.object_checks import Fetched, FindingPlace, ObjectChecks, Stated, identify_pack

SHELF_BYTES = 192 << 20  # of scratch space: the pack in use, the next, and one that is used again


class PackShelf:
    """packs: in the manifest's order. known_bad: keys that have their finding already. done: indexes that were proved
    by an audit that goes on now, and need it no more."""

    def __init__(
        self,
        objects: ObjectChecks,
        packs: Sequence[Stated],
        place: FindingPlace,
        known_bad: set[str],
        done: set[int],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._objects, self._packs, self._place, self._tasks = objects, packs, place, tasks
        self._known_bad, self.done = known_bad, done
        self._held: OrderedDict[int, asyncio.Task[Fetched | None]] = OrderedDict()

    async def get(self, index: int) -> Fetched | None:
        """A pack, good until the next call; None if there is nothing of it."""
        self._begin(index)
        if index + 1 < len(self._packs) and index + 1 not in self.done and self._fits(index + 1):
            self._begin(index + 1)
        copy = await self._held[index]
        self._held.move_to_end(index)
        while not self._fits_all() and len(self._held) > 1:
            oldest = next(iter(self._held))
            if oldest == index or not self._held[oldest].done():
                break
            self._drop(oldest)
        return copy

    def _begin(self, index: int) -> None:
        if index not in self._held:
            self._held[index] = self._tasks.create_task(self._fetch(index), name="pack")

    def _fits(self, index: int) -> bool:
        return self._bytes() + self._packs[index].bytes <= SHELF_BYTES

    def _fits_all(self) -> bool:
        return self._bytes() <= SHELF_BYTES

    def _bytes(self) -> int:
        return sum(self._packs[index].bytes for index in self._held)

    async def _fetch(self, index: int) -> Fetched | None:
        stated = self._packs[index]
        quiet = index in self.done or stated.key in self._known_bad
        copy = await self._objects.fetch(stated, self._place, identify_pack(stated), quiet=quiet, partly=True)
        if copy is not None and not copy.sound:
            self._known_bad.add(stated.key)
        self.done.add(index)
        return copy

    def _drop(self, index: int) -> None:
        task = self._held.pop(index)
        copy = task.result() if task.done() and not task.cancelled() and task.exception() is None else None
        if copy is not None:
            self._objects.scratch.drop(copy.file)

    async def rest(self) -> None:
        """Prove the packs that no record asked for."""
        for index in range(len(self._packs)):
            if index not in self.done:
                await self.get(index)

    def clear(self) -> None:
        """Every pack goes; when no task of it runs any more."""
        for index in list(self._held):
            self._drop(index)
