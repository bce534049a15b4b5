"""`warmspare failback-done` and `failback-export`: the way back home."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter


def done(
    vm: options.Vm,
    repo: options.Repo,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Clear the mark of a failover: the VM may be synced, and failed over, again. Ends nothing in AWS."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.observe.kinds.failover_events import FailbackDone
        from warmspare.repository.chain import open_repository
        from warmspare.repository.failover_record import read_journal
        from warmspare.repository.vm_lookup import vm_called
        from warmspare.store.opening import open_store

        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            repository = await open_repository(store)
            name = await vm_called(repository, vm)
            journal = await read_journal(repository, name)
            record = journal.record
            if record is None or not record.holds:
                raise ConfigError(f"VM {vm!r} is not failed over, so there is nothing to clear", where=repo)
            await journal.move("cleared")
        finally:
            await store.close()
        events.emit(
            FailbackDone(
                vm=name,
                point=record.point.label,
                began=record.began,
                region=record.region,
                instance=record.id_of("instance"),
                image=record.id_of("image"),
            )
        )
        return 0

    return execute(work, as_json=json, debug=debug)


def export(
    vm: options.Vm,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where the disks are written, a file each.")],
    repo: options.Repo,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="vmdk (stream-optimised, for the return) or raw.")
    ] = "vmdk",
    replica: Annotated[
        Path | None,
        typer.Option(
            "--replica",
            metavar="PATH",
            help="A replica: with --only-replica all that is exported, else at the point that was failed over, so that "
            "only what changed in AWS is read from there.",
        ),
    ] = None,
    only_replica: Annotated[
        bool, typer.Option("--only-replica", help="Export the replica itself; nothing of AWS is asked for.")
    ] = False,
    region: options.Region = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Write the disks of a failed-over VM, or of a replica, to files for the return; each is read back."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.observe.kinds.failover_events import ExportDone
        from warmspare.recover.aws.client import Aws, AwsSettings
        from warmspare.recover.failback.export import Export, ExportSettings
        from warmspare.repository.chain import open_repository
        from warmspare.store.opening import open_store

        began = time.monotonic()
        if format_ not in ("vmdk", "raw"):
            raise ConfigError(f"{format_!r} is not one of vmdk, raw", where="--format")
        if only_replica and replica is None:
            raise ConfigError("--only-replica exports a replica, and none is named", hint="give --replica PATH")
        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            async with Aws(AwsSettings(region), on_retry=retrying(events)) as aws:
                repository = await open_repository(store)
                settings = ExportSettings(to, format_, replica, only_replica)
                disks = await Export(repository, aws, vm, settings, events, meter).run()
        finally:
            await store.close()
        events.emit(ExportDone(vm=vm, disks=len(disks), seconds=round(time.monotonic() - began, 3)))
        return 0

    return execute(work, as_json=json, debug=debug, names=("read", "written"))
