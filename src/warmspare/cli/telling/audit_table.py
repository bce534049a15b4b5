"""An audit's report for a terminal or a log: verdict, figures, a strip for each disk, findings; owns no figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from warmspare.audit.reports.findings import ABOUT, FindingKind, Severity
from warmspare.audit.reports.report import RESULTS, DiskResult
from warmspare.cli.telling.console import PlainConsole, text
from warmspare.observe.quantities import duration, size
from warmspare.outside.text import shown

if TYPE_CHECKING:
    from warmspare.audit.reports.findings import Finding
    from warmspare.engine.wiring.audit_end import AuditEnd

PLACES = 3  # shown of each kind of finding; the report has them all
STRIP_CELLS = 48
LOG_COLUMNS = 140  # where no terminal says how wide it is
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}
# One character a region, by the gravest result in it; the last is for regions that were not looked at.
_STRIP = {"zero": ("-", "dim"), "sound": ("=", "green"), "repaired": ("R", "cyan"), "wrong": ("X", "bold red")}
_UNSEEN = (".", "dim")


def show(kept: AuditEnd) -> None:
    """Print a kept report. A reader that went away is no error."""
    console, report = PlainConsole(LOG_COLUMNS), kept.report
    console.print()
    verdict = Text("CLEAN", "bold green") if report.clean else Text("FINDINGS", "bold red")
    console.print(Text.assemble(f"Audit of the {report.kind} ", text(report.subject, "bold"), ": ", verdict))
    console.print(_figures(kept))
    if report.disks:
        console.print(_disks(report.disks))
    if report.findings:
        console.print(_findings(report.findings))
    for note in report.notes:
        console.print(text(f"  Note: {note}.", "dim"))
    console.print(text(f"  Report {report.number}: {kept.path}"), soft_wrap=True)
    console.print(f"  SHA-256 {kept.sha256}; noted elsewhere, it proves this report and all before it", soft_wrap=True)


def _figures(kept: AuditEnd) -> Table:
    report = kept.report
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    if report.point:
        table.add_row("restore point", text(f"{report.point.label} of {report.point.created}, VM {report.vm_name}"))
    table.add_row("repository", text(report.repository))
    judged, blocks = sum(disk.judged for disk in report.disks), sum(disk.blocks for disk in report.disks)
    extent = f"{report.coverage_percent:g} %" + (f": {judged:,} of {blocks:,} blocks" if blocks else "")
    table.add_row("judged", f"{extent} ({report.mode})")
    rate = f", {size(report.bytes_read / report.seconds)}/s" if report.seconds and report.bytes_read else ""
    table.add_row("read", f"{size(report.bytes_read)} in {duration(report.seconds)}{rate}")
    if report.bytes_fetched:
        table.add_row("fetched", size(report.bytes_fetched))
    resumed = f", begun {report.resumed}" if report.resumed else ""
    table.add_row("when", text(f"{report.began} to {report.ended}{resumed}"))
    table.add_row("by", text(f"{report.software} on {report.host}"))
    for name, value in report.figures.items():
        table.add_row(text(name.replace("_", " ")), text(f"{value:,}" if isinstance(value, int) else value))
    return table


def _disks(disks: list[DiskResult]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("disk", overflow="fold", min_width=12)
    for name in ("size", "zeros", "sound", "repaired", "wrong", "unseen"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("- zeros  = sound  R repaired  X wrong  . unseen", no_wrap=True)
    for disk in disks:
        table.add_row(
            text(disk.name),
            size(disk.capacity_bytes),
            f"{disk.zero:,}",
            f"{disk.sound:,}",
            f"{disk.repaired:,}",
            Text(f"{disk.wrong:,}", "bold red" if disk.wrong else ""),
            f"{disk.blocks - disk.judged:,}",
            strip(disk),
        )
    return table


def strip(disk: DiskResult) -> Text:
    """The disk from its beginning to its end in at most STRIP_CELLS characters."""
    columns = disk.map.columns()
    regions = len(columns[0])
    out = Text()
    cells = min(STRIP_CELLS, regions)
    for cell in range(cells):
        first, stop = cell * regions // cells, (cell + 1) * regions // cells
        mark = _UNSEEN
        for name, column in zip(RESULTS, columns, strict=True):
            if any(column[first:stop]):
                mark = _STRIP[name]
        out.append(*mark)
    return out


def _findings(findings: list[Finding]) -> Table:
    """A row for each kind and state, with the first places."""
    groups: dict[tuple[FindingKind, bool, str], list[Finding]] = {}
    for each in findings:
        groups.setdefault((each.kind, each.repaired, each.remedy), []).append(each)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("finding", no_wrap=True)
    table.add_column("count", justify="right")
    table.add_column("first at", overflow="fold", ratio=3)
    table.add_column("what it means, and what to do", ratio=5)
    for (kind, repaired, remedy), group in groups.items():
        name = Text(kind.value, _STYLES[group[0].severity])
        if repaired:
            name.append("\nrepaired", "green")
        places = "\n".join(place(each) for each in group[:PLACES]) + ("\n…" if len(group) > PLACES else "")
        meaning = group[0].meaning if len(group) == 1 else ABOUT[kind].meaning
        table.add_row(name, f"{len(group):,}", places, text(meaning if repaired else f"{meaning}; {remedy}"))
    return table


def place(each: Finding) -> str:
    """Where a finding is."""
    if each.offset is not None:
        return f"{shown(each.disk)} at {each.offset:,}, {each.length:,} bytes"
    return shown(each.key or each.disk)
