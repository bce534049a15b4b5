"""Kept audit reports: what one of a chain of them is (state/report_chain.py); owns nothing else.

docs/format.md, "Audit report".
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from warmspare.audit.reports import report as reports
from warmspare.audit.reports.audit_summary import MAX_REPORT_BYTES
from warmspare.audit.reports.report import AuditReport
from warmspare.state.report_chain import Form, Reports


def _placed(report: AuditReport, number: int, previous: str) -> tuple[AuditReport, bytes]:
    return reports.fitting(msgspec.structs.replace(report, number=number, previous=previous))


_FORM: Final = Form(
    "audit report", "--reports", "warmspare audit verify-report", _placed, reports.decode, MAX_REPORT_BYTES
)


def of(directory: Path) -> Reports[AuditReport]:
    """The audit reports of a directory."""
    return Reports(directory, _FORM)
