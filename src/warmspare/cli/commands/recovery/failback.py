"""`warmspare failback-done` and `failback-export`: the way back home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act


class DoneOptions(options.RepositoryOptions):
    vm: options.Vm
    dry_run: options.DryRun = False


def done(given: DoneOptions) -> int:
    """Clear the mark of a failover: the VM may be synced, and failed over, again. Ends nothing in AWS."""
    from warmspare.engine.requests.repository_requests import FailbackDoneRequest

    def request() -> FailbackDoneRequest:
        return FailbackDoneRequest(repository=given.repository(), vm=given.vm, dry_run=given.dry_run)

    return act(request, given)


class ExportOptions(options.RepositoryOptions):
    vm: options.Vm
    to: Annotated[
        Path, Option("--to", metavar="DIR", help="Where the disks are written, a file each.", complete="folder")
    ]
    format_: Annotated[
        str,
        Option(
            "--format", metavar="FORMAT", help="vmdk (stream-optimised, for the return) or raw.", complete="vmdk raw"
        ),
    ] = "vmdk"
    replica: Annotated[
        Path | None,
        Option(
            "--replica",
            metavar="PATH",
            help="A replica: with --only-replica all that is exported, else at the point that was failed over, so that "
            "only what changed in AWS is read from there.",
            complete="file",
        ),
    ] = None
    only_replica: Annotated[
        bool, Option("--only-replica", help="Export the replica itself; nothing of AWS is asked for.")
    ] = False
    region: options.Region = None
    dry_run: options.DryRun = False


def export(given: ExportOptions) -> int:
    """Write the disks of a failed-over VM, or of a replica, to files for the return; each is read back."""
    from warmspare.engine.requests.recovery_requests import ExportRequest

    def request() -> ExportRequest:
        return ExportRequest(
            vm=given.vm,
            repository=given.repository(),
            to=given.to,
            format=given.format_,
            replica=given.replica,
            only_replica=given.only_replica,
            region=given.region,
            dry_run=given.dry_run,
        )

    return act(request, given)
