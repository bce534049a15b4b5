"""`warmspare sync`: disks to a new restore point. `warmspare plan`: the same, looked at and not done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.disk_options import DiskOptions
from warmspare.cli.run import act
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.engine.request import Request


class SyncOptions(DiskOptions):
    of_disks = {
        name: "--" + name.replace("_", "-")
        for name in ("repo", "extents", "vddk", "spool", "spool_size", "audit_period", "endpoint_url", "s3", "as_raw")
    } | {"single_sender": "--single-sender"}

    level: options.Level = ""
    spool: Annotated[
        Path | None,
        Option("--spool", metavar="DIR", help="Where what was read waits for a thin link.", complete="folder"),
    ] = None
    spool_size: Annotated[
        str | None, Option("--spool-size", metavar="SIZE", help="The most that may wait there: 200GB, or 1.5TiB.")
    ] = None
    audit_period: Annotated[
        str | None,
        Option(
            "--audit-period",
            metavar="TIME",
            help="With --extents: read and compare a share of the rest too, all of it within this time: 7d.",
        ),
    ] = None
    as_raw: options.AsRaw = False
    not_after: options.NotAfter = None
    request_id: options.RequestId = None
    new: options.New = False
    adopt: options.Adopt = False


def sync(given: SyncOptions) -> int:
    """Make a restore point of a VM: of given disks, or of VMs that the configuration names."""
    return act(lambda: request(given, look=given.dry_run), given)


def plan(given: SyncOptions) -> int:
    """Say what a sync with the same arguments would send, and how long that takes; sends nothing."""
    return act(lambda: request(given, look=True), given)


def request(given: SyncOptions, *, look: bool) -> Request[Any]:
    """What is asked for: a sync, or a look at one. ConfigError."""
    from warmspare.engine.overrides import Overrides
    from warmspare.engine.requests import sync_requests as of

    level = options.level(given.level or "auto")
    how: dict[str, Any] = {
        "state": options.sender_state(given.state),
        "limit": options.rate(given.limit),
        "new": given.new,
        "not_after": given.not_after,
        "request_id": given.request_id,
    }
    if not given.disks:
        fleet = of.FleetPlanRequest if look else of.FleetSyncRequest
        overrides = Overrides(level=level if given.level else "", adopt=given.adopt, **how)
        return fleet(vms=given.vms(), config=options.config_file(given.config), overrides=overrides)
    if given.adopt:
        raise ConfigError("--adopt is for VMs of the configuration: of given disks nothing tells whose they are")
    disks, place = given.given(as_raw=given.as_raw)
    how |= {"level": level, "spool": given.spool, "spool_bytes": options.size(given.spool_size, "--spool-size")}
    how["audit_period_s"] = options.seconds(given.audit_period, "--audit-period")
    return (of.PlanRequest if look else of.SyncRequest)(disks=disks, repository=place, **how)
