"""What the drills of a VM come to over time: how often it came up, and whether that takes longer; owns no record."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from warmspare.model.ids import VmId
from warmspare.recover.drills.drill_record import DrillKind, DrillRecord, DrillStep

COMPARED = 20  # earlier ones that the newest is held against


@dataclass(slots=True)
class Trend:
    """Of one VM, in one kind of drill. drills, passed, late: how many. last, last_passed: when the newest of all and
    the newest that passed had begun, "" for never. boot_s, ready_s: of the newest that came up, None where there is
    none. median_*: of those that came up before it, COMPARED at most, None where there are none."""

    vm: VmId
    vm_name: str
    kind: DrillKind
    drills: int = 0
    passed: int = 0
    late: int = 0
    last: str = ""
    last_result: str = ""
    last_passed: str = ""
    rto_s: float | None = None
    _boots: list[float] = field(default_factory=list)
    _readies: list[float] = field(default_factory=list)

    def add(self, record: DrillRecord, step: DrillStep) -> None:
        """An older one than those before."""
        self.drills += 1
        if not self.last:
            self.last, self.last_result, self.rto_s = record.began, step.result, step.rto_seconds
        if step.result == "late":
            self.late += 1
        if step.result == "passed":
            self.passed += 1
            self.last_passed = self.last_passed or record.began
        if step.up_seconds is not None:
            for value, values in ((step.boot_seconds, self._boots), (step.ready_seconds, self._readies)):
                if value is not None and len(values) <= COMPARED:
                    values.append(value)

    @property
    def boot_s(self) -> float | None:
        return self._boots[0] if self._boots else None

    @property
    def median_boot_s(self) -> float | None:
        return _median(self._boots[1:])

    @property
    def ready_s(self) -> float | None:
        return self._readies[0] if self._readies else None

    @property
    def median_ready_s(self) -> float | None:
        return _median(self._readies[1:])


def trends(newest_first: Iterable[DrillRecord]) -> list[Trend]:
    """One for each VM and kind, in the order of their newest drills."""
    found: dict[tuple[str, str], Trend] = {}
    for record in newest_first:
        for step in record.steps:
            trend = found.setdefault((step.vm, record.kind), Trend(step.vm, step.vm_name, record.kind))
            trend.add(record, step)
    return list(found.values())


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None
