"""Events of drills of a whole plan: who is due when, and how each came out."""

from __future__ import annotations

from typing import Annotated

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import duration


class RehearsalMissing(Event, frozen=True, kw_only=True, tag="rehearsal.missing"):
    """A VM can't be started. All were looked at before anything is."""

    usual = Weight.ALARM

    vm: str
    message: str

    def words(self) -> str:
        return f"{self.vm}: MISSING: {self.message}"


class RehearsalStart(Event, frozen=True, kw_only=True, tag="rehearsal.start"):
    """From here on seconds are counted."""

    where: Annotated[str, note(description="qemu, ec2")]
    vms: list[str]
    orders: list[int]
    rto_seconds: Annotated[float | None, note(description="null: the plan has none")]
    note: str

    def words(self) -> str:
        vms, orders = len(self.vms), len(self.orders)
        where = "in EC2" if self.where == "ec2" else "in QEMU"
        rto = "" if self.rto_seconds is None else f"; the plan's RTO is {duration(self.rto_seconds)}"
        note = f"; {self.note}" if self.note else ""
        return f"rehearsing {vms} VM{'s' * (vms > 1)} in {orders} step{'s' * (orders > 1)} {where}{rto}{note}"


class RehearsalDue(Event, frozen=True, kw_only=True, tag="rehearsal.due"):
    """A VM's turn has come: the orders before are ready or have failed, and its delay is over."""

    vm: str
    order: int
    due_seconds: float

    def words(self) -> str:
        return f"{self.vm}, order {self.order}, is due after {duration(self.due_seconds)}"


class RehearsalStep(Event, frozen=True, kw_only=True, tag="rehearsal.step"):
    """A VM is judged. What runs in EC2 stays until all are."""

    vm: str
    order: int
    ready: Annotated[str, note(description="as the plan has it")]
    result: Annotated[str, note(description="passed, late, failed, not judged")]
    reason: str
    due_seconds: Annotated[float | None, note(description="null: never")]
    waited_seconds: Annotated[float, note(description="for room on this host")]
    ready_seconds: Annotated[float | None, note(description="since `rehearsal.start`; null: never")]
    up_seconds: Annotated[float | None, note(description="since `rehearsal.start`; null: never")]
    rto_seconds: float | None
    within: Annotated[bool | None, note(description="null: no RTO, or not judged")]

    def weight(self) -> Weight:
        return Weight.PLAIN if self.result == "passed" else Weight.ALARM

    def words(self) -> str:
        head = f"{self.vm}: {self.result.upper()}"
        if self.ready_seconds is not None:
            head += f", ready ({self.ready}) {duration(self.ready_seconds)} after the beginning"
            head += "" if self.rto_seconds is None else f" of {duration(self.rto_seconds)}"
        if self.waited_seconds >= 1:
            head += f", of which it waited {duration(self.waited_seconds)} for room on this host"
        return f"{head}: {self.reason}"


class RehearsalDone(Event, frozen=True, kw_only=True, tag="rehearsal.done"):
    """All that was made is gone, and the record is kept."""

    ends = True

    vms: int
    passed: int
    late: int
    failed: int
    not_judged: int
    result: str
    ready_seconds: Annotated[float | None, note(description="until the last was ready; null: one never was")]
    rto_seconds: float | None
    within: bool | None
    seconds: float
    number: int
    record: str
    sha256: str

    def weight(self) -> Weight:
        return Weight.GOOD if self.passed == self.vms and self.within is not False else Weight.ALARM

    def words(self) -> str:
        counts = [
            (self.passed, "passed"),
            (self.late, "late"),
            (self.failed, "FAILED"),
            (self.not_judged, "NOT JUDGED"),
        ]
        said = ", ".join(f"{count} {word}" for count, word in counts if count)
        if self.ready_seconds is not None:
            said += f"; all were ready after {duration(self.ready_seconds)}"
        if self.rto_seconds is not None:
            meets = {True: "met", False: "MISSED", None: "not judged"}[self.within]
            said += f"; the RTO of {duration(self.rto_seconds)} is {meets}"
        return f"rehearsal of {self.vms}: {said}; record {self.number}: {self.record}"
