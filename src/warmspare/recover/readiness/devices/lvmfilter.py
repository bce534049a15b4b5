"""LVM's filters of device names, `a|^/dev/sd|` and `r/.*/`, as LVM matches them; in linear time, and bounded.

lvm.conf(5), devices/filter. The patterns are a guest's, and Python's own would take exponential time for some of them:
so they become a set of states here, all of which are followed at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MAX_PATTERNS = 64
MAX_PATTERN = 512  # characters
_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_LITERAL = {"n": "\n", "r": "\r", "t": "\t"}
_SPLIT, _BEGIN, _END, _MATCH = "split", "begin", "end", "match"


class NotFilter(ValueError):
    """A filter that LVM would not take, or larger than any is. str: as a clause."""


@dataclass(slots=True)
class _State:
    """kind: one of those above, or "" where it takes a character: one of `taken`, or any but these."""

    kind: str = ""
    taken: frozenset[str] = frozenset()
    but: bool = False
    next: list[int] = field(default_factory=list)


def accepts(filters: Iterable[Sequence[str]], names: Sequence[str]) -> bool:
    """Whether a device of these names passes all the filters. Of each the first pattern that matches a name counts; a
    name that is accepted is enough, and where none matches it passes too. NotFilter."""
    return all(_passes(one, names) for one in filters)


def _passes(patterns: Sequence[str], names: Sequence[str]) -> bool:
    if len(patterns) > MAX_PATTERNS:
        raise NotFilter(f"a filter of LVM has more than {MAX_PATTERNS} patterns")
    compiled = [(pattern[:1] == "a", _Pattern(_inner(pattern))) for pattern in patterns]
    refused = False
    for name in names:
        verdict = next((accept for accept, pattern in compiled if pattern.finds(name)), None)
        if verdict:
            return True
        refused = refused or verdict is False
    return not refused


def _inner(pattern: str) -> str:
    """What stands between the signs of `a|…|`."""
    if len(pattern) > MAX_PATTERN:
        raise NotFilter(f"a pattern of LVM's filter has more than {MAX_PATTERN} characters")
    if len(pattern) < 3 or pattern[0] not in "ar" or pattern[-1] != _CLOSING.get(pattern[1], pattern[1]):
        raise NotFilter(f"LVM's filter {pattern[:40]!r} is none")
    return pattern[2:-1]


class _Pattern:
    """One expression: alternatives, repetitions, groups, classes, and the two ends of a name."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._states: list[_State] = []
        begin, ends = self._alternatives()
        if self._at < len(text):
            raise NotFilter(f"a pattern of LVM's filter can't be understood: {text[:40]!r}")
        match = self._add(_State(_MATCH))
        self._patch(ends, match)
        self._begin = begin

    def finds(self, name: str) -> bool:
        """Whether it matches anywhere in a name."""
        current: set[int] = set()
        for at in range(len(name) + 1):
            current = self._closure({*current, self._begin}, at == 0, at == len(name))
            if any(self._states[one].kind == _MATCH for one in current):
                return True
            if at < len(name):
                current = {
                    after
                    for one in current
                    if not self._states[one].kind and (name[at] in self._states[one].taken) != self._states[one].but
                    for after in self._states[one].next
                }
        return False

    def _closure(self, states: set[int], first: bool, last: bool) -> set[int]:
        """All that can be reached without a character."""
        todo, found = list(states), set(states)
        while todo:
            state = self._states[todo.pop()]
            if state.kind == _SPLIT or (state.kind == _BEGIN and first) or (state.kind == _END and last):
                todo += [one for one in state.next if one not in found]
                found.update(state.next)
        return found

    def _add(self, state: _State) -> int:
        self._states.append(state)
        return len(self._states) - 1

    def _patch(self, ends: Iterable[int], target: int) -> None:
        for end in ends:
            self._states[end].next.append(target)

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _alternatives(self, depth: int = 0) -> tuple[int, list[int]]:
        """A state to begin with, and those that what comes after is to be added to."""
        if depth > 32:
            raise NotFilter("a pattern of LVM's filter has more than 32 groups in one another")
        begin, ends = self._sequence(depth)
        while self._peek() == "|":
            self._at += 1
            other, more = self._sequence(depth)
            split = self._add(_State(_SPLIT, next=[begin, other]))
            begin, ends = split, ends + more
        return begin, ends

    def _sequence(self, depth: int) -> tuple[int, list[int]]:
        begin = self._add(_State(_SPLIT))
        ends = [begin]
        while self._peek() not in ("", "|", ")"):
            first, last = self._repeated(depth)
            self._patch(ends, first)
            ends = last
        return begin, ends

    def _repeated(self, depth: int) -> tuple[int, list[int]]:
        begin, ends = self._single(depth)
        while (sign := self._peek()) and sign in "*+?":
            self._at += 1
            split = self._add(_State(_SPLIT, next=[begin]))
            if sign == "?":
                begin, ends = split, [*ends, split]
            else:
                self._patch(ends, split)
                begin, ends = (split if sign == "*" else begin), [split]
        return begin, ends

    def _single(self, depth: int) -> tuple[int, list[int]]:
        sign = self._text[self._at]
        self._at += 1
        if sign == "(":
            inner = self._alternatives(depth + 1)
            if self._peek() != ")":
                raise NotFilter("a pattern of LVM's filter lacks a closing bracket")
            self._at += 1
            return inner
        if sign in "*+?":
            raise NotFilter(f"a pattern of LVM's filter repeats nothing: {self._text[:40]!r}")
        if sign in "^$":
            state = _State(_BEGIN if sign == "^" else _END)
        elif sign == ".":
            state = _State(but=True)
        elif sign == "[":
            state = self._class()
        else:
            state = _State(taken=frozenset(self._escaped() if sign == "\\" else sign))
        number = self._add(state)
        return number, [number]

    def _escaped(self) -> str:
        sign = self._peek()
        self._at += 1
        return _LITERAL.get(sign, sign)

    def _class(self) -> _State:
        """`[a-z]`, `[^…]`."""
        but = self._peek() == "^"
        self._at += but
        taken: set[str] = set()
        while self._peek() not in ("]", ""):
            sign = self._text[self._at]
            self._at += 1
            sign = self._escaped() if sign == "\\" else sign
            if sign and self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                last = self._text[self._at + 1]
                self._at += 2
                taken.update(map(chr, range(ord(sign), min(ord(last), 255) + 1)))
            else:
                taken.add(sign)
        if not self._peek():
            raise NotFilter("a pattern of LVM's filter lacks a closing bracket")
        self._at += 1
        return _State(taken=frozenset(taken), but=but)
