"""Events: the one stream that terminal, log lines and JSON are made from; owns no rendering.

docs/events.md lists every event with its fields. Fields hold numbers, strings and lists of these, never
secrets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Sink = Callable[[Event], None]


class Events:
    """Passes each event to the sinks, in order. A sink must not raise and must not take long. last: the name of the
    newest event."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks
        self._once: set[str] = set()
        self.last = ""

    def emit(self, event: str, **fields: Any) -> None:
        self.last = event
        record: Event = {"event": event, **fields}
        for sink in self._sinks:
            sink(record)

    def emit_once(self, event: str, **fields: Any) -> None:
        """The same, but not again with the very same fields."""
        if (said := repr((event, fields))) not in self._once:
            self._once.add(said)
            self.emit(event, **fields)


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

    def fields(self, *names: str) -> dict[str, float | int]:
        """The named totals and the time so far, as event fields."""
        out: dict[str, float | int] = {f"bytes_{name}": getattr(self, f"{name}_bytes") for name in names}
        seconds = self.seconds
        out["bytes_total"], out["bytes_done"] = self.total_bytes, self.done_bytes
        out["seconds"] = round(seconds, 3)
        share = self.done_bytes / self.total_bytes if self.total_bytes else 0.0
        out["seconds_left"] = round(seconds / share - seconds, 1) if share > 0.01 else -1.0
        return out
