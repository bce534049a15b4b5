"""One table of the file while it is read: takes its keys one by one, notes what is wrong and goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from warmspare.config import values
from warmspare.config.lines import Key
from warmspare.config.problems import ConfigPlace, Problems
from warmspare.config.settings import suggest
from warmspare.errors import ConfigError

T = TypeVar("T")
D = TypeVar("D")


class TomlTable:
    """A table and where it stands. Unknown keys are noted at once."""

    def __init__(self, content: Mapping[str, object], key: Key, known: tuple[str, ...], problems: Problems) -> None:
        self._content, self._key, self._known, self._problems = content, key, known, problems
        for name in content:
            if name not in known:
                hint = suggest(name, known) or f"the keys here are {', '.join(known)}"
                problems.add((*key, name), "unknown key", hint)

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def place(self, name: str | None = None) -> ConfigPlace:
        """Of a key of this table, or of the table."""
        return self._problems.place(self._key if name is None else (*self._key, name))

    def wrong(self, what: str, hint: str = "", *, name: str | None = None, below: str | None = None) -> None:
        """Note a problem with a key of this table, one below that, or the table itself. The same is noted once."""
        key = (*self._key, *(each for each in (name, below) if each is not None))
        self._problems.add(key, what, hint)

    def take(self, name: str, parse: Callable[[object], T], default: D) -> T | D:
        """The key's value; the default if it is not there, and after noting a problem if it is wrong."""
        assert name in self._known, name
        self._problems.asked(self._key, name, parse)
        if name not in self._content:
            return default
        try:
            return parse(self._content[name])
        except ConfigError as error:
            self.wrong(error.what, error.hint, name=name)
            return default

    def need(self, name: str, parse: Callable[[object], T]) -> T | None:
        """The key's value; None after noting a problem."""
        if name not in self._content:
            self.wrong(f"{name} is missing", "add it")
        self._problems.needed(self._key, name)
        return self.take(name, parse, None)

    def table(self, name: str, known: tuple[str, ...]) -> TomlTable:
        """The table of that name; an empty one if it is not there, and after noting a problem if it is none."""
        assert name in self._known, name
        content = self._content.get(name, {})
        if not isinstance(content, dict):
            self.wrong(f"a table was expected, not {values.kind(content)}", name=name)
            content = {}
        return TomlTable(content, (*self._key, name), known, self._problems)

    def each(self, name: str, known: tuple[str, ...]) -> Iterator[TomlTable]:
        """The tables in the list of that name; none if it is not there, and after noting a problem if it is none."""
        assert name in self._known, name
        content = self._content.get(name, [])
        if not isinstance(content, list):
            self.wrong(f"a list of tables was expected, not {values.kind(content)}", name=name)
            return
        for index, below in enumerate(content):
            key: Key = (*self._key, name, index)
            if isinstance(below, dict):
                yield TomlTable(below, key, known, self._problems)
            else:
                self._problems.add(key, f"a table was expected, not {values.kind(below)}")

    def named(self, name: str, known: tuple[str, ...]) -> Iterator[tuple[str, TomlTable]]:
        """The tables `[name.NAME]`, in the file's order."""
        assert name in self._known, name
        content = self._content.get(name, {})
        if not isinstance(content, dict):
            self.wrong(f"tables were expected, not {values.kind(content)}", f"write [{name}.NAME]", name=name)
            return
        for inner, below in content.items():
            key: Key = (*self._key, name, inner)
            try:
                values.name(inner)
            except ConfigError:
                self._problems.add(key, "a name must be 1 to 80 printable characters", "rename it")
                continue
            if not isinstance(below, dict):
                what = f"a table [{name}.NAME] was expected, not {values.kind(below)}"
                self._problems.add(key, what, f"give what belongs together a name, like [{name}.main]")
                continue
            yield inner, TomlTable(below, key, known, self._problems)
