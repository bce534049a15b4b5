"""The disks of an opened machine made ready to be read; owns what is read of each.

For each disk: its local state at the head, the plan, and what was sent of it before. What is read comes from the
tracker's extents, the blocks that passes before left, what is marked in the repository, and doubt about the tracker.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from warmspare.errors import ConfigError, SourceError
from warmspare.format import restore_point
from warmspare.model.extents import Extents, union, whole_disk, widen
from warmspare.model.ids import DiskId, disk_key
from warmspare.model.units import BLOCK_BYTES
from warmspare.repository.chain import Point
from warmspare.repository.chain_owner import Settled
from warmspare.repository.failover_record import FailoverRecord, doubt_after
from warmspare.repository.history.step import Step
from warmspare.source.ports import DiskInput, LastDisk, LastPoint, Opened
from warmspare.store.contract import Store
from warmspare.sync.diskrun import DiskRun
from warmspare.sync.journal.page_log import PageLog
from warmspare.sync.passes import carry
from warmspare.sync.passes.carry import Carried
from warmspare.sync.planning.marked_blocks import Marks
from warmspare.sync.planning.read_plan import ReadPlan, plan
from warmspare.sync.planning.rolling import DISTRUSTED, MISSED, Rolling
from warmspare.sync.resuming.reuse import Resume
from warmspare.sync.sync_run import Run
from warmspare.threads import in_thread


class Preparation:
    """Of one sync. marks: of what must be sent whole; set once they are loaded. also: where disks are known to differ
    from the last point though no tracker reports it, by disk."""

    def __init__(self, store: Store, rolling: Rolling | None, also: Mapping[DiskId, Extents]) -> None:
        self._store, self._rolling, self._also = store, rolling, also
        self.marks = Marks({})

    async def disks(
        self,
        run: Run,
        opened: Opened,
        fresh: list[Step],
        logs: dict[DiskId, PageLog],
        stack: AsyncExitStack,
        carried: Mapping[DiskId, Carried] | None = None,
        resumes: Mapping[DiskId, Resume | None] | None = None,
    ) -> list[DiskRun]:
        """Ready to be transferred, in the machine's order; what is open for them is closed with the stack.

        fresh: the steps that are new to the local state, up to the head. logs: page logs of a run that died, by disk.
        carried: what a pass before this one leaves, by disk; resumes: made already. SourceError, ConfigError.
        """
        check_disks(opened.disks)
        works: list[DiskRun] = []
        if carried is None:
            self.marks = await Marks.load(self._store, run.vm, run.events, run.local.marks_path)
        for index, given in enumerate(opened.disks):
            name = given.source.name
            state = run.local.open_disk(name)
            stack.callback(state.close)
            before = await run.local.prepare(name, state, run.head, fresh, logs.get(name), run.events)
            on = (carried or {}).get(name)
            capacity = given.source.capacity_bytes
            was = on.capacity_bytes if on else before.capacity_bytes if before else 0
            if capacity < was:
                raise SourceError(
                    f"disk {name!r} shrank: it has {capacity} bytes and had {was} "
                    + ("a while ago" if on else "at the last restore point"),
                    where=given.source.where,
                    hint="check the path; a VMware disk never shrinks, so sync another disk under another --vm",
                )
            resume = resumes[name] if resumes and name in resumes else await self.resume(run, name, stack)
            todo = plan(capacity, before.capacity_bytes if before else None, given.reported)
            if on:
                usable = await in_thread(carry.stands, on, resume.packs if resume else [])
                todo, on = carry.go_on(on, capacity, given.reported, usable=usable)
            else:
                todo = self._suspicious(todo, run, name, capacity)
            todo = self.marks.extend(todo, name, capacity, goes_on=on is not None)
            works.append(DiskRun(run, index, given, state, before, todo, resume, on))
            stack.callback(works[-1].close)
        for log in logs.values():
            log.close()
        return works

    def _suspicious(self, todo: ReadPlan, run: Run, disk_id: DiskId, capacity_bytes: int) -> ReadPlan:
        """The plan, where it is known that tracking misses changes: what it reports is all that it is held to, and no
        reason to leave anything out. SourceError where the disk must not be compared in full."""
        if todo.reported is None or run.head is None:
            return todo
        if self._rolling and run.head.record.hardware.get(MISSED):
            if not self._rolling.may_compare:
                raise SourceError(
                    f"{DISTRUSTED}, so disk {disk_id!r} would have to be compared in full, which the configuration "
                    "forbids",
                    where=self._store.uri,
                    hint='allow it with full_compare = "auto", for one run at least',
                )
            return replace(todo, read=whole_disk(capacity_bytes), reason=DISTRUSTED)
        if differs := self._also.get(disk_id):
            return replace(todo, read=union(todo.read, widen(differs, BLOCK_BYTES, capacity_bytes)))
        return todo

    async def resume(self, run: Run, disk_id: DiskId, stack: AsyncExitStack) -> Resume | None:
        """What was sent of a disk and never published; closed with the stack."""
        scratch = run.local.directory / f"{disk_key(disk_id)}.resume"
        found = await run.local.unfinished.resume(self._store, disk_id, scratch)
        if found:
            stack.callback(found.close)
        return found


def check_disks(disks: list[DiskInput]) -> None:
    """ConfigError unless the disks' names are usable and different."""
    names = [d.source.name for d in disks]
    if not disks:
        raise ConfigError("no disk was given", hint="name at least one disk image")
    for name in names:
        if not restore_point.safe_name(name):
            raise ConfigError(
                f"{name!r} can't name a disk: a name is a plain file name of printable characters, "
                "without slashes, not beginning with a dot",
                hint="give it as NAME=PATH",
            )
        if names.count(name) > 1:
            raise ConfigError(f"two disks are called {name!r}", hint="tell them apart by giving them as NAME=PATH")


def last_point(
    head: Point | None, interrupted: bool, over: FailoverRecord | None, settled: Settled
) -> LastPoint | None:
    """What the machine may know of the head."""
    if head is None:
        return None
    disks = {disk.id: LastDisk(disk.capacity_bytes, disk.change_id) for disk in head.record.disks}
    hardware = head.record.hardware
    return LastPoint(disks, interrupted, hardware, doubt_after(over, hardware) or settled.doubt)
