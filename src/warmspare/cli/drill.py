"""`warmspare drill`: boot a replica to prove that it starts."""

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
    replica: options.HeldReplica,
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
    repo: options.HeldRepo = None,
    state: options.ReplicaState = None,
    endpoint_url: options.Endpoint = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Boot a copy-on-write overlay of a replica, without network, and judge whether it comes up."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.recover import evidence as folders
        from warmspare.recover import hardware, tables
        from warmspare.recover.drill import Rules, demand
        from warmspare.recover.drill import drill as run
        from warmspare.recover.held import held
        from warmspare.recover.origin import origin
        from warmspare.store.opening import open_store

        if expect is not None and (not expect or "\n" in expect):
            raise ConfigError("--expect needs a text on one line")
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
            rules = Rules(expect, agent, timeout, hashed)
            demand(await run(held_replica, of, machine, rules, folder, events), folder)
        return 0

    return execute(work, as_json=json, debug=debug)
