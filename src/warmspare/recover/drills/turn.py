"""When one VM of several that are drilled together is due, and what it tells of itself; alone, it is due at once."""

from __future__ import annotations


class DrillTurn:
    """Of a VM that is drilled alone: it waits for nobody, and nobody listens."""

    async def due(self) -> None:
        """Return when it may be started."""

    def waited(self, seconds: float) -> None:
        """It was due, and had to wait for room on this host."""

    def launched(self) -> None:
        """Its start was asked for."""

    def running(self) -> None:
        """The machine runs, whatever its guest does. May be told again and again."""

    def judged(self, passed: bool, reason: str, boot_s: float | None) -> None:
        """It came up, or did not."""

    async def over(self) -> None:
        """Return when it may be ended: others may need it until then."""


ALONE = DrillTurn()
