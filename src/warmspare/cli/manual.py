"""The pages of `man warmspare`, out of the tables of commands and options; owns what is printed, and how roff takes it.

`python -m warmspare.cli.manual .` in the sources writes share/man/man1. A test holds the pages to the tables.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from warmspare.cli.command_parser import OptionField, fields_of
from warmspare.cli.command_table import ABOUT, BEFORE, COMMANDS, about, command, options_of
from warmspare.cli.environment import SETTINGS
from warmspare.cli.options import Told
from warmspare.version import __version__

DATE = "2026-12-01"  # of the last change to what the pages say
PAGES, OPERATIONS = Path("share", "man", "man1"), Path("docs", "operations.md")
LINE_CHARS = 78
_ROFF = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}


def pages(root: Path) -> dict[str, str]:
    """The text of each page by its file's name. root: of the sources."""
    operations = (root / OPERATIONS).read_text(encoding="utf-8")
    found = {page_name(name) + ".1": _page(_of_command(name)) for name in COMMANDS}
    return {"warmspare.1": _page(_of_all(operations)), **found}


def page_name(name: str) -> str:
    """`warmspare-audit-source`."""
    return "-".join(["warmspare", *name.split()])


def _page(lines: Iterator[str]) -> str:
    wrapped = (line if line.startswith(".") else _wrapped(line) for line in lines)
    return "\n".join(wrapped) + "\n"


def _wrapped(line: str) -> str:
    """In lines that a diff can be read of; none begins like a request."""
    pieces = textwrap.wrap(line, LINE_CHARS, break_long_words=False, break_on_hyphens=False)
    return "\n".join("\\&" + piece if piece.startswith((".", "\\(aq")) else piece for piece in pieces)


def _of_all(operations: str) -> Iterator[str]:
    yield from _head("warmspare", ABOUT)
    yield from (".SH SYNOPSIS", f"{_bold('warmspare')} [{_italic('OPTION')} ...] {_italic('COMMAND')} ...")
    yield from (".SH DESCRIPTION", roff(ABOUT), "Each command has a page of its own.", ".SH COMMANDS")
    for name in COMMANDS:
        yield from (".TP", f"{_bold(name)}", roff(about(command(name))))
    yield from (".SH OPTIONS", "These may stand before the command as well as behind it, where it has them.")
    told = {field.title: field for name in ("points", "sync") for field in fields_of(options_of(command(name)))}
    yield from _options([field for title, field in told.items() if title in BEFORE], help_too=True)
    yield from (".TP", _bold("--version"), "Show the version and exit.")
    yield ".SH ENVIRONMENT"
    for name, what in SETTINGS.items():
        yield from (".TP", _bold(f"WARMSPARE_{name}"), roff(f"The {what}, where no option names it."))
    yield from (".TP", _bold("WARMSPARE_DAEMON"), "off: commands do not ask the daemon.")
    yield from (".TP", _bold("AWS_PROFILE, AWS_REGION, ..."), "As the command of AWS has them.")
    yield ".SH FILES"
    yield from (".TP", _italic("/etc/warmspare/warmspare.toml"), "The configuration of root; other users have it in")
    yield f"{_italic('$XDG_CONFIG_HOME/warmspare/warmspare.toml')}, which is mostly below {_italic('~/.config')}."
    yield from (".TP", _italic("/var/lib/warmspare"), "The state of root; other users have it in")
    yield f"{_italic('$XDG_STATE_HOME/warmspare')}, which is mostly below {_italic('~/.local/state')}."
    yield ".SH EXIT STATUS"
    for code, meaning in _exit_codes(operations):
        yield from (".TP", _bold(code), roff(meaning))
    yield from _see([page_name(name) for name in COMMANDS])


def _of_command(name: str) -> Iterator[str]:
    fields = fields_of(options_of(command(name)))
    of_all = {field.name for field in fields_of(Told)}
    what = about(command(name))
    yield from _head(page_name(name), what)
    yield from (".SH SYNOPSIS", _line(name, fields), ".SH DESCRIPTION", roff(what), ".SH OPTIONS")
    yield from _options([field for field in fields if field.name not in of_all])
    yield ".SS How it is told"
    yield from _options([field for field in fields if field.name in of_all], help_too=True)
    if settings := [field for field in fields if field.option.setting]:
        yield ".SH ENVIRONMENT"
        for field in settings:
            setting = _bold(f"WARMSPARE_{field.option.setting}")
            yield from (".TP", setting, f"Stands for {_bold(field.title)} where that is not given.")
    yield from (".SH EXIT STATUS", "0 where it is done; each other code is explained in")
    yield f"{_bold('warmspare')}(1)."
    yield from _see(["warmspare"])


def _head(page: str, what: str) -> Iterator[str]:
    yield '.\\" Printed by warmspare.cli.manual: change the tables, not this.'
    yield f'.TH {roff(page.upper())} 1 {DATE} "warmspare {__version__}" "User Commands"'
    yield from (".SH NAME", f"{roff(page)} \\- {roff(_first(what))}")


def _line(name: str, fields: Sequence[OptionField]) -> str:
    """What must be given, and that there are others."""
    parts = [_bold(f"warmspare {name}"), f"[{_italic('OPTION')} ...]"]
    for field in fields:
        value = _italic(field.option.metavar)
        if not field.option.flags:
            parts.append(f"[{value} ...]" if field.many else value if field.required else f"[{value}]")
        elif field.required:
            parts.append(f"{_bold(field.title)} {value}")
    return " ".join(parts)


def _options(fields: Sequence[OptionField], *, help_too: bool = False) -> Iterator[str]:
    for field in fields:
        option = field.option
        value = "" if field.kind is bool else _italic(option.metavar or "VALUE")
        said = option.help
        if field.many and option.flags and "epeatable" not in said and "nce a disk" not in said:
            said += " May be given several times."
        yield from (".TP", " ".join(filter(None, (", ".join(map(_bold, option.flags)), value))), roff(said))
    if help_too:
        yield from (".TP", f"{_bold('--help')}, {_bold('-h')}", "Show the options and exit.")


def _see(names: Sequence[str]) -> Iterator[str]:
    yield ".SH SEE ALSO"
    yield from (f"{_bold(name)}(1){',' if name != names[-1] else ''}" for name in names)


def _exit_codes(operations: str) -> Iterator[tuple[str, str]]:
    """Codes and meanings, of the table in docs/operations.md."""
    section = operations.partition("## Exit codes\n")[2].partition("\n## ")[0]
    for code, meaning in re.findall(r"^\| (\d+) \| (.*?) \|", section, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning).replace("`", "")
        yield code, plain[:1].upper() + plain[1:] + "."


def _first(said: str) -> str:
    """Its first sentence, as a title: one line."""
    first = said.split(". ")[0].rstrip(".")
    return first[:1].lower() + first[1:]


def roff(text: str) -> str:
    """Text that roff prints as it is, on one line."""
    said = "".join(_ROFF.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in " ".join(text.split()))
    return "\\&" + said if said.startswith((".", "\\(aq")) else said


def _bold(text: str) -> str:
    return f"\\fB{roff(text)}\\fR"


def _italic(text: str) -> str:
    return f"\\fI{roff(text)}\\fR"


def main(root: Path) -> None:
    """Write all of them, and remove what is none of them."""
    there = pages(root)
    for path in (root / PAGES).glob("*.1"):
        if path.name not in there:
            path.unlink()
    for name, text in there.items():
        (root / PAGES / name).write_text(text, encoding="ascii")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
