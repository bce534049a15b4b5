"""Which remedies the program prints, which of them are a person's, and which tests do what they say; finds out by
reading both, and listens to a test whether it met those that it names.

A remedy is what follows the last semicolon of a sentence: the hint of an error, what is missing for a failover, a note
that says what to do. One that only a person can carry out, or a tool that is not ours, stands in `by_hand()` in the
source. Every other is named by a test that brings the trouble about, does what the sentence says, and ends with the
trouble gone: `@remedy("the sentence")`. What the program fills in is `{…}` there.

`PYTHONPATH=tests python -m suite.remedies` counts them.
"""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

from rig import Outcome, command
from rigs.paths import PROJECT, TESTS
from warmspare.errors import WarmspareError
from warmspare.observe.event import Event, record_of
from warmspare.observe.events import Events

SOURCE = PROJECT / "src" / "warmspare"
ROOMS = ("recover/failover", "recover/staging", "recover/drills", "recover/aws", "recover/failback")
BESIDE = (
    "repository/failover_record.py",
    "recover/readiness/outlook.py",
    "recover/disks/*.py",
    "cli/commands/recovery/*.py",
    "engine/requests/recovery_requests.py",
    "engine/requests/drill_requests.py",
    "engine/wiring/rehearsing.py",
    "engine/wiring/planfile.py",
    "engine/wiring/recovering.py",
    "engine/wiring/readable_disks.py",
)
"""The modules that speak for failover, staging, drills and the way back."""
FILLED = "{…}"
_HEARD: list[str] = []
# Calls that take a hint without its name, and its place.
PLACES = {"Wrong": 2, "wrong": 1, "_matching": 2, "read_text": 2}


@dataclass(frozen=True, slots=True)
class Remedy:
    """One sentence of the source. module: below src/warmspare. by_hand: whether it is marked as a person's."""

    module: str
    line: int
    text: str
    by_hand: bool


def modules() -> list[Path]:
    """Those that are looked at."""
    rooms = [path for room in ROOMS for path in (SOURCE / room).rglob("*.py")]
    return sorted({*rooms, *(path for pattern in BESIDE for path in SOURCE.glob(pattern))})


def remedies_in(path: Path) -> list[Remedy]:
    """All that a module has, each sentence once."""
    found = _Reader(ast.parse(path.read_text())).remedies()
    name = str(path.relative_to(SOURCE))
    seen: dict[str, Remedy] = {}
    for line, text, by_hand in found:
        seen.setdefault(text, Remedy(name, line, text, by_hand))
    return list(seen.values())


class _Reader(ast.NodeVisitor):
    """One module."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._constants: dict[str, ast.expr] = {}
        self._found: list[tuple[int, str, bool]] = []
        for node in tree.body:
            for name, value in _assigned(node):
                self._constants[name] = value

    def remedies(self) -> list[tuple[int, str, bool]]:
        self.visit(self._tree)
        return self._found

    def _take(self, node: ast.expr, *, tail: bool = False) -> None:
        """A remedy; tail: what stands before the last semicolon is not part of it."""
        for text, by_hand in self._texts(node):
            said = text.rpartition("; ")[2] if tail else text
            if re.search(r"[a-z]", said.replace(FILLED, "")):
                self._found.append((node.lineno, said, by_hand))

    def _texts(self, node: ast.expr) -> list[tuple[str, bool]]:
        """What it can say, each with whether a person's mark is in it."""
        match node:
            case ast.Constant(value=str(text)):
                return [(text, False)]
            case ast.Name(id=name) if name in self._constants:
                return self._texts(self._constants[name])
            case ast.JoinedStr(values=parts):
                return self._joined(parts)
            case ast.FormattedValue(value=value):
                return self._texts(value)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined([left, right])
            case ast.IfExp(body=body, orelse=other):
                return [*self._texts(body), *self._texts(other)]
            case ast.BoolOp(values=values):
                return [each for value in values for each in self._texts(value)]
            case ast.Call(func=ast.Name(id="by_hand"), args=[inner]):
                return [(text, True) for text, _ in self._texts(inner)]
        return [(FILLED, False)]

    def _joined(self, parts: list[ast.expr]) -> list[tuple[str, bool]]:
        out = [("", False)]
        for part in parts:
            out = [(text + more, mark or marked) for text, mark in out for more, marked in self._texts(part)]
        return [(re.sub(rf"(?:{re.escape(FILLED)}\s?)+{re.escape(FILLED)}", FILLED, text), mark) for text, mark in out]

    # where they stand

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        place = PLACES.get(name)
        for keyword in node.keywords:
            if keyword.arg == "hint":
                self._take(keyword.value)
            elif keyword.arg != "help":
                self.visit(keyword.value)
        for number, argument in enumerate(node.args):
            if number == place:
                self._take(argument)
            elif not (number == 0 and (name.endswith("Error") or name == "_tell")):
                self.visit(argument)
        self.visit(node.func)

    def visit_Assign(self, node: ast.Assign) -> None:
        pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
        if any(name == "hint" for name, _ in pairs):
            for name, value in pairs:
                if name == "hint":
                    self._take(value)
        elif any(name == "what" for name, _ in pairs):
            return
        elif any(name in self._constants and self._constants[name] is value for name, value in pairs):
            self._table(node.value)
        else:
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name) and node.target.id in self._constants and node.value is not None:
            self._table(node.value)
        elif node.value is not None:
            self.visit(node.value)

    def _table(self, node: ast.expr) -> None:
        """A constant of the module: sentences stand last in tuples of texts."""
        match node:
            case ast.Dict(values=values):
                for value in values:
                    self._table(value)
            case ast.Tuple(elts=[*_, last]) as row if len(row.elts) in (2, 3) and all(map(self._is_text, row.elts)):
                if any(" " in text for each in row.elts[-2:] for text, _ in self._texts(each)):
                    self._take(last)
            case ast.Tuple(elts=rows) | ast.List(elts=rows):
                for row in rows:
                    if isinstance(row, ast.Tuple):
                        self._table(row)

    def _is_text(self, node: ast.expr) -> bool:
        return all(text != FILLED for text, _ in self._texts(node))

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and "; " in node.value:
            self._take(node, tail=True)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        if any("; " in text for text, _ in self._texts(node)):
            self._take(node, tail=True)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = self._texts(node)
        if any("; " in text for text, _ in texts):
            self._take(node, tail=True)
        else:
            self.generic_visit(node)


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            yield name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they are given; of tuples one by one."""
    match target, value:
        case ast.Name(id=name), _:
            yield name, value
        case ast.Tuple(elts=targets), ast.Tuple(elts=values) if len(targets) == len(values):
            for one, other in zip(targets, values, strict=True):
                yield from _pairs(one, other)
        case ast.Tuple(), ast.IfExp(body=body, orelse=other):
            yield from _pairs(target, body)
            yield from _pairs(target, other)


# what tests say of them


def remedy(*sentences: str) -> pytest.MarkDecorator:
    """Of a test that does what these sentences say. It fails where they were not said during it."""
    return pytest.mark.remedy(*sentences)


def named_by_tests() -> dict[str, str]:
    """Each sentence that a test names, and where."""
    out: dict[str, str] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "remedy(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "remedy":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{path}, line {node.lineno}: a sentence is a constant"
                    out[str(argument.value)] = f"{path.relative_to(TESTS)}, line {node.lineno}"
    return out


def pattern(sentence: str) -> re.Pattern[str]:
    """What it looks like once it is filled in."""
    return re.compile(".*?".join(map(re.escape, re.split(rf"{re.escape(FILLED)}|\bID\b", sentence))), re.DOTALL)


@contextlib.contextmanager
def listening(patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Whatever errors and events say as long as it lasts."""
    heard = _HEARD
    heard.clear()
    begin, emit = WarmspareError.__init__, Events.emit

    def raised(self: WarmspareError, *given: Any, **named: Any) -> None:
        begin(self, *given, **named)
        heard.append(self.hint)

    def emitted(self: Events, event: Event) -> None:
        heard.extend(_texts_of(record_of(event)))
        emit(self, event)

    patch.setattr(WarmspareError, "__init__", raised)
    patch.setattr(Events, "emit", emitted)
    yield heard


def told(*texts: str) -> None:
    """What a part of the program says that has no events of its own."""
    _HEARD.extend(texts)


def _texts_of(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts_of(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts_of(each)


# doing what they say


def commands_in(sentence: str) -> list[list[str]]:
    """The commands of ours that a sentence names between backquotes, as they are to be typed."""
    found = [shlex.split(each) for each in re.findall(r"`(warmspare [^`]+)`", sentence)]
    for words in found:
        assert not any(len(word) > 1 and set(word) <= set(string.ascii_uppercase) for word in words), sentence
    return [words[1:] for words in found]


def obey(sentence: str, *more: object, code: int = 0) -> list[Outcome]:
    """Run the commands that a sentence names, just as they stand there; each must end with `code`. more: for all of
    them."""
    asked = commands_in(sentence)
    assert asked, f"no command is named: {sentence}"
    outcomes = [command(*words, *more) for words in asked]
    assert all(each.code == code for each in outcomes), outcomes
    return outcomes


def ask_aws(sentence: str, endpoint_url: str | None = None, **places: str) -> None:
    """Make the calls to AWS that a sentence names as commands of its own client, just as they stand there. places: what
    stands for a word in capitals."""
    asked = re.findall(r"`aws ([^`]+)`", sentence)
    assert asked, f"no call is named: {sentence}"
    for each in asked:
        service, operation, *words = [places.get(word, word) for word in shlex.split(each)]
        client = get_session().create_client(service, region_name="eu-central-1", endpoint_url=endpoint_url)
        name = operation.replace("-", "_")
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[name]).input_shape
        given: dict[str, Any] = {}
        while words:
            option = words.pop(0).removeprefix("--")
            key = next(each for each in shape.members if each.lower() == option.removeprefix("no-").replace("-", ""))
            match shape.members[key].type_name:
                case "boolean":
                    given[key] = not option.startswith("no-")
                case "structure":  # of one flag
                    given[key] = {"Value": not option.startswith("no-")}
                case "list":
                    pairs = dict(part.split("=") for part in words[0].split(",") if "=" in part)
                    given[key] = [pairs or words[0]]
                    words.pop(0)
                case _:
                    given[key] = words.pop(0)
        getattr(client, name)(**given)
        client.close()


def main() -> None:
    tested = named_by_tests()
    print(f"{'module':44} remedies by hand tested neither")
    total = [0, 0, 0, 0]
    for path in modules():
        found = remedies_in(path)
        counts = [
            len(found),
            sum(each.by_hand for each in found),
            sum(each.text in tested for each in found),
            sum(each.text not in tested and not each.by_hand for each in found),
        ]
        total = [one + other for one, other in zip(total, counts, strict=True)]
        if found:
            print(f"{path.relative_to(SOURCE)!s:44} {counts[0]:8} {counts[1]:7} {counts[2]:6} {counts[3]:7}")
    print(f"{'all':44} {total[0]:8} {total[1]:7} {total[2]:6} {total[3]:7}")


if __name__ == "__main__":
    main()
