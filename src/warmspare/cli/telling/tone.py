"""How a command is to speak: for people or programs, and how much; owns what contradicts itself in that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.event import Event

Form = Literal["table", "json", "jsonl"]
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True, slots=True)
class Tone:
    """form: sentences and tables for people; one document of JSON at the end; or a line of JSON each event. quiet: only
    what somebody should know, and what was asked for. verbose: details too."""

    form: Form = "table"
    quiet: bool = False
    verbose: bool = False

    @property
    def as_json(self) -> bool:
        return self.form != "table"

    def tells(self, event: Event) -> bool:
        """Whether it is told. A program is told how it ended, however quiet."""
        from warmspare.observe.event import Weight  # here: --help needs no events

        weight = event.weight()
        if self.quiet:
            return weight.quiet or (self.as_json and event.ends)
        return self.verbose or weight is not Weight.DETAIL

    def words(self, event: Event) -> str | None:
        """What a person reads of it."""
        return event.sentence() or (event.short() if self.verbose else None)


USUAL = Tone()


def chosen_tone(form: str | None, *, json: bool, quiet: bool, verbose: bool, endless: bool = False) -> Tone:
    """What options say. endless: the command follows. ConfigError where they contradict each other."""
    known = {name: name for name in FORMS}
    if form is not None and form not in known:
        raise ConfigError(f"--output is one of {', '.join(FORMS)}, and not {form[:40]!r}", hint="give one of them")
    if json and form not in (None, "jsonl"):
        raise ConfigError(f"--json is --output jsonl, and --output says {form}", hint="give one of them")
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other", hint="give one of them")
    if endless and form == "json":
        raise ConfigError(
            "--output json is written at the end, and what goes on until it is ended has none",
            hint="take --output jsonl",
        )
    return Tone("jsonl" if json else known[form] if form else "table", quiet, verbose)
