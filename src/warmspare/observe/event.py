"""An event as a value: what all of them have in common; owns no kind of them (`kinds/`) and no way to tell it.

An event is a frozen struct. Its tag is its name, its fields are what programs get, in their order; the first paragraph
of its docstring says when it is told, a `note` what there is to know of a field, `words` what a person reads.
docs/events.md and docs/events.schema.json are printed from these (`catalogue.py`). Values are numbers, text, lists and
objects of these, never secrets; a field that is absent in some uses is `UNSET` there.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType

note = msgspec.Meta  # of a field: note(description="…")


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Base of all. ends: it is the last one of a run that gets there. use: whose it is, where several have its name."""

    ends: ClassVar[bool] = False
    use: ClassVar[str] = ""

    def words(self) -> str | None:
        """What a person is told; None where only programs need it."""
        return None

    def sentence(self) -> str | None:
        """The same, with the name of the VM in front of it where the event has that."""
        words, vm_name = self.words(), getattr(self, "vm_name", UNSET)
        return f"{vm_name}: {words}" if words and vm_name is not UNSET else words


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
