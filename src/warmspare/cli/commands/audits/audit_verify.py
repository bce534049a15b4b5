"""`warmspare audit verify-report`: whether kept reports are all there and as they were written."""

from __future__ import annotations

from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act


class VerifyOptions(options.Told):
    reports: options.Reports = None
    head: Annotated[
        str | None,
        Option("--head", metavar="SHA256", help="A report that must be among them, as noted elsewhere."),
    ] = None


def verify_report(given: VerifyOptions) -> int:
    """Check that no kept report is missing or was edited."""
    from warmspare.engine.requests.audit_requests import ReportsRequest

    return act(lambda: ReportsRequest(reports=given.reports, head=given.head), given)
