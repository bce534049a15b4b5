"""`warmspare drills`: what drills came to, how their times go, and whether all records of them are there."""

from __future__ import annotations

from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act


class DrillsOptions(options.Told):
    vm: options.OneVm = None
    records: options.DrillRecords = None
    last: Annotated[
        int, Option("--last", metavar="N", help="How many of the newest to list.", least=0, most=100_000)
    ] = 20
    head: Annotated[
        str | None,
        Option("--head", metavar="SHA256", help="A record that must be among them, as noted elsewhere."),
    ] = None


def drills(given: DrillsOptions) -> int:
    """Show the drills of this host and their trend, and check that no record of one is missing or was edited."""
    from warmspare.engine.requests.drill_requests import DrillsRequest

    return act(lambda: DrillsRequest(vm=given.vm, records=given.records, last=given.last, head=given.head), given)
