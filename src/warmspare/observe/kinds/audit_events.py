"""Events of audits: of the three of them, and of their kept reports."""

from __future__ import annotations

from typing import Annotated

from warmspare.observe.event import Event, Weight, note
from warmspare.observe.quantities import size


class AuditStart(Event, frozen=True, kw_only=True, tag="audit.start"):
    """What is audited was looked at, and judging begins."""

    kind: Annotated[str, note(description="replica, repository, source")]
    vm: Annotated[str, note(description='"" for all of a repository')]
    repository: str
    subject: str
    point: Annotated[str | None, note(description="judged by; null for a repository")]
    bytes_total: int
    repair: bool
    resumed: Annotated[
        str | None,
        note(description="when an interrupted audit had begun that goes on; of a repository that stands in its report"),
    ]

    def words(self) -> str:
        return (
            f"auditing {self.subject}"
            + (f" against restore point {self.point} of {self.vm!r}: {size(self.bytes_total)}" if self.point else "")
            + (f"; going on with the audit that began {self.resumed}" if self.resumed else "")
        )


class AuditPoint(Event, frozen=True, kw_only=True, tag="audit.point"):
    """The replica went on to this point; all is judged by it."""

    vm: str
    point: str
    created: str

    def words(self) -> str:
        return f"the replica went on to restore point {self.point} of {self.created}; judging by that"


class AuditWaiting(Event, frozen=True, kw_only=True, tag="audit.waiting"):
    """The replica is on its way to another point."""

    usual = Weight.WARNING

    vm: str
    message: str = "the replica is being brought to another restore point; waiting for that"

    def words(self) -> str:
        return self.message


class AuditDone(Event, frozen=True, kw_only=True, tag="audit.done"):
    """The report is kept; a `finding` for each came before."""

    ends = True

    kind: str
    vm: str
    point: Annotated[str | None, note(description="null where several were judged")]
    result: Annotated[str, note(description="clean, findings")]
    findings: int
    repaired: int
    coverage_percent: float
    bytes_read: int
    bytes_fetched: int
    seconds: float
    report: str
    sha256: str
    html: str | None

    def weight(self) -> Weight:
        return Weight.ALARM if self.findings else Weight.GOOD


class ReportWrong(Event, frozen=True, kw_only=True, tag="report.wrong"):
    """`verify-report`: a report is not as it was written, or missing."""

    usual = Weight.ALARM

    report: Annotated[str, note(description="or the number of one that is missing")]
    message: str

    def words(self) -> str:
        return f"WRONG: {self.report} {self.message}"


class ReportsVerified(Event, frozen=True, kw_only=True, tag="reports.verified"):
    """`verify-report`; exit code 5 if anything is wrong."""

    ends = True

    directory: str
    count: int
    wrong: int
    head: str | None
    sha256: str | None

    def weight(self) -> Weight:
        return Weight.ALARM if self.wrong else Weight.GOOD

    def words(self) -> str:
        if not self.count:
            return f"no audit reports in {self.directory}"
        state = f"{self.wrong} WRONG" if self.wrong else "whole and unchanged"
        return f"{self.count} audit reports in {self.directory}: {state}" + (
            f"; the newest has SHA-256 {self.sha256}" if self.sha256 else ""
        )
