"""Every remedy of failover, staging and drills is a person's, and marked so, or is done by a test."""

from __future__ import annotations

import ast

import pytest

from suite import remedies
from suite.remedies import FILLED, Remedy

TOLD = {  # clauses that come last in a sentence and ask for nothing
    "another instance is started",
    "another type is tried",
    "now it is tried anew",
    "it is a {…}",
    "staged in full",
    "the machine was started again with {…}",
    "the serial port stayed silent",
    "this was started without it",
    "half of what is free here is {…} MiB",
    "both of AWS's status checks pass",
}
FOUND = [each for path in remedies.modules() for each in remedies.remedies_in(path)]
EVERY = [each for each in FOUND if each.text not in TOLD]


def test_each_is_a_persons_or_is_done_by_a_test() -> None:
    tested = remedies.named_by_tests()
    left = [each for each in EVERY if not each.by_hand and each.text not in tested]
    told = "\n".join(f"{each.module}:{each.line}: {each.text}" for each in left)
    assert not left, f"{len(left)} remedies are neither marked by by_hand() nor named by a test's @remedy:\n{told}"


def test_no_test_names_one_that_is_not_said_any_more() -> None:
    said = {each.text for each in EVERY}
    stale = {text: where for text, where in remedies.named_by_tests().items() if text not in said}
    assert not stale


def test_nothing_is_left_out_that_is_not_said_any_more() -> None:
    assert {each.text for each in FOUND} >= TOLD


def found(source: str) -> list[tuple[str, bool]]:
    return [(text, by_hand) for _, text, by_hand in remedies._Reader(ast.parse(source)).remedies()]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise E("a", hint="run it")', [("run it", False)]),
        ('raise AnError("a; b", hint=by_hand("ask"))', [("ask", True)]),
        ('raise E("a", hint=f"give {x!r} and {y}")', [("give {…} and {…}", False)]),
        ('raise E("a", hint=error.hint)', []),
        ('hint = "one" if x else "two"', [("one", False), ("two", False)]),
        ('hint = suggest(x) or f"add {y}"', [("add {…}", False)]),
        ('what, hint = ("a", "one") if x else ("b", by_hand("two"))', [("one", False), ("two", True)]),
        (
            'P = "correct it"\nC = {"X": ("it is", "go; " + P), "Y": ("it was", P)}',
            [("go; correct it", False), ("correct it", False)],
        ),
        (
            'C: F = (("part", "a b", "do this"), ("other", "c d", by_hand("that")))',
            [("do this", False), ("that", True)],
        ),
        ('table.wrong("a", f"add {b}", name="x")', [("add {…}", False)]),
        ('missing.append(f"there is no {a} here; correct it")', [("correct it", False)]),
        ('missing.append("a b; " + by_hand("ask c"))', [("ask c", True)]),
        ('return [], (f"none of {a}; set b")', [("set b", False)]),
        ('"""A docstring; of a module."""\nx = f"; {y}"', []),
    ],
)
def test_how_they_are_found(source: str, expected: list[tuple[str, bool]]) -> None:
    assert found(source) == expected


def test_the_pattern_of_one() -> None:
    sentence = f"give --region {FILLED} (or {FILLED})"
    assert remedies.pattern(sentence).search("x; give --region eu (or us)")
    assert not remedies.pattern(sentence).search("give --region eu or us")


def test_commands_are_taken_as_they_stand() -> None:
    assert remedies.commands_in("clear it with `warmspare failback-done --vm 'a b' --repo /r` now, or `ls`") == [
        ["failback-done", "--vm", "a b", "--repo", "/r"]
    ]


def test_there_are_many() -> None:
    assert len(EVERY) > 150 and isinstance(EVERY[0], Remedy)
