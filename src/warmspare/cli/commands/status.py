"""`warmspare status`: how each VM stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act

if TYPE_CHECKING:
    from warmspare.engine.requests.status_requests import StatusRequest


class StatusOptions(options.RepositoryOptions):
    vm: Annotated[
        list[str], Option("--vm", metavar="NAME", help="Only this VM; may be given several times.", complete="vm")
    ] = []  # noqa: RUF012 (never changed)
    staged: Annotated[bool, Option("--staged", help="Ask EC2 what is staged, too.")] = False
    region: options.Region = None
    profile: options.Profile = None
    strict: Annotated[
        bool, Option("--strict", help="End with 7 where a VM needs somebody, and with 5 where a chain is damaged.")
    ] = False
    state: options.SenderState = None
    records: options.DrillRecords = None
    reports: options.Reports = None


def status(given: StatusOptions) -> int:
    """Say how each VM stands: age, last drill and audit, and what is to be done next. Only looks."""
    from warmspare.cli.telling.status_table import StatusTable

    def request() -> StatusRequest:
        from warmspare.engine.requests.status_requests import StatusRequest

        place = given.repository()
        named = place.uri and (given.repo or not given.config)  # what is said here goes before the environment
        return StatusRequest(
            repository=place if named else None,
            config=options.config_file(given.config) if given.config or not named else None,
            vms=tuple(given.vm),
            staged=given.staged,
            region=given.region,
            profile=given.profile,
            state=options.sender_state(given.state),
            records=given.records,
            reports=given.reports,
            strict=given.strict,
        )

    return act(request, given, StatusTable())
