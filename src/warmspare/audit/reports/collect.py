"""Findings on their way into a report: the first ones listed, all counted; owns the bound and nothing of judging."""

from __future__ import annotations

from typing import Any

from warmspare.audit.reports.findings import Finding, FindingKind, Severity, finding
from warmspare.audit.reports.report import MAX_FINDINGS
from warmspare.model.units import BLOCK_BYTES


class Findings:
    """left_out: how many came after MAX_FINDINGS. grave: how many are no notes."""

    def __init__(self) -> None:
        self.listed: list[Finding] = []
        self.left_out = 0
        self.grave = 0

    @property
    def clean(self) -> bool:
        """Whether all of them are notes."""
        return not self.grave

    def add(self, kind: FindingKind, **fields: Any) -> None:
        """See `findings.finding`. Notes are the first to be left out."""
        self.put(finding(kind, **fields))

    def put(self, one: Finding) -> None:
        self.grave += one.severity is not Severity.NOTE
        if len(self.listed) < MAX_FINDINGS:
            self.listed.append(one)
            return
        self.left_out += 1
        if one.severity is not Severity.NOTE:
            for at in range(len(self.listed) - 1, -1, -1):
                if self.listed[at].severity is Severity.NOTE:
                    self.listed[at] = one
                    return


def extent(start: int, count: int, capacity_bytes: int) -> dict[str, int]:
    """Where a run of blocks lies, as a finding has it."""
    offset = start * BLOCK_BYTES
    return {"offset": offset, "length": min(count * BLOCK_BYTES, capacity_bytes - offset)}
