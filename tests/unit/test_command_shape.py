"""Commands stay thin: short files, few parameters, and nothing of the rooms below the engine."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs.paths import PROJECT

SOURCES = PROJECT / "src" / "warmspare"
COMMANDS = sorted((SOURCES / "cli" / "commands").rglob("*.py"))
OURS = sorted(path for room in ("cli", "engine") for path in (SOURCES / room).rglob("*.py"))
MOST_LINES, MOST_PARAMETERS = 80, 7


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Of any kind, without a method's own object or class."""
    of = function.args
    named = [each.arg for each in (*of.posonlyargs, *of.args)]
    own = named[:1] in (["self"], ["cls"])
    return len(named) - own + len(of.kwonlyargs) + (of.vararg is not None) + (of.kwarg is not None)


def calls(tree: ast.AST, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in ast.walk(tree)
    )


def test_a_command_is_a_short_file() -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in COMMANDS}
    assert len(lines) > 20
    assert not {name: count for name, count in lines.items() if count >= MOST_LINES}


def test_no_function_takes_many_parameters_or_all_that_stands_around() -> None:
    assert len(OURS) > 60
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in OURS}
    counts = {
        (path.name, function.name): parameters(function) for path, tree in trees.items() for function in functions(tree)
    }
    assert len(counts) > 300
    assert not {where: count for where, count in counts.items() if count > MOST_PARAMETERS}
    assert not [path for path, tree in trees.items() if calls(tree, "locals")]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("def f(): pass", 0),
        ("def f(self, a, /, b, *c, d, **e): pass", 5),
        ("async def f(cls, *, a=1): pass", 1),
        ("def f(a, b, c, d, e, f, g, h): pass", 8),
    ],
)
def test_how_parameters_are_counted(line: str, count: int) -> None:
    [function] = functions(ast.parse(line))
    assert parameters(function) == count


def test_what_commands_may_import_is_held() -> None:
    """By the import linter, whose contract names every room below the engine."""
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [held] = [each for each in contracts if each["name"] == "a command parses, asks and tells"]
    below = {path.parent.name for path in SOURCES.glob("*/__init__.py")}
    may = {"cli", "daemon", "engine", "demo", "config", "model", "observe", "outside"}  # what is asked, words, values
    assert held["source_modules"] == ["warmspare.cli.commands"]
    named = {name.removeprefix("warmspare.") for name in held["forbidden_modules"]}
    assert below - may <= named and "engine.wiring" in named


def test_each_command_is_reached_by_one_file() -> None:
    tree = ast.parse(Path(SOURCES / "cli" / "command_table.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"importlib"}  # a command's module is read when it is asked for
