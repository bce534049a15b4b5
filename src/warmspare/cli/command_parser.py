"""From a command's options, declared as the fields of a class, to their values; owns what is wrong with a line.

    class ApplyOptions(StoreOptions):
        to: Annotated[Path, Option("--to", metavar="PATH", help="The replica.")]
        follow: Annotated[bool, Option("--follow", help="Stay.")] = False

A field without a value of its own must be given. A list may be given several times; a switch is a bool. Help, man
pages and completion are made from the same fields.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import types
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

from warmspare.cli.peer_words import OPTIONS
from warmspare.errors import ConfigError

G = TypeVar("G")
_MISSING = object()
_KINDS = {int: "a whole number", float: "a number"}


class Option:
    """How a field is given: by these flags, or in its place where there are none. least, most: of a number. complete:
    what a shell completes its value with: vm, point, file, folder, or words with blanks between them. setting: what the
    environment has for it (environment.py)."""

    def __init__(
        self,
        *flags: str,
        help: str,
        metavar: str = "",
        least: float | None = None,
        most: float | None = None,
        complete: str = "",
        setting: str = "",
    ) -> None:
        self.flags, self.help, self.metavar = flags, help, metavar
        self.complete, self.setting = complete, setting
        self.least, self.most = least, most


class OptionField:
    """A field of a class of options. kind: str, Path, int, float or bool. many: it may be given several times."""

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name, self.default = name, default
        inner, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        self.option: Option = next(note for note in notes if isinstance(note, Option))
        if get_origin(inner) in (Union, types.UnionType):
            inner = next(one for one in get_args(inner) if one is not type(None))
        self.many = get_origin(inner) is list
        self.kind: type = get_args(inner)[0] if self.many else inner

    @property
    def required(self) -> bool:
        return self.default is _MISSING

    @property
    def title(self) -> str:
        """As messages name it."""
        return self.option.flags[0] if self.option.flags else self.option.metavar

    def parsed(self, text: str) -> Any:
        """The value of a text. ConfigError."""
        option = self.option
        try:
            value = self.kind(text)
        except ValueError:
            raise ConfigError(f"{self.title} wants {_KINDS[self.kind]}, and is {text!r}", hint=SEE_HELP) from None
        if isinstance(value, int | float):
            low = option.least is not None and value < option.least
            high = option.most is not None and value > option.most
            if low or high or value != value:
                bound = f"at most {option.most:g}" if high else f"at least {option.least or 0:g}"
                raise ConfigError(f"{self.title} is to be {bound}, and is {text}", hint=SEE_HELP)
        return value


SEE_HELP = "see `warmspare --help`"


def fields_of(options: type) -> list[OptionField]:
    """In the order of help: a class's own before those of its bases."""
    found: dict[str, OptionField] = {}
    hints = get_type_hints(options, include_extras=True)
    for owner in options.__mro__:
        for name in vars(owner).get("__annotations__", ()):
            if name not in found and get_origin(hints[name]) is not ClassVar:
                found[name] = OptionField(name, hints[name], getattr(options, name, _MISSING))
    return list(found.values())


class _LineParser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ConfigError(message, hint=SEE_HELP)


class _Once(argparse.Action):
    """Of two VMs or restore points none is dropped silently; of all else the last one counts, as everywhere."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if getattr(namespace, self.dest) not in (None, values):
            raise ConfigError(f"{option_string} is given twice, and takes one value", hint=SEE_HELP)
        setattr(namespace, self.dest, values)


def _action(field: OptionField) -> Any:
    if field.many:
        return "append"
    return _Once if field.option.complete in ("vm", "point") else "store"


class _HelpFormatter(argparse.HelpFormatter):
    """Flags and their value once, however many flags there are."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(shutil.get_terminal_size().columns - 2, 110))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self._format_args(action, '')}"


def _parser_of(name: str, about: str, fields: Sequence[OptionField]) -> argparse.ArgumentParser:
    """The parser of one command."""
    parser = _LineParser(
        prog=f"warmspare {name}", description=about, add_help=False, allow_abbrev=False, formatter_class=_HelpFormatter
    )
    for field in fields:
        option = field.option
        how: dict[str, Any] = {"help": option.help.replace("%", "%%"), "default": None}
        if field.kind is bool:
            how |= {"action": "store_true", "default": False}
        elif not option.flags:
            how |= {"metavar": option.metavar, "nargs": "*" if field.many else None if field.required else "?"}
        else:
            how |= {"metavar": option.metavar or "VALUE", "action": _action(field)}
        if option.flags:
            how["dest"] = field.name
        parser.add_argument(*(option.flags or (field.name,)), **how)
    parser.add_argument("-h", "--help", action="help", help="Show this and exit.")
    return parser


def parsed(name: str, about: str, options: type[G], arguments: Sequence[str]) -> G:
    """The options of a command line. ConfigError for what is wrong with it; `--help` prints and raises SystemExit."""
    fields = fields_of(options)
    parser = _parser_of(name, about, fields)
    several = any(not field.option.flags for field in fields)
    parse = parser.parse_known_intermixed_args if several else parser.parse_known_args
    found, unknown = parse(_bound(arguments, fields))
    if unknown:
        raise _unknown(unknown, fields)
    given = options.__new__(options)
    for field in fields:
        value: Any = getattr(found, field.name)
        if value is None or (field.many and not value):
            if field.required:
                raise ConfigError(f"{field.title} is missing: {_lower(field.option.help)}", hint=SEE_HELP)
            value = field.default
        elif field.kind is not bool:
            value = [field.parsed(each) for each in value] if field.many else field.parsed(value)
        setattr(given, field.name, value)
    return given


def _bound(words: Sequence[str], fields: Sequence[OptionField]) -> list[str]:
    """The same with each value at its option, so that it is one whatever it begins with."""
    valued = {flag for field in fields if field.kind is not bool for flag in field.option.flags}
    bound: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word in valued else None
        bound.append(word if value is None else f"{word}={value}")
    return bound


def _unknown(words: Sequence[str], fields: Sequence[OptionField]) -> ConfigError:
    """Of words that mean nothing here."""
    word = next((each for each in words if each.startswith("-")), words[0])
    if not word.startswith("-"):
        return ConfigError(f"{word!r} is one word too many", hint=SEE_HELP)
    word = word.partition("=")[0]
    known = [flag for field in fields for flag in field.option.flags]
    near = [OPTIONS[word]] if OPTIONS.get(word) in known else difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return ConfigError(
        f"there is no option {word!r}", hint=f"did you mean {near[0]}? " + SEE_HELP if near else SEE_HELP
    )


def _lower(text: str) -> str:
    text = text.rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
