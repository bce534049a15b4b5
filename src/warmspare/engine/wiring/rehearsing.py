"""From a recovery plan to what a rehearsal of it takes: where it starts, its lab, a folder for each VM's evidence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.engine.host_places import HostPlaces
from warmspare.engine.request import RunContext
from warmspare.engine.wiring.dry_run import would
from warmspare.errors import ConfigError, WarmspareError
from warmspare.observe.kinds.drill_events import DrillClean, DrillNote
from warmspare.observe.kinds.run_events import WouldDone

if TYPE_CHECKING:
    from warmspare.engine.repository_place import RepositoryPlace
    from warmspare.model.ids import VmId
    from warmspare.recover.aws.ec2 import Ec2
    from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill
    from warmspare.recover.drills.rehearsal import Lab
    from warmspare.recover.drills.rules import Rules
    from warmspare.recover.failover.plan import Network, RecoveryPlan, VmPlan
    from warmspare.repository.chain import Repository


async def would_clean(drill: Ec2Drill, vms: Sequence[VmPlan], run: RunContext) -> WouldDone:
    """Say what `clean` would end."""
    return would(run, [f"end {each.words}" for vm in vms for each in await drill.left(vm.vm)])


async def clean(drill: Ec2Drill, vms: Sequence[VmPlan], run: RunContext) -> None:
    """End what drills of these VMs have in EC2. The first error, after all were tried; the others are notes."""
    failures: list[WarmspareError] = []
    for vm in vms:
        try:
            run.events.emit(DrillClean(vm=vm.vm, ended=len(await drill.clean(vm.vm))))
        except WarmspareError as error:
            error.about(vm.vm)
            if failures:
                run.events.emit(DrillNote(vm=vm.vm, message=error.sentence))
            failures.append(error)
    if failures:
        raise failures[0]


def network(subnet: str | None, security_groups: tuple[str, ...], plan: RecoveryPlan | None) -> Network:
    """Where instances are to start: what is said before the plan."""
    from warmspare.engine.wiring.planfile import resource_id, several
    from warmspare.recover.failover.plan import Network

    if subnet is None and not security_groups:
        if plan and plan.drill:
            return plan.drill
        raise ConfigError(
            "where the drill is to start is not said",
            hint="give --subnet and --security-group, or [drill] in the plan: a subnet without a route out, and a "
            "security group without outbound rules",
        )
    if subnet is None or not security_groups:
        raise ConfigError("a subnet goes with a security group", hint="give --subnet and --security-group")
    try:
        checked = resource_id("subnet")(subnet)
    except ConfigError as error:
        raise ConfigError(error.what, where="--subnet", hint=error.hint) from None
    try:
        groups = several(resource_id("sg"), "security groups")(list(security_groups))
    except ConfigError as error:
        raise ConfigError(error.what, where="--security-group", hint=error.hint) from None
    return Network("drill", checked, groups)


class EvidencePlace:
    """Where the evidence of a VM goes: a folder of its own below the one that was given, that one itself for a VM that
    is alone, or one below the state's."""

    def __init__(self, given: Path | None, host: HostPlaces, *, alone: bool) -> None:
        self._given, self._host, self._alone = given, host, alone

    def demand(self) -> None:
        """ConfigError where the folder that was given would be refused."""
        from warmspare.recover.drills import evidence as folders

        if self._given is not None and self._alone:
            folders.demand_empty(self._given)

    def __call__(self, vm: VmId) -> Path:
        from warmspare.model.ids import vm_key
        from warmspare.recover.drills import evidence as folders

        given = self._given
        if given is not None and not self._alone:
            given = given / vm_key(vm)
        return folders.make_folder(self._host.folder("drills"), vm, given)


@asynccontextmanager
async def lab_in_ec2(
    made: AbstractAsyncContextManager[tuple[Repository, Ec2]],
    where: Network,
    judged: tuple[Sequence[VmPlan], Callable[[VmPlan], Rules]],
    run: RunContext,
) -> AsyncIterator[tuple[Lab, Repository]]:
    """Of what is staged there. judged: the VMs, and how each is."""
    from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill
    from warmspare.recover.drills.ec2.ec2_lab import Ec2Lab, lasts_s

    async with made as (repository, ec2):
        drill = Ec2Drill(repository, ec2, run.events)
        yield Ec2Lab(drill, where, run.host.folder("points"), lasts_s(*judged)), repository


@asynccontextmanager
async def lab_in_qemu(
    plan: RecoveryPlan, place: RepositoryPlace | None, controller: str | None, run: RunContext
) -> AsyncIterator[tuple[Lab, Repository]]:
    """Of restore points, on this host."""
    from warmspare.engine.wiring.recovering import repository_of
    from warmspare.recover.drills.qemu.qemu_lab import QemuLab

    async with repository_of(plan, place, run) as repository:
        yield QemuLab(repository, run.host.folder("points"), run.events, controller), repository
