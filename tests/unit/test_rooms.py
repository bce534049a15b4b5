"""The rooms of the program and of its tests: few modules in each, one meaning a name, and one folder on the path."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from pathlib import Path

from rigs.paths import PROJECT, TESTS

SOURCES, BENCH = PROJECT / "src" / "warmspare", PROJECT / "bench"
MOST = 14  # modules of a room that are no tests
OUTSIDE = {"__init__", "conftest"}


def test_no_room_is_crowded() -> None:
    helpers = Counter(path.parent for path in TESTS.rglob("*.py") if not path.name.startswith(("test_", "__init__")))
    assert helpers[TESTS] > 9 and len(helpers) > 15
    rooms = helpers + Counter(path.parent for path in SOURCES.rglob("*.py") if path.name != "__init__.py")
    assert len(rooms) > 50
    assert not {room: count for room, count in rooms.items() if count > MOST}


def test_each_name_is_of_one_module() -> None:
    names = Counter(path.stem for folder in (TESTS, BENCH) for path in folder.rglob("*.py"))
    assert not [name for name, count in names.items() if count > 1 and name not in OUTSIDE]


def test_each_name_of_the_program_is_of_one_thing() -> None:
    """A traceback that names a module or a class says which."""
    paths = [path for path in SOURCES.rglob("*.py") if path.name != "__init__.py"]
    modules = Counter(path.stem for path in paths)
    trees = [ast.parse(path.read_text()) for path in paths]
    classes = Counter(one.name for tree in trees for one in tree.body if isinstance(one, ast.ClassDef))
    assert len(modules) > 400 and len(classes) > 500
    assert not [name for name, count in (modules + classes).items() if count > 1]


def test_each_folder_is_a_package_that_says_what_it_is_for() -> None:
    rooms = {path.parent for path in TESTS.rglob("*.py")} - {TESTS}
    assert not [room for room in rooms if not ast.get_docstring(ast.parse((room / "__init__.py").read_text()))]


def test_one_folder_is_on_the_path_and_no_test_needs_a_benchmark() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert settings["pythonpath"] == ["tests"]
    benchmarks = {path.stem for path in BENCH.glob("*.py")}
    assert not [path for path in TESTS.rglob("*.py") if benchmarks & set(_imported(path))]


def _imported(path: Path) -> list[str]:
    """The first names of all that a module imports, wherever it does."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append(node.module.partition(".")[0])
    return found
