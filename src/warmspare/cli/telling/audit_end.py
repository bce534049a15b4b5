"""How an audit ends on the command line: its report kept, drawn and said, and its exit code; owns no judging."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options

if TYPE_CHECKING:
    from warmspare.audit.reports.report import AuditReport
    from warmspare.observe.events import Events

FINDINGS = 5
PAGE = "writing the page of the report"

Repair = Annotated[bool, typer.Option("--repair", help="Put right what is found wrong; otherwise nothing is written.")]
Sample = Annotated[
    str | None,
    typer.Option("--sample", metavar="PERCENT", help="Judge this share of the blocks only, drawn anew each time."),
]
Reports = Annotated[
    Path | None,
    typer.Option("--reports", metavar="DIR", help="Where reports are kept, in a chain (default: with the state)."),
]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page for a browser, too.")
]


def reports_directory(given: Path | None) -> Path:
    """The directory of kept reports."""
    return given if given is not None else options.state_folder("audits")


def demand_page(html: Path | None) -> None:
    """Before an audit, which may take hours: ConfigError if its page would take the place of another file."""
    if html is not None:
        from warmspare.audit.reports.page import MARK
        from warmspare.state.user_files import demand_replaceable

        demand_replaceable(html, MARK, PAGE)


def conclude(report: AuditReport, events: Events, *, reports: Path | None, html: Path | None, as_json: bool) -> int:
    """Keep the report, draw it where that was asked for, say what it says; 0 if it is clean, 5 otherwise.

    With as_json: `finding` for each finding, then `audit.done`. Otherwise a table.
    """
    from warmspare.audit.reports import archive, page
    from warmspare.cli.telling.audit_table import show
    from warmspare.observe.kinds.audit import AuditDone
    from warmspare.state.user_files import replace_output

    done = archive.of(reports_directory(reports)).keep(report)
    report = done.report
    if html is not None:
        replace_output(html, page.render(report, done.sha256).encode(), page.MARK, PAGE)
    if as_json:
        for each in report.findings:
            events.emit(each.event(report.vm))
    events.emit(
        AuditDone(
            kind=report.kind,
            vm=report.vm,
            point=report.point.label if report.point else None,
            result=report.result,
            findings=len(report.findings) + report.findings_left_out,
            repaired=sum(each.repaired for each in report.findings),
            coverage_percent=report.coverage_percent,
            bytes_read=report.bytes_read,
            bytes_fetched=report.bytes_fetched,
            seconds=report.seconds,
            report=str(done.path),
            sha256=done.sha256,
            html=str(html) if html else None,
        )
    )
    if not as_json:
        show(done)
    return 0 if report.clean else FINDINGS
