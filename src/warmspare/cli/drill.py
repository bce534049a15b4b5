"""`warmspare drill`: boot a replica, or a restore point without one, to prove that it starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.recover.evidence import Verdict
    from warmspare.recover.held import Held
    from warmspare.recover.origin import Origin


def drill(
    vm: options.Vm,
    replica: options.HeldReplica = None,
    repo: options.HeldRepo = None,
    at: options.HeldAt = None,
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
    state: options.ReplicaState = None,
    endpoint_url: options.Endpoint = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Boot a copy-on-write overlay of a replica or a restore point, without network, and judge whether it comes up."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.cli.held import Choice, with_disks
        from warmspare.recover import evidence as folders
        from warmspare.recover import hardware, tables
        from warmspare.recover.drill import Rules, demand
        from warmspare.recover.drill import drill as run

        if expect is not None and (not expect or "\n" in expect):
            raise ConfigError("--expect needs a text on one line")
        if hashed and replica is None:
            hint = "leave it out: every block of a restore point is verified as it is read"
            raise ConfigError("--hash is of a replica", hint=hint)
        rules = Rules(expect, agent, timeout, hashed)

        async def drilled(held: Held, of: Origin) -> tuple[Verdict, Path]:
            first = of.ordered(held.disks)[0]
            machine = hardware.choose(
                of.hardware, (await tables.read(first.fd, first.capacity_bytes)).firmware, len(held.disks),
                firmware=firmware, controller=controller, memory_mib=memory,
            )  # fmt: skip
            folder = folders.make_folder(options.state_root() / "drills", of.vm, evidence)
            return await run(held, of, machine, rules, folder, events), folder

        demand(*await with_disks(Choice(vm, replica, repo, at, state, endpoint_url), events, drilled))
        return 0

    return execute(work, as_json=json, debug=debug)
