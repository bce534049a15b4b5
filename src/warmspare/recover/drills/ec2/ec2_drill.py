"""One drill in EC2: starts what is staged where it reaches nothing, judges whether it comes up, keeps the evidence, and
ends it; refuses a network with a way out.

docs/operations.md, "Drills in EC2". It proves what a drill in QEMU can't: that the staged EBS snapshots, the image and
AWS's own machines do, with AWS's drivers. Nothing is written to the repository, and a failover is not looked for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from warmspare.debts import owe
from warmspare.errors import ConfigError, RecoverError
from warmspare.model.ids import VmId, disk_key, vm_key
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.drill_events import (
    DrillCleaned,
    DrillEnded,
    DrillEnding,
    DrillInstance,
    DrillMissing,
    DrillNote,
    Ec2DrillDone,
    Ec2DrillStart,
)
from warmspare.recover.aws.aws_errors import denied_by_aws
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.aws.ec2_errors import NO_MACHINE
from warmspare.recover.drills.ec2.ec2_judge import Ec2Judge, Ec2Outcome, judged_by
from warmspare.recover.drills.ec2.isolation import ways_out
from warmspare.recover.drills.ec2.trial import Ec2Trial, Remains, remains, remove
from warmspare.recover.drills.evidence import (
    EC2_SCREEN,
    SERIAL,
    WHAT,
    DrillVerdict,
    files,
    point_fields,
    software,
    write_verdict,
)
from warmspare.recover.drills.rules import Rules
from warmspare.recover.drills.turn import ALONE, DrillTurn
from warmspare.recover.failover.chosen import Chosen, choose
from warmspare.recover.failover.ec2_machine import Ec2Machine, looked_into, machine
from warmspare.recover.failover.launch import DiedError, Instance, Launcher, Trying
from warmspare.recover.failover.plan import Network, VmPlan
from warmspare.recover.failover.preflight import Preflight
from warmspare.recover.readiness.outlook import outlook
from warmspare.repository.chain import Repository, now_text
from warmspare.repository.remedy_commands import command
from warmspare.repository.vm_lookup import VmNames
from warmspare.state.local_files import local_io

ENDING_S = 180.0  # for ending it where the process was asked to end


@dataclass(frozen=True, slots=True)
class Looked:
    """One VM that a drill can be made of. plan: as it is alone in the drill's network. began, began_s: the look."""

    plan: VmPlan
    network: Network
    chosen: Chosen
    machine: Ec2Machine
    types: tuple[str, ...]
    began: str
    began_s: float

    @property
    def would(self) -> str:
        """What it starts, as a clause."""
        what = f"{self.machine.vm_name!r} at restore point {self.chosen.point.id.label}"
        return f"start {what} as {' or '.join(self.types)} in {self.network.subnet}, and end it"


class Ec2Drill:
    """Drills of what a repository has staged in one account and region. What is asked for several is asked once."""

    def __init__(self, repository: Repository, ec2: Ec2, events: Events) -> None:
        self._repository, self._ec2, self._events = repository, ec2, events
        self._launcher = Launcher(ec2)
        self._judge = Ec2Judge(self._launcher, ec2.pause, events)
        self._preflight = Preflight(ec2)
        self._names = VmNames(repository)
        self._ways: dict[Network, list[str]] = {}  # out of each network, as it was seen

    async def left(self, vm: str) -> list[Remains]:
        """What drills of a VM have in EC2, also one that is under way. AwsError."""
        return await self._remains((await self._names.find(vm)).id)

    async def clean(self, vm: str) -> list[Remains]:
        """End whatever drills of a VM have in EC2, also one that is under way. What it was. AwsError, RecoverError."""
        found, failures = await self.left(vm), []
        for each in found:
            try:
                await remove(self._ec2, each)
            except RecoverError as error:
                failures.append(error)
            else:
                self._events.emit(DrillCleaned(vm=vm, what=each.words))
        for failure in failures[1:]:
            self._events.emit(DrillNote(vm=vm, message=failure.sentence))
        if failures:
            raise failures[0]
        return found

    async def run(
        self,
        plan: VmPlan,
        network: Network,
        at: str | None,
        rules: Rules,
        folder: Path,
        turn: DrillTurn = ALONE,
    ) -> DrillVerdict:
        """One drill: `look`, then `boot`."""
        return await self.boot(await self.look(plan, network, at), rules, folder, turn)

    async def look(self, plan: VmPlan, network: Network, at: str | None, scratch: Path | None = None) -> Looked:
        """Whether it can be made; nothing is changed. network: where the VM's cards go. scratch: if given, the disks
        are looked into, too, by what is fetched there, and it is told whether they would start.

        ConfigError if the network has a way out or anything is missing; AwsError, RecoverError, StoreError.
        """
        began, began_s = now_text(), time.monotonic()
        plan = plan.alone_in(network)
        vm = await self._names.known(plan.vm)
        wanted = await self._repository.resolve(vm, at, also_dropped=True) if at is not None else None
        chosen = await choose(self._repository, self._ec2.aws, vm, wanted)
        built = machine(chosen.point.record, chosen.staged, plan)
        types = await self._types(built, plan, network)
        if scratch is not None:
            store, label = self._repository.store, chosen.point.id.label
            seen = await outlook(store, vm, label, scratch, boots=plan.root_disk, boot_mode=built.boot_mode)
            self._events.emit(seen.event(vm))
            built, said = looked_into(built, plan, seen.runs)
            more = (*said, *(() if built.metadata.v1 else seen.tokenless))
            built = replace(built, notes=(*built.notes, *more))
        return Looked(plan, network, chosen, built, tuple(types), began, began_s)

    async def boot(
        self, looked: Looked, rules: Rules, folder: Path, turn: DrillTurn = ALONE, lasts_s: float | None = None
    ) -> DrillVerdict:
        """Start it, judge it, end it; the verdict, which lies in `folder` too. lasts_s: how long it may be needed, if
        that is longer than its boot may take.

        AwsError, RecoverError where no verdict could be reached, or the instance could not be ended. Cancelled, it ends
        the instance too.
        """
        with Housekeeping(self._events, looked.plan.vm) as housekeeping:
            return await self._boot(looked, rules, folder, turn, lasts_s or rules.timeout_s, housekeeping)

    async def _boot(
        self, looked: Looked, rules: Rules, folder: Path, turn: DrillTurn, lasts_s: float, housekeeping: Housekeeping
    ) -> DrillVerdict:
        plan, network, chosen, built = looked.plan, looked.network, looked.chosen, looked.machine
        vm = built.vm_id
        notes = [*built.notes, *await self._swept(vm, housekeeping)]
        trial = Ec2Trial(self._ec2, built, chosen, plan.tags, lasts_s)
        self._events.emit(
            Ec2DrillStart(
                vm=vm,
                point=chosen.point.id.label,
                created=chosen.staged.created,
                subnet=network.subnet,
                firmware=built.boot_mode,
                types=list(looked.types),
                timeout_seconds=rules.timeout_s,
                evidence=str(folder),
            )
        )
        what = f"what the drill of VM {built.vm_name} made in EC2 (tag warmspare:drill = {trial.run})"
        owed = owe(what, ENDING_S, lambda: self._ended(trial, vm, housekeeping))
        try:
            outcome = await self._tried(trial, looked, rules, notes, folder, turn)
        finally:
            lost = await owed.settle()
        if lost:
            notes.append(lost.sentence)
        instance = trial.instance
        assert instance is not None
        verdict = DrillVerdict(
            1,
            outcome.passed,
            outcome.reason,
            built.vm_id,
            built.vm_name,
            self._repository.id,
            self._repository.store.uri,
            point_fields(chosen.point.id, chosen.point.record.created),
            looked.began,
            round(time.monotonic() - looked.began_s, 3),
            outcome.boot_s,
            rules.timeout_s,
            judged_by(rules),
            rules.expect,
            {"system-status": outcome.checks.system, "instance-status": outcome.checks.guest},
            None,
            _disks(chosen, built),
            {
                "firmware": built.boot_mode,
                "architecture": built.architecture,
                "instance_type": instance.type,
                "instance": instance.id,
                "image": trial.image_id,
                "region": await self._ec2.aws.region(),
                "subnet": network.subnet,
                "security_groups": list(network.security_groups),
            },
            notes,
            software(),
            files(folder),
        )
        write_verdict(folder, verdict)
        self._tell(verdict, folder)
        if lost:
            raise lost
        return verdict

    async def _types(self, built: Ec2Machine, plan: VmPlan, network: Network) -> list[str]:
        """The types to try; ConfigError with all that is missing."""
        types, missing = await self._preflight.look(built, plan)
        if network not in self._ways:
            self._ways[network] = await ways_out(self._ec2, network)
        problems = [*self._ways[network], *built.missing, *missing]
        for problem in problems:
            self._events.emit(DrillMissing(vm=built.vm_name, message=problem))
        if problems:
            more = f", and {len(problems) - 1} more is in the way" if len(problems) > 1 else ""
            raise ConfigError(f"nothing was started: {problems[0]}{more}", where=f"VM {built.vm_name}")
        return types

    async def _remains(self, vm: VmId) -> list[Remains]:
        return await remains(self._ec2, self._repository.id, vm_key(vm))

    async def _swept(self, vm: VmId, housekeeping: Housekeeping) -> list[str]:
        """Remove what drills left that are over; notes of this, and of what may still be under way."""
        notes = []
        for each in await self._remains(vm):
            if each.over(self._ec2.aws.now()):
                gone = False
                action = "ec2:TerminateInstances" if each.instances else "ec2:DeregisterImage"
                with housekeeping.trying(action, each.words, denied=denied_by_aws):
                    await remove(self._ec2, each)
                    gone = True
                came = "that was ended now" if gone else "that could not be ended"
                notes.append(f"an earlier drill was cut off and left {each.words}: {came}")
            else:
                notes.append(
                    f"another drill of this VM has {each.words}, until {each.until or 'an unknown time'}; if nobody "
                    f"works on it any more, {await self._cleaning(vm)} ends it"
                )
        return notes

    async def _tried(
        self, trial: Ec2Trial, looked: Looked, rules: Rules, notes: list[str], folder: Path, turn: DrillTurn
    ) -> Ec2Outcome:
        """The instance started and judged; its evidence is written."""

        async def trying(name: str, refused: str) -> None:
            if refused:
                notes.append(f"AWS had no {refused} for it; it is a {name}")

        await trial.register()
        await turn.due()
        instance, outcome = await self._judged_one(trial, looked, trying, rules, turn, notes)
        turn.judged(outcome.passed, outcome.reason, outcome.boot_s)
        with local_io(WHAT, folder / SERIAL):
            (folder / SERIAL).write_bytes(outcome.console.encode())
        try:
            picture = await self._launcher.screenshot(instance.id)
        except RecoverError as error:  # not every type gives one, and none that is gone
            notes.append(f"there is no screenshot: {error.sentence}")
        else:
            with local_io(WHAT, folder / EC2_SCREEN):
                (folder / EC2_SCREEN).write_bytes(picture)
        await turn.over()
        return outcome

    async def _judged_one(
        self, trial: Ec2Trial, looked: Looked, trying: Trying, rules: Rules, turn: DrillTurn, notes: list[str]
    ) -> tuple[Instance, Ec2Outcome]:
        """The instance of the first type that AWS has a machine for, judged. RecoverError if it died before it ran for
        another reason."""
        types = looked.types
        while True:
            instance = await trial.start(types, looked.plan.volumes, trying)
            self._events.emit(DrillInstance(vm=looked.machine.vm_id, instance=instance.id, type=instance.type))
            turn.launched()
            try:
                return instance, await self._judge.judged(instance.id, looked.machine.vm_id, rules, turn)
            except DiedError as error:
                died = error.instance
                types = types[types.index(died.type) + 1 :] if died.type in types else ()
                if died.reason != NO_MACHINE or not types:
                    hint = "mend that, where there is anything to mend, and drill again"
                    what = f"{error.what}; nothing was judged"
                    raise RecoverError(what, where=error.where, hint=hint, retryable=True) from None
                notes.append(f"{died.id}, before it ran: {error.what}; another type is tried")

    async def _ended(self, trial: Ec2Trial, vm: VmId, housekeeping: Housekeeping) -> RecoverError | None:
        """End the trial. An error is returned: there may be a worse one already, and a verdict to write."""
        began_s = time.monotonic()
        self._events.emit(DrillEnding(vm=vm))
        try:
            await trial.end(housekeeping)
        except RecoverError as error:
            what = ", ".join(each for each in (trial.instance.id if trial.instance else "", trial.image_id) if each)
            lost = RecoverError(
                f"what the drill made could not be ended, and an instance costs money: {error.what}",
                where=what or f"tag warmspare:drill = {trial.run}",
                hint=f"{error.hint}; or end it with {await self._cleaning(vm)}",
                retryable=error.retryable,
            )
            self._events.emit(DrillNote(vm=vm, message=lost.sentence))
            return lost
        self._events.emit(DrillEnded(vm=vm, seconds=round(time.monotonic() - began_s, 3)))
        return None

    async def _cleaning(self, vm: VmId) -> str:
        """The command that ends what drills left, as it is to be typed."""
        region = await self._ec2.aws.region()
        return command(self._repository.store, "drill --ec2 --clean", vm, "--region", region)

    def _tell(self, verdict: DrillVerdict, folder: Path) -> None:
        for note in verdict.notes:
            self._events.emit(DrillNote(vm=verdict.vm, message=note))
        self._events.emit(
            Ec2DrillDone(
                vm=verdict.vm,
                passed=verdict.passed,
                reason=verdict.reason,
                untouched=None,
                boot_seconds=verdict.boot_seconds,
                seconds=verdict.seconds,
                point=verdict.point["label"],
                instance=verdict.machine["instance"],
                evidence=str(folder),
            )
        )


def _disks(chosen: Chosen, built: Ec2Machine) -> list[dict[str, Any]]:
    """What each volume was made of."""
    roots = {disk_key(disk.id): (disk.id, disk.root) for disk in chosen.point.record.disks}
    out = []
    for each in built.disks:
        disk_id, root = roots[each.staged.key]
        out.append(
            {
                "id": disk_id,
                "device": each.device,
                "snapshot": each.staged.snapshot_id,
                "volume_gib": each.staged.volume_gib,
                "capacity_bytes": each.staged.capacity_bytes,
                "root": root,
            }
        )
    return out
