"""On which line each key of a TOML text stands; owns no meaning and refuses nothing.

The standard library's parser gives no lines. This scanner runs over a text that the parser has accepted, so
it may be short: it follows table headers, keys, inline tables and arrays, and steps over every other value.
Where it loses its way all the same, it knows no line at all rather than a wrong one.
"""

from __future__ import annotations

import bisect
import json
import re
import string
import tomllib

from warmspare.outside.text import cut

Key = tuple[str | int, ...]  # a path into the document; integers are places in an array

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\n]|#[^\n]*)*+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*+"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE_CHARS = frozenset(string.ascii_letters + string.digits + "_-")
# A string that does not end goes to where it would have to: nothing of it is looked at again.
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*+(?:"{3,5})?'
    r"|'''(?:[^']|'{1,2}(?!'))*+(?:'{3,5})?"
    r'|"(?:[^"\\\n]|\\.)*+"?'
    r"|'[^'\n]*'?"
    r"|#[^\n]*|[A-Za-z0-9_-]+|[ \t]+|.",
    re.DOTALL,
)
MAX_PARTS = 32  # of a dotted key
_PLAIN = re.compile(r"[^,\]}#\n]+")  # a number, a date, true or false
_KEY_CHARS = 120


def too_deep(text: str) -> int | None:
    """The line of the first key of more than MAX_PARTS parts, None if there is none: a parser makes a table of each
    part, and keeps the path to it. text: any, so that this can be asked before it is parsed."""
    dots, after_part = 0, False
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in " \t":
            continue
        if first == ".":
            dots, after_part = dots + 1 if after_part else 0, False
            if dots >= MAX_PARTS:
                return text.count("\n", 0, token.start()) + 1
            continue
        is_part = first in "\"'" or first in _BARE_CHARS
        dots = dots if is_part and not after_part else 0
        after_part = is_part
    return None


def find_lines(text: str) -> dict[Key, int]:
    """The line (from 1) of each key and each table, first mention first.

    text: accepted by tomllib. A table that is only implied has the line of the first key below it.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    try:
        scanner.document()
    except (_LostError, RecursionError):
        return {}
    return scanner.lines


def line_of(lines: dict[Key, int], key: Key) -> int | None:
    """The line of the key, or of the innermost table around it that stands in the text."""
    while key:
        if key in lines:
            return lines[key]
        key = key[:-1]
    return None


def dotted(key: Key) -> str:
    """The path as TOML writes it: `vm."db 1".disks.include[0]`. On one line, whatever the keys hold."""
    out = ""
    for part in key:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            shown = part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=not part.isprintable())
            out += ("." if out else "") + shown
    return cut(out, _KEY_CHARS)


class _LostError(Exception):
    """The text is not what the scanner takes it for."""


class _Scanner:
    """One pass over one text. `at` is the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._elements: dict[Key, int] = {}  # arrays of tables, and how many tables each has so far
        self.lines: dict[Key, int] = {}

    def document(self) -> None:
        base: Key = ()
        while True:
            self._skip(_GAP)
            if self._at >= len(self._text):
                return
            base = self._header() if self._text[self._at] == "[" else self._pair(base, base)

    def _header(self) -> Key:
        """A table's header, or an element's of an array of tables; the path of the keys that follow."""
        start = self._at
        double = self._text.startswith("[[", start)
        self._at += 2 if double else 1
        parts = self._dotted_key()
        self._expect("]]" if double else "]")
        key: Key = ()
        for index, part in enumerate(parts):
            key = (*key, part)
            self._note(key, start)
            if double and index == len(parts) - 1:
                self._elements[key] = self._elements.get(key, 0) + 1
            if key in self._elements:
                key = (*key, self._elements[key] - 1)
                self._note(key, start)
        return key

    def _pair(self, table: Key, after: Key) -> Key:
        """`key = value` in a table; `after` itself."""
        start = self._at
        key = table
        for part in self._dotted_key():
            key = (*key, part)
            self._note(key, start)
        self._expect("=")
        self._skip(_BLANK)
        self._value(key)
        return after

    def _value(self, key: Key) -> None:
        opening = self._text[self._at : self._at + 1]
        if opening in ("{", "["):
            self._at += 1
            self._members(key, "}" if opening == "{" else "]")
        else:
            self._match(_STRING if opening in ("'", '"') else _PLAIN)

    def _members(self, key: Key, closing: str) -> None:
        """What stands in an inline table or an array, the closing bracket included."""
        index = 0
        while True:
            self._skip(_GAP)
            if self._text.startswith(closing, self._at):
                self._at += 1
                return
            if closing == "]":
                self._note((*key, index), self._at)
                self._value((*key, index))
                index += 1
            else:
                self._pair(key, key)
            self._skip(_GAP)
            if self._text.startswith(",", self._at):
                self._at += 1
            elif not self._text.startswith(closing, self._at):
                raise _LostError

    def _dotted_key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_BLANK)
            if self._text[self._at : self._at + 1] in ("'", '"'):
                parts.append(str(tomllib.loads("key = " + self._match(_STRING))["key"]))
            else:
                parts.append(self._match(_BARE))
            self._skip(_BLANK)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _note(self, key: Key, at: int) -> None:
        self.lines.setdefault(key, bisect.bisect_left(self._newlines, at) + 1)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        assert match
        self._at = match.end()

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if not match:
            raise _LostError
        self._at = match.end()
        return match[0]

    def _expect(self, text: str) -> None:
        if not self._text.startswith(text, self._at):
            raise _LostError
        self._at += len(text)
