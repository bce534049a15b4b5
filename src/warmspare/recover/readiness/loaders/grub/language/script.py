"""GRUB's script as a tree of commands; refuses what is no script of GRUB's, and more of it than any system has.

The words, quotes, variables and compound commands of the GRUB manual's chapter "Writing full configuration files
directly". A block in braces that a command takes (a menu entry's) stays text until somebody runs it, as in GRUB.
"""

from __future__ import annotations

import re

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.loaders.grub.bounds import Bounds
from warmspare.recover.readiness.loaders.grub.language.nodes import (
    Block,
    Command,
    For,
    Function,
    If,
    Node,
    PieceKind,
    Script,
    While,
    Word,
    WordPiece,
)

MAX_DEPTH = 24  # of compound commands in each other

_BLANK = re.compile(r"(?:[ \t]|\\\n)+")
_SEPARATORS = re.compile(r"(?:[ \t\n]|\\\n|#[^\n]*)+")
_COMMENT = re.compile(r"#[^\n]*")
_PLAIN = re.compile(r"[^ \t\n{}|&$;<>'\"\\]+")
_SINGLE = re.compile(r"'[^']*'")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?@*#])\}|([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?@*#]))")
_IN_DOUBLE = re.compile(r'[^"$\\]+')
_KEYWORD = re.compile(r"(if|then|elif|else|fi|for|do|done|while|until|function|case|esac|select)(?=[ \t\n;{}]|\\\n|\Z)")
_NAME = re.compile(r"[^ \t\n{}|&$;<>'\"\\=]+")
_IN = re.compile(r"in(?=[ \t\n;])")
_DO = re.compile(r"do(?=[ \t\n;{}]|\\\n|\Z)")


class NoScript(Exception):
    """A text that GRUB does not take. str: what is wrong, and in which line."""


def parsed(text: str, bounds: Bounds, *, line: int = 1) -> Script:
    """A whole text, or a block's. line: the number of its first. NoScript; Exceeded. GRUB reads over every CR."""
    script, _ = _Parser(text.replace("\r", ""), bounds, line).commands(frozenset(), 0)
    return script


class _Parser:
    def __init__(self, text: str, bounds: Bounds, line: int) -> None:
        self._text, self._bounds, self._at = text, bounds, 0
        self._counted, self._line = 0, line

    def commands(self, ends: frozenset[str], depth: int) -> tuple[Script, str]:
        """Commands up to one of these words, and which it was; "" at the end of the text."""
        if depth > MAX_DEPTH:
            raise Exceeded(f"GRUB's configuration has more than {MAX_DEPTH} commands in each other")
        nodes = list[Node]()
        while True:
            self._skip(_SEPARATORS)
            if self._at >= len(self._text):
                if ends:
                    raise self._no(f"{_listed(ends)} is missing")
                return tuple(nodes), ""
            if self._text[self._at] == "}":
                if "}" not in ends or not nodes:
                    raise self._no("a } closes nothing")
                self._at += 1
                return tuple(nodes), "}"
            keyword = _KEYWORD.match(self._text, self._at)
            if keyword and keyword[1] in ends:
                if not nodes:
                    raise self._no(f"no command stands before {keyword[1]}")
                self._at = keyword.end()
                return tuple(nodes), keyword[1]
            nodes.append(self._compound(keyword, depth) if keyword else self._command())
            self._skip(_BLANK)
            if self._text.startswith(";", self._at):  # one ends a command; a second one ends none
                self._at += 1
            elif self._text[self._at : self._at + 1] not in ("", "\n", "#", "}"):
                raise self._no("a command is not ended")

    def _compound(self, keyword: re.Match[str], depth: int) -> Node:
        line = self._number()
        self._at = keyword.end()
        self._bounds.word()
        match keyword[1]:
            case "if":
                return self._if(line, depth)
            case "while" | "until":
                condition, _ = self.commands(frozenset({"do"}), depth + 1)
                body, _ = self.commands(frozenset({"done"}), depth + 1)
                return While(line, keyword[1] == "until", condition, body)
            case "for":
                return self._for(line, depth)
            case "function":
                self._blank()
                name = self._take(_NAME, "a function has no name")
                self._skip(_SEPARATORS)
                if not self._text.startswith("{", self._at):
                    raise self._no("a function has no {")
                self._at += 1
                body, _ = self.commands(frozenset({"}"}), depth + 1)
                return Function(line, name, body)
        raise self._no(f"{keyword[1]} stands where no command takes it")

    def _if(self, line: int, depth: int) -> If:
        branches = list[tuple[Script, Script]]()
        while True:
            condition, _ = self.commands(frozenset({"then"}), depth + 1)
            body, end = self.commands(frozenset({"elif", "else", "fi"}), depth + 1)
            branches.append((condition, body))
            if end == "fi":
                return If(line, tuple(branches), ())
            if end == "else":
                otherwise, _ = self.commands(frozenset({"fi"}), depth + 1)
                return If(line, tuple(branches), otherwise)

    def _for(self, line: int, depth: int) -> For:
        self._blank()
        name = self._take(_NAME, "a for has no variable")
        self._blank()
        self._take(_IN, "a for has no in")
        words, block = self._words()
        self._skip(_BLANK)
        self._at += self._text.startswith(";", self._at)
        self._skip(_SEPARATORS)
        self._take(_DO, "do is missing")
        if block:
            raise self._no("a { is out of place")
        body, _ = self.commands(frozenset({"done"}), depth + 1)
        return For(line, name, words, body)

    def _command(self) -> Command:
        line = self._number()
        words, block = self._words()
        if not words:
            raise self._no(f"{self._text[self._at]!r} begins no command")
        return Command(line, words, block)

    def _words(self) -> tuple[tuple[Word, ...], Block | None]:
        words, block = list[Word](), None
        while True:
            self._blank()
            following = self._text[self._at : self._at + 1]
            if block or following in ("", "\n", ";", "}"):
                return tuple(words), block
            if following in ("|", "&", "<", ">"):
                raise self._no(f"GRUB has no {following}")
            if following == "{":
                if not words or block:
                    raise self._no("a { is out of place")
                block = self._block()
                continue
            words.append(self._word())

    def _word(self) -> Word:
        pieces = list[WordPiece]()
        while True:
            self._bounds.word()
            if plain := _PLAIN.match(self._text, self._at):
                pieces.append(WordPiece(PieceKind.PLAIN, plain[0]))
                self._at = plain.end()
                continue
            following = self._text[self._at : self._at + 1]
            if following == "'":
                pieces.append(WordPiece(PieceKind.QUOTED, self._take(_SINGLE, "a ' is not closed")[1:-1]))
            elif following == '"':
                self._double(pieces)
            elif following == "\\":
                if self._text.startswith("\n", self._at + 1):
                    self._at += 2
                    continue
                pieces.append(WordPiece(PieceKind.QUOTED, self._text[self._at + 1 : self._at + 2]))
                self._at += 2
            elif following == "$":
                pieces.append(self._variable(PieceKind.VARIABLE))
            else:
                return tuple(pieces)

    def _double(self, pieces: list[WordPiece]) -> None:
        """What stands in double quotes. Empty ones are a word too."""
        self._at += 1
        pieces.append(WordPiece(PieceKind.QUOTED, ""))
        while True:
            self._bounds.word()
            if plain := _IN_DOUBLE.match(self._text, self._at):
                pieces.append(WordPiece(PieceKind.QUOTED, plain[0]))
                self._at = plain.end()
                continue
            following = self._text[self._at : self._at + 1]
            if following == '"':
                self._at += 1
                return
            if following == "$":
                pieces.append(self._variable(PieceKind.QUOTED_VARIABLE))
            elif following == "\\":
                escaped = self._text[self._at + 1 : self._at + 2]
                if escaped != "\n":
                    pieces.append(WordPiece(PieceKind.QUOTED, escaped if escaped in '$"\\' else "\\" + escaped))
                self._at += 2
            else:
                raise self._no('a " is not closed')

    def _variable(self, kind: PieceKind) -> WordPiece:
        """A variable. $"…" is for translation, and the same as "…" here."""
        match = _VARIABLE.match(self._text, self._at)
        if match is None:
            self._at += 1
            if kind is PieceKind.VARIABLE and self._text.startswith('"', self._at):
                return WordPiece(PieceKind.QUOTED, "")
            raise self._no("a $ begins no variable")
        self._at = match.end()
        return WordPiece(kind, match[1] or match[2])

    def _block(self) -> Block:
        """A block's text, without a look at what it says."""
        line = self._number()
        self._at += 1
        start, open_braces, fresh = self._at, 1, True
        while True:
            if self._skip(_BLANK):
                fresh = True
            following = self._text[self._at : self._at + 1]
            if following == "#" and fresh:
                self._skip(_COMMENT)
            elif following in ("\n", ";", "|", "&", "<", ">"):
                self._at, fresh = self._at + 1, True
            elif following in ("{", "}"):
                open_braces += 1 if following == "{" else -1
                self._at, fresh = self._at + 1, True
                if not open_braces:
                    text = self._text[start : self._at - 1]
                    if not text or _SEPARATORS.fullmatch(text):
                        raise self._no("a block has no command")
                    return Block(text, line)
            elif following == "":
                raise NoScript(f"the {{ of line {line} is not closed")
            elif plain := _PLAIN.match(self._text, self._at):
                self._at, fresh = plain.end(), False
            else:
                self._quoted()
                fresh = False

    def _quoted(self) -> None:
        """Over what a quote, a backslash or a $ begins; over any other one character too."""
        following = self._text[self._at]
        if following == "'":
            self._take(_SINGLE, "a ' is not closed")
        elif following == '"':
            self._double([])
        elif following == "$":
            self._variable(PieceKind.VARIABLE)
        else:
            self._at += 2 if following == "\\" else 1

    def _blank(self) -> None:
        """Over blanks, and a comment that begins there."""
        self._skip(_BLANK)
        self._skip(_COMMENT)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Over what matches; whether anything does."""
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
        return match is not None

    def _take(self, pattern: re.Pattern[str], otherwise: str) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise self._no(otherwise)
        self._at = match.end()
        return match[0]

    def _number(self) -> int:
        """The line that is being read."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _no(self, what: str) -> NoScript:
        return NoScript(f"{what} in line {self._number()}")


def _listed(ends: frozenset[str]) -> str:
    return " or ".join(sorted(ends))
