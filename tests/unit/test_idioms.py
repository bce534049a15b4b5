"""What stands in one place stands in no other: cutting columns into runs, taking page masks apart, comparing arrays.

By the syntax trees of src/, so that a comment or a string is nothing.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import warmspare

SRC = Path(warmspare.__file__).parent
RUNS = "model/runs.py has it: Runs.of, run_rows, groups, by_value, group_starts, numbers_in"
MASKS = "model/masks.py has it: bits, from_bits, counts, total, pages_of, whole_masks, page_numbers, of_pages"
# Rooms whose bits are no pages: formats that others made, sums of a store's bytes.
OTHER_BITS = ("recover/readiness/", "store/s3/", "outside/")
# Flags of a format, varints, and sets of blocks as bits.
OTHER_MODULES = ("format/flags.py", "format/varint.py", "audit/expected/blockset.py", "recover/blocks/ebs_blocks.py")
ARRAYS = {"U8", "U16", "U32", "U64", "I64", "Rows", "Numbers", "Bits", "ndarray", "NDArray"}


@functools.cache
def trees() -> dict[str, ast.Module]:
    return {str(path.relative_to(SRC)): ast.parse(path.read_text()) for path in sorted(SRC.rglob("*.py"))}


def nodes(*but: str) -> Iterator[tuple[str, ast.AST]]:
    for path, tree in trees().items():
        if not path.startswith(but):
            yield from ((f"src/warmspare/{path}, line {getattr(node, 'lineno', 0)}", node) for node in ast.walk(tree))


def numpy_call(node: ast.AST, *names: str) -> ast.Call | None:
    """A call of np.name, or of np.name.something."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    function: ast.expr = node.func
    while isinstance(function, ast.Attribute) and isinstance(function.value, ast.Attribute):
        function = function.value
    called = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "np"
    return node if called and isinstance(function, ast.Attribute) and function.attr in names else None


def neighbours(node: ast.AST) -> bool:
    """x[1:] and x[:-1] of the same compared or taken apart, in any order."""
    if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.NotEq):
        sides = {ast.unparse(side).rpartition("[")[::2] for side in (node.left, *node.comparators)}
        return {bounds for _, bounds in sides} == {"1:]", ":-1]"} and len({name for name, _ in sides}) == 1
    return False


def cuts(node: ast.AST) -> bool:
    """np.diff that is compared, or whose nonzero entries are looked for, is a cut; so is np.split, and so are
    neighbours that are compared. Differences that are kept, as a chunk's are, are none."""
    if numpy_call(node, "split", "array_split") or neighbours(node):
        return True
    if isinstance(node, ast.Compare):
        return numpy_call(node.left, "diff") is not None
    sought = isinstance(node, ast.Call) and numpy_call(node, "flatnonzero", "nonzero")
    return bool(sought) and any(numpy_call(argument, "diff") for argument in node.args)


def expands(node: ast.AST) -> bool:
    """np.repeat and np.arange in one statement number what lies in ranges."""
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.Return) or node.value is None:
        return False
    inner = list(ast.walk(node.value))
    return all(any(numpy_call(one, name) for one in inner) for name in ("repeat", "arange"))


def takes_apart(node: ast.AST) -> bool:
    """Sizes are shifted by numbers that stand there. Who shifts by what a name holds, or counts bits, has a mask."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.LShift | ast.RShift):
        return not isinstance(node.right, ast.Constant) and ast.unparse(node.right) != "np.uint64(1)"
    counted = isinstance(node, ast.Attribute) and node.attr == "bit_count"
    names = ("bitwise_count", "bitwise_or", "unpackbits", "packbits", "left_shift", "right_shift")
    return counted or numpy_call(node, *names) is not None


def test_columns_are_cut_into_runs_in_one_place() -> None:
    found = [place for place, node in nodes("model/runs.py") if cuts(node)]
    assert not found, f"cut into runs or groups by hand, at {found}; {RUNS}"


def test_ranges_are_expanded_in_one_place() -> None:
    found = [place for place, node in nodes("model/runs.py", "format/varint.py") if expands(node)]
    assert not found, f"ranges made numbers by hand, at {found}; {RUNS}"


def test_page_masks_are_taken_apart_in_one_place() -> None:
    found = [place for place, node in nodes("model/masks.py", *OTHER_BITS, *OTHER_MODULES) if takes_apart(node)]
    assert not found, f"a mask is taken apart by hand, at {found}; {MASKS}"


@pytest.mark.parametrize(
    ("looks", "code", "sought"),
    [
        (cuts, "edges = np.flatnonzero(np.diff(blocks) != 1) + 1", True),
        (cuts, "edges = np.flatnonzero(np.diff(windows)) + 1", True),
        (cuts, "keep = np.concatenate(([True], np.diff(chunk.block) != 0))", True),
        (cuts, "first = np.concatenate(([True], rows[1:] != rows[:-1]))", True),
        (cuts, "for run in np.split(batch, edges): pass", True),
        (cuts, "deltas = np.diff(block, prepend=first)", False),
        (cuts, "demand(np.all(start[1:] >= stop[:-1]))", False),
        (expands, "nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)", True),
        (expands, "start = np.maximum(np.repeat(start, count), gaps)", False),
        (takes_apart, "bits = mask[:, None] >> np.arange(16)", True),
        (takes_apart, "whole = (1 << pages) - 1", True),
        (takes_apart, "if mask >> page & 1: pass", True),
        (takes_apart, "pages = int(np.bitwise_count(carried).sum())", True),
        (takes_apart, "np.bitwise_or.at(covered, row, masks)", True),
        (takes_apart, "stop = framed.bit_count()", True),
        (takes_apart, "GIB = 1 << 30", False),
        (takes_apart, "missing &= ~(carried | zero)", False),
    ],
)
def test_the_idioms_are_known_where_they_stand(looks: Callable[[ast.AST], bool], code: str, sought: bool) -> None:
    assert any(looks(node) for node in ast.walk(ast.parse(code))) is sought


def decorator(node: ast.ClassDef) -> ast.expr | None:
    for one in node.decorator_list:
        called = one.func if isinstance(one, ast.Call) else one
        if isinstance(called, ast.Name) and called.id == "dataclass":
            return one
    return None


def names_in(annotation: ast.expr) -> set[str]:
    """The names in an annotation, but for what a function takes and gives."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Callable":
        return set()
    if isinstance(annotation, ast.Name | ast.Attribute):
        return {ast.unparse(annotation)}
    return set().union(*(names_in(child) for child in ast.iter_child_nodes(annotation) if isinstance(child, ast.expr)))


def origins(path: str, tree: ast.Module) -> dict[str, str]:
    """What the names of a module mean: its own classes and what it imports, with the module that they are of."""
    own = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    out = {node.name: f"warmspare.{own}.{node.name}" for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            out |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            out |= {alias.asname or alias.name: alias.name for alias in node.names}
    return out


def meant(name: str, known: dict[str, str]) -> str:
    first, dot, rest = name.partition(".")
    return known.get(first, first) + dot + rest


def test_no_generated_comparison_meets_an_array() -> None:
    """The == that a dataclass is given raises on arrays of more than one entry, and so does that of what holds it."""
    holds: dict[str, set[str]] = {}
    decorators: dict[str, str] = {}
    for path, tree in trees().items():
        known = origins(path, tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and (made := decorator(node)):
                name = known.get(node.name, f"{path}.{node.name}")
                fields = [one.annotation for one in node.body if isinstance(one, ast.AnnAssign)]
                inner = set().union(*(names_in(one) for one in (*fields, *node.bases)))
                holds[name], decorators[name] = {meant(one, known) for one in inner}, ast.unparse(made)
    assert len(holds) > 200
    having = {one for names in holds.values() for one in names if one.rpartition(".")[2] in ARRAYS}
    assert len(having) > 5
    while more := {name for name, inner in holds.items() if name not in having and inner & having}:
        having |= more
    found = sorted(name for name in having & set(holds) if "eq=False" not in decorators[name])
    assert not found, f"these hold arrays, so say @dataclass(..., eq=False): {found}"
