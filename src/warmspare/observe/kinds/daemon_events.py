"""Events of the daemon: whom it does what for."""

from __future__ import annotations

from typing import Annotated

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import duration


class DaemonUsed(Event, frozen=True, kw_only=True, tag="daemon.used"):
    """`--verbose`: the daemon does what this command asks for."""

    usual = Weight.DETAIL

    socket: str

    def words(self) -> str:
        return f"done by the daemon at {self.socket}"


class DaemonUnused(Event, frozen=True, kw_only=True, tag="daemon.unused"):
    """`--verbose`: there is a daemon, and this command does without."""

    usual = Weight.DETAIL

    why: str

    def words(self) -> str:
        return f"not done by the daemon: {self.why}"


class DaemonReady(Event, frozen=True, kw_only=True, tag="daemon.ready"):
    """It takes requests from now on."""

    socket: str
    pid: int

    def words(self) -> str:
        return f"taking requests of this user's commands at {self.socket}"


class DaemonTook(Event, frozen=True, kw_only=True, tag="daemon.took"):
    """A command asks for something, and it is done here."""

    request: Annotated[str, note(description="its kind, as docs/api.md has it")]
    pid: Annotated[int, note(description="of the command")]

    def words(self) -> str:
        return f"{self.request} for process {self.pid}"


class DaemonEnded(Event, frozen=True, kw_only=True, tag="daemon.ended"):
    """It is over."""

    request: str
    pid: int
    exit_code: Annotated[int | None, note(description="of the command; null where it was ended, or is to do it alone")]
    seconds: float

    def words(self) -> str:
        how = "without an end of its own" if self.exit_code is None else f"with {self.exit_code}"
        return f"{self.request} for process {self.pid} ended {how} after {duration(self.seconds)}"


class DaemonStuck(Event, frozen=True, kw_only=True, tag="daemon.stuck"):
    """What was ended is still in a call that nothing can stop. It takes no more, and ends once its other runs are over,
    with 130."""

    request: str

    def words(self) -> str:
        return f"{self.request} is in a call that nothing can stop: this daemon ends once its other runs are over"


class DaemonDeclined(Event, frozen=True, kw_only=True, tag="daemon.declined"):
    """A command asked, and does it by itself."""

    pid: int
    why: str

    def words(self) -> str:
        return f"not for process {self.pid}: {self.why}"
