"""`warmspare audit repository`: whether the restore points, and all that they name, are what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.cli.telling.audit_show import AuditShow


class RepositoryAuditOptions(options.RepositoryOptions):
    vm: options.OneVm = None
    deep: Annotated[bool, Option("--deep", help="Download everything and hash every block of every restore point.")] = (
        False
    )
    repair: options.Repair = False
    dry_run: options.LookFirst = False
    against: options.Against = []  # noqa: RUF012 (never changed)
    scratch: Annotated[
        Path | None,
        Option("--scratch", metavar="DIR", help="Where working files go (default: with the state).", complete="folder"),
    ] = None
    reports: options.Reports = None
    html: options.Html = None


def repository(given: RepositoryAuditOptions) -> int:
    """Check that a repository is whole; --deep reads all of it."""
    from warmspare.engine.requests.audit_requests import RepositoryAuditRequest

    def request() -> RepositoryAuditRequest:
        return RepositoryAuditRequest(
            repository=given.repository(),
            vm=given.vm,
            deep=given.deep,
            repair=given.repair,
            dry_run=given.dry_run,
            against=tuple(given.against),
            scratch=given.scratch,
            reports=given.reports,
            html=given.html,
        )

    return act(request, given, AuditShow())
