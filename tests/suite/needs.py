"""What tests need of a host that not everyone has: Go, QEMU, a browser, root. A test that needs one carries its name as
a marker, so that `-m "not go"` leaves out what can't run without it.

Nobody sets these by hand: a test needs what is named in its source, and what the helpers, classes and fixtures that it
uses need, wherever they are in tests/. That is read before tests run. While one runs, the programs that it starts are
noted, and a test that started one of those without the marker fails: then what was read is not all.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from rigs.paths import TESTS

NEEDS: dict[str, re.Pattern[str]] = {
    "go": re.compile(r"go|vcenter"),
    "qemu": re.compile(r"qemu-(system-\w+|img)"),
    "browser": re.compile(r"chromium[\w-]*|google-chrome"),
    "root": re.compile(r"u?mount|losetup|ip|unshare|setpriv"),
}
"""By marker: the programs that show the need, by their names without a folder."""
_CALLED = {"root": {"geteuid", "chown", "mknod", "setuid"}, "qemu": {"to_vmdk"}}
"""Functions of others that need it."""
_COMMANDS = {"drill": "--ec2", "failback-export": "raw"}
"""Those of warmspare that start QEMU's programs, and the word with which they don't."""
_PLAIN = re.compile(r"go|ip|mount|umount|vcenter")
"""Words of these are words of other things too: they count where they begin a command."""


# -- what is read ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Thing:
    """A function, a class or a value of a module. names: those that it uses, `a.b` as ("a", "b"), others as ("a", "").
    fixtures: names of arguments, if it is a test or a fixture itself. needs: of its own."""

    names: set[tuple[str, str]] = field(default_factory=set)
    fixtures: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Module:
    """things: at its top, by name. imports: names that mean a module or a thing of another, (path, name or "")."""

    things: dict[str, _Thing] = field(default_factory=dict)
    imports: dict[str, tuple[Path, str]] = field(default_factory=dict)


def needs_of(path: Path, name: str) -> frozenset[str]:
    """Of a test function of that file. Fixtures are looked for as pytest does: here, then in every conftest above."""
    above = [folder / "conftest.py" for folder in path.parents if folder.is_relative_to(TESTS)]
    found: set[str] = set()
    seen: set[tuple[Path, str]] = set()
    waiting = [(path, name)]
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        thing = _module(place[0]).things.get(place[1])
        waiting += _named(*place)
        if thing is not None:
            found |= thing.needs
            for fixture in thing.fixtures:
                waiting += [(file, fixture) for file in (place[0], path, *above) if _has(file, fixture)][:1]
    return frozenset(found)


def _has(file: Path, name: str) -> bool:
    return file.is_file() and (name in _module(file).things or name in _module(file).imports)


@cache
def _named(path: Path, name: str) -> tuple[tuple[Path, str], ...]:
    """The places of all that a thing names."""
    module = _module(path)
    if name not in module.things:
        return (module.imports[name],) if name in module.imports else ()
    places = []
    for each, attribute in module.things[name].names:
        if each in module.things:
            places.append((path, each))
        elif each in module.imports:
            where, what = module.imports[each]
            places.append((where, what or attribute))
    return tuple(places)


@cache
def _module(path: Path) -> _Module:
    module = _Module()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if place := _place(f"{node.module}.{alias.name}"):
                    module.imports[alias.asname or alias.name] = (place, "")
                elif place := _place(node.module):
                    module.imports[alias.asname or alias.name] = (place, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if place := _place(alias.name):
                    module.imports[alias.asname or alias.name] = (place, "")
    for node in tree.body:
        names = _bound(node)
        thing = _thing(node) if names else _Thing()
        for name in names:
            module.things[name] = thing
    return module


def _place(dotted: str) -> Path | None:
    path = TESTS.joinpath(*dotted.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def _bound(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def _thing(top: ast.stmt) -> _Thing:
    thing = _Thing()
    if isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef):
        decorators = " ".join(map(ast.unparse, top.decorator_list))
        if top.name.startswith("test_") or "fixture" in decorators:
            thing.fixtures = {each.arg for each in (*top.args.args, *top.args.kwonlyargs)}
        if "usefixtures" in decorators:
            thing.fixtures |= set(re.findall(r"'(\w+)'", decorators))
    begins = {id(first) for node in ast.walk(top) for first in _beginnings(node)}
    for node in ast.walk(top):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                thing.names.add((name, attribute))
                thing.needs |= {need for need, words in _CALLED.items() if attribute in words}
            case ast.Name(id=name):
                thing.names.add((name, ""))
            case ast.Constant(value=str(text)):
                thing.needs |= _of_text(text, id(node) in begins)
        if _is_command(node):
            thing.needs.add("qemu")
    return thing


def _beginnings(node: ast.AST) -> list[ast.expr]:
    """Where a command begins: the first of a list, the first argument of a call."""
    match node:
        case ast.List(elts=[first, *_]) | ast.Tuple(elts=[first, *_]) | ast.Call(args=[first, *_]):
            return [first]
    return []


def _of_text(text: str, begins: bool) -> set[str]:
    if _PLAIN.fullmatch(text) and not begins:
        return set()
    return {need for need, programs in NEEDS.items() if programs.fullmatch(text)}


def _is_command(node: ast.AST) -> bool:
    """Whether it is the words of a command that starts QEMU's programs: its name, with options."""
    if isinstance(node, ast.Dict | ast.Set | ast.Compare):
        return False
    said = {each.value for each in ast.iter_child_nodes(node) if isinstance(each, ast.Constant)} & set(_COMMANDS)
    words = {str(each.value) for each in ast.walk(node) if isinstance(each, ast.Constant)} if said else set()
    return any(each.startswith("--") for each in words) and any(_COMMANDS[name] not in words for name in said)


# -- what is seen ---------------------------------------------------------------------------------------------------

_started: set[str] = set()


def watch() -> None:
    """Note each program that this process starts from now on."""
    sys.addaudithook(_note)
    asyncio.create_subprocess_exec = _noted(asyncio.create_subprocess_exec)  # uvloop starts without an audit event


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        _started.add(Path(os.fsdecode(arguments[0] or "")).name)


def _noted(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def noted(program: Any, *arguments: Any, **options: Any) -> Any:
        _started.add(Path(os.fsdecode(program)).name)
        return start(program, *arguments, **options)

    return noted


def begin() -> None:
    """A test begins: what was started before is not its doing."""
    _started.clear()


def unsaid(item: pytest.Item) -> list[str]:
    """What the test needed since it began and does not say, in words."""
    needed = {need: each for each in _started for need, programs in NEEDS.items() if programs.fullmatch(each)}
    said = _read(item) if needed else frozenset()
    return sorted(
        f"{program} was started, and nothing in the test's source says `{need}` (tests/suite/needs.py)"
        for need, program in needed.items()
        if need not in said and not item.get_closest_marker(need)
    )


# -- what is marked -------------------------------------------------------------------------------------------------


def mark(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where markers are asked for; else all that reading would be for nothing."""
    if re.search(rf"\b({'|'.join(NEEDS)})\b", config.option.markexpr):
        for item in items:
            for need in _read(item):
                item.add_marker(need)


def _read(item: pytest.Item) -> frozenset[str]:
    return needs_of(item.path, getattr(item, "originalname", item.name))
