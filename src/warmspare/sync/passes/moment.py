"""How long a snapshot may live: lets go of it in time, and judges whether passes over the machine come to an end.

Reading ends at the end of that time, whatever it waits for; what was read is sent afterwards, when no snapshot holds
the VM any more. docs/architecture.md, "Passes".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from warmspare.errors import SourceError
from warmspare.source.ports import Machine, Opened

MOST_IN_VAIN = 3  # passes in a row that leave no less unread than the best before them


class Moment:
    """The machine's moment in one pass: let go once, by whatever comes first, the last byte or the end of its time.

    tasks: owns the letting go. until_s: by time.monotonic(), None for no end.
    """

    def __init__(self, machine: Machine, tasks: asyncio.TaskGroup, until_s: float | None) -> None:
        self._machine, self._tasks, self._until_s = machine, tasks, until_s
        self._reading = False
        self.gone = False
        self.gone_s = 0.0  # when it was really gone, by time.monotonic()

    @property
    def until_s(self) -> float | None:
        """When reading must end; in the past where there is nothing to be read any more."""
        return -1.0 if self.gone and not self._machine.readable_again else self._until_s

    @contextmanager
    def watched(self) -> Iterator[Moment]:
        """Let go of it at the end of its time while nothing is read, too: the last disk may still be being sent."""
        if self._until_s is None:
            yield self
            return
        delay_s = max(self._until_s - time.monotonic(), 0.0)
        timer = asyncio.get_running_loop().call_later(delay_s, self._over)
        try:
            yield self
        finally:
            timer.cancel()

    def _over(self) -> None:
        if not self._reading:  # whoever reads ends that first, and then says so
            self._let_go()

    def begin(self) -> None:
        """A disk is read from here to `ended`, up to `until_s` as it is now."""
        self._reading = True

    def ended(self, *, last: bool) -> bool:
        """It is not read any more. last: nor is any other. Whether it could be read once more."""
        self._reading = False
        if last:
            self._let_go()
        return not self.gone or self._machine.readable_again

    def _let_go(self) -> None:
        if not self.gone:
            self.gone = True
            self._tasks.create_task(self._leave(), name="all read")

    async def _leave(self) -> None:
        await self._machine.all_read()
        self.gone_s = time.monotonic()


class Passes:
    """Of one sync. max_age_s: of a snapshot, None for no bound. count: of those begun."""

    def __init__(self, max_age_s: float | None) -> None:
        self._max_age_s = max_age_s
        self.count = 1
        self._least_bytes: int | None = None
        self._in_vain = 0
        self._taken_s = 0.0
        self._moment: Moment | None = None

    def moment(self, machine: Machine, tasks: asyncio.TaskGroup, opened: Opened) -> Moment:
        """Of the next pass, over what was opened."""
        bounded = self._max_age_s is not None and opened.taken_s is not None
        self._taken_s = opened.taken_s or 0.0
        self._moment = Moment(machine, tasks, self._taken_s + (self._max_age_s or 0.0) if bounded else None)
        return self._moment

    @property
    def held_s(self) -> float:
        """How long the last moment was held."""
        return self._moment.gone_s - self._taken_s if self._moment else 0.0

    def judge(self, left_bytes: int, where: str) -> None:
        """After a pass that came to no end. left_bytes: what it did not read. SourceError where the last ones did not
        come further than one before them: then the rest does not get less, however many there are."""
        if self._least_bytes is None or left_bytes < self._least_bytes:
            self._least_bytes, self._in_vain = left_bytes, 0
            return
        self._in_vain += 1
        if self._in_vain >= MOST_IN_VAIN:
            raise SourceError(
                f"the VM changes faster than it can be sent with snapshots of at most {self._max_age_s:g} s: "
                f"after {self.count} of them {left_bytes} bytes are left to read, and {self._least_bytes} were before",
                where=where,
                hint="raise max_snapshot_age or the limit, or run again at a quieter time; what was sent is kept",
                retryable=True,
            )
