"""A map of a disk as SVG: regions in rows from its beginning, each in the colour of the gravest that is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from warmspare.model.units import BLOCK_BYTES
from warmspare.pages.page_frame import escape, size

COLUMNS = 128  # regions in a row
CELL, GAP = 9, 1


@dataclass(frozen=True, slots=True)
class MapKind:
    """Something that can be said of a block. name: as figures and colours (page.css) call it. meaning: for the key.
    glyph: the path of a sign on each such region, so that colour is not all that tells; "" for what is uneventful, of
    which neighbours are one shape."""

    name: str
    meaning: str
    glyph: str = ""


@dataclass(frozen=True, slots=True)
class MapLegend:
    """kinds: later ones hide earlier ones where a region is drawn. rest: of a region where there is none of these."""

    kinds: tuple[MapKind, ...]
    rest: MapKind


@dataclass(frozen=True, slots=True)
class DrawnDisk:
    """What is drawn. columns: for each kind its count of blocks in each region. said: all of it in a sentence."""

    legend: MapLegend
    capacity_bytes: int
    cell_blocks: int
    columns: Sequence[Sequence[int]]
    said: str

    @property
    def cells(self) -> list[tuple[MapKind, list[int]]]:
        """For each region the gravest that is said in it, and the counts in the order of the kinds."""
        out = []
        for counts in zip(*self.columns, strict=True):
            worst = self.legend.rest
            for kind, count in zip(self.legend.kinds, counts, strict=True):
                if count:
                    worst = kind
            out.append((worst, list(counts)))
        return out


def figure(disk: DrawnDisk, link: Callable[[int, int], str] = lambda first, stop: "") -> Iterator[str]:
    """The map with its key. link: where a region with a sign leads to, of its bytes [first, stop); "" for nowhere."""
    yield f"<figure>{_map(disk, link)}<figcaption>"
    for kind in (*disk.legend.kinds, disk.legend.rest):
        yield f'<span class="key">{_key(kind)}{escape(kind.meaning)}</span>'
    region = size(disk.cell_blocks * BLOCK_BYTES)
    yield f"<span>One square is {region}, coloured by the gravest result in it.</span></figcaption></figure>"


def _map(disk: DrawnDisk, link: Callable[[int, int], str]) -> str:
    cells = disk.cells
    columns = min(COLUMNS, max(16, len(cells)))
    rows = -(-len(cells) // columns)
    region = disk.cell_blocks * BLOCK_BYTES
    parts = [
        f'<svg viewBox="0 0 {columns * (CELL + GAP)} {rows * (CELL + GAP)}" role="img" '
        f'aria-label="{escape(disk.said)}" xmlns="http://www.w3.org/2000/svg">'
    ]
    at = 0
    while at < len(cells):
        kind, counts = cells[at]
        stop, row_end = at + 1, (at // columns + 1) * columns
        if not kind.glyph:
            while stop < min(row_end, len(cells)) and cells[stop][0] == kind:
                counts = [a + b for a, b in zip(counts, cells[stop][1], strict=True)]
                stop += 1
        x, y = at % columns * (CELL + GAP), at // columns * (CELL + GAP)
        end = min(stop * region, disk.capacity_bytes)
        tip = f"{at * region:,} to {end:,}: " + _tally(disk.legend, counts)
        shape = (
            f'<rect class="{kind.name}" data-result="{kind.name}" data-first="{at}" data-count="{stop - at}" x="{x}" '
            f'y="{y}" width="{(stop - at) * (CELL + GAP) - GAP}" height="{CELL}" rx="1"><title>{escape(tip)}</title>'
            "</rect>"
        )
        if kind.glyph:
            shape += f'<path class="glyph" transform="translate({x},{y})" d="{kind.glyph}"/>'
            if there := link(at * region, end):
                shape = f'<a href="{escape(there)}" aria-label="{escape(tip)}">{shape}</a>'
        parts.append(shape)
        at = stop
    return "".join([*parts, "</svg>"])


def _tally(legend: MapLegend, counts: Sequence[int]) -> str:
    words = [f"{count:,} {kind.name}" for kind, count in zip(legend.kinds, counts, strict=True) if count]
    return ", ".join(words) or legend.rest.meaning


def _key(kind: MapKind) -> str:
    glyph = f'<path class="glyph" d="{kind.glyph}"/>' if kind.glyph else ""
    rect = f'<rect class="{kind.name}" width="{CELL}" height="{CELL}" rx="1"/>'
    return f'<svg viewBox="0 0 {CELL} {CELL}" aria-hidden="true">{rect}{glyph}</svg>'
