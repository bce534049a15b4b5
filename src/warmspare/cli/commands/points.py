"""`warmspare points`: what a repository holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli import options
from warmspare.cli.run import act
from warmspare.cli.telling.output import Show, write_line

if TYPE_CHECKING:
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.repository_events import PointListed


class PointsOptions(options.RepositoryOptions):
    vm: options.OneVm = None


def points(given: PointsOptions) -> int:
    """List restore points."""
    from warmspare.engine.requests.repository_requests import PointsRequest

    return act(lambda: PointsRequest(repository=given.repository(), vm=given.vm), given, PointLines())


class PointLines(Show):
    """A line a restore point, under the name of its VM."""

    def __init__(self) -> None:
        self._heading = ""

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.repository_events import PointListed, PointsDone

        if isinstance(event, PointListed):
            if (heading := _heading(event)) != self._heading:
                self._heading = heading
                write_line(heading)
            write_line(line(event))
        elif isinstance(event, PointsDone):
            if not event.count:
                write_line("no restore points")
        else:
            return False
        return True


def _heading(point: PointListed) -> str:
    """Which VM: its name, and its ID where that is another."""
    return f"VM {point.vm_name}" + (f" ({point.vm})" if point.vm != point.vm_name else "")


def line(point: PointListed) -> str:
    """A restore point in a line."""
    from warmspare.observe.quantities import size

    disks = ", ".join(f"{disk.name} {size(disk.capacity_bytes)}" for disk in point.disks)
    tail = f"  UNPROTECTED: {', '.join(one.name for one in point.unprotected)}" if point.unprotected else ""
    return (
        f"  {point.point:<14} {point.created}  {size(point.bytes_changed):>10} changed  "
        f"{size(point.bytes_sent):>10} sent  {disks}{tail}"
    )
