"""What an audit begins with and how it ends: what was seen before, its report kept and drawn; owns no judging."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from warmspare.audit.reports.report import AuditReport
from warmspare.observe.kinds.audit_events import AuditDone

if TYPE_CHECKING:
    from warmspare.audit.repository.seen import KnownRepository
    from warmspare.engine.host_places import HostPlaces
    from warmspare.engine.request import RunContext

FINDINGS = 5
PAGE = "writing the page of the report"


class AuditEnd(msgspec.Struct, frozen=True, tag_field="event", tag="audit.end"):
    """The report of an audit as it was kept, and where; sha256: of the file, in hex. It is tagged as events are, for
    where it is what became of a VM, or an event is."""

    report: AuditReport
    path: Path
    sha256: str

    @property
    def exit_code(self) -> int:
        return 0 if self.report.clean else FINDINGS


def reports_directory(given: Path | None, host: HostPlaces) -> Path:
    """The directory of kept reports."""
    return given if given is not None else host.folder("audits")


def seen_before(
    against: Sequence[Path], reports: Path | None, uri: str, vm: str | None, host: HostPlaces
) -> KnownRepository:
    """What the files tell, and the newest kept reports of this repository."""
    from warmspare.audit.repository import seen

    found = seen.of_kept(reports_directory(reports, host), uri, vm or "")
    for path in against:
        seen.read(path, found)
    return found


def demand_page(html: Path | None) -> None:
    """Before an audit, which may take hours: ConfigError if its page would take the place of another file."""
    if html is not None:
        from warmspare.audit.reports.page import MARK
        from warmspare.state.user_files import demand_replaceable

        demand_replaceable(html, MARK, PAGE)


def conclude(report: AuditReport, run: RunContext, *, reports: Path | None, html: Path | None) -> AuditEnd:
    """Keep the report, draw it where that was asked for, and tell: each finding, then what the audit came to."""
    from warmspare.audit.reports import archive, page
    from warmspare.state.user_files import replace_output

    done = archive.of(reports_directory(reports, run.host)).keep(report)
    report = done.report
    if html is not None:
        replace_output(html, page.render(report, done.sha256).encode(), page.MARK, PAGE)
    for each in report.findings:
        run.events.emit(each.event(report.vm))
    run.events.emit(
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
    return AuditEnd(report, done.path, done.sha256)
