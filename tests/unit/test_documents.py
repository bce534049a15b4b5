"""The documents are held to the program and to themselves: options, files, links and tables that they name."""

from __future__ import annotations

import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from warmspare.cli.command_parser import fields_of
from warmspare.cli.main import COMMANDS, GROUPS, command, options_of

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "warmspare"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])
OF_ALL = {
    "--json",
    "--output",
    "--quiet",
    "--verbose",
    "--config",
    "--debug",
    "--endpoint-url",
    "--s3",
    "--help",
}  # said once for all commands


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


# -- tables and prose -----------------------------------------------------------------------------------------------


def faults(text: str) -> Iterator[str]:
    """What a merge leaves behind: rows outside of a table or of another width, and prose that stands twice."""
    height, width, fenced = 0, 0, False
    prose: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        if fenced or not line.startswith("|"):
            height = 0
            if not fenced:
                prose.append(line.strip())
            continue
        height += 1
        cells = len(re.split(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line).strip("|")))
        if height == 1:
            width = cells
        if height == 2 and not re.fullmatch(r"[|\s:-]+", line):
            yield f"line {number}: a row outside of a table"
        if cells != width:
            yield f"line {number}: {cells} cells, where the table has {width}"
    clauses = Counter(clause.strip() for clause in re.split(r"(?<=[.;:]) |  +", " ".join(prose)))
    yield from (f"twice: {clause}" for clause, count in clauses.items() if count > 1 and len(clause) > 50)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_whole_and_nothing_stands_twice(document: Path) -> None:
    assert not list(faults(text_of(document)))


def test_faults_are_seen() -> None:
    head = "| a | b |\n| --- | --- |\n"
    assert not list(faults(f"{head}| `x|y` | 2 |\n"))
    assert list(faults(f"{head}| 1 | 2 |\n\n| 3 | 4 |\n| 5 | 6 |\n"))
    assert list(faults(f"{head}| 1 | 2 | 3 |\n"))
    assert list(faults(f"It {'goes on ' * 10}; end.\n\nIt {'goes on ' * 10}; more.\n"))


# -- links ----------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Of the headings, as they are made on the web."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        if target.startswith("https:"):
            continue
        name, _, anchor = target.partition("#")
        there = document.parent / name if name else document
        assert there.exists(), target
        assert not anchor or anchor in anchors(text_of(there)), target


def test_files_that_are_named_exist() -> None:
    """In documents, docstrings and comments; with the end of their path or by their name alone."""
    ours = [path for room in ("src", "ext", "tests", "bench") for path in (ROOT / room).rglob("*.p*")]
    ends = {"/".join(path.parts[-count:]) for path in [*ours, *ROOT.glob("*.py")] for count in range(1, 8)}
    found = 0
    for path in [*DOCUMENTS, *ROOT.glob("src/**/*.py"), *ROOT.glob("ext/*.p*"), *ROOT.glob("tests/**/*.py")]:
        for text in prose_of(path):
            for name in re.findall(r"(?<![\w./*{}<\"'-])((?:[\w-]+/)*[a-z_0-9]+\.(?:py|pyx|pxd))\b(?![.\"'])", text):
                assert name in ends, f"{path.relative_to(ROOT)} names {name}, and there is none"
                found += 1
    assert found > 300


def prose_of(path: Path) -> Iterator[str]:
    """A document, or what the sources of a module say to people."""
    if path.suffix != ".py":
        yield path.read_text()
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT or token.string.startswith('"""'):
            yield token.string


def test_headings_that_sources_cite_exist() -> None:
    """`docs/format.md, "Applying a point"`, also over the end of a line."""
    headings = {document.name: set(re.findall(r"^#+ (.*)$", text_of(document), re.MULTILINE)) for document in DOCUMENTS}
    found = 0
    for source in [*ROOT.glob("src/**/*.py"), *ROOT.glob("ext/**/*.pyx"), *ROOT.glob("ext/**/*.h")]:
        text = re.sub(r"\s*\n\s*(?:#|\*|//)?\s*", " ", source.read_text())
        for name, cited in re.findall(r'([\w-]+\.md)((?:,? (?:and )?"[^"\n]{3,70}")+)', text):
            for heading in re.findall(r'"([^"]+)"', cited):
                assert heading in headings[name], (source, name, heading)
                found += 1
    assert found > 30


# Rooms whose every module the map names.
NAMED = (
    "model",
    "store",
    "store/s3",
    "store/directory",
    "store/around",
    "audit",
    "audit/reports",
    "audit/expected",
    "audit/replica",
    "audit/repository",
    "audit/repository/deep",
    "audit/source",
    "sync",
    "sync/planning",
    "sync/passes",
    "sync/stages",
    "sync/journal",
    "sync/local",
    "sync/publishing",
    "sync/resuming",
    "apply",
    "copy",
    "cli",
    "cli/commands",
    "cli/commands/audits",
    "cli/commands/recovery",
    "cli/telling",
    "engine",
    "engine/requests",
    "engine/wiring",
    "vsphere",
    "vsphere/api",
    "vsphere/inventory",
    "vsphere/snapshots",
    "vsphere/tracking",
    "recover/aws",
    "recover/blocks",
    "recover/staging",
    "recover/disks",
    "recover/readiness",
    "recover/failover",
    "recover/drills",
    "recover/drills/qemu",
    "recover/drills/ec2",
    "recover/readiness/guest",
    "recover/readiness/kernels",
    "source",
    "source/vddk",
    "recover/failback",
    "status",
)


def test_the_map_of_the_rooms_is_that_of_the_tree() -> None:
    """Each room stands there once, in the room that it is in, and names its modules: three floors of rooms."""
    drawn = text_of(ROOT / "docs" / "architecture.md").partition("## Rooms\n```\n")[2].partition("```")[0]
    source = drawn.partition("src/warmspare/\n")[2]
    above: list[str] = []
    said: dict[str, str] = {}
    for line in source.splitlines():
        if found := re.match(r"((?:  ){1,3})(\w+)/ ", line):
            above = [*above[: len(found[1]) // 2 - 1], found[2]]
        said["/".join(above)] = said.get("/".join(above), "") + line
    inside = {path.parent.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("__init__.py")} - {".", "_native"}
    assert said.keys() - {""} == {room for room in inside if room.count("/") < 3}
    for room in NAMED:
        for path in (SOURCES / room).glob("*.py"):
            named = path.name == "__init__.py" or re.search(rf"\b{path.name}\b", said[room])
            assert named, f"docs/architecture.md, Rooms, does not name {path.relative_to(SOURCES)}: add what it is for"
    assert not [name for name in re.findall(r"\b\w+\.py\b", source) if not list(SOURCES.rglob(name))]


# -- commands -------------------------------------------------------------------------------------------------------


@cache
def commands() -> dict[str, set[str]]:
    """The long options of each command."""
    return {
        name: {flag for field in fields_of(options_of(command(name))) for flag in field.option.flags if flag[1] == "-"}
        | {"--help"}
        for name in COMMANDS
    }


def synopsis() -> dict[str, set[str]]:
    """The options that docs/operations.md gives each command."""
    section = text_of(ROOT / "docs" / "operations.md").partition("## Commands\n")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {}
    for line in re.sub(r"\n +", " ", section.split("```")[1]).strip().splitlines():
        words = line.partition("#")[0].split()[1:]
        name = next(" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in commands())
        found.setdefault(name, set()).update(re.findall(r"--[a-z0-9-]+", line.partition("#")[0]))
    return found


def test_the_synopsis_has_the_options_that_there_are() -> None:
    there, written = commands(), synopsis()
    written["plan"] = written["sync"]  # it says so
    lacking = {name: sorted(there[name] - OF_ALL - written.get(name, set())) for name in there}
    beyond = {name: sorted(written[name] - there[name]) for name in written}
    assert not any(lacking.values()), lacking
    assert not any(beyond.values()), beyond


def lines_of_commands(text: str) -> Iterator[str]:
    """In examples and in prose."""
    for number, piece in enumerate(text.split("```")):
        if number % 2:
            yield from re.findall(r"^(?:ExecStart=\S+/)?warmspare [^#\n]+", piece, re.MULTILINE)
        else:
            yield from (line.strip("`") for line in re.findall(r"`warmspare [^`]+`", piece))


def test_each_command_line_in_a_document_is_one() -> None:
    there = commands()
    for document in DOCUMENTS:
        for line in lines_of_commands(text_of(document)):
            words = line.split()[1:]
            name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in there), None)
            if name is None:  # a group of commands, or what the root of a hash table begins with
                assert words[0] in {*GROUPS, "hash"}, line
                continue
            assert set(re.findall(r"--[a-z0-9-]+", line)) <= there[name], line
