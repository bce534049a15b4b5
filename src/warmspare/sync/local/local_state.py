"""A sender's local state of one VM: last point seen, journal, and each disk's table and page map.

Owns bringing that state to the head of the chain (architecture.md, invariants 2, 10 and 11): by what a dead
run left, by the manifests published since, or by rebuilding from a checkpoint. All of it is a cache.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np

from warmspare.errors import IntegrityError, NotFoundError
from warmspare.format.manifest import ManifestReader
from warmspare.format.packlist import PackRef
from warmspare.format.restore_point import Disk
from warmspare.model.columns import distinct
from warmspare.model.ids import DiskId, PackId, PointId, VmId, disk_key, vm_key
from warmspare.model.units import BLOCK_PAGES
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.repository_events import StateAdopted, StateRebuild
from warmspare.outside.records import Count, Seconds
from warmspare.outside.regular_files import demand_folders
from warmspare.repository import disk_tables
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.step import Step
from warmspare.repository.history.steps import last_step
from warmspare.repository.verified_objects import manifest_of
from warmspare.state.local_files import (
    STATE_DIRECTORY,
    copy_sparse,
    local_io,
    locked,
    out_of_the_way,
    read_record,
    sweep,
    write_record,
)
from warmspare.state.local_table import HashTable, TableDamagedError
from warmspare.store.contract import Store
from warmspare.sync.journal.journal import Journal
from warmspare.sync.journal.page_log import PageLog
from warmspare.sync.local.pagemap import PageMap
from warmspare.sync.local.state_record import ADOPTED_RECORD, STATE_RECORD, AdoptedRecord, StateRecord
from warmspare.sync.resuming.leftovers import Leftovers
from warmspare.sync.resuming.unpublished import Unfinished
from warmspare.threads import in_thread

RATE_BYTES = 1 << 20
NO_POINT = "0" * 64  # the generation of a disk's files before its first restore point


class Unsettled(msgspec.Struct, frozen=True):
    """The run that was the last to touch the machine. That there is one is all that counts."""

    run: str


class Rate(msgspec.Struct, frozen=True):
    """What a sync sent in how long."""

    bytes_sent: Count
    seconds: Seconds


class DiskState:
    """One disk's files, open."""

    def __init__(self, directory: Path) -> None:
        with local_io(STATE_DIRECTORY, directory):
            demand_folders(directory.parent, directory)
        with ExitStack() as stack:
            self.table = stack.enter_context(HashTable(directory / "table"))
            self.pages = stack.enter_context(PageMap(directory / "pagemap"))
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()


class LocalState:
    """The state directory of one VM and repository: `<state>/<vm>/<repository id>`."""

    def __init__(self, state: Path, vm: VmId, repository: Repository, events: Events) -> None:
        self._state, self._vm, self._repository, self._events = state, vm, repository, events
        self.home = state / vm_key(vm)
        self.directory = self.home / repository.id
        with local_io(STATE_DIRECTORY, self.directory):
            for folder in ("run", "plan", "carried", "disks", "unfinished", "tmp"):
                demand_folders(state, self.directory / folder)
        self.journal = Journal(self.directory / "run", events)
        key = vm_key(vm)
        self.leftovers = Leftovers(self.directory / "leftovers.json", key, events)
        self.unfinished = Unfinished(self.directory / "unfinished", self.leftovers, key, events)
        self.made_points_path = self.directory / "requests.json"
        self.marks_path = self.directory / "marks.json"
        self._record_path = self.directory / STATE_RECORD
        self._unsettled = self.directory / "unsettled.json"

    def of(self, vm: VmId) -> LocalState:
        """That of another VM in the same repository."""
        return LocalState(self._state, vm, self._repository, self._events)

    def last(self) -> PointId | None:
        """The newest restore point this sender saw. IntegrityError if the repository at this URI is another
        than the one that was synced to before."""
        record = read_record(self._record_path, StateRecord, STATE_DIRECTORY, self._events)
        if record:
            return PointId(record.sequence, record.sha256) if record.sequence else None
        for other in sorted(self.home.glob(f"*/{STATE_RECORD}")) if self.home.exists() else []:
            found = read_record(other, StateRecord, STATE_DIRECTORY, self._events)
            if found and found.uri == self._repository.store.uri and found.repository != self._repository.id:
                raise IntegrityError(
                    f"the repository was replaced: it is {self._repository.id} and was {found.repository}, "
                    f"with restore point {PointId(found.sequence, found.sha256).label} of VM {self._vm!r}",
                    where=found.uri,
                    hint=f"put the old one back, or remove {other.parent} to begin anew",
                )
        return None

    def seen(self) -> bool:
        """Whether this host has seen a restore point of the VM in this repository."""
        record = read_record(self._record_path, StateRecord, STATE_DIRECTORY, self._events)
        return record is not None and record.sequence > 0

    def begun(self) -> bool:
        """Whether a first sync to this repository was begun on purpose, and no restore point has been seen since."""
        record = read_record(self._record_path, StateRecord, STATE_DIRECTORY, self._events)
        return record is not None and record.sequence == 0

    def adopted(self) -> VmId | None:
        """The chain that the VM goes on in, as this host knows; None: that of its own ID, or nothing is known."""
        record = read_record(self.directory / ADOPTED_RECORD, AdoptedRecord, STATE_DIRECTORY, self._events)
        return record.chain if record else None

    def remember_adopted(self, chain: VmId) -> None:
        write_record(self.directory / ADOPTED_RECORD, AdoptedRecord(chain), STATE_DIRECTORY)

    def forget_adopted(self) -> None:
        """It is no more."""
        with local_io(STATE_DIRECTORY, self.directory):
            (self.directory / ADOPTED_RECORD).unlink(missing_ok=True)

    def elsewhere(self) -> list[str]:
        """The URIs of other repositories that hold the VM, by what this host knows; the ones with the newest points
        first."""
        return [record.uri for directory, record in self._others() if directory != self.directory]

    async def adopt(self, events: Events) -> PointId | None:
        """Where this repository was never synced to, begin with the state of another one that it is a copy of.

        Points have the same identity in both, and tables and page maps belong to points; so the disks' files are right
        here too, and what was sent to the one need not be sent to the other. Each keeps a state of its own from then
        on. Returns the newest point that both have by that; None if there is nothing to begin with.
        """
        if read_record(self._record_path, StateRecord, STATE_DIRECTORY, self._events) is not None:
            return None
        for directory, found in self._others():
            point = PointId(found.sequence, found.sha256)
            try:
                there = (await self._repository.load(self._vm, point.sequence)).id
            except (NotFoundError, IntegrityError):
                continue
            with locked(directory / "lock", STATE_DIRECTORY) as free:  # its files must not move while they are copied
                if there != point or not free:
                    continue
                await in_thread(self._take_files, directory)
                if (directory / self._unsettled.name).exists():  # the machine is the same
                    self.unsettle(directory.name)
            self.remember(point)
            events.emit(StateAdopted(vm=self._vm, point=point.label, repository=found.uri))
            return point
        return None

    def _others(self) -> list[tuple[Path, StateRecord]]:
        """States of this VM and other repositories, the ones that know the newest points first."""
        found = [
            (path.parent, read_record(path, StateRecord, STATE_DIRECTORY, self._events))
            for path in sorted(self.home.glob(f"*/{STATE_RECORD}"))
        ]
        known = [(directory, record) for directory, record in found if record and record.sequence]
        return sorted(known, key=lambda one: -one[1].sequence)

    def _take_files(self, other: Path) -> None:
        """Copy the disks' files; all of them or none."""
        staged, disks = self.directory / "disks.new", self.directory / "disks"
        with local_io(STATE_DIRECTORY, staged):
            for old in (staged, disks):  # of an adoption that died; of a sync that never came to a point
                out_of_the_way(old, STATE_DIRECTORY)
            for path in sorted((other / "disks").glob("*/*")):
                if path.suffix != ".staged":
                    target = staged / path.parent.name / path.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    copy_sparse(path, target, STATE_DIRECTORY)
            if staged.exists():
                staged.rename(disks)

    async def packs_of(self, published: Point) -> list[PackRef]:
        """Every pack that the manifests of a point name. IntegrityError, StoreError."""
        found: list[PackRef] = []
        step = Step(published, None)  # its own manifests, which nothing stands for as long as it is the newest
        for disk in published.record.disks:
            stated = step.manifest(disk.id)
            assert stated
            async with manifest_of(self._repository, stated, self.directory / "tmp") as manifest:
                found += manifest.packs
        return found

    async def clear_up(self, store: Store, housekeeping: Housekeeping) -> None:
        """What runs before this one have left and is of no use: in the store, and here."""
        sweep(self.directory, housekeeping)
        await self.leftovers.clear(store, housekeeping, self._named_by)

    async def _named_by(self, sequence: int) -> set[PackId] | None:
        """See NamedBy."""
        try:
            packs = await self.packs_of(await self._repository.load(self._vm, sequence))
        except (IntegrityError, NotFoundError):
            return None
        return {pack.id for pack in packs}

    def remember(self, point: PointId | None) -> None:
        """The newest restore point; None: there is none yet, and one was begun on purpose."""
        record = StateRecord(
            self._repository.id,
            self._repository.store.uri,
            self._vm,
            point.sequence if point else 0,
            point.sha256 if point else "",
        )
        write_record(self._record_path, record, STATE_DIRECTORY)

    def use_journal(self, name: str) -> None:
        """Another than that of syncs, for a run that publishes nothing."""
        self.journal = Journal(self.directory / name, self._events)

    def remember_rate(self, sent_bytes: int, seconds: float) -> None:
        """How fast a sync sent, if it sent enough to tell."""
        if sent_bytes >= RATE_BYTES and seconds > 0:
            write_record(self.directory / "rate.json", Rate(sent_bytes, seconds), STATE_DIRECTORY)

    def last_rate(self) -> float | None:
        """Bytes a second of the last sync that sent enough to tell."""
        record = read_record(self.directory / "rate.json", Rate, STATE_DIRECTORY, self._events)
        return record.bytes_sent / record.seconds if record and record.seconds > 0 else None

    def unsettled(self) -> bool:
        """Whether some run since the last published point may not have left the machine as it was."""
        return self._unsettled.exists()

    def unsettle(self, by: str) -> None:
        """Before the machine is touched; durable. by: a run, or the repository whose state was taken over."""
        write_record(self._unsettled, Unsettled(by), STATE_DIRECTORY)

    def settle(self) -> None:
        """The machine is as it was."""
        with local_io(STATE_DIRECTORY, self._unsettled):
            self._unsettled.unlink(missing_ok=True)

    def audit_path(self, disk_id: DiskId) -> Path:
        """Where it is noted how far the rolling audit of a disk is."""
        return self.directory / "disks" / disk_key(disk_id) / "audit.json"

    def open_disk(self, disk_id: DiskId) -> DiskState:
        return DiskState(self.directory / "disks" / disk_key(disk_id))

    async def prepare(
        self,
        disk_id: DiskId,
        state: DiskState,
        head: Point | None,
        fresh: list[Step],
        log: PageLog | None,
        events: Events,
    ) -> Disk | None:
        """Bring a disk's files to the head. Returns the disk as the head has it, None if it has not.

        fresh: the steps from the last point seen up to the head, oldest first; none where that is the head. log: page
        hashes that a dead run of ours left for the newest of them.
        """
        disk = head.record.disk(disk_id) if head else None
        if disk is None or head is None:
            await in_thread(self._start_over, state)
            return None
        generation = head.id.sha256
        if not fresh and not (state.table.generation == state.pages.generation == generation):
            fresh = [await last_step(self._repository, head)]  # a run saw the head, and died before its files moved
        if state.table.generation != generation:
            await self._advance_table(disk_id, state, fresh, events)
            if state.table.generation != generation:
                events.emit(StateRebuild(vm=self._vm, disk=disk_id, what="hash table"))
                await self.rebuild_table(disk, state.table, head)
        try:
            state.table.check(disk.capacity_bytes, disk.root)
        except TableDamagedError:
            events.emit(StateRebuild(vm=self._vm, disk=disk_id, what="hash table"))
            await self.rebuild_table(disk, state.table, head)
        if state.pages.generation != generation:
            await self._advance_pages(disk_id, state.pages, fresh, log)
            if state.pages.generation != generation:
                events.emit(StateRebuild(vm=self._vm, disk=disk_id, what="page map"))
                state.pages.reset()
                state.pages.finish(generation)
        return disk

    @staticmethod
    def _start_over(state: DiskState) -> None:
        if state.table.generation != NO_POINT:
            state.table.reset()
            state.table.commit(NO_POINT, 0)
        if state.pages.generation != NO_POINT:
            state.pages.reset()
            state.pages.finish(NO_POINT)

    def _since(self, generation: str | None, disk_id: DiskId, fresh: list[Step]) -> list[Step] | None:
        """The steps from `generation` on, if one of the fresh ones begins there and the disk is in all of them, and in
        what lay between."""
        for at, step in enumerate(fresh):
            if generation is not None and (step.before.sha256 if step.before else NO_POINT) == generation:
                stated = [each.manifest(disk_id) for each in fresh[at:]]
                whole = all(one is not None and not (one.folded and one.from_nothing) for one in stated)
                return fresh[at:] if whole else None
        return None

    async def _advance_table(self, disk_id: DiskId, state: DiskState, fresh: list[Step], events: Events) -> None:
        try:
            for step in self._since(state.table.generation, disk_id, fresh) or []:
                stated = step.manifest(disk_id)
                assert stated
                disk = stated.disk
                async with manifest_of(self._repository, stated, self.directory / "tmp") as manifest:
                    await in_thread(disk_tables.stage_manifest, state.table, manifest)
                root = await in_thread(state.table.staged_root, disk.capacity_bytes)
                if root != disk.root:
                    raise TableDamagedError("the local hash table is not what the chain says")
                await in_thread(state.table.commit, step.point.id.sha256, disk.capacity_bytes)
        except TableDamagedError:
            await in_thread(state.table.reset)

    async def rebuild_table(self, disk: Disk, table: HashTable, head: Point) -> None:
        await disk_tables.rebuild(self._repository, disk.id, head, table, self.directory / "tmp")

    async def _advance_pages(self, disk_id: DiskId, pages: PageMap, fresh: list[Step], log: PageLog | None) -> None:
        """Pages of blocks that others changed become unknown; our own dead run's are known."""
        for step in self._since(pages.generation, disk_id, fresh) or []:
            stated = step.manifest(disk_id)
            assert stated
            pages.begin()
            async with manifest_of(self._repository, stated, self.directory / "tmp") as manifest:
                await in_thread(_forget, pages, manifest)
            if log and step is fresh[-1] and not stated.folded:
                await in_thread(commit_pages, pages, log, step.point.id.sha256)
            else:
                pages.finish(step.point.id.sha256)


def _forget(pages: PageMap, manifest: ManifestReader) -> None:
    for chunk in manifest.chunks():
        blocks = distinct(chunk.records.block)
        pages.write(blocks, np.zeros((blocks.size, BLOCK_PAGES), dtype=np.uint64))


def commit_pages(pages: PageMap, log: PageLog, generation: str) -> None:
    """Replay a page log into the map and make it the map of that restore point."""
    pages.begin()
    for blocks, hashes in log.replay():
        pages.write(blocks, hashes)
    pages.finish(generation)
