"""`warmspare audit replica`: a replica held against the restore point it is at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.cli.telling.audit_show import AuditShow


class ReplicaAuditOptions(options.RepositoryOptions):
    vm: options.Vm
    target: Annotated[
        Path,
        Option("--replica", metavar="PATH", help="The replica, as it was given to apply as --to.", complete="file"),
    ]
    at: Annotated[
        str | None,
        Option("--at", metavar="POINT", help="The restore point that it must be at.", complete="point"),
    ] = None
    sample: options.Sample = None
    repair: options.Repair = False
    dry_run: options.LookFirst = False
    uncached: Annotated[bool, Option("--uncached", help="Read the medium, and not what the page cache has of it.")] = (
        False
    )
    threads: Annotated[
        int, Option("--threads", metavar="N", help="How many hash (default: one a core).", least=0, most=64)
    ] = 0
    state: options.ReplicaState = None
    reports: options.Reports = None
    html: options.Html = None


def replica(given: ReplicaAuditOptions) -> int:
    """Hold every block of a replica against its restore point."""
    from warmspare.engine.requests.audit_requests import ReplicaAuditRequest

    def request() -> ReplicaAuditRequest:
        return ReplicaAuditRequest(
            vm=given.vm,
            repository=given.repository(),
            replica=given.target,
            at=given.at,
            percent=options.percent(given.sample),
            repair=given.repair,
            dry_run=given.dry_run,
            uncached=given.uncached,
            threads=given.threads,
            state=given.state,
            reports=given.reports,
            html=given.html,
        )

    return act(request, given, AuditShow())
