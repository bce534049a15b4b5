"""`warmspare points`: what a repository holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.cli.telling.point_lines import PointLines

if TYPE_CHECKING:
    from warmspare.engine.requests.repository_requests import PointsRequest

_TIME = "2026-11-29, 2026-11-29T03:00 (UTC), or how long ago: 7d."


class PointsOptions(options.RepositoryOptions):
    vm: options.OneVm = None
    since: Annotated[str | None, Option("--since", metavar="TIME", help=f"Only those made since then: {_TIME}")] = None
    until: Annotated[str | None, Option("--until", metavar="TIME", help=f"Only those made until then: {_TIME}")] = None
    last: Annotated[
        int | None, Option("--last", metavar="N", help="Only so many of the newest of each VM.", least=1)
    ] = None
    at: Annotated[
        str | None, Option("--at", metavar="POINT", help="Only this one, by number or label.", complete="point")
    ] = None


def points(given: PointsOptions) -> int:
    """List restore points."""

    def request() -> PointsRequest:
        from warmspare.engine.requests.repository_requests import PointsRequest

        return PointsRequest(
            repository=given.repository(),
            vm=given.vm,
            since_s=options.moment(given.since, "--since"),
            until_s=options.moment(given.until, "--until", end=True),
            last=given.last,
            at=given.at,
        )

    return act(request, given, PointLines())
