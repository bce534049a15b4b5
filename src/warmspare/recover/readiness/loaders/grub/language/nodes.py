"""GRUB's script as a tree: commands, their words, and what these are made of; refuses to read or run any."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class PieceKind(Enum):
    """What a part of a word is. Unquoted variables are split at blanks, as in a shell."""

    PLAIN = "plain"
    QUOTED = "quoted"
    VARIABLE = "variable"
    QUOTED_VARIABLE = "quoted variable"


@dataclass(frozen=True, slots=True)
class WordPiece:
    kind: PieceKind
    text: str


Word = tuple[WordPiece, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """The text between braces that a command takes. line: where it begins."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Command:
    line: int
    words: tuple[Word, ...]
    block: Block | None


@dataclass(frozen=True, slots=True)
class If:
    line: int
    branches: tuple[tuple[Script, Script], ...]
    otherwise: Script


@dataclass(frozen=True, slots=True)
class While:
    line: int
    until: bool
    condition: Script
    body: Script


@dataclass(frozen=True, slots=True)
class For:
    line: int
    name: str
    words: tuple[Word, ...]
    body: Script


@dataclass(frozen=True, slots=True)
class Function:
    line: int
    name: str
    body: Script


Node = Command | If | While | For | Function
Script = tuple[Node, ...]
