"""What an audit says in the end: what was checked against what, by whom, how far, with which result; a plain record.

Owns the model and its JSON (docs/format.md, "Audit report"), refuses to keep or to draw reports.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import msgspec

from warmspare.audit.reports.audit_summary import FORMAT as FORMAT
from warmspare.audit.reports.audit_summary import MAX_REPORT_BYTES, AuditKind
from warmspare.audit.reports.findings import Finding, Severity
from warmspare.model.units import block_count
from warmspare.outside import records
from warmspare.outside.records import Count, Line, Seconds, Sequence, Sha256, Sha256OrNone
from warmspare.pages.region_counts import MAX_CELLS as MAX_CELLS
from warmspare.pages.region_counts import RegionCounts
from warmspare.repository.chain import Point
from warmspare.state.report_chain import MOST_REPORTS, decoded

MAX_FINDINGS = 10_000  # listed in a report; more are counted, and are in its map

# What can be said of a block, in the order of the map's columns; later ones hide earlier ones where a cell is drawn.
RESULTS = ("zero", "sound", "repaired", "wrong")
ZERO, SOUND, REPAIRED, WRONG = range(4)


class PointRef(msgspec.Struct, frozen=True):
    """The restore point that was judged against: its label, sequence, the SHA-256 of its record, when it was made."""

    label: Line
    sequence: Sequence
    sha256: Sha256
    created: Line


class DiskMap(msgspec.Struct, frozen=True):
    """Results by region: cell i covers blocks [i * cell_blocks, (i + 1) * cell_blocks). Each column counts the blocks
    of a cell with one result, as runs: "64x3 7" is 64, 64, 64, 7. What is in none was not looked at."""

    cell_blocks: Count
    zero: str
    sound: str
    repaired: str
    wrong: str

    def columns(self) -> list[list[int]]:
        """The counts, in the order of RESULTS. ValueError where a column is malformed or too long."""
        return [_expand(column) for column in (self.zero, self.sound, self.repaired, self.wrong)]


def _fold(counts: list[int]) -> str:
    runs = ((value, len(list(group))) for value, group in itertools.groupby(counts))
    return " ".join(f"{value}x{length}" if length > 1 else str(value) for value, length in runs)


def _expand(column: str) -> list[int]:
    out: list[int] = []
    for run in column.split():
        value, _, length = run.partition("x")
        count, blocks = int(length or 1), int(value)
        if not 0 < count <= MAX_CELLS - len(out) or blocks < 0:
            raise ValueError(f"a map has more than {MAX_CELLS} regions, or one of less than no blocks")
        out += [blocks] * count
    return out


class DiskResult(msgspec.Struct, frozen=True):
    """One disk. path: where it was read, "" for none. root: the Merkle root its hashes were held against.

    blocks: all of the disk. judged: those with a result, of which zero are zeros as expected, sound have the expected
    hash, repaired were wrong and are right now, wrong are wrong still. bytes_read: hashed; holes cost none. seconds:
    of this disk.
    """

    id: str
    name: str
    path: str
    capacity_bytes: Count
    root: str
    blocks: Count
    judged: Count
    zero: Count
    sound: Count
    repaired: Count
    wrong: Count
    bytes_read: Count
    seconds: Seconds
    map: DiskMap

    @property
    def coverage_percent(self) -> float:
        return 100.0 * self.judged / self.blocks if self.blocks else 100.0


class AuditReport(msgspec.Struct, frozen=True):
    """One audit. number, previous: its place in the chain of reports, and the SHA-256 (hex) of the one before ("" for
    the first); both are set when it is kept.

    subject: what was looked at (a path, a URI). mode: how much of it ("all", "sample of 10 %"). point: None where
    several were judged; then `figures` and the findings name them. findings_left_out: beyond MAX_FINDINGS. resumed:
    when an interrupted run of this audit had begun, "" otherwise. figures: further numbers of the kind of audit. notes:
    what the audit could not see, in sentences.
    """

    format: Count
    number: Annotated[int, msgspec.Meta(ge=0, le=MOST_REPORTS)]
    previous: Sha256OrNone
    kind: AuditKind
    software: str
    host: str
    vm: str
    vm_name: str
    repository: str
    repository_id: str
    subject: str
    mode: str
    point: PointRef | None
    began: str
    ended: str
    seconds: Seconds
    coverage_percent: Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
    bytes_read: Count
    bytes_fetched: Count
    result: Literal["clean", "findings"]
    disks: list[DiskResult]
    findings: list[Finding]
    findings_left_out: Count = 0
    resumed: str = ""
    figures: dict[str, int | float | str] = {}
    notes: list[str] = []

    @property
    def clean(self) -> bool:
        return self.result == "clean"

    def count(self, severity: Severity) -> int:
        """How many of the listed findings are that grave."""
        return sum(each.severity is severity for each in self.findings)


def point_ref(point: Point) -> PointRef:
    return PointRef(point.id.label, point.id.sequence, point.id.sha256, point.record.created)


def encode(report: AuditReport) -> bytes:
    """The bytes that are kept: indented JSON."""
    return records.encode(report) + b"\n"


def fitting(report: AuditReport) -> tuple[AuditReport, bytes]:
    """The report as it can be kept and read again, and its bytes: with fewer findings, and without the maps of its
    disks, where it would be longer than one may be."""
    data = encode(report)
    while not records.is_bounded(data, MAX_REPORT_BYTES) and report.findings:
        some = report.findings[: len(report.findings) * 3 // 4]
        left_out = report.findings_left_out + len(report.findings) - len(some)
        report = msgspec.structs.replace(report, findings=some, findings_left_out=left_out)
        data = encode(report)
    if not records.is_bounded(data, MAX_REPORT_BYTES):
        maps = [DiskMap(disk.map.cell_blocks, "", "", "", "") for disk in report.disks]
        disks = [msgspec.structs.replace(disk, map=none) for disk, none in zip(report.disks, maps, strict=True)]
        note = "the maps of the disks are left out, for the report would be longer than one may be"
        report = msgspec.structs.replace(report, disks=disks, notes=[*report.notes, note])
        data = encode(report)
    return report, data


def decode(data: bytes, where: str) -> AuditReport:
    """A kept report; FormatError if it is none, or of a later format."""
    return decoded(data, where, AuditReport, "audit report", FORMAT)


class MapBuilder(RegionCounts):
    """Counts results block by block into at most MAX_CELLS regions of a disk."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__(capacity_bytes, len(RESULTS))

    def build(self) -> DiskMap:
        zero, sound, repaired, wrong = map(_fold, self.columns())
        return DiskMap(self.cell_blocks, zero, sound, repaired, wrong)

    @classmethod
    def of(cls, capacity_bytes: int, built: DiskMap) -> MapBuilder:
        """One that goes on from what another had built. ValueError where that is no map of such a disk."""
        out = cls(capacity_bytes)
        if built.cell_blocks != out.cell_blocks:
            raise ValueError("the map is of another disk")
        out.restore(built.columns())
        return out


def disk_result(
    map_of: MapBuilder,
    *,
    id: str,
    name: str,
    path: str,
    capacity_bytes: int,
    root: str,
    bytes_read: int,
    seconds: float,
) -> DiskResult:
    """What the map counted, as the result of a disk."""
    zero, sound, repaired, wrong = (map_of.total(result) for result in range(len(RESULTS)))
    return DiskResult(
        id,
        name,
        path,
        capacity_bytes,
        root,
        block_count(capacity_bytes),
        zero + sound + repaired + wrong,
        zero,
        sound,
        repaired,
        wrong,
        bytes_read,
        round(seconds, 3),
        map_of.build(),
    )
