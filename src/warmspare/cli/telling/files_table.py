"""What `files ls` tells, for a person: volumes as a table, files as lines as `ls -l` has them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from warmspare.cli.telling.output import Show, write_line

if TYPE_CHECKING:
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.looking_events import EntryListed, VolumeListed

_KINDS = {"folder": "d", "file": "-", "link": "l", "other": "?"}


class FilesTable(Show):
    """Gathers the volumes until all are told; a file is shown as it comes."""

    def __init__(self) -> None:
        self._volumes: list[VolumeListed] = []

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.looking_events import EntryListed, FilesListed, VolumeListed

        if isinstance(event, VolumeListed):
            self._volumes.append(event)
        elif isinstance(event, EntryListed):
            write_line(line(event))
        elif isinstance(event, FilesListed) and self._volumes:
            _table(f"VM {event.vm_name} at restore point {event.point}", self._volumes)
        else:
            return False
        return True


def line(entry: EntryListed) -> str:
    """A file in a line."""
    modified = (entry.modified or "-").removesuffix("Z").replace("T", " ")
    size = "-" if entry.bytes is None else str(entry.bytes)
    leads = f" -> {entry.target}" if entry.target else ""
    return f"{_KINDS[entry.kind]}{_letters(entry.mode)} {size:>14} {modified:>19}  {entry.path}{leads}"


def _letters(mode: str | None) -> str:
    return "?" * 9 if mode is None else stat.filemode(int(mode, 8))[1:]


def _table(title: str, volumes: list[VolumeListed]) -> None:
    from warmspare.cli.telling.console import columns, text
    from warmspare.observe.quantities import size

    headings = ("volume", "system", "file system", "label", "size", "disk", "not read")
    rows = [
        (
            one.volume,
            one.system or "",
            one.filesystem or "",
            one.label,
            "" if one.bytes is None else size(one.bytes),
            one.disk,
            one.why or "",
        )
        for one in volumes
    ]
    kept = [place for place in range(len(headings)) if any(row[place] for row in rows)]
    columns(title, [headings[place] for place in kept], [[text(row[place]) for place in kept] for row in rows])
