"""A report as one page for a browser: verdict, figures, a map of each disk, findings; owns its drawing and no figure.

The kept report (archive.py) is the evidence, the page is a view of it; its frame and its maps are those of `pages/`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from warmspare.audit.reports.findings import Finding, Severity
from warmspare.audit.reports.report import RESULTS, AuditReport, DiskResult
from warmspare.pages.disk_map import DrawnDisk, MapKind, MapLegend, figure
from warmspare.pages.page_frame import document, duration, escape, facts, mark_of, size, tiles

MARK = mark_of("audit")
_LEGEND = MapLegend(
    (
        MapKind("zero", "zeros, as expected"),
        MapKind("sound", "sound: the expected hash"),
        MapKind("repaired", "was wrong, repaired", "M2 5 L4 7 L7 2"),
        MapKind("wrong", "wrong", "M2 2 L7 7 M7 2 L2 7"),
    ),
    MapKind("unseen", "not looked at"),
)
assert tuple(kind.name for kind in _LEGEND.kinds) == RESULTS


def render(report: AuditReport, sha256: str) -> str:
    """The page. sha256: of the kept report."""
    title = f"Audit {report.number}: {report.kind} {report.vm_name or report.subject}"
    return document(MARK, title, _body(report, sha256))


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
    figures = [(f"{report.coverage_percent:.4g} %", "coverage")]
    if blocks:
        figures += [
            (f"{judged:,}", "blocks judged"),
            (f"{wrong:,}", "blocks wrong"),
            (f"{repaired:,}", "blocks repaired"),
        ]
    figures += [(size(report.bytes_read), "read"), (duration(report.seconds), "taken")]
    if report.seconds and report.bytes_read:
        figures.append((f"{size(report.bytes_read / report.seconds)}/s", "rate"))
    yield from tiles(figures)


def _facts(report: AuditReport, sha256: str) -> Iterator[str]:
    rows: list[tuple[str, str]] = []
    if report.vm_name:
        rows.append(("VM", report.vm_name + (f" ({report.vm})" if report.vm != report.vm_name else "")))
    if report.point:
        rows += [
            ("Against restore point", f"{report.point.label}, made {report.point.created}"),
            ("its record's SHA-256", report.point.sha256),
        ]
    rows += [
        ("Repository", f"{report.repository} (ID {report.repository_id})"),
        ("Extent", report.mode),
        ("Began, ended", f"{report.began}, {report.ended}"),
    ]
    if report.resumed:
        rows.append(("Interrupted", f"goes on with an audit that began {report.resumed}"))
    rows.append(("By", f"{report.software} on {report.host}"))
    if report.bytes_fetched:
        rows.append(("Fetched from the repository", size(report.bytes_fetched)))
    rows += [
        (name.replace("_", " ").capitalize(), f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in report.figures.items()
    ]
    rows += [
        ("Report", f"{report.number}, SHA-256 {sha256}"),
        ("Report before it", report.previous or "none, it is the first"),
    ]
    yield from facts(rows)


# disks


def _disk(number: int, disk: DiskResult, links: dict[int, int]) -> Iterator[str]:
    yield f'<section aria-labelledby="disk{number}"><h2 id="disk{number}">Disk {escape(disk.name)}</h2>'
    said = (
        f"{disk.blocks:,} blocks: {disk.sound:,} sound, {disk.zero:,} zeros as expected, {disk.repaired:,} repaired, "
        f"{disk.wrong:,} wrong, {disk.blocks - disk.judged:,} not looked at"
    )
    offsets = sorted(links)

    def link(first: int, stop: int) -> str:
        """To the first finding in these bytes."""
        found = bisect_left(offsets, first)
        inside = found < len(offsets) and offsets[found] < stop
        return f"#finding{links[offsets[found]] + 1}" if inside else ""

    yield from figure(DrawnDisk(_LEGEND, disk.capacity_bytes, disk.map.cell_blocks, disk.map.columns(), said), link)
    yield from facts(
        (
            ("Size", f"{size(disk.capacity_bytes)} ({disk.capacity_bytes:,} bytes)"),
            ("Result", said),
            ("Read", f"{size(disk.bytes_read)} in {duration(disk.seconds)}; holes are not read"),
            ("Path", disk.path),
            ("ID", disk.id),
            ("Held against Merkle root", disk.root),
        ),
        apart=True,
    )
    yield "</section>"


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
