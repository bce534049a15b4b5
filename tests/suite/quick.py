"""The small loop: tests that start no program and ask no server, held to that while they run (`make quick`); and in a
whole run, where it would not be missed otherwise that one has no marker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rigs.paths import TESTS

QUICK = ("unit", "format", "property")
_NOT = ("program", "slow", "long")
_STARTS = ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system")


def add_option(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="only tests that start no program; see tests/suite/quick.py")


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave only those of the small loop, and see to it that they are."""
    if not config.getoption("--quick"):
        return
    quick = [item for item in items if _is_quick(item.path) and not any(map(item.get_closest_marker, _NOT))]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(quick)])
    items[:] = quick
    sys.addaudithook(_forbid)


_started: list[str] = []  # since the present test began


def watch() -> None:
    """Note from now on which programs are started."""
    sys.addaudithook(lambda event, arguments: _started.append(str(arguments[0])) if event in _STARTS else None)


def begin() -> None:
    """A test begins."""
    _started.clear()


def unsaid(item: pytest.Item) -> str:
    """What is wrong with its markers, as a sentence; "" for nothing."""
    if not _started or not _is_quick(item.path) or any(map(item.get_closest_marker, _NOT)):
        return ""
    return f"it starts {_started[0]} and is in the small loop: mark it with `program`"


def _is_quick(path: Path) -> bool:
    return path.relative_to(TESTS).parts[0] in QUICK


def _forbid(event: str, arguments: tuple[object, ...]) -> None:
    if event in _STARTS:
        raise AssertionError(f"a test of the small loop starts a program: {arguments[0]}; mark it with `program`")
