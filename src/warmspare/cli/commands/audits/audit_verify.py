"""`warmspare audit verify-report`: whether kept reports are all there and as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.cli.telling.audit_end import FINDINGS, Reports, reports_directory

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter


def verify_report(
    reports: Reports = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="SHA256", help="A report that must be among them, as noted elsewhere."),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Check that no kept report is missing or was edited."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.audit.reports import archive
        from warmspare.observe.kinds.audit import ReportsVerified, ReportWrong
        from warmspare.threads import in_thread

        directory: Path = reports_directory(reports)
        found = await in_thread(archive.of(directory).verify, head=head.lower() if head else None)
        for subject, what in found.wrong:
            events.emit(ReportWrong(report=subject, message=what))
        events.emit(
            ReportsVerified(
                directory=str(directory),
                count=found.count,
                wrong=len(found.wrong),
                head=str(found.head.path) if found.head else None,
                sha256=found.head.sha256 if found.head else None,
            )
        )
        return FINDINGS if found.wrong else 0

    return execute(work, as_json=json, debug=debug)
