"""Puts right the blocks of a replica that an audit found wrong, and nothing else; the only writer among the audits.

Each block comes whole from the chain, is held against its hash before it is written, and is read again from the medium
afterwards. The caller holds the replica's lock.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash

from warmspare._native import holes
from warmspare.audit.replica.disk_audit import DiskAudit
from warmspare.audit.replica.recall import GROUP_BLOCKS, PLAN_BLOCKS, Recall, Recalled, Traffic
from warmspare.audit.reports.report import REPAIRED
from warmspare.format.hashtable import ZERO_ENTRY
from warmspare.model.columns import U32
from warmspare.model.units import BLOCK_BYTES, PAGE_BYTES, block_bytes
from warmspare.outside.regular_files import open_disk
from warmspare.repository.chain import Point, Repository
from warmspare.state.local_files import local_io, pwrite_all
from warmspare.threads import in_thread

WHAT = "repairing the replica"
_ZERO_PAGE = bytes(PAGE_BYTES)


@dataclass(slots=True)
class Repaired:
    """What a repair did to a disk. blocks: how many are right now. resized: the file has the disk's length again.
    lost: block -> why it could not be had; the first thousand."""

    blocks: int = 0
    written_bytes: int = 0
    resized: bool = False
    lost: dict[int, str] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)


async def repair(disk: DiskAudit, repository: Repository, point: Point, scratch: Path) -> Repaired:
    """Repair the suspects of a disk, which was judged at `point`, and its length. StoreError."""
    out = Repaired()
    if disk.fd < 0:
        return out
    with _writable(disk) as fd:
        if not disk.device and disk.size() != disk.disk.capacity_bytes:
            with local_io(WHAT, disk.path):
                os.ftruncate(fd, disk.disk.capacity_bytes)
            out.resized = True
            await disk.scan()  # what was behind the end: holes now, right where zeros are expected
        recall = Recall(repository, point, disk.disk.id, scratch)
        out.traffic = recall.traffic
        for blocks in _zeros(disk):
            await in_thread(_punch, fd, disk, blocks)
            await _conclude(disk, fd, blocks, out)
        async for group in recall.blocks(_filled(disk)):
            written = await in_thread(_write, fd, disk, group, out)
            await _conclude(disk, fd, written, out)
    return out


@contextlib.contextmanager
def _writable(disk: DiskAudit) -> Iterator[int]:
    with local_io(WHAT, disk.path):
        flags = os.O_RDWR | (os.O_EXCL if disk.device else 0)
        fd = open_disk(disk.path, flags, device=disk.device, follow=True)
    try:
        yield fd
    finally:
        os.close(fd)


def _zeros(disk: DiskAudit) -> Iterator[U32]:
    for blocks in disk.suspects.batches(GROUP_BLOCKS):
        zero = ~disk.table.entries(blocks).any(axis=1)
        if zero.any():
            yield blocks[zero]


def _filled(disk: DiskAudit) -> Iterator[U32]:
    for blocks in disk.suspects.batches(PLAN_BLOCKS):
        filled = disk.table.entries(blocks).any(axis=1)
        if filled.any():
            yield blocks[filled]


def _punch(fd: int, disk: DiskAudit, blocks: U32) -> None:
    with local_io(WHAT, disk.path):
        for block in blocks.tolist():
            holes.punch(fd, block * BLOCK_BYTES, block_bytes(block, disk.disk.capacity_bytes))


def _write(fd: int, disk: DiskAudit, group: list[Recalled], out: Repaired) -> U32:
    """Write those that have the hash they must have; their numbers. Pages of zeros become holes."""
    blocks = np.array([each.block for each in group], dtype=np.uint32)
    expected = disk.table.entries(blocks)
    written = []
    with local_io(WHAT, disk.path):
        for row, each in enumerate(group):
            why = each.lost
            if each.image is not None:
                digest = xxhash.xxh3_128_digest(each.image)
                if expected[row].tobytes() != (digest if any(each.image) else ZERO_ENTRY):
                    why = "the chain gives other bytes than the hash table states"
            if why or each.image is None:
                if len(out.lost) < 1000:
                    out.lost[each.block] = why
                continue
            for at in range(0, len(each.image), PAGE_BYTES):
                page = each.image[at : at + PAGE_BYTES]
                if page == _ZERO_PAGE[: len(page)]:
                    holes.punch(fd, each.block * BLOCK_BYTES + at, len(page))
                else:
                    pwrite_all(fd, page, each.block * BLOCK_BYTES + at)
                    out.written_bytes += len(page)
            written.append(each.block)
    return np.array(written, dtype=np.uint32)


async def _conclude(disk: DiskAudit, fd: int, blocks: U32, out: Repaired) -> None:
    """Have the medium take what was written, read it again, and count what is right now."""
    if not blocks.size:
        return
    with local_io(WHAT, disk.path):
        await in_thread(os.fsync, fd)
    judged = await in_thread(disk.judge_blocks, blocks)
    fine = np.setdiff1d(blocks, judged.wrong, assume_unique=True)
    disk.map.add(REPAIRED, fine)
    disk.suspects.discard(fine)
    out.blocks += fine.size
    for block in judged.wrong.tolist():
        if len(out.lost) < 1000:
            out.lost[block] = "what was written does not read back: the medium does not keep it"
