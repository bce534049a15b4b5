"""What a run tells, as tests look at it: events as dictionaries, each held to the struct that it comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from warmspare.observe import catalogue
from warmspare.observe.event import Event, record_of
from warmspare.observe.events import Sink

Record = dict[str, Any]


def recorder(told: list[Record]) -> Sink:
    """Appends each event, as JSON has it."""
    return lambda event: told.append(record_of(event))


def heard(line: str | bytes) -> Record:
    """A line of `--json`."""
    return checked(json.loads(line))


def checked(record: Record) -> Record:
    """AssertionError if it is no event as it stands in the documents."""
    assert not (wrong := faults(record)), f"{wrong}: {record}"
    return record


def all_heard(lines: str | bytes) -> list[Record]:
    """Every line."""
    return [heard(line) for line in lines.splitlines()]


def faults(record: Record) -> str:
    """What is wrong with an event; "" if nothing is."""
    try:
        catalogue.parsed(record)
    except ValueError as error:
        return str(error)
    return ""


def told_wrongly(event: Event) -> Iterator[str]:
    """The same of one that is about to be told."""
    try:
        record = record_of(event)
    except TypeError as error:  # numpy's numbers, paths
        yield f"{event!r}: {error}"
    else:
        yield from (f"{event!r}: {wrong}" for wrong in [faults(record)] if wrong)
