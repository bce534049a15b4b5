"""`warmspare points`: what a repository holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.cli.telling.output import Show, write_line

if TYPE_CHECKING:
    from warmspare.engine.requests.repository_requests import PointsRequest
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.repository_events import PointListed

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


class PointLines(Show):
    """A line a restore point, under the name of its VM."""

    def __init__(self) -> None:
        self._heading = ""

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.repository_events import PointListed

        if not isinstance(event, PointListed):
            return False
        heading = f"VM {event.vm_name}" + (f" ({event.vm})" if event.vm != event.vm_name else "")
        if heading != self._heading:
            self._heading = heading
            write_line(heading)
        write_line(line(event))
        return True


def line(point: PointListed) -> str:
    """A restore point in a line."""
    from warmspare.observe.quantities import age, size

    disks = ", ".join(f"{disk.name} {size(disk.capacity_bytes)}" for disk in point.disks)
    tail = f"  UNPROTECTED: {', '.join(one.name for one in point.unprotected)}" if point.unprotected else ""
    made = f"{point.created}  {age(point.age_seconds):>6} ago"
    return (
        f"  {point.point:<14} {made}  {size(point.bytes_changed):>10} changed  "
        f"{size(point.bytes_sent):>10} sent  {disks}{tail}"
    )
