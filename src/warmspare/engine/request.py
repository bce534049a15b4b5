"""What can be asked for, as a value, and what it is given while it runs; owns none of the work.

A request is a frozen struct: it can be kept, compared, and sent to another process as JSON. Its `perform` does the
work and gives a value: mostly the event that ends such a run (docs/events.md has their fields).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from warmspare.engine.budget import Share
from warmspare.engine.host_places import HostPlaces
from warmspare.observe.events import Events, Meter
from warmspare.observe.kinds.run_events import StoreRetry
from warmspare.ticker import every

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run has besides its request. period_s: how often progress is told."""

    events: Events
    meter: Meter
    host: HostPlaces
    period_s: float = 1.0

    @property
    def retrying(self) -> Callable[[str, int, float], None]:
        """What a store tells of requests that keep failing, as events; see open_store."""

        def tell(message: str, attempt: int, wait_s: float) -> None:
            self.events.emit(StoreRetry(message=message, attempt=attempt, seconds=round(wait_s, 3)))

        return tell

    def told(self, events: Events, meter: Meter) -> RunContext:
        """The same, telling elsewhere."""
        return replace(self, events=events, meter=meter)

    def ticking(self, names: tuple[str, ...]) -> AbstractAsyncContextManager[None]:
        """Emit the meter's progress now and then for as long as the block lasts. names: the totals that it shows."""

        def tick() -> None:
            if not self.events.ended:  # closing the store takes a moment, in which no progress is told
                self.events.emit(self.meter.progress(*names))

        return every(self.period_s, tick)


class Request(msgspec.Struct, Generic[T], frozen=True, kw_only=True, tag=True, tag_field="request"):
    """Base of all. progress: the totals that are told while it runs; none for what is over in a moment. carried: the
    type of its value where a command shows that at its end; else its events say all."""

    progress: ClassVar[tuple[str, ...]] = ()
    carried: ClassVar[Any] = None

    def located(self, run: RunContext) -> Request[T]:
        """The same with what the configuration has for what it leaves away. ConfigError."""
        return self

    async def perform(self, run: RunContext) -> T:
        """Do it. Raises the package's errors (warmspare.errors), and nothing else that is expected; several at once
        come as a group."""
        raise NotImplementedError

    def share(self) -> Share:
        """The most that it uses of an engine's budget."""
        return Share()

    def apart(self) -> str:
        """Why it is to have a process of its own, as a clause; "" where it need not."""
        if "settings" in self.__struct_fields__ and getattr(self, "settings") is not None:  # noqa: B009
            return "its settings are its program's own"
        return "it goes on until it is ended" if getattr(self, "follow", False) else ""

    def exit_code(self, result: T) -> int:
        """What the command line ends with after this result: its own code where it has one, otherwise 0."""
        return int(getattr(result, "exit_code", 0))
