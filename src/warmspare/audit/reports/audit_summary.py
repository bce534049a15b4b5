"""What a kept report of an audit says in short: of whom, when, how much was covered, with which result; owns no more.

docs/format.md, "Audit report". For who asks of many VMs how their last audits went, and needs no findings or maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn

import msgspec

from warmspare.model.ids import VmId
from warmspare.outside.records import Line, Sha256OrNone
from warmspare.state.report_chain import MOST_REPORTS, Form, Reports, decoded

FORMAT = 1
HEAD = "head of "  # what the figure that notes a VM's newest point begins with
MAX_REPORT_BYTES = 16 << 20  # as text of any letters it takes ten times as much

AuditKind = Literal["replica", "repository", "source", "rolling"]


class AuditSummary(msgspec.Struct, frozen=True):
    """Some fields of an AuditReport, which says what they are."""

    number: Annotated[int, msgspec.Meta(ge=0, le=MOST_REPORTS)]
    previous: Sha256OrNone
    kind: AuditKind
    vm: Line
    vm_name: Line
    repository_id: Line
    subject: Line
    ended: Line
    coverage_percent: Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
    result: Literal["clean", "findings"]
    figures: dict[str, int | float | str] = {}

    def saw(self, vm: VmId) -> bool:
        """Whether an audit of a whole repository came to this VM. Where it has findings, it may have been one of them
        that kept it from doing so."""
        return self.result == "findings" or f"{HEAD}{vm}" in self.figures


def summary(data: bytes, where: str) -> AuditSummary:
    """Of a kept report. FormatError if it is none, or of a later format."""
    return decoded(data, where, AuditSummary, "audit report", FORMAT)


def _placed(report: AuditSummary, number: int, previous: str) -> NoReturn:
    raise TypeError("a summary is read and never kept")


_FORM: Final = Form("audit report", "--reports", "warmspare audit verify-report", _placed, summary, MAX_REPORT_BYTES)


def summaries(directory: Path) -> Reports[AuditSummary]:
    """The audit reports of a directory, in short."""
    return Reports(directory, _FORM)
