"""Whether an instance comes up: its serial port, AWS's status checks and its state, looked at again and again; starts
and ends nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from warmspare.errors import RecoverError
from warmspare.model.ids import VmId
from warmspare.observe.events import Events
from warmspare.observe.kinds.drill import DrillWaiting
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.ec2 import Pause
from warmspare.recover.aws.ec2_errors import BY_GUEST, ended
from warmspare.recover.drills.rules import WAITING_S, Rules
from warmspare.recover.drills.signs import LOGIN, Watch
from warmspare.recover.drills.turn import DrillTurn
from warmspare.recover.failover.launch import Checks, DiedError, Launcher

_ALIVE = ("", "pending", "running")


@dataclass(slots=True)
class Ec2Outcome:
    """What one boot came to. line: the last one on the serial port."""

    passed: bool = False
    reason: str = ""
    boot_s: float | None = None
    checks: Checks = field(default_factory=Checks)
    line: str = ""
    console: str = ""


class Ec2Judge:
    """Judges instances of one account and region."""

    def __init__(self, launcher: Launcher, pause: Pause, events: Events) -> None:
        self._launcher, self._pause, self._events = launcher, pause, events

    async def judged(self, instance_id: str, vm: VmId, rules: Rules, turn: DrillTurn) -> Ec2Outcome:
        """Look again and again until it is up, never will be, or the time is over. AwsError; DiedError, RecoverError as
        `_look`."""
        outcome = Ec2Outcome()
        began_s = told_s = time.monotonic()
        pause_s = self._pause.first_s
        while True:
            await self._look(instance_id, rules, outcome)
            if outcome.checks.state == "running":
                turn.running()
            now_s = time.monotonic()
            if outcome.reason:
                if outcome.passed:
                    outcome.boot_s = round(now_s - began_s, 3)
                return outcome
            if now_s - began_s >= rules.timeout_s:
                outcome.reason = waited(outcome, rules)
                return outcome
            if now_s - told_s >= WAITING_S:
                told_s = now_s
                self._events.emit(DrillWaiting(vm=vm, seconds=round(now_s - began_s, 1), line=outcome.line))
            await asyncio.sleep(min(pause_s, max(0.0, began_s + rules.timeout_s - now_s)))
            pause_s = min(pause_s * 1.5, self._pause.most_s)

    async def _look(self, instance_id: str, rules: Rules, outcome: Ec2Outcome) -> None:
        """One look at the instance. `reason` is set once it is judged. DiedError if it ended before it ran,
        RecoverError if it ended else, and its guest is not why."""
        outcome.checks = checks = await self._launcher.checks(instance_id)
        try:
            # AWS gives the last 64 KiB each time, and now and then nothing.
            outcome.console = await self._launcher.console_output(instance_id) or outcome.console
        except AwsError as error:
            if error.code not in ("InvalidInstanceID.NotFound", "IncorrectInstanceState"):  # not yet, or no more
                raise
        watch = Watch(rules.expect or LOGIN)
        watch.feed(outcome.console.encode())
        outcome.line = watch.line
        if watch.failure:
            outcome.reason = f"{watch.failure.meaning} ({watch.failure.text.decode()!r} on the serial port)"
        elif watch.seen and (checks.passed or not rules.by_checks):
            both = "; both of AWS's status checks pass" if rules.by_checks else ""
            outcome.passed, outcome.reason = True, f"{rules.expect or LOGIN!r} came on the serial port{both}"
        elif rules.expect is None and checks.passed:
            outcome.passed, outcome.reason = True, "both of AWS's status checks pass: it answers on its network card"
        elif checks.state not in _ALIVE and (instance := await self._launcher.get(instance_id)) is not None:
            if instance.failed_to_launch:
                raise DiedError(instance)
            if instance.reason != BY_GUEST:  # AWS could not start it or took it away, or somebody ended it
                found = ended(instance_id, checks.state, instance.reason, instance.said)
                hint = "mend that, where there is anything to mend, and drill again"
                raise RecoverError(f"{found.what}; nothing was judged", where=instance_id, hint=hint, retryable=True)
            outcome.reason = f"the instance is {checks.state}: it ended by itself"


def judged_by(rules: Rules) -> str:
    if rules.by_checks:
        return "serial and status checks" if rules.expect is not None else "status checks"
    return "serial" if rules.expect is not None else "serial or status checks"


def waited(outcome: Ec2Outcome, rules: Rules) -> str:
    """Why the time limit was reached."""
    missing = f"{rules.expect or LOGIN!r} on the serial port"
    if rules.expect is None or rules.by_checks:
        checks = outcome.checks
        missing = "" if rules.expect is None and rules.by_checks else f"{missing}, and "
        missing += (
            f"AWS's status checks do not pass (system {checks.system or 'unknown'}, instance "
            f"{checks.guest or 'unknown'})"
        )
    silent = "" if outcome.console else "; the serial port stayed silent"
    return f"within {rules.timeout_s:g} s there was no {missing}{silent}"
