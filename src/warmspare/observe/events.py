"""Events: the one stream that terminal, log lines and JSON are made from; owns no rendering.

What there is to tell stands in `kinds/`, what all events have in common in event.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from warmspare.observe.event import Event
from warmspare.observe.kinds.run import Progress

Sink = Callable[[Event], None]


class Events:
    """Passes each event to the sinks, in order. A sink must not raise and must not take long. newest: what was told
    last."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks
        self._once: list[Event] = []
        self.newest: Event | None = None

    def emit(self, event: Event) -> None:
        self.newest = event
        for sink in self._sinks:
            sink(event)

    def emit_once(self, event: Event) -> None:
        """The same, but not again if an equal one was told by this."""
        if event not in self._once:
            self._once.append(event)
            self.emit(event)

    @property
    def ended(self) -> bool:
        """Whether the newest is the last of a run."""
        return self.newest is not None and self.newest.ends


class Meter:
    """Running totals of a transfer; stages add to it, a ticker reads it. All on the event loop's thread."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin again at zero."""
        self.began_s = time.monotonic()
        self.total_bytes = 0  # to be looked at, as planned
        self.done_bytes = 0  # looked at, holes included
        self.read_bytes = 0
        self.changed_bytes = 0
        self.sent_bytes = 0
        self.written_bytes = 0
        self.blocks_verified = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began_s

    def progress(self, *names: str) -> Progress:
        """How far it is: the named totals, and the time so far and to come."""
        counted = {f"bytes_{name}": getattr(self, f"{name}_bytes") for name in names}
        seconds = self.seconds
        share = self.done_bytes / self.total_bytes if self.total_bytes else 0.0
        return Progress(
            **counted,
            bytes_total=self.total_bytes,
            bytes_done=self.done_bytes,
            seconds=round(seconds, 3),
            seconds_left=round(seconds / share - seconds, 1) if share > 0.01 else -1.0,
        )
