"""All events that there are, out of their structs, as a document and as a JSON Schema; owns what is printed of them.

`python -m warmspare.observe.catalogue docs` writes docs/events.md, between its marks, and docs/events.schema.json.
Tests hold both to the structs, and every event that the suite hears of to these.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT, inspect

from warmspare.observe.event import Event, name_of
from warmspare.observe.kinds import (
    apply_events,
    audit_events,
    daemon_events,
    drill_events,
    failover_events,
    finding_events,
    looking_events,
    rehearsal_events,
    repository_events,
    run_events,
    setup_events,
    source_events,
    stage_events,
    sync_events,
)

MODULES: Final[tuple[ModuleType, ...]] = (
    run_events,
    setup_events,
    repository_events,
    source_events,
    sync_events,
    apply_events,
    finding_events,
    audit_events,
    stage_events,
    looking_events,
    failover_events,
    drill_events,
    rehearsal_events,
    daemon_events,
)  # as the document has them

# Of the schema. A new event, a new field or a new value of a text: the second number. What is renamed, removed or means
# something else, or may now be absent or null: the first, and a line in CHANGELOG.md.
VERSION = "1.4"
DOCUMENT, SCHEMA = "events.md", "events.schema.json"
BEGIN, END = "<!-- printed: see CONTRIBUTING.md -->", "<!-- to here -->"

Kinds = dict[str, tuple[type[Event], ...]]


def sections() -> dict[str, list[type[Event]]]:
    """The events of each module, as they stand in it, under what its docstring says that they are of."""
    found: dict[str, list[type[Event]]] = {}
    for module in MODULES:
        title = (module.__doc__ or "").removeprefix("Events of ").partition(":")[0]
        found[title[0].upper() + title[1:]] = [
            kind
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, Event) and kind.__module__ == module.__name__
        ]
    return found


@cache
def all_kinds() -> Kinds:
    """Every event, by its name; several where its fields hang on who tells it."""
    found = defaultdict[str, list[type[Event]]](list)
    for kind in (kind for section in sections().values() for kind in section):
        found[name_of(kind)].append(kind)
    return {name: tuple(several) for name, several in found.items()}


def parsed(record: dict[str, Any]) -> Event:
    """What a line of JSON says. ValueError, why, where it is no event of these, to the last field and its place."""
    name = record.get("event")
    if name not in all_kinds():
        raise ValueError(f"there is no event {name!r}")
    wrong = []
    for kind in all_kinds()[name]:
        try:
            event = msgspec.convert(record, kind, strict=True)
        except msgspec.ValidationError as error:
            wrong.append(f"{kind.__name__}: {error}")
            continue
        again = msgspec.to_builtins(event)
        if again == record and list(again) == list(record):
            return event
        wrong.append(f"{kind.__name__} has the fields {', '.join(again)}, and not {', '.join(record)}")
    raise ValueError("; ".join(wrong))


def description(kind: type[Event]) -> str:
    """When it is told, in a sentence or two."""
    said = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return f"{said} Last." if kind.ends else said


def table(section: list[type[Event]]) -> Iterator[str]:
    """A section's events as rows of Markdown."""
    yield "| event | fields | when |"
    yield "| --- | --- | --- |"
    for kind in section:
        fields = ", ".join(_field(field) for field in _fields(kind))
        title = f"{name_of(kind)} ({kind.use})" if kind.use else name_of(kind)
        yield f"| {title} | {fields} | {description(kind)} |"


def document() -> str:
    """All sections."""
    lines: list[str] = []
    for title, section in sections().items():
        lines += ["", f"## {title}", *table(section)]
    return "\n".join(lines[1:]) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema of a line of `--json`. What it does not know it lets pass: events and fields are added."""
    several = [kind for section in sections().values() for kind in section]
    _, defined = msgspec.json.schema_components(several, ref_template="#/$defs/{name}")
    for kind in several:
        defined[kind.__name__] |= {
            "title": name_of(kind),
            "description": description(kind),
            "required": ["event", *(field.name for field in _fields(kind) if not _optional(field))],
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An event of warmspare, a line of its output with --json",
        "version": VERSION,
        "anyOf": [
            *({"$ref": f"#/$defs/{kind.__name__}"} for kind in several),
            {"type": "object", "required": ["event"], "properties": {"event": {"not": {"enum": list(all_kinds())}}}},
        ],
        "$defs": dict(sorted(defined.items())),
    }


def _fields(kind: type[Event]) -> list[inspect.Field]:
    """vm_name only where it is always there: what is said of it elsewhere is said once."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return [field for field in info.fields if field.name != "vm_name" or not _optional(field)]


def _optional(field: inspect.Field) -> bool:
    return not field.required and field.default is NODEFAULT


def _field(field: inspect.Field) -> str:
    name = f"[{field.name}]" if _optional(field) else field.name
    said = field.type.extra_json_schema if isinstance(field.type, inspect.Metadata) else None
    return f"{name} ({said['description']})" if said else name


def printed(before: str) -> str:
    """docs/events.md with what is printed in it renewed."""
    head, _, rest = before.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise ValueError(f"{DOCUMENT} has not both of its marks, {BEGIN} and {END}")
    return f"{head}{BEGIN}\n{document()}{END}{tail}"


def schema_text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def main(directory: Path) -> None:
    """Write both, next to each other."""
    path = directory / DOCUMENT
    path.write_text(printed(path.read_text(encoding="utf-8")), encoding="utf-8")
    (directory / SCHEMA).write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
