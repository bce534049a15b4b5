"""docs/failures.md is held to the suite: whatever test a row names is there, and a row without one says why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = TESTS.parent / "docs" / "failures.md"
NONE = "\u2013"
CODES = {NONE, "0", "1", "2", "3", "4", "5", "6", "7", "8", "130", "as it ends", "as that"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. heads: of its columns. named: what a section's prose calls its files. folder, default: where
    its prose says that tests are."""

    line: int
    heads: tuple[str, ...]
    cells: tuple[str, ...]
    named: dict[str, str]
    folder: str
    default: str


def rows(text: str) -> Iterator[Row]:
    """Every row of every table but their heads."""
    line = 0
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        lines = section.splitlines()
        prose = " ".join(each for each in lines if not each.startswith("|"))
        folder = match[1] if (match := re.search(r"Tests are in tests/(\w+)", prose)) else ""
        default = match[1] if (match := re.search(r"Tests: (\w+/test_\w+\.py)", prose)) else ""
        named = dict(re.findall(r"`(\w+)`(?: is)?\s+((?:\w+/)?test_\w+\.py)", prose))
        table, heads = 0, ()
        for each in lines:
            line += 1
            table = table + 1 if each.startswith("|") else 0
            cells = tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", each.strip("|")))
            heads = cells if table == 1 else heads
            if table > 2:
                yield Row(line, heads, cells, named, folder, default)


def problems(row: Row) -> Iterator[str]:
    """What is wrong with a row, in words."""
    if len(row.cells) != 4:
        yield f"line {row.line}: {len(row.cells)} cells"
        return
    if "code" in row.heads and not set(re.split(r", (?:then )?", re.sub(r" \(.*\)", "", row.cells[2]))) <= CODES:
        yield f"line {row.line}: {row.cells[2]} is no exit code"
    cell, _, note = row.cells[3].partition("(")
    if note and not note.endswith(")"):
        yield f"line {row.line}: something follows a note"
    if cell.strip() == NONE:
        if len(note) < 8:
            yield f"line {row.line}: no test, and it does not say why"
        return
    for part in cell.strip().split(";"):
        yield from (f"line {row.line}: {each}" for each in _missing(row, part.strip()))


def _missing(row: Row, part: str) -> Iterator[str]:
    """part: `file`, `file: words`, or `words` of the section's own file."""
    name, colon, words = part.partition(":")
    path = row.named.get(name, name)
    if not colon and not path.endswith(".py"):
        path, words = row.default, part
    if "/" not in path and row.folder:
        path = f"{row.folder}/{path}"
    if not path.endswith(".py") or not (TESTS / path).is_file():
        yield f"there is no tests/{path}"
        return
    for word in words.split(","):
        if not any(word.strip() in test for test in _names(path)):
            yield f"tests/{path} has no test called {word.strip()}"


@cache
def _names(path: str) -> tuple[str, ...]:
    """The names of the tests in a file."""
    tree = ast.parse((TESTS / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return tuple(each.name for each in functions if each.name.startswith("test_"))


def test_each_row_names_tests_that_exist() -> None:
    found = list(rows(DOCUMENT.read_text()))
    assert len(found) > 300
    assert not [problem for row in found for problem in problems(row)]


HEAD = """## It
`one` is unit/test_failures_document.py.

| failure | what happens | code | test |
| --- | --- | --- | --- |
"""


@pytest.mark.parametrize(
    "cells, says",
    [
        ("| a | b | 0 | one |", ""),
        ("| a | b | 0 | one: each_row, can_fail; unit/test_failures_document.py: exist |", ""),
        ("| a | b | 0 | one: each_row (simulated: no such thing) |", ""),
        (f"| a | b | 0 | {NONE} (nothing can be made to do it here) |", ""),
        (f"| a | b | 0 | {NONE} |", "does not say why"),
        ("| a | b | 0 |  |", "there is no"),
        ("| a | b | 0 | one: no_such_test |", "no test called no_such_test"),
        ("| a | b | 0 | two |", "there is no"),
        ("| a | b | 0 | unit/test_no_such_file.py: each |", "there is no"),
        ("| a | b | one |", "3 cells"),
        ("| a | b | 9 | one |", "no exit code"),
        ("| a | b | 5, then 4 | one |", ""),
        ("| a | b | 0 | one: each_row (simulated); two |", "follows a note"),
    ],
)
def test_that_can_fail(cells: str, says: str) -> None:
    (row,) = rows(HEAD + cells)
    found = list(problems(row))
    assert (says in found[0] and str(row.line) in found[0]) if says else not found


def test_words_of_the_sections_own_file() -> None:
    text = "## It\nTests: unit/test_failures_document.py.\n\n| code |\n| - |\n| a | b | 0 | can_fail, nothing_such |\n"
    (row,) = rows(text)
    assert list(problems(row)) == ["line 6: tests/unit/test_failures_document.py has no test called nothing_such"]
