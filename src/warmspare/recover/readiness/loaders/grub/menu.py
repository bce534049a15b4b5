"""Which entry of a menu GRUB takes by itself: `default` by number, by name, by path; owns that rule and no commands.

The rule: a number counts from 0; else the first entry whose id or title it is; `A>B` goes on in the submenu A with B.
Where `default` names nothing that is there GRUB takes number 0, and so does a submenu that nothing was said of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from warmspare.recover.readiness.loaders.grub.language.conditions import integer
from warmspare.recover.readiness.loaders.grub.language.grub_values import Doubt, Value, possible
from warmspare.recover.readiness.loaders.grub.state import MenuEntry, MenuGap

_NUMBER = re.compile(r"[ \t]*(0[xX][0-9a-fA-F]{1,20}|[0-9]{1,20})(?=(.?))", re.DOTALL)
_STEP = re.compile(r"((?:[^>]|>>)*)(?:>|\Z)")

Menu = list[MenuEntry | MenuGap]


@dataclass(frozen=True, slots=True)
class MenuChoice:
    """entry: what is taken. rest: what `default` says of its submenu. how: the rule, as a clause for people."""

    entry: MenuEntry
    rest: str
    how: str


def chosen(menu: Menu, default: Value) -> MenuChoice | Doubt:
    """The entry. menu: not empty."""
    choices = [_one(menu, value) for value in sorted(possible(default))]
    alike = {(each.entry, each.rest) if isinstance(each, MenuChoice) else each for each in choices}
    if len(alike) == 1:
        return choices[0]
    why = default.why if isinstance(default, Doubt) else ""
    return Doubt(f"which entry is the default is not known: {why}")


def _one(menu: Menu, default: str) -> MenuChoice | Doubt:
    first, rest = _split(default)
    said, number = f"default={default[:200]!r}", _NUMBER.match(default)
    if number is None:
        return _by_name(menu, first, rest, said)
    counted = _counted(menu, integer(number[1]), rest, said)
    if number[2] in ("", ">") or number[2].isspace():
        return counted
    # It begins with digits, and is no number: GRUB's versions differ in whether they count by these.
    named = _by_name(menu, first, rest, said)
    by_blscfg = isinstance(named, MenuChoice) and named.entry.specified  # by versions that take the name
    if by_blscfg or (
        isinstance(named, MenuChoice) and isinstance(counted, MenuChoice) and named.entry == counted.entry
    ):
        return named
    return Doubt(f"{said} begins with digits, and GRUB's versions differ in whether that is a number")


def _by_name(menu: Menu, name: str, rest: str, said: str) -> MenuChoice | Doubt:
    """The first whose title or id this is; a doubt where one that may be missing in between could be it."""
    for each in menu:
        if isinstance(each, MenuGap):
            if each.entries is None or any(name in (entry.title, entry.id) for entry in each.entries):
                return Doubt(each.why)
        elif name in (each.title, each.id):
            return MenuChoice(each, rest, said)
    return _at(menu, 0, "", f"{said} names no entry, and GRUB takes the first then")


def _counted(menu: Menu, number: int, rest: str, said: str) -> MenuChoice | Doubt:
    if number < len(menu):
        return _at(menu, number, rest, f"{said}, counted from 0")
    gap = next((each for each in menu if isinstance(each, MenuGap)), None)
    if gap is not None:
        return Doubt(gap.why)
    return _at(menu, 0, "", f"{said} is beyond the menu's {len(menu)} entries, and GRUB takes the first then")


def _at(menu: Menu, at: int, rest: str, how: str) -> MenuChoice | Doubt:
    gap = next((each for each in menu[: at + 1] if isinstance(each, MenuGap)), None)
    if gap is not None:
        return Doubt(gap.why)
    entry = menu[at]
    assert isinstance(entry, MenuEntry)
    return MenuChoice(entry, rest, how)


def _split(default: str) -> tuple[str, str]:
    """The name up to a single >, and what follows that. A doubled one is one of the name's own."""
    match = _STEP.match(default)
    assert match is not None
    return match[1].replace(">>", ">"), default[match.end() :]
