"""Making a sealed point visible; owns the order of it, and what becomes of a run that lost the race for its number.

docs/architecture.md, "Invariants": the conditional write of the record decides, and nothing before it is visible.
"""

from __future__ import annotations

from warmspare.errors import LeaseError
from warmspare.model.ids import vm_key
from warmspare.observe.housekeeping import Housekeeping
from warmspare.repository.chain import Point, Repository, parent_of
from warmspare.store import layout
from warmspare.store.clearing import Clearing
from warmspare.store.lease import Lease
from warmspare.sync.publishing.index_note import IndexNote


async def publish(
    repository: Repository, point: Point, data: bytes, lease: Lease, housekeeping: Housekeeping, index: IndexNote
) -> None:
    """Write the point's record, whose bytes are `data`, and read it back; all that it names is in the store.

    lease: of the VM. index: has begun to announce the point. LeaseError if the lease is lost when the record is to be
    written; and if another sender's point stands there: then what this run had sent is removed, now or, by its journal,
    by the next run. IntegrityError if it was written over, or had been about to write over another: then nothing is
    removed.
    """
    record = point.record
    await index.announced()
    await lease.confirm()
    if await repository.publish(record.vm_id, record.sequence, data):
        await repository.confirm(record.vm_id, point, follows=parent_of(point))
        return
    # Another sender's point stands there; ours was never visible and its objects are ours to remove.
    clearing = Clearing(repository.store, housekeeping)
    for prefix in layout.run_prefixes(vm_key(record.vm_id), record.run):
        await clearing.uploads(prefix)
        await clearing.below(prefix)
    raise LeaseError(
        f"another sender published restore point {record.sequence} of VM {record.vm_id!r} first",
        where=repository.store.uri,
        hint="nothing is lost; make sure that only one scheduler syncs this VM, and run again",
        retryable=True,
    )


def called(point: Point | None) -> str | None:
    """What a point calls its VM; None for no point."""
    return point.record.vm_name if point else None
