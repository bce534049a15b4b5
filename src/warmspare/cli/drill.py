"""`warmspare drill`: boot a replica, a restore point, or what is staged in EC2, to prove that it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.recover.disks.base import Held
    from warmspare.recover.disks.origin import Origin
    from warmspare.recover.drills.evidence import Verdict


def drill(
    vm: options.Vm,
    replica: options.HeldReplica = None,
    repo: options.HeldRepo = None,
    at: options.HeldAt = None,
    ec2: Annotated[bool, typer.Option("--ec2", help="Start what is staged as an instance in EC2, and end it.")] = False,
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="TEXT", help="A text that must come on the serial port.")
    ] = None,
    agent: Annotated[bool, typer.Option("--agent", help="QEMU's guest agent must answer.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", min=1, max=86400, help="How many seconds the boot may take.")
    ] = 600.0,
    evidence: Annotated[
        Path | None,
        typer.Option("--evidence", metavar="DIR", help="A new folder for the evidence (default: below the state's)."),
    ] = None,
    firmware: options.Firmware = None,
    boot_disk: options.BootDisk = None,
    controller: Annotated[
        str | None,
        typer.Option("--controller", metavar="KIND", help="Where the disks hang: nvme (as in EC2), pvscsi, …"),
    ] = None,
    memory: Annotated[
        int | None, typer.Option("--memory", metavar="MIB", help="Of the machine (default: the VM's, if free here).")
    ] = None,
    hashed: Annotated[
        bool, typer.Option("--hash", help="Read and hash the whole replica before and after, too.")
    ] = False,
    subnet: Annotated[
        str | None, typer.Option("--subnet", metavar="ID", help="With --ec2: where; without a route out.")
    ] = None,
    security_group: Annotated[
        list[str] | None,
        typer.Option("--security-group", metavar="ID", help="With --ec2: without outbound rules. Repeatable."),
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="With --ec2: the recovery plan, with [drill] in it.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="With --ec2: only end what drills of this VM have there.")
    ] = False,
    region: options.Region = None,
    state: options.ReplicaState = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Boot a VM alone, and judge whether it comes up: an overlay of its replica, or of a restore point without one, in
    QEMU; or what is staged in EC2."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from dataclasses import replace

        from warmspare.cli.drill_ec2 import Asked, drill_ec2
        from warmspare.cli.held import Choice, with_disks
        from warmspare.recover.drills import evidence as folders
        from warmspare.recover.drills import hardware
        from warmspare.recover.drills.drill import Rules, demand
        from warmspare.recover.drills.drill import drill as run
        from warmspare.recover.readiness.check import made_for

        if expect is not None and (not expect or "\n" in expect):
            raise ConfigError("--expect needs a text on one line")
        rules = Rules(expect, agent, timeout, hashed)
        groups = security_group or []
        only_ec2 = {"--subnet": subnet, "--security-group": groups, "--plan": plan, "--clean": clean,
                    "--region": region}  # fmt: skip
        not_ec2 = {"--replica": replica, "--agent": agent, "--controller": controller, "--memory": memory,
                   "--hash": hashed, "--state": state, "--boot-disk": boot_disk}  # fmt: skip
        for name, given in (not_ec2 if ec2 else only_ec2).items():
            if given:
                raise ConfigError(f"{name} goes {'without' if ec2 else 'with'} --ec2", hint="leave one of them out")
        if ec2:
            asked = Asked(vm, repo, at, plan, subnet, groups, firmware, evidence, region, endpoint_url, s3, clean)
            return await drill_ec2(asked, rules, events)
        if hashed and replica is None:
            hint = "leave it out: every block of a restore point is verified as it is read"
            raise ConfigError("--hash is of a replica", hint=hint)

        async def drilled(held: Held, of: Origin) -> tuple[Verdict, Path]:
            of = replace(of, boots=boot_disk)
            first = of.ordered(held.disks)[0]
            machine = hardware.choose(
                of.hardware, firmware or await made_for(first), len(held.disks),
                firmware=firmware, controller=controller, memory_mib=memory,
            )  # fmt: skip
            folder = folders.make_folder(options.state_folder("drills"), of.vm, evidence)
            return await run(held, of, machine, rules, folder, events), folder

        demand(*await with_disks(Choice(vm, replica, repo, at, state, endpoint_url, s3), events, drilled))
        return 0

    return execute(work, as_json=json, debug=debug)
