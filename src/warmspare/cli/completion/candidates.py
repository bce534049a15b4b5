"""From the words of a line to what may come next, out of the tables of commands and options; owns what shells are told.

Each shell gets lines: what the candidates are (`words`; `file` or `folder` where the shell knows them best), and then
the candidates in the way that it takes them. Whatever fails is silence: somebody is typing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warmspare.cli.command_parser import OptionField, fields_of
from warmspare.cli.command_table import BEFORE, COMMANDS, GROUPS, about, command, flag_of, options_of
from warmspare.cli.completion import bash_line
from warmspare.cli.completion.local_names import LocalNames
from warmspare.cli.environment import setting
from warmspare.cli.telling.output import write_raw

ABOUT_CHARS = 100
_OF_ANY = {"--help": "Show this and exit.", "--version": "Show the version."}


@dataclass(frozen=True, slots=True)
class Candidates:
    """kind: words, file or folder. found: each with what it is. prefix: what stands before them in their word."""

    kind: str = "words"
    found: tuple[tuple[str, str], ...] = ()
    prefix: str = ""


def candidates(words: Sequence[str]) -> Candidates:
    """What the last word may become. words: those behind `warmspare`, the last up to where the cursor is."""
    *before, current = words
    at = 0
    while at < len(before) and (flag := flag_of(before[at])) in BEFORE:
        at += 1 + (BEFORE[flag] if before[at] == flag else 0)
    if at > len(before):  # the value of one that stands before the command
        return _value(_field_of("points", before[-1]) or _field_of("sync", before[-1]), before, "")
    name = before[at : at + (2 if before[at : at + 1] and before[at] in GROUPS else 1)]
    if before[at : at + 1] == ["help"]:
        return _commands(before[at + 1 :])
    if " ".join(name) not in COMMANDS:
        if current.startswith("-") and not name:
            known = {flag: flag for flag in BEFORE if flag.startswith("--")}
            said = {flag: field.option.help for flag in known if (field := _field_of("sync", flag))}
            return Candidates("words", tuple((said | _OF_ANY).items()))
        return _commands(name)
    return _of_command(" ".join(name), before[:at] + before[at + len(name) :], current)


def _commands(given: Sequence[str]) -> Candidates:
    """The words that a command's name goes on with."""
    found: dict[str, str] = {}
    for name in COMMANDS:
        words = name.split()
        if words[: len(given)] == list(given) and len(words) > len(given):
            several = len(words) > len(given) + 1
            found.setdefault(words[len(given)], "" if several else about(command(name)))
    if not given:
        found["help"] = "Say more of a command."
    return Candidates("words", tuple(found.items()))


def _of_command(name: str, before: Sequence[str], current: str) -> Candidates:
    fields = fields_of(options_of(command(name)))
    by_flag = {flag: field for field in fields for flag in field.option.flags}
    if before and (field := by_flag.get(before[-1])) and field.kind is not bool and _bound(before, by_flag):
        return _value(field, before, "")
    flag, equals, _ = current.partition("=")
    if equals and flag in by_flag:
        return _value(by_flag[flag], before, flag + "=")
    if current.startswith("-"):
        given = {flag_of(word) for word in before}
        found = {
            field.title: field.option.help
            for field in fields
            if field.option.flags and (field.many or not given & set(field.option.flags))
        }
        return Candidates("words", tuple((found | {"--help": _OF_ANY["--help"]}).items()))
    places = [field for field in fields if not field.option.flags]
    return _value(places[0], before, "") if places else Candidates()


def _bound(before: Sequence[str], by_flag: dict[str, OptionField]) -> bool:
    """Whether the last word is an option that waits for its value, and no value itself."""
    waits = False
    for word in before:
        waits = not waits and word in by_flag and by_flag[word].kind is not bool
    return waits


def _field_of(name: str, flag: str) -> OptionField | None:
    return next((field for field in fields_of(options_of(command(name))) if flag in field.option.flags), None)


def _value(field: OptionField | None, before: Sequence[str], prefix: str) -> Candidates:
    kind = field.option.complete if field else ""
    if kind in ("file", "folder"):
        return Candidates(kind, prefix=prefix)
    names = _names(before)
    known = names.vms() if kind == "vm" else names.points(_given(before, "--vm")) if kind == "point" else kind.split()
    return Candidates("words", tuple((word, "") for word in known), prefix)


def _names(before: Sequence[str]) -> LocalNames:
    """By what the line says so far, and the environment."""
    return LocalNames(
        _given(before, "--config") or setting("CONFIG") or "",
        _given(before, "--state") or setting("STATE") or "",
        _given(before, "--replica") or _given(before, "--to"),
        _given(before, "--repo") or _given(before, "-r"),
    )


def _given(before: Sequence[str], flag: str) -> str:
    """The value that an option has so far; "" for none."""
    for word, following in zip(before, [*before[1:], ""], strict=False):
        if word == flag:
            return following
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return ""


def complete(arguments: Sequence[str]) -> int:
    """What a script below share/ asks: the shell, and what it has of the line."""
    try:
        shell, *rest = arguments
        lines = _SHELLS[shell](rest)
    except Exception:  # a traceback in the middle of a line that is typed helps nobody
        return 0
    write_raw("".join(line + "\n" for line in lines))
    return 0


def _for_bash(rest: Sequence[str]) -> list[str]:
    """Replies that replace what bash takes for the word. rest: the line up to the cursor, and COMP_WORDBREAKS."""
    line, breaks = rest
    typed = bash_line.typed(line, breaks)
    found = candidates(typed.words)
    replies = [typed.reply(found.prefix + word) for word in _safe(found, typed.words[-1])]
    return [found.kind, *(reply for reply in replies if reply is not None)]


def _for_zsh(rest: Sequence[str]) -> list[str]:
    """Words without what stands before them, and what is shown of each, by turns; zsh quotes what it inserts."""
    found = candidates(rest)
    said = dict(found.found)
    lines = [found.kind]
    for word in _safe(found, rest[-1]):
        lines += [word, f"{word}  -- {_short(said[word])}" if said[word] else word]
    return lines


def _for_fish(rest: Sequence[str]) -> list[str]:
    """Whole words, each with what it is behind a tab; fish quotes what it inserts."""
    found = candidates(rest)
    said = dict(found.found)
    return [found.kind, *(f"{found.prefix}{word}\t{_short(said[word])}" for word in _safe(found, ""))]


_SHELLS: dict[str, Callable[[Sequence[str]], list[str]]] = {"bash": _for_bash, "zsh": _for_zsh, "fish": _for_fish}


def _safe(found: Candidates, current: str) -> list[str]:
    """The ones that the word begins, without what would act on a terminal or end a line."""
    begins = current.removeprefix(found.prefix)
    return [word for word, _ in found.found if word.isprintable() and word and word.startswith(begins)]


def _short(said: str) -> str:
    first = " ".join(said.split()).split(". ")[0].rstrip(".")
    return first if len(first) <= ABOUT_CHARS else first[: ABOUT_CHARS - 1] + "…"
