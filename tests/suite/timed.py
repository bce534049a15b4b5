"""Which tests depend on time: `python tests/again.py` runs them again and again beside busy loops.

A test does where it, or a helper or fixture of its own file that it uses, names something that takes its own time:
another process, a thread, a signal, a proxy, a wait. That is read from its source, so that no list goes stale.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    alarm beside cancel delay faketime freeze frozen gather hang impatient interrupted kill killed latency monotonic
    patience poll popen proxy race races racing rate sigcont sighup sigint sigkill signals sigstop sigterm signal sleep
    spawn stall terminate thread threads timeout until victim wait
""",
    )
)
_SPLIT = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_timed(path: Path, name: str) -> bool:
    """name: of a test function of that file."""
    return name in _timed(path)


@cache
def _timed(path: Path) -> frozenset[str]:
    functions = {node.name: node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, _Function)}
    names = {name: _names(node) for name, node in functions.items()}
    timed = {name for name, found in names.items() if any(map(_says, found))}
    while more := {name for name, found in names.items() if name not in timed and found & timed}:
        timed |= more
    return frozenset(timed)


def _names(function: _Function) -> set[str]:
    """All that it names: arguments are fixtures."""
    found = {function.name}
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                found.add(name)
    return found


def _says(name: str) -> bool:
    return not _WORDS.isdisjoint(word.lower() for word in _SPLIT.findall(name))
