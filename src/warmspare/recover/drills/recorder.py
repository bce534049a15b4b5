"""Keeps a record of each drill that was begun, however it went; owns what a record says, refuses to judge.

One that was refused for what it was asked (exit code 2) or was interrupted was none, and leaves no record.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmspare.errors import ConfigError, IntegrityError, WarmspareError, first_of
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.drill import DrillKept
from warmspare.observe.kinds.rehearsal import RehearsalDone
from warmspare.recover.drills.drill_record import FORMAT, DrillKind, DrillRecord, DrillStep, Result, line, of, reasons
from warmspare.recover.drills.evidence import DrillVerdict, verdict_digest
from warmspare.recover.drills.rehearsal import Rehearsal, Rehearsed
from warmspare.recover.drills.turn import DrillTurn
from warmspare.repository.chain import now_text
from warmspare.state.report_chain import KeptReport, host, software
from warmspare.threads import in_thread

NO_POINT = {"sequence": 0, "label": "", "sha256": "", "created": ""}  # where none was found


class _Alone(DrillTurn):
    """The turn of a VM that is drilled alone: what became of it is remembered, for the case that it ends in an error
    afterwards."""

    def __init__(self) -> None:
        self.began, self._began_s = now_text(), time.monotonic()
        self.result: Result = "not judged"
        self.reason = ""
        self.up_s: float | None = None
        self.boot_s: float | None = None

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began_s, 3)

    def judged(self, passed: bool, reason: str, boot_s: float | None) -> None:
        self.result, self.reason, self.boot_s = "passed" if passed else "failed", reason, boot_s
        self.up_s = self.seconds if passed else None

    def step(
        self, vm: VmId, vm_name: str, point: dict[str, Any], why: str, code: int, folder: Path | None
    ) -> DrillStep:
        """What is recorded of it. folder: of its evidence, None where it has no verdict."""
        return DrillStep(
            vm=vm,
            vm_name=vm_name,
            point=point["label"],
            sequence=point["sequence"],
            sha256=point["sha256"],
            created=point["created"] or "",
            order=1,
            delay_seconds=0.0,
            ready="",
            result=self.result,
            reason=line(why),
            exit_code=code,
            due_seconds=0.0,
            waited_seconds=0.0,
            ready_seconds=self.up_s,
            up_seconds=self.up_s,
            boot_seconds=self.boot_s,
            rto_seconds=None,
            within=None,
            evidence=str(folder) if folder else "",
            verdict_sha256=verdict_digest(folder) if folder else "",
        )


@dataclass(frozen=True, slots=True)
class Recorder:
    """directory: of the records. kind: where the drills run. uri, repository: its URI, and its ID as far as it is known
    before ("" otherwise)."""

    directory: Path
    kind: DrillKind
    uri: str
    repository: str
    events: Events

    async def single(
        self, called: str, work: Callable[[DrillTurn], Awaitable[tuple[DrillVerdict, Path]]]
    ) -> tuple[DrillVerdict, Path]:
        """The drill of the VM that is called so, which `work` does: what it gives or raises. StoreError where the
        record can't be kept."""
        turn = _Alone()
        try:
            verdict, folder = await work(turn)
        except* WarmspareError as group:
            error = first_of(group)
            if not isinstance(error, ConfigError):
                why = reasons(turn.reason, error)
                step = turn.step(VmId(called), called, NO_POINT, why, error.exit_code, None)
                await self._keep_single(turn, step, error)
            raise
        code = 0 if verdict.passed and verdict.untouched is not False else IntegrityError.exit_code
        step = turn.step(verdict.vm, verdict.vm_name, verdict.point, verdict.reason, code, folder)
        await self._keep_single(turn, step, None)
        return verdict, folder

    async def whole(self, rehearsal: Rehearsal, at: str | None, plan: Path) -> Rehearsed:
        """The drill of a plan, and its end told; raises what the rehearsal does. StoreError where the record can't be
        kept."""
        began, began_s = now_text(), time.monotonic()
        try:
            done = await rehearsal.run(at)
        except WarmspareError as error:
            if not isinstance(error, ConfigError):
                seconds = round(time.monotonic() - began_s, 3)
                none = Rehearsed([], [error], seconds, None, rehearsal.rto_s, None, rehearsal.counts)
                await self._keep(none, began, str(plan), [error.sentence])
            raise
        kept = await self._keep(done, began, str(plan), [rehearsal.note] if rehearsal.note else [])
        results = [step.result for step in done.steps]
        self.events.emit(
            RehearsalDone(
                vms=len(results),
                passed=results.count("passed"),
                late=results.count("late"),
                failed=results.count("failed"),
                not_judged=results.count("not judged"),
                result=done.result,
                ready_seconds=done.ready_s,
                rto_seconds=done.rto_s,
                within=done.within,
                seconds=done.seconds,
                number=kept.report.number,
                record=str(kept.path),
                sha256=kept.sha256,
            )
        )
        return done

    async def _keep_single(self, turn: _Alone, step: DrillStep, error: WarmspareError | None) -> None:
        done = Rehearsed([step], [error], turn.seconds, turn.up_s, None, None, False)
        kept = await self._keep(done, turn.began, "", [])
        self.events.emit(DrillKept(vm=step.vm, number=kept.report.number, record=str(kept.path), sha256=kept.sha256))

    async def _keep(self, done: Rehearsed, began: str, plan: str, notes: Sequence[str]) -> KeptReport[DrillRecord]:
        record = DrillRecord(
            FORMAT,
            0,
            "",
            self.kind,
            software(),
            host(),
            done.steps[0].vm if len(done.steps) == 1 else "",
            plan,
            self.uri,
            self.repository,
            began,
            now_text(),
            done.seconds,
            done.ready_s,
            None if done.rto_s is None else float(done.rto_s),
            done.within,
            done.result,
            done.exit_code,
            done.steps,
            [line(note) for note in notes],
        )
        return await in_thread(of(self.directory).keep, record)
