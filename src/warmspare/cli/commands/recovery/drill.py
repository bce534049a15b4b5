"""`warmspare drill`: boot a replica, a restore point, what is staged in EC2, or a whole plan: proof that it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.recover.disks.open_disk import Held
    from warmspare.recover.disks.origin import Origin
    from warmspare.recover.drills.evidence import DrillVerdict
    from warmspare.recover.drills.turn import DrillTurn

TIMEOUT_S = 600.0


def drill(
    vm: Annotated[
        list[str] | None,
        typer.Option("--vm", metavar="NAME", help="The VM, as the repository calls it; of a plan repeatable."),
    ] = None,
    all_vms: Annotated[bool, typer.Option("--all", help="With --plan: every VM of it.")] = False,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Rehearse this recovery plan: its order, delays and readiness."),
    ] = None,
    replica: options.HeldReplica = None,
    repo: options.HeldRepo = None,
    at: options.HeldAt = None,
    ec2: Annotated[bool, typer.Option("--ec2", help="Start what is staged as an instance in EC2, and end it.")] = False,
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="TEXT", help="A text that must come on the serial port.")
    ] = None,
    agent: Annotated[bool, typer.Option("--agent", help="QEMU's guest agent must answer.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="S",
            min=1,
            max=86400,
            help="How many seconds a boot may take (default: 600, with --plan its ready_within).",
        ),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option("--evidence", metavar="DIR", help="A new folder for the evidence (default: below the state's)."),
    ] = None,
    records: options.DrillRecords = None,
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
    clean: Annotated[
        bool, typer.Option("--clean", help="With --ec2: only end what drills of these VMs have there.")
    ] = False,
    region: options.Region = None,
    state: options.ReplicaState = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Boot a VM alone, and judge whether it comes up: an overlay of its replica, or of a restore point without one, in
    QEMU; or what is staged in EC2. With --plan, all VMs of a recovery plan as it says."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from dataclasses import replace

        from warmspare.cli.commands.recovery.drill_ec2 import drill_ec2
        from warmspare.cli.commands.recovery.drill_plan import DrillOptions, rehearse
        from warmspare.cli.wiring.readable_disks import DisksChoice, with_disks
        from warmspare.recover.drills import evidence as folders
        from warmspare.recover.drills.qemu import hardware
        from warmspare.recover.drills.qemu.qemu_drill import drill as run
        from warmspare.recover.drills.recorder import Recorder
        from warmspare.recover.drills.rules import Rules, demand
        from warmspare.recover.readiness.check import made_for

        if expect is not None and (not expect or "\n" in expect):
            raise ConfigError("--expect needs a text on one line")
        names, groups = vm or [], security_group or []
        only_ec2 = {"--subnet": subnet, "--security-group": groups, "--clean": clean, "--region": region}
        not_ec2 = {
            "--replica": replica,
            "--agent": agent,
            "--controller": controller,
            "--memory": memory,
            "--hash": hashed,
            "--state": state,
            "--boot-disk": boot_disk,
        }
        for name, given in (not_ec2 if ec2 else only_ec2).items():
            if given:
                raise ConfigError(f"{name} goes {'without' if ec2 else 'with'} --ec2", hint="leave one of them out")
        asked = DrillOptions(
            tuple(names),
            all_vms,
            repo,
            at,
            subnet,
            tuple(groups),
            evidence,
            options.drill_records(records),
            region,
            endpoint_url,
            s3,
            expect,
            timeout,
            controller,
            firmware,
            clean,
        )
        if plan is not None:
            of_disks = {
                "--replica": replica,
                "--agent": agent,
                "--memory": memory,
                "--hash": hashed,
                "--state": state,
                "--boot-disk": boot_disk,
                "--firmware": firmware,
            }
            for name, given in of_disks.items():
                if given:
                    raise ConfigError(f"{name} goes without --plan", hint="leave it out, or drill that VM alone")
            return await rehearse(asked, plan, events, ec2=ec2)
        if all_vms:
            raise ConfigError("--all means the VMs of a plan, and none is given", hint="give --plan FILE")
        if len(names) != 1:
            raise ConfigError("a drill is of one VM, or of a plan", hint="give --vm NAME once, or --plan FILE")
        rules = Rules(expect, agent, timeout or TIMEOUT_S, hashed)
        if ec2:
            return await drill_ec2(asked, rules, events)
        if hashed and replica is None:
            hint = "leave it out: every block of a restore point is verified as it is read"
            raise ConfigError("--hash is of a replica", hint=hint)

        choice = DisksChoice(names[0], replica, repo, at, state, endpoint_url, s3)

        async def work_of(turn: DrillTurn) -> tuple[DrillVerdict, Path]:
            async def drilled(held: Held, of: Origin) -> tuple[DrillVerdict, Path]:
                of = replace(of, boots=boot_disk)
                first = of.ordered(held.disks)[0]
                machine = hardware.choose(
                    of.hardware,
                    firmware or await made_for(first),
                    len(held.disks),
                    firmware=firmware,
                    controller=controller,
                    memory_mib=memory,
                )
                folder = folders.make_folder(options.state_folder("drills"), of.vm, evidence)
                return await run(held, of, machine, rules, folder, events, turn), folder

            return await with_disks(choice, events, drilled)

        demand(*await Recorder(asked.records, "qemu", repo or "", "", events).single(names[0], work_of))
        return 0

    return execute(work, as_json=json, debug=debug)
