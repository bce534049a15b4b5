"""`warmspare drill`: boot a replica, or what is staged in EC2, to prove that it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter


def drill(
    vm: options.Vm,
    replica: Annotated[
        Path | None,
        typer.Option("--replica", metavar="PATH", help="The replica: as `apply --to` made it. It is only read."),
    ] = None,
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
    at: Annotated[
        str | None, typer.Option("--at", metavar="POINT", help="With --ec2: a staged restore point (the newest).")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="With --ec2: only end what drills of this VM have there.")
    ] = False,
    region: options.Region = None,
    repo: options.HeldRepo = None,
    state: options.ReplicaState = None,
    endpoint_url: options.Endpoint = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Boot a VM alone, and judge whether it comes up: an overlay of its replica in QEMU, or what is staged in EC2."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.cli.drill_ec2 import Asked, drill_ec2
        from warmspare.recover import evidence as folders
        from warmspare.recover import hardware, tables
        from warmspare.recover.drill import Rules, demand
        from warmspare.recover.drill import drill as run
        from warmspare.recover.held import held
        from warmspare.recover.origin import origin
        from warmspare.store.opening import open_store

        if expect is not None and (not expect or "\n" in expect):
            raise ConfigError("--expect needs a text on one line")
        rules = Rules(expect, agent, timeout, hashed)
        groups = security_group or []
        only_ec2 = {"--subnet": subnet, "--security-group": groups, "--plan": plan, "--at": at, "--clean": clean,
                    "--region": region}  # fmt: skip
        not_ec2 = {"--replica": replica, "--agent": agent, "--controller": controller, "--memory": memory,
                   "--hash": hashed, "--state": state}  # fmt: skip
        for name, given in (not_ec2 if ec2 else only_ec2).items():
            if given:
                raise ConfigError(f"{name} goes {'without' if ec2 else 'with'} --ec2", hint="leave one of them out")
        if ec2:
            asked = Asked(vm, repo, at, plan, subnet, groups, firmware, evidence, region, endpoint_url, clean)
            return await drill_ec2(asked, rules, events)
        if replica is None:
            raise ConfigError("what to boot is not said", hint="give --replica PATH, or --ec2 for what is staged")
        endpoint = options.check_endpoint(endpoint_url)
        with held(replica, state=state) as held_replica:
            store = open_store(repo or held_replica.record.uri, endpoint_url=endpoint, on_retry=retrying(events))
            try:
                of = await origin(held_replica, vm, store)
            finally:
                await store.close()
            first = held_replica.disks[of.order(held_replica)[0]]
            machine = hardware.choose(
                of.hardware, (await tables.read(first.fd, first.capacity_bytes)).firmware, len(held_replica.disks),
                firmware=firmware, controller=controller, memory_mib=memory,
            )  # fmt: skip
            folder = folders.make_folder(options.state_root() / "drills", of.vm, evidence)
            demand(await run(held_replica, of, machine, rules, folder, events), folder)
        return 0

    return execute(work, as_json=json, debug=debug)
