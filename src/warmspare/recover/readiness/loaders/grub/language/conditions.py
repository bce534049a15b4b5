"""GRUB's `[` and `test`: whether a condition holds, does not, or can't be told; owns the order of their operators."""

from __future__ import annotations

import re
from collections.abc import Callable

from warmspare.recover.readiness.loaders.grub.language.grub_values import Doubt, Truth, Value, possible

MAX_OPERANDS = 200
_NUMBER = re.compile(r"\s*([-+]?)(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,19})")
_FILES = {"-d", "-e", "-f", "-s"}
_ORDERS: dict[str, Callable[[int], bool]] = {
    "=": lambda order: order == 0,
    "==": lambda order: order == 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
    "-eq": lambda order: order == 0,
    "-ne": lambda order: order != 0,
    "-lt": lambda order: order < 0,
    "-le": lambda order: order <= 0,
    "-gt": lambda order: order > 0,
    "-ge": lambda order: order >= 0,
}

Exists = Callable[[str, Value], Truth]


def both(one: Truth, other: Truth) -> Truth:
    if one is False or other is False:
        return False
    return one if isinstance(one, Doubt) else other


def one_of(one: Truth, other: Truth) -> Truth:
    if one is True or other is True:
        return True
    return one if isinstance(one, Doubt) else other


def negated(truth: Truth) -> Truth:
    return truth if isinstance(truth, Doubt) else not truth


def holds(words: list[Value], exists: Exists) -> Truth:
    """Whether what stands between [ and ] holds. exists: whether there is a file (`-f`, `-s`, `-d`, `-e`)."""
    for word in words:
        if isinstance(word, Doubt) and "" in word.among:  # it may be no word at all
            return Doubt(word.why)
    if len(words) > MAX_OPERANDS:
        return Doubt(f"a condition has more than {MAX_OPERANDS} words")
    truth, at = _any(words, 0, exists, 0)
    return truth if at >= len(words) else Doubt("a condition of GRUB's configuration can't be read")


def _any(words: list[Value], at: int, exists: Exists, depth: int) -> tuple[Truth, int]:
    """`-o` binds less than `-a`, and what stands beside each other is as if by `-a`."""
    truth: Truth = False
    group: Truth = True
    if at >= len(words):
        return False, at
    while at < len(words) and words[at] != ")":
        if words[at] == "-o":
            truth, group, at = one_of(truth, group), True, at + 1
        elif words[at] == "-a":
            at += 1
        else:
            single, at = _single(words, at, exists, depth)
            group = both(group, single)
    return one_of(truth, group), at


def _single(words: list[Value], at: int, exists: Exists, depth: int) -> tuple[Truth, int]:
    negative = False
    while at < len(words) - 1 and words[at] == "!":
        negative, at = not negative, at + 1
    truth, at = _plain(words, at, exists, depth)
    return (negated(truth) if negative else truth), at


def _plain(words: list[Value], at: int, exists: Exists, depth: int) -> tuple[Truth, int]:
    word = words[at]
    following = words[at + 1] if at + 1 < len(words) else None
    if isinstance(following, str) and at + 2 < len(words):
        if following in _ORDERS:
            return _compared(word, following, words[at + 2]), at + 3
        if following in ("-nt", "-ot") or following[:3] in ("-pg", "-pl"):
            return Doubt(f"GRUB's {following} is not looked at"), at + 3
    if word == "(" and depth < 8:
        truth, at = _any(words, at + 1, exists, depth + 1)
        return truth, at + 1
    if following is not None and isinstance(word, str):
        if word in ("-n", "-z"):
            return negated(_empty(following)) if word == "-n" else _empty(following), at + 2
        if word in _FILES:
            return exists(word, following), at + 2
    return negated(_empty(word)), at + 1


def _empty(word: Value) -> Truth:
    if isinstance(word, str):
        return not word
    return True if word.among == {""} else (Doubt(word.why) if not word.among or "" in word.among else False)


def _compared(one: Value, operator: str, other: Value) -> Truth:
    left, right = possible(one), possible(other)
    doubt = one if isinstance(one, Doubt) else other
    why = doubt.why if isinstance(doubt, Doubt) else ""
    if not left or not right:
        return Doubt(why)
    results = {_ORDERS[operator](_order(operator, first, second)) for first in left for second in right}
    return results.pop() if len(results) == 1 else Doubt(why)


def _order(operator: str, one: str, other: str) -> int:
    if operator.startswith("-"):
        left, right = _number(one), _number(other)
        return (left > right) - (left < right)
    return (one > other) - (one < other)


def _number(text: str) -> int:
    match = _NUMBER.match(text)
    if match is None:
        return 0
    value = integer(match[2])
    return -value if match[1] == "-" else value


def integer(digits: str) -> int:
    """A number as GRUB reads it: 0x is sixteen's, a leading 0 eight's."""
    if digits[:2] in ("0x", "0X"):
        return int(digits, 16)
    return int(digits, 8 if digits[0] == "0" and not set(digits) & {"8", "9"} else 10)
