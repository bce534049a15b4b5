"""A drill of a whole recovery plan: its order, delays and readiness, and what it took; owns who waits for whom.

First all is looked at, and whatever is missing ends it there, as in a failover. Then the clock runs: VMs of an order
are started together once all of the orders before are ready or have failed, each after its delay. One that does not
come up keeps nobody else from being tried, for a rehearsal is there to find them all. What runs stays until all are
judged, for one may need another, where they can reach one another. docs/operations.md, "A plan rehearsed whole".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from warmspare.errors import IntegrityError, WarmspareError, first_of, worst
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.rehearsal_events import RehearsalDue, RehearsalMissing, RehearsalStart, RehearsalStep
from warmspare.recover.drills.drill_record import DrillKind, DrillStep, Result, line, reasons
from warmspare.recover.drills.evidence import DrillVerdict, verdict_digest
from warmspare.recover.drills.rules import BootError, Rules, looking
from warmspare.recover.drills.turn import DrillTurn
from warmspare.recover.failover.plan import VmPlan


class LateError(IntegrityError):
    """All VMs came up, and not within the plan's RTO."""

    kind = "late"


@dataclass(frozen=True, slots=True)
class RehearsedVm:
    """One VM, looked at. vm, vm_name: its ID and name. point: sequence, label, SHA-256 and time of the restore point.
    would: what `boot` starts, as a clause. boot: drills it, to its verdict."""

    vm: VmId
    vm_name: str
    point: dict[str, Any]
    would: str
    boot: Callable[[Rules, Path, DrillTurn], Awaitable[DrillVerdict]]


class Lab(Protocol):
    """Where VMs are started for a drill. note: what can't be proved there, "" for nothing."""

    @property
    def kind(self) -> DrillKind: ...

    @property
    def note(self) -> str: ...

    async def look(self, plan: VmPlan, at: str | None) -> RehearsedVm:
        """Look at all that the VM needs, change nothing. WarmspareError where anything is missing."""
        ...


@dataclass(slots=True)
class _Course(DrillTurn):
    """What one VM does in a rehearsal. `settled` once it is ready or never will be, `done` once nothing of it is left
    to be judged."""

    plan: VmPlan
    subject: RehearsedVm
    whole: Rehearsal
    folder: Path
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    due_s: float | None = None
    waited_s: float = 0.0
    ready_s: float | None = None
    up_s: float | None = None
    boot_s: float | None = None
    passed: bool | None = None
    reason: str = ""
    error: WarmspareError | None = None

    async def due(self) -> None:
        self.came.set()
        await self.whole.begun(self.plan.order)
        await asyncio.sleep(self.plan.delay_s)
        self.due_s = self.whole.seconds
        self.whole.tell_due(self)

    def waited(self, seconds: float) -> None:
        self.waited_s += seconds

    def launched(self) -> None:
        if self.plan.ready == "none":
            self._ready()

    def running(self) -> None:
        if self.plan.ready in ("none", "running"):
            self._ready()

    def judged(self, passed: bool, reason: str, boot_s: float | None) -> None:
        self.passed, self.reason, self.boot_s = passed, reason, boot_s
        if passed:
            self.up_s = self.whole.seconds
            self._ready()
        self.finished()

    async def over(self) -> None:
        await self.whole.judged()

    def _ready(self) -> None:
        if self.ready_s is None:
            self.ready_s = self.whole.seconds
            self.settled.set()

    def finished(self) -> None:
        """Nothing more is to be waited for."""
        if not self.done.is_set():
            self.whole.tell_step(self)
        for event in (self.came, self.settled, self.done):
            event.set()

    @property
    def rto_s(self) -> int | None:
        return self.whole.rto_s if self.plan.rto_s is None else self.plan.rto_s

    @property
    def within(self) -> bool | None:
        """Whether it was ready in time; None without an RTO, and where it was not judged."""
        if self.rto_s is None or self.passed is None:
            return None
        return bool(self.passed and self.ready_s is not None and self.ready_s <= self.rto_s)

    @property
    def result(self) -> Result:
        if self.passed is None:
            return "not judged"
        if not self.passed:
            return "failed"
        return "late" if self.within is False and self.whole.counts else "passed"

    @property
    def exit_code(self) -> int:
        codes = [self.error.exit_code] if self.error else []
        if self.result in ("failed", "late"):
            codes.append(IntegrityError.exit_code)
        return worst(codes)

    def step(self) -> DrillStep:
        point = self.subject.point
        return DrillStep(
            self.subject.vm,
            self.subject.vm_name,
            point["label"],
            point["sequence"],
            point["sha256"],
            point["created"] or "",
            self.plan.order,
            float(self.plan.delay_s),
            self.plan.ready,
            self.result,
            line(self.why),
            self.exit_code,
            self.due_s,
            round(self.waited_s, 3),
            self.ready_s,
            self.up_s,
            self.boot_s,
            None if self.rto_s is None else float(self.rto_s),
            self.within,
            str(self.folder),
            verdict_digest(self.folder),
        )

    @property
    def why(self) -> str:
        """Why it came to its result, as a clause."""
        return reasons(self.reason, self.error)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What came of it. errors: what kept VMs from being judged, or what they had left behind from being ended, by
    step; where nothing could be begun there are no steps and one error. ready_s: until the last VM was ready, None
    where one never was. counts: whether what comes too late makes it fail."""

    steps: list[DrillStep]
    errors: list[WarmspareError | None]
    seconds: float
    ready_s: float | None
    rto_s: int | None
    within: bool | None
    counts: bool

    @property
    def exit_code(self) -> int:
        late = IntegrityError.exit_code if self.late else 0
        errors = [error.exit_code for error in self.errors if error is not None]
        return worst([late, *errors, *(step.exit_code for step in self.steps)])

    @property
    def late(self) -> bool:
        """Whether it came up later than it may. What a host's own emulator takes says nothing of AWS."""
        return self.within is False and self.counts

    @property
    def result(self) -> Result:
        """The worst of its steps, and of the whole."""
        found = {step.result for step in self.steps} | ({"late"} if self.late else set())
        if not found:
            return "not judged"
        order: tuple[Result, ...] = ("failed", "not judged", "late")
        return next((each for each in order if each in found), "passed")

    def demand(self, uri: str) -> None:
        """The error that speaks for all steps, if one has any: BootError, LateError, or the first that is as bad as
        any of those that kept one from being judged."""
        code = self.exit_code
        failed = [step for step in self.steps if step.result == "failed"]
        if code == 0:
            return
        if code == BootError.exit_code and failed:
            more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise BootError(
                f"{len(failed)} of {len(self.steps)} VMs did not come up: {failed[0].vm_name!r}{more}: "
                f"{failed[0].reason}",
                where=failed[0].evidence,
                hint="look at the screenshot and the serial log there, and run "
                f"{looking(failed[0].vm, uri, failed[0].point)}: it says what to mend",
            )
        for step, error in zip(self.steps, self.errors, strict=True):
            if error is not None and error.exit_code == code:
                error.about(step.vm_name)
                raise error
        late = [step for step in self.steps if step.result == "late"]
        what = f"all were ready after {self.ready_s} s, and the RTO of the plan is {self.rto_s} s"
        if late:
            what = (
                f"{len(late)} of {len(self.steps)} VMs were ready later than the RTO of the plan allows: "
                f"{late[0].vm_name!r} after {late[0].ready_seconds} s of {late[0].rto_seconds:g} s"
            )
        raise LateError(what, hint="see what took the time, in its steps; or correct rto in the recovery plan")


class Rehearsal:
    """Of some VMs of a plan. rto_s: the plan's, None without. rules: how a VM of it is judged. place: the folder for
    the evidence of a VM, by its ID."""

    def __init__(
        self,
        lab: Lab,
        plans: Sequence[VmPlan],
        rto_s: int | None,
        rules: Callable[[VmPlan], Rules],
        place: Callable[[VmId], Path],
        events: Events,
    ) -> None:
        self._lab, self._plans, self.rto_s, self._rules, self._place = lab, plans, rto_s, rules, place
        self._events = events
        self._courses: list[_Course] = []
        self._began_s = 0.0

    @property
    def counts(self) -> bool:
        """Whether what comes too late makes it fail."""
        return self._lab.kind == "ec2"

    @property
    def note(self) -> str:
        """What it can't prove, "" for nothing."""
        return self._lab.note

    @property
    def seconds(self) -> float:
        """Since the clock was started, to the millisecond: what is told, kept and judged is one figure."""
        return round(time.monotonic() - self._began_s, 3)

    async def look(self, at: str | None = None) -> list[tuple[VmPlan, RehearsedVm]]:
        """All VMs, in the order in which they are started; nothing is changed. WarmspareError of the first that lacks
        anything, after all were looked at."""
        found, lacking = [], []
        for plan in self._plans:
            try:
                found.append((plan, await self._lab.look(plan, at)))
            except WarmspareError as error:
                error.about(plan.name)
                self._events.emit(RehearsalMissing(vm=plan.name, message=error.sentence))
                lacking.append(error)
        if lacking:
            raise lacking[0]
        return sorted(found, key=lambda each: each[0].order)

    async def run(self, at: str | None = None) -> Rehearsed:
        """Look at all, then do it. at: a restore point, for a single VM. WarmspareError as `look` has it, before
        anything is started. Cancelled, all that it made is ended."""
        looked = await self.look(at)
        self._courses = [_Course(plan, subject, self, self._place(subject.vm)) for plan, subject in looked]
        orders = sorted({plan.order for plan in self._plans})
        self._began_s = time.monotonic()
        self._events.emit(
            RehearsalStart(
                where=self._lab.kind,
                vms=[course.subject.vm for course in self._courses],
                orders=orders,
                rto_seconds=self.rto_s,
                note=self._lab.note,
            )
        )
        async with asyncio.TaskGroup() as tasks:
            for course in self._courses:
                tasks.create_task(self._run(course), name=f"drill {course.subject.vm}")
        return self._result()

    async def _run(self, course: _Course) -> None:
        try:
            await course.subject.boot(self._rules(course.plan), course.folder, course)
        except* WarmspareError as group:
            course.error = first_of(group)
        course.finished()

    def _result(self) -> Rehearsed:
        steps = [course.step() for course in self._courses]
        ready = [course.ready_s if course.passed else None for course in self._courses]
        known = [each for each in ready if each is not None]
        ready_s = max(known) if len(known) == len(ready) else None
        errors = [course.error for course in self._courses]
        return Rehearsed(steps, errors, self.seconds, ready_s, self.rto_s, self._within(steps, ready_s), self.counts)

    def _within(self, steps: Sequence[DrillStep], ready_s: float | None) -> bool | None:
        """Whether the whole was in time; None where nothing says until when, or not all was judged."""
        each = [step.within for step in steps]
        if self.rto_s is not None and ready_s is not None:
            each.append(ready_s <= self.rto_s)
        if False in each:
            return False
        return None if ready_s is None or not any(each) else True

    # -- what one course waits for

    async def begun(self, order: int) -> None:
        """Until an order may be started."""
        for course in self._courses:
            await (course.settled if course.plan.order < order else course.came).wait()

    async def judged(self) -> None:
        """Until all are."""
        for course in self._courses:
            await course.done.wait()

    # -- what it tells

    def tell_due(self, course: _Course) -> None:
        assert course.due_s is not None
        self._events.emit(RehearsalDue(vm=course.subject.vm, order=course.plan.order, due_seconds=course.due_s))

    def tell_step(self, course: _Course) -> None:
        self._events.emit(
            RehearsalStep(
                vm=course.subject.vm,
                order=course.plan.order,
                ready=course.plan.ready,
                result=course.result,
                reason=course.why,
                due_seconds=course.due_s,
                waited_seconds=round(course.waited_s, 3),
                ready_seconds=course.ready_s,
                up_seconds=course.up_s,
                rto_seconds=course.rto_s,
                within=course.within,
            )
        )
