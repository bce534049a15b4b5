"""What the kernels have in common and what they must not: one place for each number, stubs that say what was compiled,
and which room may use which kernel."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import warmspare
from unit import reference
from warmspare.format import hashtable
from warmspare.model import units

EXT = Path(__file__).resolve().parents[2] / "ext"
SOURCES = Path(warmspare.__file__).parent
STUBS = sorted((SOURCES / "_native").glob("*.pyi"))
# The linter of imports sees no compiled modules. An audit must not judge writers by the writers' own kernels.
ROOMS = {
    "pages": {"sync"},
    "sparse": {"apply"},
    "judge": {"audit"},
    "holes": {"apply", "audit", "state"},
    "ring": {"source"},
    "vddk": {"source"},
}
WORDS = {"BLOCK_BYTES", "BLOCK_PAGES", "PAGE_BYTES", "ENTRY_BYTES", "BlockVerdict", "block_bytes"}


def enums() -> dict[str, dict[str, int]]:
    """The enums of the contract: name, members, values; "" has the units."""
    found: dict[str, dict[str, int]] = {}
    text = (EXT / "kernels.pxd").read_text()
    for name, body in re.findall(r"^cdef enum ?(\w*):.*\n((?: +.*\n)+)", text, re.MULTILINE):
        found[name] = {word: int(value) for word, value in re.findall(r"^ +(\w+) = (\d+)", body, re.MULTILINE)}
    return found


def cimports(name: str) -> dict[str, set[str]]:
    """What a file of ext/ cimports, by where it stands."""
    found: dict[str, set[str]] = {}
    for source, names in re.findall(r"^from ([\w.]+) cimport (\([^)]*\)|.*)$", (EXT / name).read_text(), re.MULTILINE):
        found.setdefault(source, set()).update(re.findall(r"\w+", names))
    return found


def constants(module: ModuleType) -> dict[str, int]:
    return {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, int)}


def stated(stub: Path) -> tuple[dict[str, int], dict[str, list[str]]]:
    """A stub's constants, and its functions with the names of their parameters."""
    numbers, functions = {}, {}
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assert node.value is not None, f"{stub.name} leaves out what {node.target.id} is"
            numbers[node.target.id] = ast.literal_eval(node.value)
        elif isinstance(node, ast.FunctionDef):
            functions[node.name] = [one.arg for one in node.args.args]
    return numbers, functions


@pytest.mark.parametrize("stub", STUBS, ids=lambda path: path.stem)
def test_a_stub_says_what_was_compiled(stub: Path) -> None:
    module = importlib.import_module(f"warmspare._native.{stub.stem}")
    numbers, functions = stated(stub)
    assert constants(module) == numbers
    public = {n: f for n, f in vars(module).items() if not n.startswith("_") and inspect.isroutine(f)}
    assert {name: list(inspect.signature(function).parameters) for name, function in public.items()} == functions


def test_each_kernel_has_its_stub_and_its_rooms() -> None:
    names = {path.stem for path in EXT.glob("*.pyx")}
    assert names == {stub.stem for stub in STUBS} == ROOMS.keys()
    architecture = (EXT.parent / "docs" / "architecture.md").read_text()
    assert all(path.name in architecture for path in [*EXT.glob("*.pyx"), EXT / "kernels.pxd"])


def test_the_contract_has_the_units_of_the_model() -> None:
    for name, value in enums()[""].items():
        assert value == getattr(hashtable if name == "ENTRY_BYTES" else units, name), name
    assert enums()[""].keys() == {"PAGE_BYTES", "BLOCK_BYTES", "BLOCK_PAGES", "ENTRY_BYTES"}


@pytest.mark.parametrize(
    ("kernel", "name"), [("pages", "BlockChange"), ("sparse", "RecordVerdict"), ("judge", "BlockVerdict")]
)
def test_python_and_the_reference_have_the_contracts_verdicts(kernel: str, name: str) -> None:
    members = enums()[name]
    assert constants(importlib.import_module(f"warmspare._native.{kernel}")) == members
    assert list(members.values()) == list(range(len(members)))
    for word, value in members.items():
        assert word == "UNREADABLE" or getattr(reference, word) == value  # the reference meets no bad medium


def code(path: Path) -> str:
    """Without docstrings and comments."""
    return re.sub(r"#.*", "", re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL))


@pytest.mark.parametrize("name", ["pages.pyx", "sparse.pyx", "judge.pyx", "holes.pyx", "holes.pxd"])
def test_each_number_and_declaration_stands_once(name: str) -> None:
    text = code(EXT / name)
    assert "xxhash.h" not in text
    assert not re.findall(r"^(?:DEF .*|[A-Z_]+ = \d+)", text, re.MULTILINE)
    assert not re.findall(r"\b(?:65536|4096)\b", text)
    assert not re.findall(r"\b(?:state|verdict)\b(?:\[[^]]*\])? [=!]?= \d", text)


def test_an_audits_kernel_takes_words_from_the_contract_and_code_from_nobody() -> None:
    taken = cimports("judge.pyx")
    assert {source for source in taken if source.split(".")[0] not in ("libc", "posix")} == {"kernels"}
    assert taken["kernels"] <= WORDS
    assert set(cimports("kernels.pxd")) <= {"libc.stdint", "libc.string"}
    assert not {"pages", "sparse", "kernels", "judge"} & cimports("holes.pxd").keys()


def imported() -> Iterator[tuple[Path, str]]:
    """Every import of a kernel, in whatever form."""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("warmspare"):
                names = [f"{node.module}.{one.name}" for one in node.names]
            elif isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            else:
                continue
            for name in names:
                if name.startswith("warmspare._native"):
                    yield path.relative_to(SOURCES), name.removeprefix("warmspare._native").strip(".").split(".")[0]


def test_each_room_uses_the_kernels_that_it_may() -> None:
    used: dict[str, set[str]] = {name: set() for name in ROOMS}
    for path, kernel in imported():
        assert kernel in ROOMS, f"{path} imports all kernels, or {kernel!r}"
        used[kernel].add(path.parts[0])
    assert used == ROOMS
