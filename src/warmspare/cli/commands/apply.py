"""`warmspare apply`: restore points to a replica."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter


def apply(
    vm: options.Vm,
    repo: options.Repo,
    to: Annotated[
        Path,
        typer.Option("--to", metavar="PATH", help="The replica: a file for one disk, a directory for several."),
    ],
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="POINT", help="A restore point by number or label; the newest otherwise."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and apply each new restore point.")] = False,
    state: options.ReplicaState = None,
    initialize: Annotated[
        bool, typer.Option("--initialize", help="Overwrite a block device that holds no replica yet.")
    ] = False,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Bring a replica to a restore point."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.apply.receiver import Receiver
        from warmspare.store.opening import open_store

        if follow and at is not None:
            raise ConfigError("--follow and --at contradict each other", hint="give one of them")
        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            run = Receiver(store, vm, to, events, state=state, initialize=initialize, meter=meter)
            await (run.follow() if follow else run.run(at))
        finally:
            await store.close()
        return 0

    return execute(work, as_json=json, debug=debug, names=("read", "written"))
