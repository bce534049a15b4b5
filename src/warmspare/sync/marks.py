"""Blocks that an audit asked for: read again and sent whole, whatever is known of them; owns when a mark is done with.

docs/format.md, "Mark". An audit found that the repository lost what its newest restore point has there; a record that
covers the whole block makes every later point whole again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from warmspare.errors import FormatError, NotFoundError, StoreError
from warmspare.format import mark
from warmspare.format.mark import Mark
from warmspare.model import BLOCK_BYTES, Extents, normalise, union, widen
from warmspare.observe.events import Events
from warmspare.store import layout
from warmspare.store.base import Store
from warmspare.sync.plan import Plan


@dataclass(frozen=True, slots=True)
class Marks:
    """Of one VM, by key."""

    found: dict[str, Mark]

    @classmethod
    async def load(cls, store: Store, vm: str, events: Events) -> Marks:
        """Those in the repository. vm: its ID. One that can't be read is a finding and counts for nothing."""
        found: dict[str, Mark] = {}
        async for info in store.list(layout.marks_prefix(layout.encode_name(vm))):
            try:
                one = mark.decode(await store.get(info.key, max_bytes=mark.MAX_MARK_BYTES), info.key)
                if one.vm_id != vm:
                    raise FormatError("the mark is of another VM", where=info.key)
                found[info.key] = one
            except NotFoundError:
                continue
            except (FormatError, StoreError) as error:
                if isinstance(error, StoreError) and error.retryable:
                    raise
                events.emit("finding", kind="damaged-object", vm=vm, key=info.key, message=error.sentence)
        return cls(found)

    def extend(self, plan: Plan, disk_id: str, capacity_bytes: int, *, goes_on: bool = False) -> Plan:
        """The plan with what is marked of a disk. goes_on: passes before this one have looked at what is marked and not
        in the plan; but what of it the plan reads is sent whole again."""
        runs = [run for one in self.found.values() for run in one.disks.get(disk_id, [])]
        if not runs:
            return plan
        start, count = np.array(runs, dtype=np.int64).T
        anew = widen(normalise(start * BLOCK_BYTES, count * BLOCK_BYTES), BLOCK_BYTES, capacity_bytes)
        return replace(plan, read=plan.read if goes_on else union(plan.read, anew), anew=anew)

    async def forget(self, store: Store, disks: Collection[str]) -> None:
        """A point was published: remove the marks all of whose disks it has."""
        done = [key for key, one in self.found.items() if set(one.disks) <= set(disks)]
        if done:
            await store.delete(done)


def inside(blocks: np.ndarray, extents: Extents) -> np.ndarray:
    """Which of these blocks begin inside the extents."""
    at = blocks.astype(np.int64) * BLOCK_BYTES
    index = np.searchsorted(extents.offsets, at, side="right") - 1
    known = np.maximum(index, 0)
    out: np.ndarray = (index >= 0) & (at < extents.offsets[known] + extents.lengths[known])
    return out
