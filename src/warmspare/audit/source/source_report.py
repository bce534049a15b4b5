"""An audit of a source as a report: findings, results and notes, and what a repair made of it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from warmspare.audit.expected.blockset import BlockSet
from warmspare.audit.reports import report as reports
from warmspare.audit.reports.findings import ABOUT, Finding, FindingKind, finding, unclean
from warmspare.audit.reports.report import MAX_FINDINGS, REPAIRED, WRONG, AuditReport
from warmspare.audit.source.source_verdict import DiskVerdict, SourceAuditSettings, SourceVerdict
from warmspare.format.hashtable import ZERO_ENTRY
from warmspare.model.ids import DiskId
from warmspare.model.units import BLOCK_BYTES, block_bytes
from warmspare.repository.chain import now_text
from warmspare.state.report_chain import host, software

_NO_EXTENTS = (
    "the disk differs from the restore point; nothing said what was written since, so either a change was lost or "
    "this is newer"
)
_NO_EXTENTS_REMEDY = "give --extents, or a disk that nobody wrote to since; a sync without --extents sends it"


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair came to. point: the label of the restore point that it published. after: the wrong blocks, read
    once more and held against that."""

    point: str
    after: SourceVerdict

    def holds(self, disk_id: DiskId) -> BlockSet | None:
        """The blocks of a disk that differ still; None where that can't be told."""
        found = next((one for one in self.after.disks if one.disk.id == disk_id), None)
        return found.wrong if found is not None and found.judgeable else None


def report(
    verdict: SourceVerdict, settings: SourceAuditSettings, seconds: float, repair: Repair | None = None
) -> AuditReport:
    """An audit of a source as a report. settings: it was made with. seconds: that all of it took."""
    point, record = verdict.point, verdict.point.record
    findings: list[Finding] = []
    results, notes = [], list(verdict.notes)
    for one in verdict.disks:
        still = repair.holds(one.disk.id) if repair else None
        if repair and still is not None:
            for blocks in one.wrong.batches(1 << 16):
                healed = blocks[~still.holds(blocks)]
                one.map.add(WRONG, healed, -1)
                one.map.add(REPAIRED, healed)
        findings += _findings(one, point.id.label, still if repair else None, repair is not None)
        disk = one.disk
        results.append(
            reports.disk_result(
                one.map,
                id=disk.id,
                name=disk.name,
                path=one.where,
                capacity_bytes=disk.capacity_bytes,
                root=disk.root,
                bytes_read=one.read_bytes,
                seconds=one.seconds,
            )
        )
        if one.excluded_blocks:
            notes.append(
                f"{one.excluded_blocks} blocks of disk {disk.name} are reported as changed since restore point "
                f"{point.id.label} and could not be judged"
            )
        if not one.believed and one.judgeable:
            notes.append(
                f"nothing said what changed on disk {disk.name} since restore point {point.id.label}: what was written "
                "to it since counts as a difference"
            )
    wrong = sum(len(one.wrong) for one in verdict.disks)
    left_out = wrong - sum(len(one.evidence) for one in verdict.disks) + max(0, len(findings) - MAX_FINDINGS)
    figures: dict[str, int | float | str] = {
        "blocks_differing": wrong,
        "blocks_reported_changed": sum(one.excluded_blocks for one in verdict.disks),
    }
    if repair:
        figures["repaired_by"] = repair.point
    judged, there = sum(result.judged for result in results), sum(result.blocks for result in results)
    read_bytes = sum(one.read_bytes for one in [*verdict.disks, *(repair.after.disks if repair else [])])
    percent = settings.percent
    return AuditReport(
        reports.FORMAT,
        0,
        "",
        "source",
        software(),
        host(),
        record.vm_id,
        record.vm_name,
        verdict.repository.store.uri,
        verdict.repository.id,
        ", ".join(one.where for one in verdict.disks if one.where),
        "all blocks" if percent is None else f"a sample of {percent:g} % of the blocks (seed {verdict.seed})",
        reports.point_ref(point),
        verdict.began,
        now_text(),
        round(seconds, 3),
        round(100 * judged / there, 4) if there else 0.0,
        read_bytes,
        0,
        "findings" if unclean(findings) or left_out else "clean",
        results,
        findings[:MAX_FINDINGS],
        left_out,
        "",
        figures,
        notes,
    )


def _findings(one: DiskVerdict, point: str, still: BlockSet | None, repair: bool) -> list[Finding]:
    """A finding for each block of the evidence. still: those that differ after a repair, None where that is not
    known."""
    out: list[Finding] = []
    if one.why_not:
        meaning = f"{ABOUT[FindingKind.SOURCE_UNJUDGED].meaning}: {one.why_not}"
        out.append(finding(FindingKind.SOURCE_UNJUDGED, point=point, disk=one.disk.id, meaning=meaning))
    for block, (expected, actual) in sorted(one.evidence.items()):
        each = finding(
            FindingKind.CHANGE_LOST,
            point=point,
            disk=one.disk.id,
            offset=block * BLOCK_BYTES,
            length=block_bytes(block, one.disk.capacity_bytes),
            expected=_words(expected),
            actual=_words(actual),
            meaning="" if one.believed else _NO_EXTENTS,
            remedy="" if one.believed else _NO_EXTENTS_REMEDY,
        )
        if repair and still is not None and not still.holds(np.array([block]))[0]:
            each = msgspec.structs.replace(each, repaired=True)
        out.append(each)
    if one.in_full:
        out.append(finding(FindingKind.SOURCE_COMPARED, point=point, disk=one.disk.id))
    return out


def _words(digest: bytes) -> str:
    return "zeros" if digest == ZERO_ENTRY else f"xxh3-128 {digest.hex()}"
