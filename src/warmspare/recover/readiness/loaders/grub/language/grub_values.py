"""What a variable of GRUB's holds, where it is known, and what it may hold where it is not; owns how words are filled
in, and the environment block."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.loaders.grub.bounds import Bounds
from warmspare.recover.readiness.loaders.grub.language.nodes import PieceKind, Word

MAX_AMONG = 8
_BLOCK = b"# GRUB Environment Block\n"
MAX_VALUE = 1 << 16  # characters
MAX_VARIABLES = 1000


@dataclass(frozen=True, slots=True)
class Doubt:
    """Not known. why: as a clause, for people. among: all that it may be; empty where it may be anything."""

    why: str
    among: frozenset[str] = frozenset()


Value = str | Doubt
Truth = bool | Doubt
Lookup = Callable[[str], Value]


def possible(value: Value) -> frozenset[str]:
    """All that it may be; empty where it may be anything."""
    return value.among if isinstance(value, Doubt) else frozenset({value})


def among(values: Iterable[str], why: str) -> Value:
    """One of these."""
    every = frozenset(values)
    if len(every) == 1:
        return next(iter(every))
    return Doubt(why, every if len(every) <= MAX_AMONG else frozenset())


def either(one: Value, other: Value, why: str) -> Value:
    if one == other:
        return one
    known = possible(one), possible(other)
    return among(known[0] | known[1], why) if all(known) else Doubt(why)


def joined(parts: list[Value], bounds: Bounds) -> Value:
    """These one behind another. Exceeded beyond what a value may have."""
    known = [part if isinstance(part, str) else max(part.among, key=len, default="") for part in parts]
    length = sum(map(len, known))
    if length > MAX_VALUE:
        raise Exceeded(f"a value in GRUB's configuration has more than {MAX_VALUE} characters")
    bounds.text(length)
    doubts = [part for part in parts if isinstance(part, Doubt)]
    if not doubts:
        return "".join(known)
    every, count = [possible(part) for part in parts], 1
    for choices in every:
        count *= len(choices)
    if count == 0 or count > MAX_AMONG:
        return Doubt(doubts[0].why)
    return among(("".join(choice) for choice in itertools.product(*every)), doubts[0].why)


def filled(word: Word, lookup: Lookup, positional: tuple[Value, ...], bounds: Bounds) -> list[Value]:
    """A word with its variables filled in: as many words as these make of it. A doubt among which is "" may be none."""
    words, parts, quoted = list[Value](), list[Value](), False

    def end() -> None:
        if parts or quoted:
            words.append(joined(parts, bounds))
        parts.clear()

    for piece in word:
        if piece.kind in (PieceKind.PLAIN, PieceKind.QUOTED):
            quoted = quoted or piece.kind is PieceKind.QUOTED
            if piece.text:
                parts.append(piece.text)
            continue
        quoted = quoted or piece.kind is PieceKind.QUOTED_VARIABLE
        if piece.text == "@" and piece.kind is PieceKind.QUOTED_VARIABLE:
            for number, value in enumerate(positional):
                if number:
                    end()
                parts.append(value)
            continue
        value = joined(_spaced(positional), bounds) if piece.text in "@*" else lookup(piece.text)
        if piece.kind is PieceKind.QUOTED_VARIABLE:
            parts.append(value)
        elif isinstance(value, Doubt):
            split = any(" " in each or "\t" in each or "\n" in each for each in value.among)
            parts.append(Doubt(value.why) if split else value)
        else:
            _split(value, parts, end)
    end()
    return words


def _split(value: str, parts: list[Value], end: Callable[[], None]) -> None:
    """An unquoted variable: its blanks part words."""
    pieces = value.split()
    if value[:1].isspace() and parts:
        end()
    for number, piece in enumerate(pieces):
        if number:
            end()
        parts.append(piece)
    if pieces and value[-1:].isspace():
        end()


def _spaced(values: tuple[Value, ...]) -> list[Value]:
    parts = list[Value]()
    for value in values:
        parts += [" ", value] if parts else [value]
    return parts


def environment(data: bytes) -> dict[str, str]:
    """The variables of an environment block (grubenv); GRUB takes none without its first line. A backslash keeps a
    line's end, or another backslash."""
    if not data.startswith(_BLOCK):
        return {}
    text, variables = data.decode(errors="replace"), dict[str, str]()
    lines = list[str]()
    for line in text.replace("\\\\", "\0").split("\n"):
        if lines and lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1] + "\n" + line
        else:
            lines.append(line)
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            variables[name] = value.replace("\0", "\\")
            if len(variables) > MAX_VARIABLES:
                raise Exceeded(f"an environment block of GRUB has more than {MAX_VARIABLES} variables")
    return variables
