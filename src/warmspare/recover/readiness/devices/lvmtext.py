"""LVM's metadata as text: sections, values, lists; bounded, and refuses what is not its grammar.

lvm.conf(5) has the same grammar. libdevmapper's, as far as LVM writes it: `name { … }`, `name = value`, strings with
backslashes, numbers, lists, and comments.
"""

from __future__ import annotations

import re
from typing import TypeAlias, Union

MAX_DEPTH = 8
MAX_TOKENS = 200_000
# A string, an integer, a list of these, or a section.
Value: TypeAlias = Union[str, int, list[str | int], "Section"]
Section: TypeAlias = dict[str, Value]

_TOKEN = re.compile(
    r"(?:[ \t\r\n]|#[^\n]*)*(?:"
    r"(?P<text>\"(?:[^\"\\]|\\.)*\"|'[^']*')|(?P<sign>[{}\[\]=,])|(?P<word>[^\s\"'{}\[\]=,#]+)|(?P<end>\Z))",
    re.DOTALL,
)


class NotText(ValueError):
    """It is not of this grammar, or more than is read. str: as a clause."""


def parsed(text: str) -> Section:
    """All of it. NotText."""
    return _TextReader(text).section(0)


class _TextReader:
    def __init__(self, text: str) -> None:
        self._text, self._at, self._left = text, 0, MAX_TOKENS
        self._kind, self._piece = "", ""
        self._next()

    def _next(self) -> None:
        self._left -= 1
        match = _TOKEN.match(self._text, self._at)
        if match is None:
            raise NotText(f"LVM's text can't be understood at character {self._at}")
        if self._left < 0:
            raise NotText(f"LVM's text has more than {MAX_TOKENS} words")
        self._at = match.end()
        self._kind = match.lastgroup or "end"
        self._piece = match[self._kind]

    def section(self, depth: int) -> Section:
        """Up to its closing bracket, or the end of the text for the outermost."""
        if depth > MAX_DEPTH:
            raise NotText(f"LVM's text has more than {MAX_DEPTH} sections in one another")
        found: Section = {}
        while self._kind in ("word", "text"):
            name = self._plain()
            if self._piece == "{" and self._kind == "sign":
                self._next()
                inner = self.section(depth + 1)
                self._expect("}")
                before = found.get(name)
                found[name] = {**before, **inner} if isinstance(before, dict) else inner
            else:
                self._expect("=")
                self._into(found, name.split("/"), self._value())
        if depth == 0 and self._kind != "end":
            raise NotText(f"LVM's text can't be understood at character {self._at}")
        return found

    def _into(self, found: Section, path: list[str], value: Value) -> None:
        """`devices/filter = …` is a value of a section, written in one."""
        for name in path[:-1][:MAX_DEPTH]:
            inner = found.setdefault(name, {})
            if not isinstance(inner, dict):
                return
            found = inner
        found[path[-1]] = value

    def _value(self) -> Value:
        if self._kind == "sign" and self._piece == "[":
            self._next()
            values: list[str | int] = []
            while not (self._kind == "sign" and self._piece == "]"):
                values.append(self._scalar())
                if self._kind == "sign" and self._piece == ",":
                    self._next()
            self._next()
            return values
        return self._scalar()

    def _scalar(self) -> str | int:
        is_text = self._kind == "text"
        plain = self._plain()
        if is_text or re.fullmatch(r"-?[0-9]{1,19}", plain) is None:
            return plain
        return int(plain)

    def _plain(self) -> str:
        if self._kind not in ("word", "text"):
            raise NotText(f"LVM's text can't be understood at character {self._at}")
        plain = self._piece
        if plain[0] == '"':
            plain = re.sub(r"\\(.)", r"\1", plain[1:-1], flags=re.DOTALL)
        elif plain[0] == "'":
            plain = plain[1:-1]
        self._next()
        return plain

    def _expect(self, sign: str) -> None:
        if self._kind != "sign" or self._piece != sign:
            raise NotText(f"LVM's text lacks a {sign} at character {self._at}")
        self._next()
