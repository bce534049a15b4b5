"""An event as a value: what all of them have in common; owns no kind of them (`kinds/`) and no way to tell it.

An event is a frozen struct. Its tag is its name, its fields are what programs get, in their order; the first paragraph
of its docstring says when it is told, a `note` what there is to know of a field, `words` what a person reads.
docs/events.md and docs/events.schema.json are printed from these (`catalogue.py`). Values are numbers, text, lists and
objects of these, never secrets; a field that is absent in some uses is `UNSET` there.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

note = msgspec.Meta  # of a field: note(description="…")


class Weight(Enum):
    """What an event is to a person. It decides what `--quiet` and `--verbose` tell, and with which style."""

    DETAIL = "only where more is asked for"
    PLAIN = "how it goes"
    GOOD = "what was wanted is done"
    ANSWER = "what was asked for"
    WARNING = "it goes on, and somebody should know"
    ALARM = "something is lost, wrong, or not protected"

    @property
    def quiet(self) -> bool:
        """Whether it is told where only what matters is."""
        return self in (Weight.ANSWER, Weight.WARNING, Weight.ALARM)


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Base of all. ends: it is the last one of a run that gets there. use: whose it is, where several have its name.
    usual: what it is to a person, where its fields don't say otherwise."""

    ends: ClassVar[bool] = False
    use: ClassVar[str] = ""
    usual: ClassVar[Weight] = Weight.PLAIN

    def weight(self) -> Weight:
        """What it is to a person."""
        return self.usual

    def words(self) -> str | None:
        """What a person is told; None where only programs need it."""
        return None

    def sentence(self) -> str | None:
        """The same, with the name of the VM in front of it where the event has that."""
        words, vm_name = self.words(), getattr(self, "vm_name", UNSET)
        return f"{vm_name}: {words}" if words and vm_name is not UNSET else words

    def short(self) -> str:
        """All of it in a line, for one without words: its name and its fields, of lists and objects how long they
        are."""
        said = [name_of(self)]
        for name, value in record_of(self).items():
            if name != "event" and value not in (None, "", [], {}):
                said.append(f"{name}={f'({len(value)})' if isinstance(value, list | dict) else value}")
        return " ".join(said)


class FleetEvent(Event, frozen=True, kw_only=True):
    """One that a sync tells, or a part of it. vm_name: whose it is, where several VMs are synced."""

    vm_name: str | UnsetType = UNSET


def name_of(event: Event | type[Event]) -> str:
    """`sync.done`, as `event` has it in JSON."""
    return str(event.__struct_config__.tag)


def record_of(event: Event) -> dict[str, Any]:
    """Its fields as JSON has them, `event` first. TypeError where a value is none of JSON's: a bug of who emits it."""
    record: dict[str, Any] = msgspec.to_builtins(event)
    return record
