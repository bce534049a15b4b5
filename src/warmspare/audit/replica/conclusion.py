"""What an audit of a replica comes to: findings named, repairs made, the report; owns no judging of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from warmspare.audit.replica.classify import block_findings
from warmspare.audit.replica.disk_audit import DiskAudit
from warmspare.audit.replica.repair import Repaired, repair
from warmspare.audit.reports import report as reports
from warmspare.audit.reports.findings import Finding, FindingKind, finding, unclean
from warmspare.audit.reports.report import MAX_FINDINGS, AuditReport, DiskResult
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Meter
from warmspare.repository.chain import Point, Repository, now_text
from warmspare.state.report_chain import host, software


@dataclass(frozen=True, slots=True)
class AuditedBlocks:
    """What was audited, and how: for the report. percent: the share of the blocks, None for all; seed: of the draw.
    began, resumed: of this run, and of the one that it went on from ("" for none)."""

    target: Path
    percent: float | None
    seed: int
    uncached: bool
    began: str
    resumed: str


async def conclude(
    audited: AuditedBlocks,
    disks: list[DiskAudit],
    repository: Repository,
    point: Point,
    scratch: Path,
    meter: Meter,
    *,
    with_repair: bool,
) -> AuditReport:
    """Name what is wrong with disks that were judged at `point`, repair it if that is wanted, and make the report.

    StoreError if the replica can't be read or written, or the repository can't be read.
    """
    findings: list[Finding] = []
    results: list[DiskResult] = []
    figures: dict[str, int | float | str] = {}
    notes: list[str] = []
    left_out = 0
    total = Repaired()
    for disk in disks:
        found = [*_file_findings(disk, point), *await block_findings(disk, repository, point, scratch)]
        left_out += len(disk.suspects) - len(disk.evidence)
        if with_repair and found:
            done = await repair(disk, repository, point, scratch)
            found = [_after(each, disk, done) for each in found]
            _add(total, done)
        present = disk.present_blocks
        disk.condemn(present)
        result = reports.disk_result(
            disk.map,
            id=disk.disk.id,
            name=disk.disk.name,
            path=str(disk.path),
            capacity_bytes=disk.disk.capacity_bytes,
            root=disk.disk.root,
            bytes_read=disk.read_bytes,
            seconds=disk.seconds,
        )
        results.append(result)
        findings += found
    newest = await repository.newest(point.record.vm_id)
    figures["points_behind"] = max(0, (newest or 0) - point.id.sequence)
    if with_repair:
        figures |= {
            "blocks_repaired": total.blocks,
            "bytes_written": total.written_bytes,
            "frames_fetched": total.traffic.frames,
            "frame_bytes_fetched": total.traffic.frame_bytes,
            "manifest_bytes_fetched": total.traffic.other_bytes,
        }
    left_out += max(0, len(findings) - MAX_FINDINGS)
    if left_out:
        notes.append(f"{left_out} further blocks were wrong; the map has them, the list has not")
    if not audited.uncached:
        notes.append("blocks in the page cache were judged there; --uncached reads the medium")
    judged, blocks = sum(result.judged for result in results), sum(result.blocks for result in results)
    percent, seed = audited.percent, audited.seed
    record = point.record
    return AuditReport(
        reports.FORMAT,
        0,
        "",
        "replica",
        software(),
        host(),
        record.vm_id,
        record.vm_name,
        repository.store.uri,
        repository.id,
        str(audited.target),
        "all blocks" if percent is None else f"a sample of {percent:g} % of the blocks (seed {seed})",
        reports.point_ref(point),
        audited.began,
        now_text(),
        round(meter.seconds, 3),
        round(100 * judged / blocks, 4) if blocks else 100.0,
        meter.read_bytes,
        total.traffic.frame_bytes + total.traffic.other_bytes,
        "findings" if unclean(findings) or left_out else "clean",
        results,
        findings[:MAX_FINDINGS],
        left_out,
        audited.resumed,
        figures,
        notes,
    )


def _file_findings(disk: DiskAudit, point: Point) -> list[Finding]:
    """What is wrong with the file as a whole."""
    size, capacity = disk.size(), disk.disk.capacity_bytes
    if disk.fd < 0:
        kind, offset, length, actual = FindingKind.DISK_MISSING, 0, capacity, f"no file {disk.path}"
    elif size < capacity:
        kind, offset, length, actual = FindingKind.DISK_SHORT, size, capacity - size, f"{size} bytes"
    elif size > capacity and not disk.device:
        kind, offset, length, actual = FindingKind.DISK_LONG, capacity, size - capacity, f"{size} bytes"
    else:
        return []
    expected = f"{capacity} bytes"
    return [
        finding(
            kind,
            point=point.id.label,
            disk=disk.disk.id,
            offset=offset,
            length=length,
            expected=expected,
            actual=actual,
        )
    ]


def _after(each: Finding, disk: DiskAudit, done: Repaired) -> Finding:
    """A finding after the repair."""
    if each.kind is FindingKind.DISK_LONG:
        return msgspec.structs.replace(each, repaired=done.resized)
    if each.kind is FindingKind.DISK_SHORT:
        return msgspec.structs.replace(each, repaired=done.resized and not len(disk.suspects))
    if each.offset is None or each.kind is FindingKind.DISK_MISSING:
        return each
    block = each.offset // BLOCK_BYTES
    if not disk.is_suspect(block):
        return msgspec.structs.replace(each, repaired=True)
    why = done.lost.get(block, "")
    return msgspec.structs.replace(each, remedy=f"it could not be repaired: {why}") if why else each


def _add(total: Repaired, done: Repaired) -> None:
    total.blocks += done.blocks
    total.written_bytes += done.written_bytes
    total.traffic.frames += done.traffic.frames
    total.traffic.frame_bytes += done.traffic.frame_bytes
    total.traffic.other_bytes += done.traffic.other_bytes
