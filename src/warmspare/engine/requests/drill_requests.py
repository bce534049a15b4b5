"""Looks and drills: whether disks would start in EC2, one VM booted alone, a whole recovery plan rehearsed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.engine.wiring.readable_disks import DisksChoice
from warmspare.engine.wiring.usual_repository import settled
from warmspare.errors import ConfigError
from warmspare.observe.kinds.drill_events import Drill, DrillsDone, DrillTrend, RecordWrong
from warmspare.observe.kinds.looking_events import CheckDone
from warmspare.observe.kinds.run_events import WouldDone

if TYPE_CHECKING:
    from warmspare.recover.disks.open_disk import Held
    from warmspare.recover.disks.origin import Origin
    from warmspare.recover.drills.evidence import DrillVerdict
    from warmspare.recover.drills.rules import Rules
    from warmspare.recover.drills.turn import DrillTurn
    from warmspare.recover.readiness.check import Ready

TIMEOUT_S = 600.0
NOT_KNOWN, WRONG = 7, 5


class ReadinessRequest(Request[CheckDone], frozen=True, kw_only=True):
    """Look into a replica or a restore point, without booting, for what will stop it from starting in EC2. firmware:
    bios or uefi; None: as the VM has. boot_disk: name or ID of the disk that boots. strict: what is not known is no
    success either. BootError where something stops it, after all was told."""

    disks: DisksChoice
    firmware: str | None = None
    boot_disk: str | None = None
    strict: bool = False

    def located(self, run: RunContext) -> ReadinessRequest:
        return replace(self, disks=self.disks.located(run))

    async def perform(self, run: RunContext) -> CheckDone:
        import dataclasses

        from warmspare.engine.wiring.readable_disks import with_disks
        from warmspare.recover.drills.qemu.hardware import firmware_of
        from warmspare.recover.drills.rules import BootError
        from warmspare.recover.readiness.boot_kinds import BootSeverity
        from warmspare.recover.readiness.check import look

        async def looked(held: Held, of: Origin) -> tuple[Ready, Origin, str]:
            of = dataclasses.replace(of, boots=self.boot_disk)
            ready = await look(of.ordered(held.disks), firmware_of(of.hardware, self.firmware))
            return ready, of, held.point.label

        ready, of, point = await with_disks(self.disks, run, looked)
        for finding in ready.findings:
            run.events.emit(finding.event(of.vm, point))
        count = {each: sum(finding.severity is each for finding in ready.findings) for each in BootSeverity}
        done = CheckDone(
            vm=of.vm,
            vm_name=of.vm_name,
            point=point,
            stops=count[BootSeverity.STOPS],
            warnings=count[BootSeverity.WARNING],
            notes=count[BootSeverity.NOTE],
            not_known=ready.not_known,
            seen=ready.seen,
        )
        run.events.emit(done)
        if count[BootSeverity.STOPS]:
            first = next(each for each in ready.findings if each.severity is BootSeverity.STOPS)
            raise BootError(
                f"VM {of.vm_name!r} will not start in EC2 from restore point {point}: {first.meaning}",
                where=f"{first.disk}, {first.place}",
                hint=first.remedy,
            )
        return done

    def exit_code(self, result: CheckDone) -> int:
        return NOT_KNOWN if self.strict and result.not_known else 0


class DrillEnd(msgspec.Struct, frozen=True):
    """What a drill of one VM came to, and the folder of its evidence."""

    verdict: DrillVerdict
    evidence: Path


def passed(verdict: DrillVerdict, evidence: Path) -> DrillEnd:
    """What it came to; BootError unless it passed."""
    from warmspare.recover.drills.rules import demand

    demand(verdict, evidence)
    return DrillEnd(verdict, evidence)


class DrillRequest(Request[DrillEnd | WouldDone], frozen=True, kw_only=True):
    """Boot a VM alone in QEMU, and judge whether it comes up: an overlay of its replica, or of a restore point without
    one.

    expect: a text that must come on the serial port. agent: QEMU's guest agent must answer. timeout_s: how long a boot
    may take. evidence: a new folder for the evidence; None: below the state's. records: where drills are recorded, in a
    chain; None: with the state. firmware, controller, memory_mib: of the machine, instead of the VM's. hashed: read and
    hash the whole replica before and after, too. dry_run: say what would be booted. BootError where it does not come
    up.
    """

    disks: DisksChoice
    expect: str | None = None
    agent: bool = False
    timeout_s: float = TIMEOUT_S
    evidence: Path | None = None
    records: Path | None = None
    firmware: str | None = None
    boot_disk: str | None = None
    controller: str | None = None
    memory_mib: int | None = None
    hashed: bool = False
    dry_run: bool = False

    def located(self, run: RunContext) -> DrillRequest:
        return replace(self, disks=self.disks.located(run))

    async def perform(self, run: RunContext) -> DrillEnd | WouldDone:
        import dataclasses

        from warmspare.engine.wiring.dry_run import would
        from warmspare.engine.wiring.readable_disks import with_disks
        from warmspare.engine.wiring.rehearsing import EvidencePlace
        from warmspare.recover.drills.qemu import hardware
        from warmspare.recover.drills.qemu.qemu_drill import drill
        from warmspare.recover.drills.recorder import Recorder
        from warmspare.recover.drills.rules import Rules
        from warmspare.recover.readiness.check import made_for

        demand_line(self.expect)
        self.disks.demand()
        if self.hashed and self.disks.replica is None:
            hint = "leave it out: every block of a restore point is verified as it is read"
            raise ConfigError("--hash is of a replica", hint=hint)
        rules = Rules(self.expect, self.agent, self.timeout_s, self.hashed)
        place = EvidencePlace(self.evidence, run.host, alone=True)

        async def chosen(held: Held, of: Origin) -> tuple[Origin, hardware.Hardware]:
            of = dataclasses.replace(of, boots=self.boot_disk)
            first = of.ordered(held.disks)[0]
            machine = hardware.choose(
                of.hardware,
                self.firmware or await made_for(first),
                len(held.disks),
                firmware=self.firmware,
                controller=self.controller,
                memory_mib=self.memory_mib,
            )
            return of, machine

        if self.dry_run:

            async def looked(held: Held, of: Origin) -> str:
                of, machine = await chosen(held, of)
                what = f"{of.vm_name!r} at restore point {held.point.label}"
                return f"boot {what} alone in QEMU with {machine.words}, and end it"

            place.demand()
            return would(run, [await with_disks(self.disks, run, looked)], self.disks.vm)

        async def work(turn: DrillTurn) -> tuple[DrillVerdict, Path]:
            async def drilled(held: Held, of: Origin) -> tuple[DrillVerdict, Path]:
                of, machine = await chosen(held, of)
                folder = place(of.vm)
                return await drill(held, of, machine, rules, folder, run.events, turn), folder

            return await with_disks(self.disks, run, drilled)

        repository = self.disks.repository
        uri = repository.uri if repository else ""
        recorder = Recorder(drill_records(self.records, run), "qemu", uri, "", run.events)
        return passed(*await recorder.single(self.disks.vm, work))


class Ec2DrillRequest(Request[DrillEnd | WouldDone | None], frozen=True, kw_only=True):
    """Start what is staged of one VM in EC2, where it reaches nothing, and end it again.

    subnet: without a route out. security_groups: without outbound rules. clean: only end what drills of this VM have
    there. dry_run: say what would be started, or ended. The others are those of a drill in QEMU.
    """

    vm: str
    repository: RepositoryPlace | None = None
    at: str | None = None
    subnet: str | None = None
    security_groups: tuple[str, ...] = ()
    region: str | None = None
    clean: bool = False
    dry_run: bool = False
    expect: str | None = None
    timeout_s: float = TIMEOUT_S
    firmware: str | None = None
    evidence: Path | None = None
    records: Path | None = None

    def located(self, run: RunContext) -> Ec2DrillRequest:
        return replace(self, repository=settled(self.repository, (self.vm,), run))

    async def perform(self, run: RunContext) -> DrillEnd | WouldDone | None:
        from warmspare.engine.wiring.dry_run import would
        from warmspare.engine.wiring.recovering import recovering
        from warmspare.engine.wiring.rehearsing import EvidencePlace, clean, network, would_clean
        from warmspare.model.ids import VmId
        from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill
        from warmspare.recover.drills.qemu import hardware
        from warmspare.recover.drills.recorder import Recorder
        from warmspare.recover.drills.rules import Rules
        from warmspare.recover.failover.plan import VmPlan

        demand_line(self.expect)
        rules = Rules(self.expect, False, self.timeout_s, False)
        place = EvidencePlace(self.evidence, run.host, alone=True)
        vm = VmPlan(self.vm, self.vm, firmware=hardware.firmware_of({}, self.firmware))
        where = None if self.clean else network(self.subnet, self.security_groups, None)
        async with recovering(None, self.repository, self.region, run) as (repository, ec2):
            drill = Ec2Drill(repository, ec2, run.events)
            if where is None:
                return await (would_clean if self.dry_run else clean)(drill, [vm], run)
            if self.dry_run:
                place.demand()
                return would(run, [(await drill.look(vm, where, self.at)).would], vm.vm)

            async def work(turn: DrillTurn) -> tuple[DrillVerdict, Path]:
                folder = place(VmId(vm.vm))
                return await drill.run(vm, where, self.at, rules, folder, turn=turn), folder

            records = drill_records(self.records, run)
            recorder = Recorder(records, "ec2", repository.store.uri, repository.id, run.events)
            return passed(*await recorder.single(self.vm, work))


class RehearsalRequest(Request[WouldDone | None], frozen=True, kw_only=True):
    """Boot all VMs of a recovery plan as it says: its order, delays and readiness. in_ec2: from what is staged there;
    otherwise restore points in QEMU. timeout_s: how long a boot may take; None: the plan's ready_within. The others are
    those of drills of one VM."""

    plan: Path
    vms: tuple[str, ...] = ()
    everything: bool = False
    in_ec2: bool = False
    repository: RepositoryPlace | None = None
    at: str | None = None
    subnet: str | None = None
    security_groups: tuple[str, ...] = ()
    region: str | None = None
    clean: bool = False
    dry_run: bool = False
    expect: str | None = None
    timeout_s: float | None = None
    controller: str | None = None
    evidence: Path | None = None
    records: Path | None = None

    async def perform(self, run: RunContext) -> WouldDone | None:
        from warmspare.engine.wiring.dry_run import would
        from warmspare.engine.wiring.planfile import chosen, load_plan
        from warmspare.engine.wiring.recovering import recovering
        from warmspare.engine.wiring.rehearsing import (
            EvidencePlace,
            clean,
            lab_in_ec2,
            lab_in_qemu,
            network,
            would_clean,
        )
        from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill
        from warmspare.recover.drills.recorder import Recorder
        from warmspare.recover.drills.rehearsal import Rehearsal
        from warmspare.recover.drills.rules import Rules
        from warmspare.recover.failover.plan import VmPlan

        demand_line(self.expect)
        plan = load_plan(self.plan)
        vms = chosen(plan, self.vms, self.everything)
        if self.at is not None and len(vms) != 1:
            raise ConfigError("--at names a restore point of one VM", hint="give --vm NAME once")

        def rules(vm: VmPlan) -> Rules:
            checks = self.in_ec2 and vm.ready == "status-checks"
            return Rules(self.expect, timeout_s=self.timeout_s or float(vm.ready_s), by_checks=checks)

        if self.clean:
            async with recovering(plan, self.repository, self.region, run) as (repository, ec2):
                return await (would_clean if self.dry_run else clean)(Ec2Drill(repository, ec2, run.events), vms, run)
        if self.in_ec2:
            where = network(self.subnet, self.security_groups, plan)
            made = lab_in_ec2(recovering(plan, self.repository, self.region, run), where, (vms, rules), run)
        else:
            made = lab_in_qemu(plan, self.repository, self.controller, run)
        async with made as (lab, repository):
            place = EvidencePlace(self.evidence, run.host, alone=len(vms) == 1)
            records = drill_records(self.records, run)
            recorder = Recorder(records, lab.kind, repository.store.uri, repository.id, run.events)
            rehearsal = Rehearsal(lab, vms, plan.rto_s, rules, place, run.events)
            if self.dry_run:
                place.demand()
                return would(run, [subject.would for _, subject in await rehearsal.look(self.at)])
            (await recorder.whole(rehearsal, self.at, self.plan)).demand(repository.store.uri)
        return None


def demand_line(expect: str | None) -> None:
    """ConfigError unless it is a text on one line, or nothing."""
    if expect is not None and (not expect or "\n" in expect):
        raise ConfigError("--expect needs a text on one line")


def drill_records(given: Path | None, run: RunContext) -> Path:
    """The directory of drill records."""
    return given if given is not None else run.host.folder("drill-records")


class DrillsRequest(Request[DrillsDone], frozen=True, kw_only=True):
    """Show the drills of this host and their trend, and check that no record of one is missing or was edited. vm: only
    of its ID or name. last: how many of the newest are told. head: the SHA-256 of a record that must be among them, as
    noted elsewhere."""

    vm: str | None = None
    records: Path | None = None
    last: int = 20
    head: str | None = None

    async def perform(self, run: RunContext) -> DrillsDone:
        from warmspare.recover.drills.drill_record import of
        from warmspare.recover.drills.trend import trends
        from warmspare.threads import in_thread

        vm, emit = self.vm, run.events.emit
        chain = of(drill_records(self.records, run))
        walked, kept = await in_thread(chain.read, head=self.head.lower() if self.head else None)
        for subject, what in walked.wrong:
            emit(RecordWrong(record=subject, message=what))
        shown = [
            (each, step) for each in kept for step in each.report.steps if vm is None or vm in (step.vm, step.vm_name)
        ]
        for each, step in shown[-self.last :] if self.last else []:
            emit(
                Drill(
                    number=each.report.number,
                    where=each.report.kind,
                    began=each.report.began,
                    vm=step.vm,
                    vm_name=step.vm_name,
                    point=step.point,
                    result=step.result,
                    reason=step.reason,
                    boot_seconds=step.boot_seconds,
                    ready_seconds=step.ready_seconds,
                    rto_seconds=step.rto_seconds,
                    within=step.within,
                    plan=each.report.plan,
                    evidence=step.evidence,
                )
            )
        for trend in trends(each.report for each in reversed(kept)):
            if vm is None or vm in (trend.vm, trend.vm_name):
                emit(
                    DrillTrend(
                        vm=trend.vm,
                        vm_name=trend.vm_name,
                        where=trend.kind,
                        drills=trend.drills,
                        passed=trend.passed,
                        late=trend.late,
                        last=trend.last,
                        last_result=trend.last_result,
                        last_passed=trend.last_passed or None,
                        boot_seconds=trend.boot_s,
                        median_boot_seconds=trend.median_boot_s,
                        ready_seconds=trend.ready_s,
                        median_ready_seconds=trend.median_ready_s,
                        rto_seconds=trend.rto_s,
                    )
                )
        done = DrillsDone(
            directory=str(chain.directory),
            count=walked.count,
            wrong=len(walked.wrong),
            head=str(walked.head.path) if walked.head else None,
            sha256=walked.head.sha256 if walked.head else None,
        )
        emit(done)
        return done

    def exit_code(self, result: DrillsDone) -> int:
        return WRONG if result.wrong else 0
