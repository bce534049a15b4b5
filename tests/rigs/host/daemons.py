"""The daemon as a process of its own, and what it says."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rigs.host.forked import Forked
from rigs.host.hearing import all_heard

WITHIN_S = 60.0


class Daemon:
    """Of one state directory; home is where that lies. program: what is started instead of the plain command."""

    def __init__(
        self,
        home: Path,
        *more: object,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "warmspare"),
    ) -> None:
        self.home = home
        self.socket = home / "warmspare" / "daemon.sock"
        self.log = home / f"daemon-{time.monotonic_ns()}.log"
        around = {**os.environ, "XDG_STATE_HOME": str(home), **(environment or {})}
        with self.log.open("wb") as log:
            self.process = Forked(
                *program, "daemon", *more, "--json", environment=around, folder=home, stdout=log.fileno()
            )
        self.until("daemon.ready")

    def said(self) -> list[dict[str, object]]:
        """Its events so far."""
        text = self.log.read_bytes()
        return all_heard(text[: text.rfind(b"\n") + 1])

    def all(self, name: str) -> list[dict[str, object]]:
        return [event for event in self.said() if event["event"] == name]

    def until(self, name: str, count: int = 1) -> dict[str, object]:
        """Wait for so many events of a name; the newest."""
        deadline = time.monotonic() + WITHIN_S
        while len(found := self.all(name)) < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, f"{name} did not come: {self.said()}"
            time.sleep(0.01)
        return found[-1]

    def end(self) -> int:
        """As a service manager does."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(WITHIN_S)

    def descriptors(self) -> int:
        """That it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))
