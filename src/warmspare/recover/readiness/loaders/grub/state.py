"""What GRUB knows at a moment: its variables, its menu, what it has loaded; refuses to run anything."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.guest.entries import FilePlace
from warmspare.recover.readiness.loaders.grub.language.grub_values import (
    MAX_VARIABLES,
    Doubt,
    Truth,
    Value,
    either,
    possible,
)
from warmspare.recover.readiness.loaders.grub.language.nodes import Block, Script

OWN = "own:"  # how the variables name the device that the first configuration is on
MAX_MENU = 1000


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """An entry as GRUB has it, its commands not yet run. source: the file that says so, and where in it. version: what
    the Boot Loader Specification's entry says of the kernel's. specified: it is one of these. asks: it wants a name and
    a password, if any user has."""

    title: str
    id: str
    source: str
    block: Block
    parameters: tuple[Value, ...]
    submenu: bool = False
    asks: bool = False
    specified: bool = False
    version: str = ""


@dataclass(frozen=True, slots=True)
class MenuGap:
    """Where a menu has further entries, or perhaps has. entries: all that these can be; None where anything."""

    why: str
    entries: tuple[MenuEntry, ...] | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is to be started. arguments: a doubt among which is "" may be none. program: another loader, by chainloader.
    nothing: why there is no kernel, as a clause, where that is known."""

    kernel: FilePlace | None = None
    arguments: tuple[Value, ...] = ()
    initrds: tuple[FilePlace, ...] = ()
    program: FilePlace | None = None
    source: str = ""
    nothing: str = ""
    doubt: str = ""


@dataclass(slots=True)
class State:
    """missing: what a variable holds that nobody set; a doubt once an environment block could not be read."""

    variables: dict[str, Value]
    exported: set[str] = field(default_factory=set)
    functions: dict[str, Script | Doubt] = field(default_factory=dict)
    menu: list[MenuEntry | MenuGap] = field(default_factory=list)
    parameters: tuple[Value, ...] = ()
    status: Truth = True
    missing: Value = ""
    loaded: Loaded = Loaded()

    def get(self, name: str) -> Value:
        """A variable, `?`, `#`, or a positional parameter."""
        if name == "?":
            return self.status if isinstance(self.status, Doubt) else ("0" if self.status else "1")
        if name == "#":
            return str(max(len(self.parameters) - 1, 0))
        if name.isdecimal():
            number = int(name) if len(name) < 4 else 1000
            return self.parameters[number] if number < len(self.parameters) else ""
        return self.variables.get(name, self.missing)

    def set(self, name: str, value: Value) -> None:
        """root may be given in parentheses."""
        if name == "root" and isinstance(value, str) and value.startswith("(") and value.endswith(")"):
            value = value[1:-1]
        self.variables[name] = value
        if len(self.variables) > MAX_VARIABLES:
            raise Exceeded(f"GRUB's configuration has more than {MAX_VARIABLES} variables")

    def add(self, entry: MenuEntry | MenuGap) -> None:
        self.menu.append(entry)
        if len(self.menu) > MAX_MENU:
            raise Exceeded(f"a menu of GRUB's has more than {MAX_MENU} entries")

    def copy(self) -> State:
        return dataclasses.replace(
            self,
            variables=dict(self.variables),
            exported=set(self.exported),
            functions=dict(self.functions),
            menu=list(self.menu),
        )

    def inner(self) -> State:
        """A context of its own, as a submenu and `configfile` have it: what was not exported is not known there."""
        kept = {name: value for name, value in self.variables.items() if name in self.exported}
        return State(kept, set(self.exported), dict(self.functions), missing=self.missing)

    def become(self, other: State) -> None:
        for each in dataclasses.fields(self):
            setattr(self, each.name, getattr(other, each.name))


def merged(one: State, other: State, why: str) -> State:
    """What is known where either of these is so. why: the condition can't be told."""
    both = one.variables.keys() | other.variables.keys()
    variables = {name: either(one.get(name), other.get(name), why) for name in both}
    functions: dict[str, Script | Doubt] = {**other.functions, **one.functions}
    for name in one.functions.keys() ^ other.functions.keys():
        functions[name] = Doubt(why)
    for name in one.functions.keys() & other.functions.keys():
        if one.functions[name] != other.functions[name]:
            functions[name] = Doubt(why)
    return State(
        variables,
        one.exported | other.exported,
        functions,
        _menu(one.menu, other.menu, why),
        one.parameters,
        one.status if one.status == other.status else Doubt(why),
        either(one.missing, other.missing, why),
        one.loaded if one.loaded == other.loaded else _loaded(one.loaded, other.loaded, why),
    )


def _menu(one: list[MenuEntry | MenuGap], other: list[MenuEntry | MenuGap], why: str) -> list[MenuEntry | MenuGap]:
    """What both begin with, and a gap for the rest."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    rest = one[same:] + other[same:]
    if not rest:
        return one
    entries = list[MenuEntry]()
    for each in rest:
        if isinstance(each, MenuEntry):
            entries.append(each)
        elif each.entries is None:
            return [*one[:same], MenuGap(why, None)]
        else:
            entries += each.entries
    return [*one[:same], MenuGap(why, tuple(dict.fromkeys(entries)))]


def _loaded(one: Loaded, other: Loaded, why: str) -> Loaded:
    """What differs in nothing but arguments is still known, as far as these may be told."""
    alike = dataclasses.replace(other, arguments=one.arguments, source=one.source)
    if alike != one or one.kernel is None:
        return Loaded(doubt=why)
    if len(one.arguments) == len(other.arguments):
        arguments = tuple(map(lambda a, b: either(a, b, why), one.arguments, other.arguments))
        return dataclasses.replace(one, arguments=arguments)
    common = [each for each in one.arguments if each in other.arguments]
    rest = [each for each in (*one.arguments, *other.arguments) if each not in common]
    perhaps = [Doubt(why, possible(each) | {""} if possible(each) else frozenset()) for each in rest]
    return dataclasses.replace(one, arguments=(*common, *perhaps))
