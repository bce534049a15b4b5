"""`warmspare failover`: staged restore points to running instances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import AllProblems, act


class FailoverOptions(options.RepositoryOptions):
    vm: Annotated[
        list[str],
        Option(
            "--vm",
            metavar="NAME",
            help="A VM of the plan; without one, of the repository. Repeatable.",
            complete="vm",
        ),
    ] = []  # noqa: RUF012 (never changed)
    all_vms: Annotated[bool, Option("--all", help="Every VM of the plan.")] = False
    plan: Annotated[
        Path | None,
        Option("--plan", metavar="FILE", help="The recovery plan: networks, sizes, order.", complete="file"),
    ] = None
    at: Annotated[
        str | None,
        Option(
            "--at",
            metavar="POINT",
            help="A restore point by number or label (default: the newest staged).",
            complete="point",
        ),
    ] = None
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say what would be done and what is missing; change nothing.")
    ] = False
    via: Annotated[
        str | None,
        Option(
            "--via",
            metavar="HOW",
            help="register-image (minutes) or import-image (an hour; licences).",
            complete="register-image import-image",
        ),
    ] = None
    region: options.Region = None


def failover(given: FailoverOptions) -> int:
    """Start VMs in EC2 from what is staged. Run it again if it was interrupted: it goes on."""
    from warmspare.engine.requests.recovery_requests import FailoverRequest

    def request() -> FailoverRequest:
        return FailoverRequest(
            vms=tuple(given.vm),
            everything=given.all_vms,
            plan=given.plan,
            at=given.at,
            dry_run=given.dry_run,
            via=given.via,
            repository=given.repository(),
            region=given.region,
        )

    problems = AllProblems("the recovery plan", hint="correct them, each as it is said, and run this again")
    return act(request, given, problems=problems if given.dry_run else None)
