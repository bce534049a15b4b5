"""`warmspare drill`: boot a replica, a restore point, what is staged in EC2, or a whole plan: proof that it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from warmspare.cli.commands.recovery.drill_options import DrillOptions
from warmspare.cli.run import act
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.engine.request import Request

EC2_ONLY = ("subnet", "security_group", "clean", "region")
QEMU_ONLY = ("replica", "agent", "controller", "memory", "hashed", "state", "boot_disk")
DISKS_ONLY = ("replica", "agent", "memory", "hashed", "state", "boot_disk", "firmware")


def drill(given: DrillOptions) -> int:
    """Boot a VM alone, and judge whether it comes up: an overlay of its replica, or of a restore point without one, in
    QEMU; or what is staged in EC2. With --plan, all VMs of a recovery plan as it says."""
    return act(lambda: request(given), given)


def request(given: DrillOptions) -> Request[Any]:
    """What is asked for. ConfigError."""
    from warmspare.engine.requests import drill_requests as of

    why = f"goes {'without' if given.ec2 else 'with'} --ec2"
    given.refuse(QEMU_ONLY if given.ec2 else EC2_ONLY, why, hint="leave one of them out")
    how: dict[str, Any] = {"expect": given.expect, "evidence": given.evidence, "records": given.records}
    how["dry_run"] = given.dry_run
    in_ec2: dict[str, Any] = {
        "repository": given.repository(),
        "at": given.at,
        "subnet": given.subnet,
        "security_groups": tuple(given.security_group),
        "region": given.region,
        "clean": given.clean,
    }
    if given.plan is not None:
        given.refuse(DISKS_ONLY, "goes without --plan", hint="leave it out, or drill that VM alone")
        plan: dict[str, Any] = {"plan": given.plan, "vms": tuple(given.vm), "everything": given.all_vms}
        limit, controller = given.timeout, given.controller
        return of.RehearsalRequest(in_ec2=given.ec2, timeout_s=limit, controller=controller, **plan, **in_ec2, **how)
    if given.all_vms:
        raise ConfigError("--all means the VMs of a plan, and none is given", hint="give --plan FILE")
    if len(given.vm) != 1:
        raise ConfigError("a drill is of one VM, or of a plan", hint="give --vm NAME once, or --plan FILE")
    how |= {"timeout_s": given.timeout or of.TIMEOUT_S, "firmware": given.firmware}
    if given.ec2:
        return of.Ec2DrillRequest(vm=given.vm[0], **in_ec2, **how)
    return of.DrillRequest(
        disks=given.disks(given.vm[0]),
        agent=given.agent,
        boot_disk=given.boot_disk,
        controller=given.controller,
        memory_mib=given.memory,
        hashed=given.hashed,
        **how,
    )
