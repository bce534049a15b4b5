"""One staging: the disks of a restore point as completed EBS snapshots; owns the order that makes it resumable.

Snapshots that an interrupted run left pending are finished first, so that nothing that was put is lost; what can't be
gone on with is removed. Then the wanted point, disk by disk, each as an increment where there is something to build on.
A point counts once all its snapshots are `completed`; only then are older ones removed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from warmspare.apply.replica import Replica
from warmspare.errors import ConfigError, LeaseError, RecoverError, StoreError
from warmspare.format.restore_point import Disk
from warmspare.model.ids import VmId, disk_key, vm_key
from warmspare.observe.events import Events, Meter
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.observe.kinds.stage_events import StageDone, StagePlan, StagePoint, StageStart, StageWaiting
from warmspare.outside.regular_files import demand_folders
from warmspare.patience import outlasted
from warmspare.recover.aws.aws_errors import denied_by_aws
from warmspare.recover.aws.client import Aws
from warmspare.recover.blocks.ebs_blocks import EBS_BLOCK_BYTES
from warmspare.recover.blocks.replicablocks import (
    WAIT_S,
    ReplicaBlocks,
    ReplicaElsewhereError,
    held_at,
    opened,
    replica_at,
)
from warmspare.recover.staging.diskstage import FOLDERS, DiskStage, Means, Traces
from warmspare.recover.staging.ebs import PUTS_S, Ebs, Encryption
from warmspare.recover.staging.expiry import Keep, expired
from warmspare.recover.staging.filling import FillingSource
from warmspare.recover.staging.staged import PENDING, StagedDisk, staged_disks, volume_gib
from warmspare.recover.staging.staged_removal import Removal
from warmspare.recover.staging.unfinished import sort_unfinished
from warmspare.repository.blocks.chain_blocks import ChainBlocks
from warmspare.repository.chain import Point, Repository, open_repository
from warmspare.repository.history.steps import descend
from warmspare.repository.vm_lookup import find
from warmspare.state.local_files import STATE_DIRECTORY, local_io, locked
from warmspare.store.contract import Store
from warmspare.threads import Threads

POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class StageSettings:
    """replica, replica_state: where to read from instead of the repository. tags: more of them, for people and for
    policies. puts_s: blocks a second. poll_s: between two looks at a snapshot that AWS is completing."""

    replica: Path | None = None
    replica_state: Path | None = None
    encryption: Encryption = field(default_factory=Encryption)
    tags: Mapping[str, str] = field(default_factory=dict)
    keep: Keep = field(default_factory=Keep)
    puts_s: float = PUTS_S
    poll_s: float = 1.0


class Stage:
    """Stages one VM. vm: its ID in the repository, or its name there. state: a directory of this host's. Settings are
    all arguments."""

    def __init__(
        self,
        store: Store,
        vm: str,
        events: Events,
        aws: Aws,
        *,
        state: Path,
        settings: StageSettings,
        meter: Meter | None = None,
    ) -> None:
        self._store, self._events, self._aws = store, events, aws
        self._vm = VmId(vm)  # as given, until the repository is asked whose name it is
        self._root, self._settings = state, settings
        self._meter = meter or Meter()
        self._newest = 0  # as it was found; what stands above it is asked for
        self._ebs = Ebs(aws, puts_s=settings.puts_s, poll_s=settings.poll_s)
        self._housekeeping = Housekeeping(events, vm)

    async def run(self, at: str | None = None) -> list[str]:
        """Stage the restore point that `at` names, or the newest; the IDs of its EBS snapshots, in the order of its
        disks.

        Raises the package's errors. Killed or cancelled anywhere, the next run goes on. IntegrityError: a block could
        not be proved, and was not put; or the repository lost a point that was staged.
        """
        repository = await self._repository()
        with self._held(repository) as traces:
            while True:
                target = await self._target(repository, at)
                try:
                    return await self._run(repository, traces, target, explicit=at is not None)
                except ReplicaElsewhereError:  # brought on while it was waited for, to a point that is new
                    if (await self._target(repository, at)).id == target.id:
                        raise

    async def follow(self, poll_s: float = POLL_S) -> None:
        """Stage each new restore point until cancelled. What can pass, an outage (from the first look on) or a replica
        that is not there yet, is waited out; every other error ends it."""
        repository = await outlasted(self._repository, lambda error: self._waiting(error.sentence, poll_s), poll_s)
        done = ""
        with self._held(repository) as traces:
            while True:
                try:
                    newest = await self._target(repository, None)
                    if newest.id.sha256 != done:
                        await self._run(repository, traces, newest, explicit=False)
                        done = newest.id.sha256
                except (StoreError, RecoverError, LeaseError, ReplicaElsewhereError) as error:
                    if not (error.retryable or isinstance(error, ReplicaElsewhereError)):
                        raise
                    self._waiting(error.sentence, poll_s)
                await asyncio.sleep(poll_s)

    async def plan(self, at: str | None = None) -> None:
        """Say, as `stage.plan` a disk, what `run` would do now; asks AWS and the repository, changes nothing there."""
        repository = await self._repository()
        with self._held(repository) as traces:
            target = await self._target(repository, at)
            staged = await staged_disks(self._aws, repository.id, self._vm)
            await self._demand_history(repository, staged, target, explicit=at is not None)
            async with self._means(repository, traces, self._removal()) as means:
                for disk in target.record.disks:
                    await self._plan_disk(means, target, disk, staged)

    async def _plan_disk(self, means: Means, target: Point, disk: Disk, staged: list[StagedDisk]) -> None:
        there = _of(staged, target, disk, completed=True)
        pending = _of(staged, target, disk, completed=False)
        puts, parent = 0, None
        if there is None:
            base, wanted = await DiskStage(means, target, disk, staged).plan()
            puts, parent = len(wanted), base.staged.snapshot_id if base else None
        self._events.emit(
            StagePlan(
                vm=self._vm,
                disk=disk.id,
                point=target.id.label,
                snapshot=there.snapshot_id if there else None,
                pending=pending.snapshot_id if pending else None,
                parent=parent,
                volume_gib=volume_gib(disk.capacity_bytes),
                puts=puts,
                bytes_total=puts * EBS_BLOCK_BYTES,
                seconds=round(puts / self._settings.puts_s, 1),
            )
        )

    async def _repository(self) -> Repository:
        repository = await open_repository(self._store)
        found = await find(repository, self._vm)
        self._vm, self._newest = found.id, found.newest or 0
        self._housekeeping = Housekeeping(self._events, self._vm)
        return repository

    @contextmanager
    def _held(self, repository: Repository) -> Iterator[Traces]:
        home = self._root / repository.id / vm_key(self._vm)
        with local_io(STATE_DIRECTORY, home):
            for folder in FOLDERS:
                demand_folders(self._root.parent, home / folder)
        with locked(home / "lock", STATE_DIRECTORY) as mine:
            if not mine:
                raise LeaseError(
                    "another staging of this VM is at work",
                    where=str(home),
                    hint="let that one end, and run again",
                    retryable=True,
                )
            yield Traces(home, self._events)

    def _removal(self) -> Removal:
        return Removal(self._ebs, self._events, self._housekeeping, self._vm)

    @asynccontextmanager
    async def _means(self, repository: Repository, traces: Traces, removal: Removal) -> AsyncIterator[Means]:
        threads = Threads(len(os.sched_getaffinity(0)), "stage")
        try:
            yield Means(
                repository,
                self._ebs,
                traces,
                threads,
                self._events,
                self._meter,
                self._housekeeping,
                removal,
                self._settings.encryption,
                self._settings.tags,
            )
        finally:
            threads.close()

    async def _target(self, repository: Repository, at: str | None) -> Point:
        if at is not None:
            return await repository.load(self._vm, await repository.resolve(self._vm, at))
        newest = await repository.newest(self._vm, hint=self._newest)
        if newest is None:
            raise ConfigError(
                f"VM {self._vm!r} has no restore point in this repository",
                where=self._store.uri,
                hint="correct --vm or --repo, or make one with `warmspare sync`",
            )
        return await repository.load(self._vm, newest)

    async def _demand_history(
        self, repository: Repository, staged: list[StagedDisk], target: Point, *, explicit: bool
    ) -> None:
        """IntegrityError unless the newest point that was staged is the target or one before it: else the repository
        was rolled back or forked. An older point may be asked for by name."""
        done = [each for each in staged if each.completed]
        newest = max(done, key=lambda each: each.point.sequence, default=None)
        if newest is None or (explicit and newest.point.sequence > target.id.sequence):
            return
        if newest.point.sequence > target.id.sequence:
            raise repository.rolled_back(self._vm, newest.point, target.id.sequence)
        async for _ in descend(repository, self._vm, newest.point, target.id.sequence):
            pass

    async def _run(self, repository: Repository, traces: Traces, target: Point, *, explicit: bool) -> list[str]:
        with self._housekeeping, self._removal() as removal:
            return await self._stage(repository, traces, target, removal, explicit=explicit)

    async def _stage(
        self, repository: Repository, traces: Traces, target: Point, removal: Removal, *, explicit: bool
    ) -> list[str]:
        self._meter.restart()
        staged = await staged_disks(self._aws, repository.id, self._vm)
        await self._demand_history(repository, staged, target, explicit=explicit)
        self._events.emit(
            StageStart(
                vm=self._vm,
                repository=self._store.uri,
                point=target.id.label,
                created=target.record.created,
                region=await self._aws.region(),
            )
        )
        earlier, hopeless = await sort_unfinished(repository, self._vm, staged, target, only_target=explicit)
        lost = {each.snapshot_id for each, _ in hopeless}
        for each, why in hopeless:
            traces.count_attempt()  # first: the next start must not find it by its token
            if await removal.remove(each.snapshot_id, each.point.label, why):
                self._forget(traces, each)
            staged.remove(each)
        async with self._means(repository, traces, removal) as means:
            for point in earlier:
                await self._point(means, point, staged, replica=None)
                shown = await staged_disks(self._aws, repository.id, self._vm)
                staged = [each for each in shown if each.snapshot_id not in lost]
            ids = await self._point(means, target, staged, replica=self._settings.replica)
        removed = await self._expire(repository, traces, removal, ids)
        removal.tell()
        meter = self._meter
        self._events.emit(
            StageDone(
                vm=self._vm,
                point=target.id.label,
                created=target.record.created,
                snapshots=ids,
                bytes_read=meter.read_bytes,
                bytes_put=meter.sent_bytes,
                amplification=round(meter.read_bytes / meter.sent_bytes, 3) if meter.sent_bytes else 0.0,
                throttled=self._ebs.pace.throttles,
                removed=removed,
                kept=removal.kept,
                seconds=round(meter.seconds, 3),
            )
        )
        return ids

    def _waiting(self, why: str, seconds: float = WAIT_S) -> None:
        self._events.emit(StageWaiting(vm=self._vm, message=why, seconds=seconds))

    async def _point(self, means: Means, point: Point, staged: list[StagedDisk], *, replica: Path | None) -> list[str]:
        """Stage every disk of a restore point; the IDs of its snapshots."""
        done = [_of(staged, point, disk, completed=True) for disk in point.record.disks]
        holder: Replica | None = None
        async with AsyncExitStack() as stack:
            if replica is not None and not all(done):
                holder = replica_at(replica, self._vm, means.repository, point, self._settings.replica_state)
                await stack.enter_async_context(held_at(holder, point, self._waiting))
            ids = []
            for disk, there in zip(point.record.disks, done, strict=True):
                if there is None:
                    pending = _of(staged, point, disk, completed=False)
                    ids.append(await self._disk(means, point, disk, staged, pending, holder))
                else:
                    ids.append(there.snapshot_id)
        self._events.emit(StagePoint(vm=self._vm, point=point.id.label, created=point.record.created, snapshots=ids))
        return ids

    async def _disk(
        self,
        means: Means,
        point: Point,
        disk: Disk,
        staged: list[StagedDisk],
        pending: StagedDisk | None,
        holder: Replica | None,
    ) -> str:
        stage = DiskStage(means, point, disk, staged)
        if holder is None:
            return await stage.run(None, pending)
        with opened(holder, disk) as (fd, path):
            chain = ChainBlocks(means.repository, point, disk, means.traces.scratch, means.threads, means.meter)
            async with chain:
                source: FillingSource = ReplicaBlocks(fd, path, disk, chain, means.threads, means.events, means.meter)
                return await stage.run(source, pending)

    async def _expire(self, repository: Repository, traces: Traces, removal: Removal, ids: list[str]) -> int:
        """Remove what is no longer needed; how many. Listings of AWS may be some seconds old: nothing is removed before
        they show what was just staged."""
        staged: list[StagedDisk] = []
        with self._housekeeping.trying("ec2:DescribeSnapshots", self._vm, denied=denied_by_aws):
            staged = await staged_disks(self._aws, repository.id, self._vm)
        if not {each.snapshot_id for each in staged if each.completed}.issuperset(ids):
            return 0
        gone = await removal.expire(expired(staged, self._settings.keep, self._aws.now()))
        for each in gone:
            self._forget(traces, each)
        return len(gone)

    def _forget(self, traces: Traces, snapshot: StagedDisk) -> None:
        with self._housekeeping.trying(LOCAL, traces.home):
            traces.forget(snapshot.snapshot_id)


def _of(staged: list[StagedDisk], point: Point, disk: Disk, *, completed: bool) -> StagedDisk | None:
    """The snapshot of a disk at a restore point that is completed, or the one that is pending."""
    key, state = disk_key(disk.id), "completed" if completed else PENDING
    found = [each for each in staged if (each.point, each.key, each.state) == (point.id, key, state)]
    return max(found, key=lambda each: each.started, default=None)
