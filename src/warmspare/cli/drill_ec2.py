"""`warmspare drill --ec2`: start what is staged in EC2, where it reaches nothing, and end it again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events
    from warmspare.recover.drills.drill import Rules
    from warmspare.recover.failover.plan import Network, RecoveryPlan, VmPlan


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says. clean: only end what earlier drills left."""

    vm: str
    repo: str | None
    at: str | None
    plan: Path | None
    subnet: str | None
    security_groups: list[str]
    firmware: str | None
    evidence: Path | None
    region: str | None
    endpoint_url: str | None
    s3: list[str] | None
    clean: bool


async def drill_ec2(asked: Asked, rules: Rules, events: Events) -> int:
    """Run it to its exit code."""
    from warmspare.cli.planfile import load_plan
    from warmspare.cli.recovery import recovering
    from warmspare.recover.drills import evidence as folders
    from warmspare.recover.drills import hardware
    from warmspare.recover.drills.drill import demand
    from warmspare.recover.drills.ec2drill import Ec2Drill

    whole = load_plan(asked.plan) if asked.plan else None
    vm = _of_plan(whole, asked.vm)
    firmware = hardware.firmware_of({}, asked.firmware) or vm.firmware
    network = None if asked.clean else _network(asked, whole)
    where = recovering(
        whole, events, repo=asked.repo, region=asked.region, endpoint_url=asked.endpoint_url, s3=asked.s3
    )
    async with where as (repository, ec2):
        run = Ec2Drill(repository, ec2, events)
        if network is None:
            events.emit("drill.clean", vm=asked.vm, ended=len(await run.clean(vm.vm)))
            return 0
        folder = folders.make_folder(options.state_folder("drills"), vm.vm, asked.evidence)
        vm = dataclasses.replace(vm, firmware=firmware)
        scratch = options.state_folder("points") if whole else None
        demand(await run.run(vm, network, asked.at, rules, folder, scratch), folder)
    return 0


def _of_plan(plan: RecoveryPlan | None, name: str) -> VmPlan:
    """The VM as the plan has it; without one, or where it names no such VM, with all defaults."""
    from warmspare.recover.failover.plan import VmPlan

    return (plan.vm(name) if plan else None) or VmPlan(name, name)


def _network(asked: Asked, plan: RecoveryPlan | None) -> Network:
    """Where the instance is to start: options before the plan."""
    from warmspare.cli.planfile import resource_id, several
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
        groups = several(resource_id("sg"), "security groups")(asked.security_groups)
    except ConfigError as error:
        raise ConfigError(error.what, where="--security-group", hint=error.hint) from None
    return Network("drill", subnet, groups)
