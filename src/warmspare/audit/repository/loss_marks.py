"""What an audit does about lost blocks: marks them, so that the next sync reads them again and sends them whole.

Owns the one write of a repository audit. Objects are immutable and named by their SHA-256, so a lost pack can't be made
anew from a replica: zstd gives other bytes from one release to the next. What can be healed is what the newest restore
point needs; points before it stay as damaged as they are, and the report names them.
"""

from __future__ import annotations

import secrets

import numpy as np

from warmspare.audit.repository.contents import VmContents
from warmspare.audit.repository.descent import Chain
from warmspare.errors import FormatError, NotFoundError, StoreError
from warmspare.format import flags, mark
from warmspare.format.mark import LossMark
from warmspare.model.ids import DiskId
from warmspare.model.runs import Runs
from warmspare.repository.chain import now_text
from warmspare.state.report_chain import software
from warmspare.store import layout
from warmspare.store.contract import Store


async def marked(store: Store, inventory: VmContents, newest: int) -> dict[DiskId, list[Runs]]:
    """What is marked already, by disk. Marks that can't be read count for nothing, nor do those of an older point than
    the newest: what they asked for was done, and they could not be removed, or it did not help."""
    out: dict[DiskId, list[Runs]] = {}
    for key in inventory.marks:
        try:
            found = mark.decode(await store.get(key, max_bytes=mark.MAX_MARK_BYTES), key)
        except (FormatError, NotFoundError):
            continue
        except StoreError as error:
            if error.retryable:
                raise
            continue
        for disk, runs in found.disks.items() if found.sequence == newest else ():
            start, count = np.array(runs, dtype=np.uint32).reshape(-1, 2).T
            out.setdefault(disk, []).append(Runs(start, count))
    return out


def _covers(marks: list[Runs], wanted: Runs) -> bool:
    """Whether one of the marks has all of the runs."""
    return any(not len(wanted.without(*runs.bounds)) for runs in marks)


async def leave_mark(store: Store, inventory: VmContents, chain: Chain, lost: dict[DiskId, Runs]) -> str:
    """Mark the lost blocks of the newest restore point, unless they are marked. lost: none empty.

    Returns the key of the new mark, "" where there was nothing to do. StoreError.
    """
    head = chain.head
    assert head
    wanted = {disk: runs.bounded(mark.MAX_RUNS) for disk, runs in lost.items()}
    there = await marked(store, inventory, head.sequence)
    wanted = {disk: runs for disk, runs in wanted.items() if not _covers(there.get(disk, []), runs)}
    if not wanted:
        return ""
    disks = {disk: list(runs.pairs()) for disk, runs in wanted.items()}
    record = LossMark(flags.VERSION, 0, chain.vm, head.sequence, head.sha256, now_text(), software(), disks)
    key = layout.mark_key(inventory.vm, head.sequence, secrets.token_hex(8))
    await store.create(key, mark.encode(record))
    return key
