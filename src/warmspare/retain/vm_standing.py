"""What stands of one VM: its restore points, in short, and its retention records with when they were made.

Owns the rule by which something that was dropped may be removed. Who reads goes by the newest retention record there is
when it begins, and has the grace time to end. So the newest record that is older than that, and all after it, may be in
use still: what a point that it drops alone names is of no use to anybody any more, and what a record of before alone
names isn't either.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from warmspare.errors import IntegrityError, NotFoundError
from warmspare.format.restore_point import ObjectRef
from warmspare.format.retained.retention import Retention, StoredRetention
from warmspare.model.ids import PointId, RunId, VmId
from warmspare.repository.chain import Repository
from warmspare.repository.history import retained
from warmspare.repository.history.steps import recall
from warmspare.side_by_side import side_by_side
from warmspare.store.contract import ObjectInfo

AT_ONCE = 32
_HINT = "run `warmspare audit repository`, and mend what it finds first"


class UnsureError(IntegrityError):
    """Something of a VM is not as it should be, so nothing of it is removed."""


@dataclass(frozen=True, slots=True)
class StandingPoint:
    """A record that is there. created: as it says; run: whose sync made it; manifests, tables: that it names. stored_s:
    since when the store has it, Unix seconds; bytes: how long it is."""

    id: PointId
    parent: str | None
    created: str
    run: RunId
    manifests: Sequence[ObjectRef]
    tables: Sequence[str]
    stored_s: float
    bytes: int

    @property
    def created_s(self) -> float:
        return datetime.datetime.fromisoformat(self.created).timestamp()


@dataclass(frozen=True, slots=True)
class VmStanding:
    """points: that are there, by sequence, those that were dropped among them. records: retention records, ascending.
    settled: how many of these may count for nobody any more but by the last of them."""

    vm: VmId
    points: Mapping[int, StandingPoint]
    records: Sequence[StoredRetention]
    settled: int

    @property
    def newest(self) -> StoredRetention | None:
        return self.records[-1] if self.records else None

    @property
    def by_all(self) -> Retention | None:
        """What every reader goes by at least; None where somebody may have begun before anything was dropped."""
        return self.records[self.settled - 1].record if self.settled else None

    @property
    def out_of_use(self) -> Sequence[StoredRetention]:
        """The records that nobody goes by any more."""
        return self.records[: max(self.settled - 1, 0)]

    @property
    def in_use(self) -> Sequence[StoredRetention]:
        """The records that somebody may go by."""
        return self.records[max(self.settled - 1, 0) :]

    @property
    def kept(self) -> list[StandingPoint]:
        """The points that were not dropped, ascending."""
        record = self.newest.record if self.newest else None
        return [point for number, point in sorted(self.points.items()) if record is None or not record.dropped(number)]

    @property
    def head(self) -> StandingPoint | None:
        return self.points[max(self.points)] if self.points else None


async def standing(repository: Repository, vm: VmId, grace_s: float) -> VmStanding:
    """All of it, and that the kept points are one chain. IntegrityError where that can't be told."""
    listed = await repository.listed(vm)

    async def read(one: tuple[int, ObjectInfo]) -> StandingPoint | None:
        number, info = one
        try:
            point = await repository.load(vm, number)
        except NotFoundError:
            return None  # removed since it was listed, by another who lets points go
        record = point.record
        manifests = tuple(disk.manifest for disk in record.disks)
        tables = tuple(disk.checkpoint.table.key for disk in record.disks if disk.checkpoint)
        about = (record.parent, record.created, record.run)
        return StandingPoint(point.id, *about, manifests, tables, info.modified_s, info.bytes)

    points = await side_by_side(read, listed, AT_ONCE)
    records = await _records(repository, vm)
    found = VmStanding(
        vm,
        {point.id.sequence: point for point in points if point is not None},
        records,
        await _settled(repository, records, grace_s),
    )
    _demand_chain(repository, found)
    return found


async def refreshed(repository: Repository, found: VmStanding, grace_s: float) -> VmStanding:
    """The same points by the retention records that there are now."""
    records = await _records(repository, found.vm)
    return replace(found, records=records, settled=await _settled(repository, records, grace_s))


async def _records(repository: Repository, vm: VmId) -> list[StoredRetention]:
    newest = await retained.newest(repository, vm)
    if newest is None:
        return []
    older = []
    for generation, info in await retained.generations(repository, vm):
        if generation < newest.record.generation:
            older.append(await retained.load(repository, vm, generation, info))
    return [*older, newest]


async def _settled(repository: Repository, records: Sequence[StoredRetention], grace_s: float) -> int:
    """How many are older than the grace time, by the store's clock and by that of who wrote them: one of the two may be
    wrong."""
    if not records:
        return 0
    store_s, host_s = await repository.store.now() - grace_s, host_now_s() - grace_s
    old = [one.modified_s <= store_s and _made_s(one.record) <= host_s for one in records]
    return old.index(False) if False in old else len(old)


def host_now_s() -> float:
    """The time by this host's clock, Unix seconds."""
    return time.time()


def _made_s(record: Retention) -> float:
    return datetime.datetime.fromisoformat(record.created).timestamp()


def _demand_chain(repository: Repository, found: VmStanding) -> None:
    """IntegrityError unless every kept point leads to the one before it, by its record or by a fold."""
    before: StandingPoint | None = None
    record = found.newest.record if found.newest else None
    for point in found.kept:
        fold = record.of_target(point.id.sequence) if record else None
        if fold is not None:
            sound = fold.target == point.id and fold.base == (before.id if before else None)
        else:
            last = PointId(point.id.sequence - 1, point.parent) if point.parent else None
            sound = last == (before.id if before else None)
        if not sound:
            raise unsure(repository, found.vm, f"restore point {point.id.label} does not lead to the one before it")
        before = point


def unsure(repository: Repository, vm: VmId, what: str) -> UnsureError:
    """The error that says that nothing is done, since something is not as it should be."""
    return UnsureError(f"nothing of VM {vm!r} is removed, for {what}", where=repository.store.uri, hint=_HINT)


async def demand_seen(repository: Repository, found: VmStanding, seen: Sequence[tuple[PointId, str]]) -> None:
    """IntegrityError where a point that was seen before, and by whom, is another now, or gone without having been
    dropped."""
    for point, source in seen:
        there = found.points.get(point.sequence)
        if there is not None and there.id == point:
            continue
        try:
            if there is None and found.head is not None and point.sequence < found.head.id.sequence:
                await recall(repository, found.vm, point)
                continue
        except IntegrityError:
            pass
        raise unsure(repository, found.vm, f"restore point {point.sequence} is missing or another than {source} saw it")
