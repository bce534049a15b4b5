"""One disk of one restore point to a completed EBS snapshot, resumable at any moment; owns the local traces of that.

What is pending is known by its tags, what was put into it by `digests.py`, and a start that was cut off before either
by the token it is repeated with. So a kill anywhere loses at most the puts that were under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from warmspare.format.restore_point import Disk
from warmspare.observe.events import Events, Meter
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.observe.kinds.repository import StateRebuild
from warmspare.observe.kinds.stage import StageAgain, StageDisk, StageDiskDone
from warmspare.outside.records import Count
from warmspare.outside.regular_files import demand_folders
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.blocks.ebs_blocks import EBS_BLOCK_BYTES, EbsBlockSet
from warmspare.recover.staging.digests import Digests
from warmspare.recover.staging.diskplan import ParentSnapshot, choose_base, plan_disk, table_path
from warmspare.recover.staging.ebs import Ebs, Encryption, SnapshotGoneError, SnapshotStart, unseen_until
from warmspare.recover.staging.filling import Filling, FillingSource
from warmspare.recover.staging.staged import StagedDisk, tags_of, volume_gib
from warmspare.recover.staging.staged_removal import Removal
from warmspare.repository.blocks.chain_blocks import ChainBlocks
from warmspare.repository.chain import Point, Repository
from warmspare.state.local_files import STATE_DIRECTORY, local_io, read_record, write_record
from warmspare.state.local_table import HashTable, TableDamagedError
from warmspare.threads import Threads

FOLDERS = ("tmp", "pending", "disks")  # of what is kept of a VM on this host
TRIES = 3  # of one disk, where its snapshot turns out to be gone or its local hash table damaged


class _Memory(msgspec.Struct, frozen=True):
    """attempt: how often a snapshot of ours proved dead."""

    attempt: Count = 0


@dataclass(frozen=True, slots=True)
class Traces:
    """What staging one VM keeps on this host, below `home`. Losing it costs time and puts, nothing else."""

    home: Path
    events: Events

    @property
    def scratch(self) -> Path:
        return self.home / "tmp"

    def digests(self, snapshot_id: str) -> Path:
        """Of a pending snapshot."""
        return self.home / "pending" / f"{snapshot_id}.digests"

    def forget(self, snapshot_id: str) -> None:
        """It is completed, or gone."""
        with local_io(STATE_DIRECTORY, self.home):
            self.digests(snapshot_id).unlink(missing_ok=True)

    @property
    def attempt(self) -> int:
        """Part of the token with which a snapshot is started: one that proved dead must not be found again."""
        return (read_record(self.home / "attempt.json", _Memory, STATE_DIRECTORY, self.events) or _Memory()).attempt

    def count_attempt(self) -> None:
        """The next start is to be a new snapshot."""
        write_record(self.home / "attempt.json", _Memory(self.attempt + 1), STATE_DIRECTORY)


@dataclass(frozen=True, slots=True)
class Means:
    """What staging a disk works with. tags: more of them, for people and for policies."""

    repository: Repository
    ebs: Ebs
    traces: Traces
    threads: Threads
    events: Events
    meter: Meter
    housekeeping: Housekeeping
    removal: Removal
    encryption: Encryption = field(default_factory=Encryption)
    tags: Mapping[str, str] = field(default_factory=dict)


class DiskStage:
    """Stages one disk. staged: all that is known to be staged of the VM."""

    def __init__(self, means: Means, point: Point, disk: Disk, staged: Sequence[StagedDisk]) -> None:
        self._means, self._point, self._disk, self._staged = means, point, disk, staged
        self._vm = point.record.vm_id

    async def run(self, source: FillingSource | None, pending: StagedDisk | None) -> str:
        """The ID of the completed snapshot. source: where bytes come from, None: the chain. pending: the snapshot to go
        on with. Raises the package's errors; what was put stays."""
        means = self._means
        for left in reversed(range(TRIES)):
            try:
                with self._table() as table:
                    return await self._once(table, source, pending)
            except TableDamagedError:
                if not left:
                    raise
                means.events.emit(StateRebuild(vm=self._vm, disk=self._disk.id, what="hash table"))
                with self._table() as table:
                    table.reset()
            except SnapshotGoneError as error:
                means.traces.count_attempt()
                if not left:
                    raise
                means.events.emit(StageAgain(vm=self._vm, disk=self._disk.id, message=error.sentence))
                pending = None
        raise AssertionError("unreachable")

    async def plan(self) -> tuple[ParentSnapshot | None, EbsBlockSet]:
        """What it would be built on and the blocks it would put; starts nothing."""
        with self._table() as table:
            base = await self._base(None)
            return base, await self._blocks(base, table)

    def _table(self) -> HashTable:
        """The disk's local hash table."""
        home, path = self._means.traces.home, table_path(self._means.traces.home, self._disk.id)
        with local_io(STATE_DIRECTORY, path):
            demand_folders(home, path.parent)
        return HashTable(path)

    async def _once(self, table: HashTable, source: FillingSource | None, pending: StagedDisk | None) -> str:
        means, disk = self._means, self._disk
        base = await self._base(pending)
        wanted = await self._blocks(base, table)
        snapshot_id = pending.snapshot_id if pending else ""
        if not pending:
            snapshot_id, base, wanted = await self._start(base, wanted, table)
        unseen, read = unseen_until(), means.meter.read_bytes
        total = len(wanted) * EBS_BLOCK_BYTES
        means.meter.total_bytes += total
        means.events.emit(
            StageDisk(
                vm=self._vm,
                disk=disk.id,
                point=self._point.id.label,
                snapshot=snapshot_id,
                capacity_bytes=disk.capacity_bytes,
                volume_gib=volume_gib(disk.capacity_bytes),
                bytes_total=total,
                parent=base.staged.snapshot_id if base else None,
                resumed=pending is not None,
            )
        )
        chain = ChainBlocks(means.repository, self._point, disk, means.traces.scratch, means.threads, means.meter)
        with Digests(means.traces.digests(snapshot_id)) as digests:
            async with chain:
                filling = Filling(
                    means.ebs,
                    snapshot_id,
                    disk,
                    source or chain,
                    table,
                    wanted,
                    digests,
                    means.threads,
                    means.meter,
                    unseen_until=unseen,
                )
                try:
                    await filling.run()
                    count, aggregate = await means.threads.run(digests.total, wanted)
                    await means.ebs.complete(snapshot_id, count, aggregate, unseen_until=unseen)
                except SnapshotGoneError:
                    # A run before this one, or another host, may have sealed it; its contents are the same.
                    if not await means.ebs.sealed(snapshot_id):
                        await self._abandon(snapshot_id)
                        raise
            await means.ebs.completed(snapshot_id, unseen_until=unseen)
        self._forget(snapshot_id)
        means.events.emit(
            StageDiskDone(
                vm=self._vm,
                disk=disk.id,
                point=self._point.id.label,
                snapshot=snapshot_id,
                bytes_read=means.meter.read_bytes - read,
                bytes_put=filling.put * EBS_BLOCK_BYTES,
                bytes_kept=filling.kept * EBS_BLOCK_BYTES,
            )
        )
        return snapshot_id

    async def _abandon(self, snapshot_id: str) -> None:
        """Remove a snapshot that takes no more; it may be gone already."""
        await self._means.removal.remove(snapshot_id, self._point.id.label, "EBS takes no more of it")
        self._forget(snapshot_id)

    def _forget(self, snapshot_id: str) -> None:
        with self._means.housekeeping.trying(LOCAL, self._means.traces.home):
            self._means.traces.forget(snapshot_id)

    async def _base(self, pending: StagedDisk | None) -> ParentSnapshot | None:
        """What it is built on; of a pending snapshot, what it was begun with."""
        means, staged = self._means, self._staged
        if pending:
            staged = [each for each in staged if pending.parent and each.snapshot_id == pending.parent]
        base = await choose_base(
            means.repository, staged, self._point, self._disk, means.encryption, as_begun=pending is not None
        )
        if pending and pending.parent and base is None:
            raise SnapshotGoneError(
                f"the snapshot was begun on {pending.parent}, which it can't be built on",
                where=pending.snapshot_id,
                hint="run again: it begins anew, built on another or on none",
                retryable=True,
            )
        return base

    async def _blocks(self, base: ParentSnapshot | None, table: HashTable) -> EbsBlockSet:
        means = self._means
        return await plan_disk(means.repository, self._point, self._disk, base, table, means.traces.scratch)

    async def _start(
        self, base: ParentSnapshot | None, wanted: EbsBlockSet, table: HashTable
    ) -> tuple[str, ParentSnapshot | None, EbsBlockSet]:
        """A new snapshot; a full one where AWS does not take the parent for a volume that grew."""
        gib = volume_gib(self._disk.capacity_bytes)
        about = f"disk {self._disk.id} at restore point {self._point.id.label}"
        while True:
            parent = base.staged if base else None
            tags = {**self._means.tags, **tags_of(self._means.repository.id, self._point, self._disk, parent)}
            on = parent.snapshot_id if parent else ""
            start = SnapshotStart(gib, tags, on, self._means.encryption, self._means.traces.attempt)
            try:
                return await self._means.ebs.start(start, about), base, wanted
            except AwsError as error:
                refused = error.missing or error.code == "ValidationException"
                if parent is None or not refused:
                    raise
                self._means.events.emit(
                    StageAgain(
                        vm=self._vm,
                        disk=self._disk.id,
                        message=f"AWS does not build on {parent.snapshot_id}: {error.what}; staged in full",
                    )
                )
                base, wanted = None, await self._blocks(None, table)
