"""`warmspare apply`: restore points to a replica."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act


class ApplyOptions(options.RepositoryOptions):
    vm: options.Vm
    to: Annotated[
        Path,
        Option(
            "--to", metavar="PATH", help="The replica: a file for one disk, a directory for several.", complete="file"
        ),
    ]
    at: options.At = None
    follow: Annotated[bool, Option("--follow", help="Stay, and apply each new restore point.")] = False
    state: options.ReplicaState = None
    initialize: Annotated[bool, Option("--initialize", help="Overwrite a block device that holds no replica yet.")] = (
        False
    )
    dry_run: options.DryRun = False


def apply(given: ApplyOptions) -> int:
    """Bring a replica to a restore point."""
    from warmspare.engine.requests.replica_requests import ApplyRequest

    def request() -> ApplyRequest:
        return ApplyRequest(
            vm=given.vm,
            repository=given.repository(),
            to=given.to,
            at=given.at,
            follow=given.follow,
            state=given.state,
            initialize=given.initialize,
            dry_run=given.dry_run,
        )

    return act(request, given)
