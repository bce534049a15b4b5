"""Where vCenter's event history stood when a snapshot was taken: what a restore point keeps of it, and whether the
history goes on from there; does no I/O.

Events are ordered by their keys, which vCenter counts up, and never by their dates: those come from the clocks of
vCenter and of every host, which jump. docs/format.md, "Restore point".
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ROUNDING = datetime.timedelta(seconds=1)
MOST_JUDGED = 100  # keys that a record holds; beyond it they are not looked at twice


def moment(text: Any) -> datetime.datetime | None:
    """A time with its zone, as records hold it; None for anything else."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event that was seen. time: by whichever clock dated it."""

    key: int
    time: str
    kind: str

    def same(self, other: SeenEvent) -> bool:
        """Whether both are one event. vCenter's memory and its database round times differently."""
        return (self.key, self.kind) == (other.key, other.kind) and abs(self.at - other.at) < ROUNDING

    @property
    def at(self) -> datetime.datetime:
        return datetime.datetime.fromisoformat(self.time)

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "time": self.time, "kind": self.kind}

    @classmethod
    def parse(cls, loose: Any) -> SeenEvent | None:
        match loose:
            case {"key": int(key), "time": str(time), "kind": str(kind)} if type(key) is int and moment(time):
                return cls(key, time, kind)
        return None


@dataclass(frozen=True, slots=True)
class Newest:
    """vCenter's newest event at a moment, of whatever it tells. chain: the ID of the chain that it is part of."""

    event: SeenEvent
    chain: int


@dataclass(frozen=True, slots=True)
class EventMark:
    """Where the history stood. vcenter: its instance UUID ("" for a host). newest: before the snapshot was taken.

    witness: a later event of the VM itself, where one was seen: that of our own snapshot, as a rule. If it is still the
    same, so is all before it. after: the key after which the next run looks, further back than `newest`, for nothing
    says that an event can be queried as soon as it is counted; judged: keys of events in between that were seen.
    """

    vcenter: str
    newest: Newest
    witness: SeenEvent | None = None
    after: int = 0
    judged: tuple[int, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "vcenter": self.vcenter,
            "newest": self.newest.event.as_json(),
            "chain": self.newest.chain,
            "witness": self.witness.as_json() if self.witness else None,
            "after": self.after,
            "judged": list(self.judged),
        }

    @classmethod
    def parse(cls, loose: Any) -> EventMark | None:
        """None for what is none."""
        match loose:
            case {
                "vcenter": str(vcenter),
                "newest": newest,
                "chain": int(chain),
                "after": int(after),
                "judged": [*judged],
            } if (event := SeenEvent.parse(newest)) and all(type(key) is int for key in judged):
                witness = SeenEvent.parse(loose.get("witness"))
                return cls(vcenter, Newest(event, chain), witness, after, tuple(judged))
        return None

    @classmethod
    def at(cls, vcenter: str, newest: Newest) -> EventMark:
        """Where nothing is known of what was before: all that is newer counts."""
        return cls(vcenter, newest, None, newest.event.key)

    def going_on(self, newest: Newest, witness: SeenEvent | None, judged: Iterable[int]) -> EventMark:
        """The mark after this one, where all since this one was looked at. judged: keys that doubt was cast by."""
        seen = tuple(sorted(key for key in set(judged) if self.newest.event.key < key <= newest.event.key))
        if len(seen) > MOST_JUDGED:
            return EventMark(self.vcenter, newest, witness, newest.event.key)
        return EventMark(self.vcenter, newest, witness, self.newest.event.key, seen)

    def looks_at(self, key: int) -> bool:
        """Whether an event is one that the run after this mark must judge."""
        return key > self.after and key not in self.judged

    def broken(self, vcenter: str, newest: Newest) -> str:
        """Why vCenter's history can't be one that goes on from this mark, by what can be told without a look into it;
        "" if it can."""
        if vcenter != self.vcenter:
            return f"another vCenter ({vcenter or 'a host'}) tells of the VM than at the last restore point"
        was, now = self.newest.event, newest.event
        if now.key < was.key:
            return (
                f"vCenter counts its events anew: the newest is {now.key}, and at the last restore point was {was.key}"
            )
        if now.key == was.key and not now.same(was):
            return _another(was, now)
        return ""

    def contradicted(self, events: Iterable[SeenEvent]) -> str:
        """Why events can't be of the history that this mark was made of: one has a key that was seen on another."""
        known = {one.key: one for one in (self.newest.event, self.witness) if one is not None}
        for event in events:
            if (was := known.get(event.key)) is not None and not was.same(event):
                return _another(was, event)
        return ""


def _another(was: SeenEvent, now: SeenEvent) -> str:
    return (
        f"vCenter's event {was.key} is another than at the last restore point: {now.kind} of {now.time}, "
        f"and was {was.kind} of {was.time}"
    )
