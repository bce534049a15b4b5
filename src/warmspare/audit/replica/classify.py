"""What is wrong with the blocks that are wrong: zeroed, stale, another block's; owns the naming, reads no disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from warmspare._native import judge as native
from warmspare.audit.replica.disk_audit import DiskAudit, Evidence
from warmspare.audit.reports.findings import Finding, FindingKind, finding
from warmspare.errors import ConfigError, IntegrityError, StoreError
from warmspare.format.hashtable import ZERO_ENTRY
from warmspare.model.ids import DiskId
from warmspare.model.units import BLOCK_BYTES, block_bytes
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.steps import ancestors
from warmspare.repository.verified_objects import manifest_of
from warmspare.threads import in_thread

STALE_POINTS = 64  # how far back a block's bytes are looked for


async def block_findings(disk: DiskAudit, repository: Repository, point: Point, scratch: Path) -> list[Finding]:
    """A finding for each block of the disk's evidence, ascending."""
    if not disk.evidence:
        return []
    blocks = np.array(sorted(disk.evidence), dtype=np.uint32)
    expected = {int(b): row.tobytes() for b, row in zip(blocks, disk.table.entries(blocks), strict=True)}
    belongs = {digest: block for block, digest in expected.items() if digest != ZERO_ENTRY}
    open_hashes = {
        block: found.actual
        for block, found in disk.evidence.items()
        if found.verdict == native.WRONG and found.actual != ZERO_ENTRY and belongs.get(found.actual) is None
    }
    stale = await _older(repository, point, disk.disk.id, open_hashes, scratch)
    return [
        _finding(disk, block, found, expected[block], belongs, stale, point.id.label)
        for block, found in sorted(disk.evidence.items())
    ]


def _finding(
    disk: DiskAudit,
    block: int,
    found: Evidence,
    expected: bytes,
    belongs: dict[bytes, int],
    stale: dict[int, str],
    point: str,
) -> Finding:
    meaning, actual = "", "zeros" if found.actual == ZERO_ENTRY else f"xxh3-128 {found.actual.hex()}"
    kind = FindingKind.BLOCK_WRONG
    if found.verdict == native.UNREADABLE:
        kind, actual = FindingKind.BLOCK_UNREADABLE, "an error of reading"
    elif found.verdict == native.SHORT:
        actual = "the end of the file"
    elif found.actual == ZERO_ENTRY:
        kind = FindingKind.BLOCK_ZEROED
    elif found.actual in belongs:
        kind = FindingKind.BLOCK_MISPLACED
        there = belongs[found.actual] * BLOCK_BYTES
        meaning = f"the block holds what belongs to offset {there}: a write went to the wrong place"
    elif block in stale:
        kind = FindingKind.BLOCK_STALE
        meaning = f"the block holds what restore point {stale[block]} has there: a later write was lost"
    elif expected == ZERO_ENTRY:
        kind = FindingKind.BLOCK_NOT_ZERO
    return finding(
        kind,
        point=point,
        disk=disk.disk.id,
        offset=block * BLOCK_BYTES,
        length=block_bytes(block, disk.disk.capacity_bytes),
        expected="zeros" if expected == ZERO_ENTRY else f"xxh3-128 {expected.hex()}",
        actual=actual,
        meaning=meaning,
    )


async def _older(
    repository: Repository, point: Point, disk_id: DiskId, wanted: dict[int, bytes], scratch: Path
) -> dict[int, str]:
    """The newest earlier restore point at which a block had the hash it has now, by block; those that have one.

    Where the chain can't be read that far, what was found until then: the verdict does not depend on it.
    """
    found: dict[int, str] = {}
    if not wanted:
        return found
    try:
        walked = 0
        async for step in ancestors(repository, point, lingering=True):
            stated = step.manifest(disk_id)
            if stated is None or walked > STALE_POINTS or len(found) == len(wanted):
                return found
            walked += 1
            if step.point.id == point.id:
                continue
            async with manifest_of(repository, stated, scratch) as manifest:
                chunks = manifest.chunks(min(wanted), max(wanted) + 1)
                while (chunk := await in_thread(next, chunks, None)) is not None:
                    known = chunk.records.take(np.isin(chunk.records.block, list(wanted)))
                    for block, hash_ in zip(known.block.tolist(), known.hashes, strict=True):
                        if block not in found and hash_.tobytes() == wanted[block]:
                            found[block] = step.point.id.label
    except (ConfigError, IntegrityError, StoreError):
        pass
    return found
