"""A report as one page for a browser: verdict, figures, a map of each disk, findings; owns its drawing and no figure.

The page asks for nothing from outside: styles and drawings are in it, there is no script, and its content security
policy forbids everything else. The kept report (kept.py) is the evidence, the page is a view of it.
"""

from __future__ import annotations

import importlib.resources
from bisect import bisect_left
from collections.abc import Iterator
from html import escape as escape_html

from warmspare.audit.reports.findings import Finding, Severity
from warmspare.audit.reports.report import RESULTS, AuditReport, DiskMap, DiskResult
from warmspare.model.units import BLOCK_BYTES
from warmspare.outside.text import shown

# What a page begins with, and by which it is known for one of ours: only such a one is replaced.
MARK = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="warmspare audit">"""
COLUMNS = 128  # regions in a row of the map
CELL, GAP = 9, 1
_NAMES = {
    "zero": "zeros, as expected",
    "sound": "sound: the expected hash",
    "repaired": "was wrong, repaired",
    "wrong": "wrong",
    "unseen": "not looked at",
}
_GLYPHS = {"wrong": "M2 2 L7 7 M7 2 L2 7", "repaired": "M2 5 L4 7 L7 2"}  # so that colour is not all that tells


def escape(value: str) -> str:
    """Anybody's text on the page: neither markup nor what acts or hides."""
    return escape_html(shown(str(value)))


def render(report: AuditReport, sha256: str) -> str:
    """The page. sha256: of the kept report."""
    style = importlib.resources.files("warmspare.audit.reports").joinpath("page.css").read_text(encoding="utf-8")
    title = f"Audit {report.number}: {report.kind} {report.vm_name or report.subject}"
    body = "\n".join(_body(report, sha256))
    return f"""{MARK.decode()}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _body(report: AuditReport, sha256: str) -> Iterator[str]:
    verdict = "Clean: nothing wrong was found" if report.clean else _counted(report)
    kind, sign = ("clean", "&#10003;") if report.clean else ("findings", "&#10007;")
    yield "<main>"
    yield (
        f"<header><h1><small>Audit of the {report.kind}</small>{escape(report.subject)}</h1>"
        f'<p class="verdict {kind}" id="verdict">{sign} {escape(verdict)}</p></header>'
    )
    yield from _tiles(report)
    yield '<section aria-labelledby="what"><h2 id="what">What was checked</h2>'
    yield from _facts(report, sha256)
    yield "</section>"
    for number, disk in enumerate(report.disks):
        mine = ((i, each) for i, each in enumerate(report.findings) if each.disk == disk.id)
        yield from _disk(number, disk, {each.offset: i for i, each in mine if each.offset is not None})
    yield from _findings(report)
    if report.notes:
        yield '<section aria-labelledby="notes"><h2 id="notes">What this audit does not say</h2><ul>'
        for note in report.notes:
            yield f"<li>{escape(note)}.</li>"
        yield "</ul></section>"
    yield "</main>"
    yield (
        f"<footer><p>This page is a view of report {report.number}, which is the evidence: its SHA-256 is "
        f"<code>{sha256}</code>. Each report names the one before it; <code>warmspare audit verify-report --head "
        f"{sha256[:12]}…</code> with the whole digest proves that it and all before it are unchanged.</p></footer>"
    )


def _counted(report: AuditReport) -> str:
    total = len(report.findings) + report.findings_left_out
    repaired = sum(each.repaired for each in report.findings)
    text = f"{total:,} finding" + ("s" if total != 1 else "")
    if repaired == total:
        return f"{text}, repaired"
    return text + (f", {repaired:,} repaired" if repaired else "")


def _tiles(report: AuditReport) -> Iterator[str]:
    blocks, judged = sum(disk.blocks for disk in report.disks), sum(disk.judged for disk in report.disks)
    wrong, repaired = sum(disk.wrong for disk in report.disks), sum(disk.repaired for disk in report.disks)
    tiles = [(f"{report.coverage_percent:.4g} %", "coverage")]
    if blocks:
        tiles += [
            (f"{judged:,}", "blocks judged"),
            (f"{wrong:,}", "blocks wrong"),
            (f"{repaired:,}", "blocks repaired"),
        ]
    tiles += [(size(report.bytes_read), "read"), (duration(report.seconds), "taken")]
    if report.seconds and report.bytes_read:
        tiles.append((f"{size(report.bytes_read / report.seconds)}/s", "rate"))
    yield '<div class="tiles">'
    for value, name in tiles:
        yield f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
    yield "</div>"


def _facts(report: AuditReport, sha256: str) -> Iterator[str]:
    facts: list[tuple[str, str]] = []
    if report.vm_name:
        facts.append(("VM", report.vm_name + (f" ({report.vm})" if report.vm != report.vm_name else "")))
    if report.point:
        facts += [
            ("Against restore point", f"{report.point.label}, made {report.point.created}"),
            ("its record's SHA-256", report.point.sha256),
        ]
    facts += [
        ("Repository", f"{report.repository} (ID {report.repository_id})"),
        ("Extent", report.mode),
        ("Began, ended", f"{report.began}, {report.ended}"),
    ]
    if report.resumed:
        facts.append(("Interrupted", f"goes on with an audit that began {report.resumed}"))
    facts.append(("By", f"{report.software} on {report.host}"))
    if report.bytes_fetched:
        facts.append(("Fetched from the repository", size(report.bytes_fetched)))
    facts += [
        (name.replace("_", " ").capitalize(), f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in report.figures.items()
    ]
    facts += [
        ("Report", f"{report.number}, SHA-256 {sha256}"),
        ("Report before it", report.previous or "none, it is the first"),
    ]
    yield "<dl>"
    for name, value in facts:
        yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
    yield "</dl>"


# disks


def _disk(number: int, disk: DiskResult, links: dict[int, int]) -> Iterator[str]:
    yield f'<section aria-labelledby="disk{number}"><h2 id="disk{number}">Disk {escape(disk.name)}</h2>'
    region = disk.map.cell_blocks * BLOCK_BYTES
    said = (
        f"{disk.blocks:,} blocks: {disk.sound:,} sound, {disk.zero:,} zeros as expected, {disk.repaired:,} repaired, "
        f"{disk.wrong:,} wrong, {disk.blocks - disk.judged:,} not looked at"
    )
    yield f"<figure>{_map(disk, links, said)}<figcaption>"
    for name in (*RESULTS, "unseen"):
        yield f'<span class="key">{_key(name)}{escape(_NAMES[name])}</span>'
    yield f"<span>One square is {size(region)}, coloured by the gravest result in it.</span></figcaption></figure>"
    yield '<dl style="margin-top:12px">'
    for term, value in (
        ("Size", f"{size(disk.capacity_bytes)} ({disk.capacity_bytes:,} bytes)"),
        ("Result", said),
        ("Read", f"{size(disk.bytes_read)} in {duration(disk.seconds)}; holes are not read"),
        ("Path", disk.path),
        ("ID", disk.id),
        ("Held against Merkle root", disk.root),
    ):
        yield f"<dt>{escape(term)}</dt><dd>{escape(value)}</dd>"
    yield "</dl></section>"


def results(shown: DiskMap) -> list[tuple[str, list[int]]]:
    """For each region of a map the gravest result in it, and its counts in the order of RESULTS."""
    out = []
    for counts in zip(*shown.columns(), strict=True):
        worst = "unseen"
        for name, count in zip(RESULTS, counts, strict=True):
            if count:
                worst = name
        out.append((worst, list(counts)))
    return out


def _map(disk: DiskResult, links: dict[int, int], said: str) -> str:
    """Regions in rows, from the top left; neighbours with one uneventful result are one shape."""
    cells = results(disk.map)
    columns = min(COLUMNS, max(16, len(cells)))
    rows = -(-len(cells) // columns)
    region = disk.map.cell_blocks * BLOCK_BYTES
    offsets = sorted(links)
    parts = [
        f'<svg viewBox="0 0 {columns * (CELL + GAP)} {rows * (CELL + GAP)}" role="img" aria-label="{escape(said)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    ]
    at = 0
    while at < len(cells):
        result, counts = cells[at]
        stop, row_end = at + 1, (at // columns + 1) * columns
        if result not in _GLYPHS:
            while stop < min(row_end, len(cells)) and cells[stop][0] == result:
                counts = [a + b for a, b in zip(counts, cells[stop][1], strict=True)]
                stop += 1
        x, y = at % columns * (CELL + GAP), at // columns * (CELL + GAP)
        end = min(stop * region, disk.capacity_bytes)
        tip = f"{at * region:,} to {end:,}: " + _tally(counts)
        shape = (
            f'<rect class="{result}" data-result="{result}" data-first="{at}" data-count="{stop - at}" x="{x}" y="{y}" '
            f'width="{(stop - at) * (CELL + GAP) - GAP}" height="{CELL}" rx="1"><title>{escape(tip)}</title></rect>'
        )
        if result in _GLYPHS:
            shape += f'<path class="glyph" transform="translate({x},{y})" d="{_GLYPHS[result]}"/>'
            found = bisect_left(offsets, at * region)
            if found < len(offsets) and offsets[found] < end:
                shape = f'<a href="#finding{links[offsets[found]] + 1}" aria-label="{escape(tip)}">{shape}</a>'
        parts.append(shape)
        at = stop
    return "".join([*parts, "</svg>"])


def _tally(counts: list[int]) -> str:
    words = [f"{count:,} {name}" for name, count in zip(RESULTS, counts, strict=True) if count]
    return ", ".join(words) or "not looked at"


def _key(name: str) -> str:
    glyph = f'<path class="glyph" d="{_GLYPHS[name]}"/>' if name in _GLYPHS else ""
    rect = f'<rect class="{name}" width="{CELL}" height="{CELL}" rx="1"/>'
    return f'<svg viewBox="0 0 {CELL} {CELL}" aria-hidden="true">{rect}{glyph}</svg>'


# findings


def _findings(report: AuditReport) -> Iterator[str]:
    yield '<section aria-labelledby="found"><h2 id="found">Findings</h2>'
    if not report.findings:
        yield "<p>None.</p></section>"
        return
    yield (
        '<div class="scroll"><table id="findings"><thead><tr><th class="number" scope="col">No.</th>'
        '<th scope="col">Finding</th><th scope="col">Where</th><th class="number" scope="col">Offset</th>'
        '<th class="number" scope="col">Bytes</th><th scope="col">Expected, and found</th>'
        '<th scope="col">What it means, and what to do</th></tr></thead><tbody>'
    )
    for number, each in enumerate(report.findings, 1):
        yield _finding(number, each)
    yield "</tbody></table></div>"
    if report.findings_left_out:
        yield f"<p>{report.findings_left_out:,} more are wrong and not listed; the map shows them.</p>"
    yield "</section>"


def _finding(number: int, each: Finding) -> str:
    offset = "" if each.offset is None else f"{each.offset:,}"
    length = "" if each.length is None else f"{each.length:,}"
    done = '<br><span class="done">&#10003; repaired</span>' if each.repaired else ""
    remedy = "" if each.repaired or not each.remedy else f" <b>To do:</b> {escape(each.remedy)}."
    severity = f'<span class="{each.severity}">{escape(each.kind)}</span>'
    grade = "" if each.severity is Severity.ERROR else f"<br>{escape(each.severity)}"
    return (
        f'<tr id="finding{number}" data-kind="{escape(each.kind)}"><td class="number">{number}</td>'
        f"<td>{severity}{grade}{done}</td><td>{escape(each.key or each.disk)}</td>"
        f'<td class="number">{offset}</td><td class="number">{length}</td>'
        f'<td class="mono">{escape(each.expected)}<br>but: {escape(each.actual)}</td>'
        f'<td class="what">{escape(each.meaning[:1].upper() + each.meaning[1:])}.{remedy}</td></tr>'
    )


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1000 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" or count == int(count) else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return f"{minutes} min {int(seconds) % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
