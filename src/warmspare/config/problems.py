"""What is wrong in a configuration file, and where; collects, so that one look shows all of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warmspare.config.lines import Key, dotted, find_lines, line_of
from warmspare.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ConfigPlace:
    """A key of a file. key: the dotted path, "" for the file as a whole; line: from 1, None if not known."""

    file: str
    key: str = ""
    line: int | None = None

    def __str__(self) -> str:
        line = f", line {self.line}" if self.line is not None else ""
        return self.file + line + (f", {self.key}" if self.key else "")

    def problem(self, what: str, hint: str = "") -> Problem:
        return Problem(what, self, hint)


class Problem(ConfigError):
    """One thing that is wrong at one place."""

    def __init__(self, what: str, place: ConfigPlace, hint: str = "") -> None:
        self.place = place
        super().__init__(what, where=str(place), hint=hint)


class SettingsError(ConfigError):
    """A configuration that can't be used. Shows its first problem; `problems` has all, in the file's order.

    shown_by: the command that shows all of them.
    """

    def __init__(self, problems: Sequence[Problem], *, shown_by: str = "warmspare config check") -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.place.line or 0))
        first, more = self.problems[0], len(self.problems) - 1
        rest = f"`{shown_by}` shows {more} more {'error' if more == 1 else 'errors'}" if more else ""
        hint = ", and ".join(part for part in (first.hint, rest) if part)
        super().__init__(first.what, where=first.where, hint=hint)


class Problems:
    """The problems of one file as they are found."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._lines = find_lines(text)
        self.found: list[Problem] = []

    def asked(self, key: Key, name: str, parse: Callable[[object], object]) -> None:
        """A table is asked for a key of it, which `parse` takes; nothing wrong. For who wants to know (schema.py)."""

    def needed(self, key: Key, name: str) -> None:
        """The same: the table must have that key."""

    def place(self, key: Key) -> ConfigPlace:
        return ConfigPlace(self._file, dotted(key), line_of(self._lines, key))

    def add(self, key: Key, what: str, hint: str = "") -> None:
        problem = self.place(key).problem(what, hint)
        if all((problem.what, problem.place) != (one.what, one.place) for one in self.found):
            self.found.append(problem)
