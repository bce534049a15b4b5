"""Restore points for a person: a line each, under its day, under the name of its VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli.telling.output import Show, write_line

if TYPE_CHECKING:
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.repository_events import PointListed


class PointLines(Show):
    """Shows `point` events, which come VM by VM, oldest first."""

    def __init__(self) -> None:
        self._heading = self._day = ""

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.repository_events import PointListed

        if not isinstance(event, PointListed):
            return False
        heading = f"VM {event.vm_name}" + (f" ({event.vm})" if event.vm != event.vm_name else "")
        if heading != self._heading:
            self._heading, self._day = heading, ""
            write_line(heading)
        day, _, _ = event.local.partition("T")
        if day != self._day:
            self._day = day
            write_line(f"  {day}")
        write_line(line(event))
        return True


def line(point: PointListed) -> str:
    """A restore point in a line, without its day."""
    from msgspec import UNSET

    from warmspare.observe.quantities import age, size

    disks = ", ".join(f"{disk.name} {size(disk.capacity_bytes)}" for disk in point.disks)
    tail = f"  UNPROTECTED: {', '.join(one.name for one in point.unprotected)}" if point.unprotected else ""
    clock = point.local.partition("T")[2].replace("+00:00", "Z")
    if point.kept is not UNSET:
        tail += f"  KEPT: {', '.join(point.kept)}" if point.kept else "  not kept"
    elif point.held:
        tail += f"  HELD: {', '.join(point.held)}"
    return (
        f"    {point.point:<14} {clock}  {age(point.age_seconds):>6} ago  {size(point.bytes_changed):>10} changed  "
        f"{size(point.bytes_sent):>10} sent  {disks}{tail}"
    )
