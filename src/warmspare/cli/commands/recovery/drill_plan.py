"""`warmspare drill --plan`: rehearse a recovery plan whole, in QEMU or in EC2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.model.ids import VmId
    from warmspare.observe.events import Events
    from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill
    from warmspare.recover.drills.rehearsal import Lab
    from warmspare.recover.drills.rules import Rules
    from warmspare.recover.failover.plan import Network, RecoveryPlan, VmPlan
    from warmspare.repository.chain import Repository


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What the command line says of a drill. timeout_s: None for the usual one. clean: only end what earlier drills
    left."""

    vms: tuple[str, ...]
    all_vms: bool
    repo: str | None
    at: str | None
    subnet: str | None
    security_groups: tuple[str, ...]
    evidence: Path | None
    records: Path
    region: str | None
    endpoint_url: str | None
    s3: list[str] | None
    expect: str | None
    timeout_s: float | None
    controller: str | None
    firmware: str | None
    clean: bool


async def rehearse(asked: DrillOptions, path: Path, events: Events, *, ec2: bool) -> int:
    """Run it to its exit code."""
    from warmspare.cli.wiring.planfile import chosen, load_plan
    from warmspare.recover.drills.recorder import Recorder
    from warmspare.recover.drills.rehearsal import Rehearsal
    from warmspare.recover.drills.rules import Rules

    plan = load_plan(path)
    vms = chosen(plan, asked.vms, asked.all_vms)
    if asked.at is not None and len(vms) != 1:
        raise ConfigError("--at names a restore point of one VM", hint="give --vm NAME once")

    def rules(vm: VmPlan) -> Rules:
        checks = ec2 and vm.ready == "status-checks"
        return Rules(asked.expect, timeout_s=asked.timeout_s or float(vm.ready_s), by_checks=checks)

    if asked.clean:
        async with _ec2(asked, plan, events) as (_, drill):
            return await clean(drill, vms, events)
    where = _in_ec2(asked, plan, vms, rules, events) if ec2 else _in_qemu(asked, plan, events)
    async with where as (lab, repository):
        place = _Place(asked.evidence, alone=len(vms) == 1)
        recorder = Recorder(asked.records, lab.kind, repository.store.uri, repository.id, events)
        rehearsal = Rehearsal(lab, vms, plan.rto_s, rules, place, events)
        (await recorder.whole(rehearsal, asked.at, path)).demand(repository.store.uri)
    return 0


async def clean(drill: Ec2Drill, vms: Sequence[VmPlan], events: Events) -> int:
    """End what drills of these VMs have in EC2. The first error, after all were tried; the others are notes."""
    from warmspare.errors import WarmspareError
    from warmspare.observe.kinds.drill import DrillClean, DrillNote

    failures: list[WarmspareError] = []
    for vm in vms:
        try:
            events.emit(DrillClean(vm=vm.vm, ended=len(await drill.clean(vm.vm))))
        except WarmspareError as error:
            error.about(vm.vm)
            if failures:
                events.emit(DrillNote(vm=vm.vm, message=error.sentence))
            failures.append(error)
    if failures:
        raise failures[0]
    return 0


def network(asked: DrillOptions, plan: RecoveryPlan | None) -> Network:
    """Where instances are to start: options before the plan."""
    from warmspare.cli.wiring.planfile import resource_id, several
    from warmspare.recover.failover.plan import Network

    if asked.subnet is None and not asked.security_groups:
        if plan and plan.drill:
            return plan.drill
        raise ConfigError(
            "where the drill is to start is not said",
            hint="give --subnet and --security-group, or [drill] in the plan: a subnet without a route out, and a "
            "security group without outbound rules",
        )
    if asked.subnet is None or not asked.security_groups:
        raise ConfigError("a subnet goes with a security group", hint="give --subnet and --security-group")
    try:
        subnet = resource_id("subnet")(asked.subnet)
    except ConfigError as error:
        raise ConfigError(error.what, where="--subnet", hint=error.hint) from None
    try:
        groups = several(resource_id("sg"), "security groups")(list(asked.security_groups))
    except ConfigError as error:
        raise ConfigError(error.what, where="--security-group", hint=error.hint) from None
    return Network("drill", subnet, groups)


class _Place:
    """Where the evidence of a VM goes: a folder of its own below the one that was given, that one itself for a VM that
    is alone, or one below the state's."""

    def __init__(self, given: Path | None, *, alone: bool) -> None:
        self._given, self._alone = given, alone

    def __call__(self, vm: VmId) -> Path:
        from warmspare.model.ids import vm_key
        from warmspare.recover.drills import evidence as folders

        given = self._given
        if given is not None and not self._alone:
            given = given / vm_key(vm)
        return folders.make_folder(options.state_folder("drills"), vm, given)


@asynccontextmanager
async def _ec2(asked: DrillOptions, plan: RecoveryPlan, events: Events) -> AsyncIterator[tuple[Repository, Ec2Drill]]:
    from warmspare.cli.wiring.recovering import recovering
    from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill

    made = recovering(plan, events, repo=asked.repo, region=asked.region, endpoint_url=asked.endpoint_url, s3=asked.s3)
    async with made as (repository, ec2):
        yield repository, Ec2Drill(repository, ec2, events)


@asynccontextmanager
async def _in_ec2(
    asked: DrillOptions, plan: RecoveryPlan, vms: Sequence[VmPlan], rules: Callable[[VmPlan], Rules], events: Events
) -> AsyncIterator[tuple[Lab, Repository]]:
    from warmspare.recover.drills.ec2.ec2_lab import Ec2Lab, lasts_s

    where = network(asked, plan)
    async with _ec2(asked, plan, events) as (repository, drill):
        yield Ec2Lab(drill, where, options.state_folder("points"), lasts_s(vms, rules)), repository


@asynccontextmanager
async def _in_qemu(asked: DrillOptions, plan: RecoveryPlan, events: Events) -> AsyncIterator[tuple[Lab, Repository]]:
    from warmspare.cli.wiring.recovering import repository_of
    from warmspare.recover.drills.qemu.qemu_lab import QemuLab

    made = repository_of(plan, events, repo=asked.repo, endpoint_url=asked.endpoint_url, s3=asked.s3)
    async with made as repository:
        yield QemuLab(repository, options.state_folder("points"), events, asked.controller), repository
