"""Making a sealed point visible; owns what becomes of a run that lost the race for its sequence number.

docs/architecture.md, "Publishing": the conditional write of the record decides, and nothing before it is visible.
"""

from __future__ import annotations

from warmspare.errors import LeaseError
from warmspare.format import point
from warmspare.format.point import RestorePoint
from warmspare.repository.chain import Point, PointId, Repository
from warmspare.store import layout
from warmspare.store.base import Store


async def publish(repository: Repository, record: RestorePoint, data: bytes) -> None:
    """Write the record, whose bytes are `data`, and read it back; all that it names is in the store. LeaseError if
    another sender's point stands there: then what this run had sent is removed. IntegrityError if it was written over,
    or had been about to write over another: then nothing is removed."""
    if await repository.publish(record.vm_id, record.sequence, data):
        ours = Point(PointId(record.sequence, point.identity(data)), record)
        await repository.confirm(record.vm_id, ours)
        return
    # Another sender's point stands there; ours was never visible and its objects are ours to remove.
    await _remove_run(repository.store, layout.encode_name(record.vm_id), record.run)
    raise LeaseError(
        f"another sender published restore point {record.sequence} of VM {record.vm_id!r} first",
        where=repository.store.uri,
        hint="nothing is lost; make sure that only one scheduler syncs this VM, and run again",
        retryable=True,
    )


async def _remove_run(store: Store, vm: str, run: str) -> None:
    """Remove what a run of this sender put there and will never publish. vm: encoded."""
    for prefix in layout.run_prefixes(vm, run):
        for stale in await store.stale_uploads(prefix):
            await store.abort_upload(stale)
        if keys := [info.key async for info in store.list(prefix)]:
            await store.delete(keys)
