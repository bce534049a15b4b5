"""Two restore points held against each other, as a page for a browser: figures, and a map a disk; owns no figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from warmspare.diff.disk_diff import BlockChange, DiskDiff, DiskPresence
from warmspare.diff.point_diff import PointDiff
from warmspare.model.units import block_count
from warmspare.pages.disk_map import DrawnDisk, MapKind, MapLegend, figure
from warmspare.pages.page_frame import document, escape, facts, mark_of, size, tiles
from warmspare.repository.chain import Point

MARK = mark_of("diff")
_LEGEND = MapLegend(
    (
        MapKind("filled", "zeros before, data after"),
        MapKind("emptied", "data before, zeros after"),
        MapKind("changed", "other data"),
    ),
    MapKind("same", "the same"),
)
assert tuple(kind.name for kind in _LEGEND.kinds) == tuple(change.name.lower() for change in BlockChange)
_PRESENCE = {
    DiskPresence.BOTH: "in both restore points",
    DiskPresence.JOINED: "in the second restore point alone",
    DiskPresence.LEFT: "in the first restore point alone",
}


def render(diff: PointDiff, repository: str) -> str:
    """The page. repository: its URI."""
    first, second = diff.first.id.label, diff.second.id.label
    return document(MARK, f"{diff.second.record.vm_name}: {first} and {second}", _body(diff, repository))


def _body(diff: PointDiff, repository: str) -> Iterator[str]:
    name = diff.second.record.vm_name
    blocks = sum(disk.blocks for disk in diff.disks)
    verdict = f"{blocks:,} blocks differ" if blocks else "No block differs"
    yield "<main>"
    yield (
        f"<header><h1><small>What differs of VM {escape(name)}</small>{escape(diff.first.id.label)} and "
        f'{escape(diff.second.id.label)}</h1><p class="verdict plain" id="verdict">{verdict}</p></header>'
    )
    pages = sum(disk.pages for disk in diff.disks)
    yield from tiles(
        (
            (f"{blocks:,}", "blocks differ"),
            (size(sum(disk.block_total_bytes for disk in diff.disks)), "in these blocks"),
            (f"{pages:,}", _of_pages(diff.disks)),
            (size(sum(disk.page_total_bytes for disk in diff.disks)), "in these pages"),
        )
    )
    yield '<section aria-labelledby="what"><h2 id="what">What was compared</h2>'
    yield from facts(
        (
            ("VM", name + (f" ({diff.vm})" if diff.vm != name else "")),
            ("First", _point(diff.first)),
            ("Second", _point(diff.second)),
            ("Repository", repository),
            ("Blocks", "exact: the hash of each block of 64 KiB, held against the roots that both points state"),
            ("Pages", _how(diff.disks)),
        )
    )
    yield "</section>"
    for number, disk in enumerate(diff.disks):
        yield from _disk(number, disk)
    yield "</main>"
    yield (
        "<footer><p>From the first restore point to the second. Beyond the end of a disk are zeros, and the short last "
        "block of one that grew counts as another.</p></footer>"
    )


def _point(point: Point) -> str:
    return f"{point.id.label}, made {point.record.created}, SHA-256 {point.id.sha256}"


def _of_pages(disks: Sequence[DiskDiff]) -> str:
    exact = all(disk.pages_exact for disk in disks)
    return "pages differ" if exact else "pages at most"


def _how(disks: Sequence[DiskDiff]) -> str:
    if all(disk.pages_exact for disk in disks):
        return "exact: the blocks that differ were fetched at both points and compared"
    return "at most: those of the differing blocks that were written between; some may be alike, which --exact tells"


def _disk(number: int, disk: DiskDiff) -> Iterator[str]:
    yield f'<section aria-labelledby="disk{number}"><h2 id="disk{number}">Disk {escape(disk.disk.name)}</h2>'
    counts = [disk.count(change) for change in BlockChange]
    whole = block_count(disk.capacity_bytes)
    filled, emptied, changed = counts
    same = whole - disk.blocks
    said = f"{whole:,} blocks: {filled:,} filled, {emptied:,} emptied, {changed:,} changed, {same:,} the same"
    yield from figure(DrawnDisk(_LEGEND, disk.capacity_bytes, disk.map.cell_blocks, disk.map.columns(), said))
    sizes = [f"{size(one.capacity_bytes)} ({one.capacity_bytes:,} bytes)" for one in (disk.before, disk.after) if one]
    most = "" if disk.pages_exact else "at most "
    yield from facts(
        (
            ("Disk", f"{_PRESENCE[disk.presence]}, {' to '.join(dict.fromkeys(sizes))}"),
            ("Blocks", f"{said}; {size(disk.block_total_bytes)} differ"),
            ("Pages", f"{most}{disk.pages:,}, {size(disk.page_total_bytes)}"),
            ("ID", disk.disk.id),
        ),
        apart=True,
    )
    yield "</section>"
