"""One list of structs: documents, schema, JSON and sentences of events come from it, and hold to one another."""

from __future__ import annotations

import ast
import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from msgspec import NODEFAULT, UNSET, inspect

from rigs.host.hearing import faults, heard, recorder
from rigs.paths import PROJECT
from suite import documented
from warmspare.cli.telling import terminal
from warmspare.cli.telling.output import JsonOutput, LinesOutput
from warmspare.observe import catalogue, kinds
from warmspare.observe.event import Event, FleetEvent, Weight, name_of, record_of
from warmspare.observe.events import Events
from warmspare.observe.kinds.apply_events import CopyPoint
from warmspare.observe.kinds.sync_events import SyncDone, SyncStart

SOURCES = PROJECT / "src" / "warmspare"
KINDS = [kind for section in catalogue.sections().values() for kind in section]
# Rooms and modules that a sync passes through, so that what they tell may be of one VM among several.
OF_A_SYNC = ("sync", "source", "vsphere", "store", "state", "engine/wiring/sync_end.py", "observe/housekeeping.py")
RNG = random.Random(19)


def fields(kind: type[Event]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


def value(of: inspect.Type) -> Any:
    """Any that the type allows."""
    match of:
        case inspect.Metadata():
            return value(of.type)
        case inspect.UnionType():
            return value(RNG.choice(of.types))
        case inspect.StrType():
            return RNG.choice(["", "passed", "ec2", "web [prod]", "Zürich \U0001f600", "a\u202eb"])
        case inspect.IntType():
            return RNG.choice([0, 1, 5000, 1 << 40])
        case inspect.FloatType():
            return RNG.choice([0.0, -1.0, 12.5, 7000.25])
        case inspect.BoolType():
            return RNG.random() < 0.5
        case inspect.NoneType():
            return None
        case inspect.LiteralType():
            return RNG.choice(of.values)
        case inspect.ListType():
            return [value(of.item_type) for _ in range(RNG.choice([0, 1, 12]))]
        case inspect.DictType():
            return {f"key{number}": value(of.value_type) for number in range(2)}
        case inspect.StructType():
            return of.cls(**{field.name: value(field.type) for field in of.fields})
    raise AssertionError(f"no value is known of {of}")


def optional(field: inspect.Field) -> bool:
    return not field.required and field.default is NODEFAULT


def samples(kind: type[Event], count: int = 40) -> Iterator[Event]:
    """Events of a kind, with all of its optional fields, with none, and with some."""
    for number in range(count):
        share = {0: 0.0, 1: 1.0}.get(number, 0.5)
        yield kind(**{f.name: value(f.type) for f in fields(kind) if not optional(f) or RNG.random() < share})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
class TestEachKind:
    def test_it_is_a_plain_frozen_value(self, kind: type[Event]) -> None:
        config = kind.__struct_config__
        assert config.frozen and config.tag_field == "event" and not config.omit_defaults
        assert re.fullmatch(r"[a-z]+([._][a-z]+)*", name_of(kind))
        names = [field.name for field in fields(kind)]
        assert [field.encode_name for field in fields(kind)] == names and "event" not in names
        if issubclass(kind, FleetEvent):
            assert names[0] == "vm_name" and optional(fields(kind)[0])
        one, other = ({**record_of(event)} for event in samples(kind, 2))
        assert set(one) <= set(other) and {name for name in other if name not in one} == {
            field.name for field in fields(kind) if optional(field)
        }

    def test_it_is_what_its_JSON_says(self, kind: type[Event]) -> None:
        for event in samples(kind):
            out = io.StringIO()
            with redirect_stdout(out):
                JsonOutput().event(event)
            assert heard(out.getvalue()) == record_of(event)
            again = catalogue.parsed(json.loads(out.getvalue()))
            assert again == event or (kind.use and record_of(again) == record_of(event))

    def test_it_is_said(self, kind: type[Event]) -> None:
        """Whatever its fields hold; and of one VM among several by name."""
        for event in samples(kind):
            said = event.sentence()
            assert said is None or isinstance(said, str)
            if isinstance(event, FleetEvent):
                named = msgspec.structs.replace(event, vm_name="dc01")
                assert named.sentence() == (f"dc01: {event.words()}" if event.words() else None)
        out = io.StringIO()
        with redirect_stdout(out):
            for event in samples(kind, 5):
                LinesOutput().event(event)
        assert "\u202e" not in out.getvalue() and "UNSET" not in out.getvalue()

    def test_it_is_told_somewhere(self, kind: type[Event]) -> None:
        assert kind.__name__ in made()


@cache
def made() -> set[str]:
    """Every name that is called in the sources, or whose method is, or that a record is converted to."""
    found = set[str]()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func.value if isinstance(node.func, ast.Attribute) else node.func
                found.update(each.id for each in (called, *node.args[1:2]) if isinstance(each, ast.Name))
    return found


# -- documents ------------------------------------------------------------------------------------------------------


def test_the_document_is_printed_from_the_structs() -> None:
    """Otherwise: `python -m warmspare.observe.catalogue docs`."""
    document = (PROJECT / "docs" / catalogue.DOCUMENT).read_text(encoding="utf-8")
    assert catalogue.printed(document) == document
    assert catalogue.printed(document.replace("| sync.done |", "| sync.gone |")) == document
    with pytest.raises(ValueError, match="marks"):
        catalogue.printed(document.replace(catalogue.END, ""))


def test_the_schema_is_printed_from_the_structs() -> None:
    assert (PROJECT / "docs" / catalogue.SCHEMA).read_text(encoding="utf-8") == catalogue.schema_text()
    assert re.fullmatch(r"[1-9]\d*\.\d+", catalogue.VERSION)


def test_what_is_printed_of_an_event(tmp_path: Path) -> None:
    (tmp_path / catalogue.DOCUMENT).write_text(f"before\n{catalogue.BEGIN}\n{catalogue.END}\nbehind\n")
    catalogue.main(tmp_path)
    text = (tmp_path / catalogue.DOCUMENT).read_text()
    assert text.startswith("before\n") and text.endswith("\nbehind\n")
    assert "| sync.late | vm, seconds, rpo_seconds | A sync has passed half the RPO of its VM. |" in text
    assert "| doctor.done | wrong, notes | `doctor`; exit code 2 if anything is wrong. Last. |" in text
    assert "[offset] (with length: where a part of the disk is meant), [length] |" in text
    assert all(f"| {name}" in text for name in catalogue.all_kinds())


@pytest.mark.long
def test_the_schema_agrees_with_the_structs() -> None:
    """An implementation that is not ours, of a standard that is not ours."""
    schema = json.loads(catalogue.schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for kind in KINDS:
        only = jsonschema.Draft202012Validator({**schema, "anyOf": [{"$ref": f"#/$defs/{kind.__name__}"}]})
        for number, event in enumerate(samples(kind, 6)):
            record = json.loads(json.dumps(record_of(event)))
            assert only.is_valid(record), record
            if number < 2:  # with all of its fields and with none: it asks every kind
                assert validator.is_valid(record), record
            for field in fields(kind):
                short = {name: each for name, each in record.items() if name != field.name}
                assert only.is_valid(short) == optional(field), (kind, field.name)
                assert not only.is_valid(record | {field.name: {"never": [object.__name__]}}) or field.name == "s3"
            assert only.is_valid(record | {"added": 1})
    assert validator.is_valid({"event": "of.tomorrow", "any": [1]})
    assert not validator.is_valid({"no": "event"}) and not validator.is_valid({"event": "sync.done"})


def test_every_module_of_events_is_printed() -> None:
    there = {path.stem for path in Path(*kinds.__path__).glob("*.py")} - {"__init__"}
    assert {module.__name__.rpartition(".")[2] for module in catalogue.MODULES} == there
    assert sum(map(len, catalogue.all_kinds().values())) == len(KINDS) == len({kind.__name__ for kind in KINDS})


def test_events_of_one_name_say_whose_they_are() -> None:
    for name, several in catalogue.all_kinds().items():
        uses = [kind.use for kind in several]
        assert len(set(uses)) == len(uses), name
        assert bool(uses[0]) == (len(several) > 1), name
        assert len({kind.ends for kind in several}) == 1, name


def test_descriptions_are_sentences() -> None:
    for kind in KINDS:
        said = catalogue.description(kind)
        assert said.endswith(".") and (said[0].isupper() or said[0] == "`") and "|" not in said, kind
        assert kind.__doc__ != Event.__doc__, kind


# -- telling --------------------------------------------------------------------------------------------------------


def done(**more: Any) -> SyncDone:
    given = {
        "vm": "v",
        "point": "1-0",
        "sequence": 1,
        "sha256": "0" * 64,
        "parent": None,
        "bytes_read": 1,
        "bytes_changed": 1,
        "bytes_sent": 1,
    }
    return SyncDone(**{**given, "seconds": 1.0, "findings": 0, "unprotected": 0, **more})


def test_what_is_no_value_of_JSON_shows() -> None:
    """A number of numpy's is one that somebody forgot to turn; a path may be unprintable."""
    for wrong in (np.int64(3), np.float64(3.0), np.uint32(1), Path("/x")):
        with pytest.raises(TypeError):
            record_of(done(bytes_read=wrong))
        with pytest.raises(TypeError), redirect_stdout(io.StringIO()):
            JsonOutput().event(done(bytes_read=wrong))


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"event": "sync.undone"}, "no event 'sync.undone'"),
        ({}, "no event None"),
        (record_of(done()) | {"bytes_read": "1"}, "bytes_read"),
        (record_of(done()) | {"bytes_read": True}, "bytes_read"),
        (record_of(done()) | {"more": 1}, "and not"),
        ({"event": "sync.done", **dict(reversed(record_of(done()).items()))}, "and not"),
        ({"event": "sync.done", "vm": "v"}, "point"),
    ],
)
def test_what_is_no_event_is_found(record: dict[str, Any], why: str) -> None:
    assert why in faults(record)


def test_what_tests_hear_is_held_to_the_documents() -> None:
    assert not documented.wrong()
    events = Events()
    events.emit(done())
    assert not documented.wrong()
    events.emit(done(bytes_read=np.int64(1)))
    events.emit(done(vm=None))
    first, second = documented.wrong()
    assert "int64" in first and "vm" in second and not documented.wrong()


def test_the_same_is_told_once() -> None:
    told: list[dict[str, Any]] = []
    events = Events(recorder(told))
    start = {"vm": "v", "repository": "r", "sequence": 1, "parent": None, "bytes_total": 1}
    for disks in (["a"], ["a"], ["b"]):
        events.emit_once(SyncStart(disks=disks, **start))  # type: ignore[arg-type]
    assert [event["disks"] for event in told] == [["a"], ["b"]]
    assert events.newest == SyncStart(disks=["b"], **start)  # type: ignore[arg-type]


def test_a_bar_ends_with_events_that_there_are() -> None:
    assert set(catalogue.all_kinds()) >= terminal.ENDINGS


def test_each_weight_is_of_some_event_and_has_its_style() -> None:
    """One property says what is told quietly and how it looks; what warns, fails or finds is never left out."""
    weights = {kind: {event.weight() for event in samples(kind, 120)} for kind in KINDS}
    assert set().union(*weights.values()) == set(Weight)
    assert set(terminal.STYLES) | {Weight.DETAIL, Weight.PLAIN, Weight.ANSWER} == set(Weight)
    for kind in KINDS:
        name = name_of(kind)
        told = weights[kind]
        if re.search(r"warning|retry|missing|failed|wrong|problem|unprotected|damaged|late$|error", name):
            assert all(weight.quiet for weight in told), name
        if name == "finding":
            assert told & {Weight.WARNING, Weight.ALARM}, kind
        if name.endswith((".start", ".step")) or name == "progress":
            assert Weight.PLAIN in told, name


def test_what_a_sync_tells_can_say_of_which_VM_it_is() -> None:
    """Of several at once, each event names its VM: so it has a field for that."""
    fleet = {kind.__name__ for kind in KINDS if issubclass(kind, FleetEvent)}
    seen = Counter[str]()
    for room in OF_A_SYNC:
        for path in [SOURCES / room] if room.endswith(".py") else (SOURCES / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("warmspare.observe.kinds"):
                    seen.update(alias.name for alias in node.names)
    assert len(seen) > 25 and set(seen) <= fleet, set(seen) - fleet


def test_an_event_of_several_VMs_begins_with_its_name() -> None:
    record = record_of(msgspec.structs.replace(done(), vm_name="dc01"))
    assert list(record)[:3] == ["event", "vm_name", "vm"] and faults(record) == ""
    assert not issubclass(CopyPoint, FleetEvent) and done().vm_name is UNSET
