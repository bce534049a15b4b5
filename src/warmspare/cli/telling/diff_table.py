"""What `diff` tells, for a person: a row a disk, and in the head of a column whether its number is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from warmspare.cli.telling.output import Show, write_line

if TYPE_CHECKING:
    from warmspare.observe.event import Event
    from warmspare.observe.kinds.looking_events import DiskDiffered


class DiffTable(Show):
    """Gathers the disks until all are told."""

    def __init__(self) -> None:
        self._disks: list[DiskDiffered] = []

    def event(self, event: Event) -> bool:
        from warmspare.observe.kinds.looking_events import DiffDone, DiskDiffered

        if isinstance(event, DiskDiffered):
            self._disks.append(event)
            return True
        if not isinstance(event, DiffDone):
            return False
        if event.first != event.second:
            _table(f"VM {event.vm_name}", self._disks, exact=event.pages_exact)
        write_line(event.words())
        if not event.pages_exact and event.pages:
            write_line(
                "blocks are exact, by their hashes; pages are those that were written between, some of which may be "
                "alike: --exact fetches and compares them"
            )
        return True


def _table(title: str, disks: list[DiskDiffered], *, exact: bool) -> None:
    from warmspare.cli.telling.console import columns, text
    from warmspare.observe.quantities import size

    headings = (
        "disk",
        "size",
        "blocks",
        "filled",
        "emptied",
        "changed",
        "bytes",
        "pages" if exact else "pages ≤",
        "bytes",
    )
    rows = [
        [
            text(cell)
            for cell in (
                one.name,
                _size(one),
                f"{one.blocks:,}",
                f"{one.blocks_filled:,}",
                f"{one.blocks_emptied:,}",
                f"{one.blocks_changed:,}",
                size(one.bytes_blocks),
                f"{one.pages:,}",
                size(one.bytes_pages),
            )
        ]
        for one in disks
    ]
    columns(title, headings, rows)


def _size(disk: DiskDiffered) -> str:
    from warmspare.observe.quantities import size

    before, after = (None if one is None else size(one) for one in (disk.capacity_before, disk.capacity_after))
    if before is None:
        return f"{after}, joined"
    return (
        f"{before}, left"
        if after is None
        else before
        if disk.capacity_before == disk.capacity_after
        else f"{before} to {after}"
    )
