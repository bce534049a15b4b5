"""Making a sealed point visible; owns what becomes of a run that lost the race for its sequence number.

docs/architecture.md, "Invariants": the conditional write of the record decides, and nothing before it is visible.
"""

from __future__ import annotations

from warmspare.errors import LeaseError
from warmspare.format import restore_point
from warmspare.format.restore_point import RestorePoint
from warmspare.model.ids import PointId, vm_key
from warmspare.observe.housekeeping import Housekeeping
from warmspare.repository.chain import Point, Repository
from warmspare.store import layout
from warmspare.store.clearing import Clearing


async def publish(repository: Repository, record: RestorePoint, data: bytes, housekeeping: Housekeeping) -> None:
    """Write the record, whose bytes are `data`, and read it back; all that it names is in the store. LeaseError if
    another sender's point stands there: then what this run had sent is removed, now or, by its journal, by the next
    run. IntegrityError if it was written over, or had been about to write over another: then nothing is removed."""
    if await repository.publish(record.vm_id, record.sequence, data):
        ours = Point(PointId(record.sequence, restore_point.identity(data)), record)
        await repository.confirm(record.vm_id, ours)
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
