"""`warmspare audit source`: disks of a VM, read afresh and held against its newest restore point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.disk_options import DiskOptions
from warmspare.cli.run import act
from warmspare.cli.telling.audit_show import AuditShow
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.engine.request import Request


class SourceAuditOptions(DiskOptions):
    of_disks = {  # noqa: RUF012 (never changed)
        "repo": "--repo",
        "extents": "--extents",
        "vddk": "--vddk",
        "endpoint_url": "--endpoint-url",
        "s3": "--s3",
        "single_sender": "--single-sender",
    }

    sample: options.Sample = None
    full: Annotated[bool, Option("--full", help="Judge all blocks (the default).")] = False
    repair: options.Repair = False
    dry_run: options.LookFirst = False
    reports: options.Reports = None
    html: options.Html = None


def source(given: SourceAuditOptions) -> int:
    """Prove that change tracking lost nothing: read a VM's disks again and compare."""
    return act(lambda: request(given), given, AuditShow())


def request(given: SourceAuditOptions) -> Request[Any]:
    """What is asked for. ConfigError."""
    from warmspare.engine.requests.source_audit_requests import FleetAuditRequest, Judging, SourceAuditRequest

    if given.full and given.sample is not None:
        raise ConfigError("--full and --sample exclude each other", hint="give one of them")
    judging = Judging(
        percent=options.percent(given.sample),
        repair=given.repair,
        dry_run=given.dry_run,
        state=options.sender_state(given.state),
        limit=options.rate(given.limit),
        reports=given.reports,
        html=given.html,
    )
    if given.disks:
        disks, place = given.given()
        return SourceAuditRequest(disks=disks, repository=place, judging=judging)
    return FleetAuditRequest(vms=given.vms(), config=options.config_file(given.config), judging=judging)
