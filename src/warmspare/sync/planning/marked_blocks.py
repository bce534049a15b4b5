"""Blocks that an audit asked for: read again and sent whole, whatever is known of them; owns when a mark is done with.

docs/format.md, "Mark". An audit found that the repository lost what its newest restore point has there; a record that
covers the whole block makes every later point whole again. A mark that is done with and can't be removed is remembered
on this host: it must not make each sync send its blocks again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from warmspare.errors import FormatError, NotFoundError, StoreError
from warmspare.format import mark
from warmspare.format.mark import LossMark
from warmspare.model.extents import normalise, union, widen
from warmspare.model.ids import DiskId, VmId, vm_key
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.observe.kinds.finding import DamagedObject
from warmspare.outside.records import Line
from warmspare.state.local_files import STATE_DIRECTORY, local_io, read_record, write_record
from warmspare.store import layout
from warmspare.store.clearing import Clearing
from warmspare.store.contract import Store
from warmspare.sync.planning.read_plan import ReadPlan


class _Done(msgspec.Struct, frozen=True):
    """Keys of marks that a published point made good."""

    keys: list[Line]


@dataclass(frozen=True, slots=True)
class Marks:
    """Of one VM, by key. done: those that are there still and were made good before. path: where that is noted."""

    found: dict[str, LossMark]
    done: tuple[str, ...] = ()
    path: Path | None = None

    @classmethod
    async def load(cls, store: Store, vm: VmId, events: Events, path: Path) -> Marks:
        """Those in the repository. vm: its ID. One that can't be read is a finding and counts for nothing."""
        found: dict[str, LossMark] = {}
        record = read_record(path, _Done, STATE_DIRECTORY, events)
        known, done = set(record.keys if record else []), []
        async for info in store.list(layout.marks_prefix(vm_key(vm))):
            if info.key in known:
                done.append(info.key)
                continue
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
                events.emit(DamagedObject(vm=vm, key=info.key, message=error.sentence))
        return cls(found, tuple(done), path)

    def extend(self, plan: ReadPlan, disk_id: DiskId, capacity_bytes: int, *, goes_on: bool = False) -> ReadPlan:
        """The plan with what is marked of a disk. goes_on: passes before this one have looked at what is marked and not
        in the plan; but what of it the plan reads is sent whole again."""
        runs = [run for one in self.found.values() for run in one.disks.get(disk_id, [])]
        if not runs:
            return plan
        start, count = np.array(runs, dtype=np.int64).T
        anew = widen(normalise(start * BLOCK_BYTES, count * BLOCK_BYTES), BLOCK_BYTES, capacity_bytes)
        return replace(plan, read=plan.read if goes_on else union(plan.read, anew), anew=anew)

    async def forget(self, store: Store, disks: Collection[DiskId], housekeeping: Housekeeping) -> None:
        """A point was published: remove the marks all of whose disks it has; those that stay are noted."""
        done = [*self.done, *(key for key, one in self.found.items() if set(one.disks) <= set(disks))]
        if self.path is None or not (done or self.path.exists()):
            return
        with housekeeping.trying(LOCAL, self.path):
            if done:
                write_record(self.path, _Done(done), STATE_DIRECTORY)
            if await Clearing(store, housekeeping).objects(done):
                with local_io(STATE_DIRECTORY, self.path):
                    self.path.unlink()
