"""Restore points of one VM in a repository: listing, loading, and proving that one descends from another.

Owns the refusal of forks, gaps and rollbacks (architecture.md, invariant 2). Writes nothing but what
`Repository.publish` is given.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field

from warmspare.errors import ConfigError, IntegrityError, NotFoundError, StoreError
from warmspare.format import repofile, restore_point
from warmspare.format.repofile import RepositoryRecord
from warmspare.format.restore_point import RestorePoint
from warmspare.model.ids import PointId, VmId, VmKey, vm_key, vm_of
from warmspare.model.named_moment import moment_text, named_moment
from warmspare.store import layout
from warmspare.store.contract import ObjectInfo, Store

MAX_RECORD_BYTES = 1 << 16
MOST_VMS = 100_000
_LABEL = re.compile(r"([0-9]{1,10})(?:-([0-9a-f]{1,64}))?")


class NoRepositoryError(ConfigError):
    """Nothing is there yet."""


@dataclass(frozen=True, slots=True)
class Point:
    """A restore point as read from the store. stored: its bytes there, or, until it is published, to be."""

    id: PointId
    record: RestorePoint
    stored: bytes = field(repr=False, compare=False)


def parent_of(point: Point) -> PointId | None:
    """What its record names as its parent; None for the first."""
    return PointId(point.id.sequence - 1, point.record.parent) if point.record.parent else None


def now_text() -> str:
    """The time now, RFC 3339 in UTC."""
    return moment_text(time.time())


class Repository:
    """One repository, opened with `open_repository`."""

    def __init__(self, store: Store, identity: str) -> None:
        self.store, self.id = store, identity

    def where(self, key: str) -> str:
        return f"{self.store.uri.rstrip('/')}/{key}"

    async def vms(self) -> list[VmId]:
        """All VMs that have objects here, in the order of their keys."""
        names: list[VmId] = []
        after = ""
        while True:
            key = await self._first_vm(after)
            if key is None:
                return names
            name = vm_of(key) or await self.long_name(key)
            if name:
                names.append(name)
            if len(names) > MOST_VMS:
                raise IntegrityError(
                    f"the repository has more than {MOST_VMS} VMs, which no sender of ours made",
                    where=self.store.uri,
                    hint="look at what lies below vms/",
                )
            after = layout.vm_prefix(key)[:-1] + "0"  # "0" follows "/": past all of this VM's keys

    async def _first_vm(self, after: str) -> VmKey | None:
        async for info in self.store.list(layout.all_vms_prefix(), start_after=after):
            key = layout.vm_of_key(info.key)
            if key is not None:  # else a stray object beside the VMs
                return key
        return None

    async def long_name(self, key: VmKey) -> VmId | None:
        """The ID of a VM that is too long to be read back from its keys; its points state it."""
        async for info in self.store.list(layout.points_prefix(key)):
            data = await self.store.get(info.key, max_bytes=restore_point.MAX_POINT_BYTES)
            name = restore_point.decode(data, self.where(info.key)).vm_id
            return name if vm_key(name) == key else None
        return None

    async def sequences(self, vm: VmId, *, after: int = 0) -> list[int]:
        """Sequences of the VM's restore points above `after`, ascending."""
        return [number for number, _ in await self.listed(vm, after=after)]

    async def listed(self, vm: VmId, *, after: int = 0) -> list[tuple[int, ObjectInfo]]:
        """The same, each with what the store says of its record."""
        key = vm_key(vm)
        start = layout.point_key(key, after) if after else ""
        return [
            (number, info)
            async for info in self.store.list(layout.points_prefix(key), start_after=start)
            if (number := layout.parse_point_key(info.key)) is not None
        ]

    async def load(self, vm: VmId, sequence: int) -> Point:
        """One restore point, checked to be what its key says. NotFoundError, FormatError, IntegrityError."""
        key = layout.point_key(vm_key(vm), sequence)
        return self.parse(vm, sequence, await self.store.get(key, max_bytes=restore_point.MAX_POINT_BYTES))

    def parse(self, vm: VmId, sequence: int, data: bytes) -> Point:
        where = self.where(layout.point_key(vm_key(vm), sequence))
        record = restore_point.decode(data, where)
        if record.vm_id != vm or record.sequence != sequence:
            raise IntegrityError(
                f"this restore point record is number {record.sequence} of VM {record.vm_id!r} "
                f"and stands where number {sequence} of {vm!r} belongs",
                where=where,
                hint="objects were moved or replayed; restore the right one from a copy of the repository",
            )
        return Point(PointId(sequence, restore_point.identity(data)), record, data)

    async def newest(self, vm: VmId, *, hint: int = 0) -> int | None:
        """The sequence of the VM's newest restore point; None if it has none. hint: one that it may have, from which on
        is listed; where it is not there, all are."""
        found = await self.sequences(vm, after=hint - 1) if hint else []
        found = found or await self.sequences(vm)
        return found[-1] if found else None

    def rolled_back(self, vm: VmId, known: PointId, newest: int) -> IntegrityError:
        """The error that says so. newest: the sequence of the newest point there is, 0 if there is none."""
        return IntegrityError(
            f"the repository was rolled back: restore point {known.label} of VM {vm!r} was here before "
            f"and is gone (the newest now is {newest or 'none'})",
            where=self.store.uri,
            hint="put the missing objects back; if they were removed on purpose, remove the local state "
            "(of a sender) or the replica (of a receiver) and run the command again",
        )

    async def unchanged(self, vm: VmId, known: PointId, newest: int) -> Point:
        """The point that was seen before. IntegrityError if it is gone, or another stands there now."""
        try:
            again = await self.load(vm, known.sequence)
        except NotFoundError:
            raise self.rolled_back(vm, known, newest) from None
        if again.id != known:
            raise self.forked(vm, known, again.id)
        return again

    def forked(self, vm: VmId, known: PointId, there: PointId) -> IntegrityError:
        """The error that says so. there: what stands in its place, or what does not descend from it."""
        now = (
            f"is now {there.label}" if there.sequence == known.sequence else f"is none that {there.label} descends from"
        )
        return IntegrityError(
            f"the repository was forked: restore point {known.sequence} of VM {vm!r} {now} and was {known.label}",
            where=self.where(layout.point_key(vm_key(vm), known.sequence)),
            hint="find out who else writes here; to accept the new history remove the local state "
            "(of a sender) or the replica (of a receiver)",
        )

    async def resolve(self, vm: VmId, wanted: str, *, newest: int | None = None, also_dropped: bool = False) -> int:
        """The sequence that a user's --at names: a sequence, a label such as 12-3fa9c1d2, `latest`, or a time (see
        named_moment), which means the newest point that is not younger. newest: the newest point's, where it is known.
        also_dropped: a number or label may be that of a point that was let go. ConfigError where there is none."""
        from warmspare.repository.history import steps

        if wanted == "latest":
            found = newest or await self.newest(vm)
        elif (label := _LABEL.fullmatch(wanted)) is not None:
            number = int(label[1])
            found = await self._labelled(vm, wanted, number, label[2])
            if found is None and (dropped := await steps.dropped_point(self, vm, number)) is not None:
                if also_dropped and dropped.id.sha256.startswith(label[2] or ""):
                    return number
                raise await steps.dropped_error(self, vm, number)
        else:
            found = await self._timed(vm, wanted, newest)
            found = None if found is None else await steps.kept_before(self, vm, found)
        if found is None:
            raise ConfigError(
                f"VM {vm!r} has no restore point {wanted!r}",
                where=self.store.uri,
                hint="list them with `warmspare points`",
            )
        return found

    async def _labelled(self, vm: VmId, wanted: str, number: int, digest: str | None) -> int | None:
        """digest: what its SHA-256 begins with; None: any."""
        if digest is None:
            return number if await self.store.head(layout.point_key(vm_key(vm), number)) is not None else None
        try:
            point = await self.load(vm, number)
        except NotFoundError:
            return None
        if not point.id.sha256.startswith(digest):
            raise ConfigError(
                f"restore point {number} of VM {vm!r} is not {wanted}",
                where=self.store.uri,
                hint="list them with `warmspare points`",
            )
        return number

    async def _timed(self, vm: VmId, wanted: str, newest: int | None) -> int | None:
        """None for what is no time, too."""
        from warmspare.repository.points.point_search import PointSearch

        until_s = named_moment(wanted, time.time())
        newest = newest if until_s is None or newest else await self.newest(vm)
        return None if until_s is None or newest is None else await PointSearch(self, vm, until_s).run(newest)

    async def publish(self, vm: VmId, sequence: int, data: bytes) -> bool:
        """Create the record; False if another sender's stands there. To be followed by `confirm`."""
        return await self.store.create(layout.point_key(vm_key(vm), sequence), data)

    async def confirm(self, vm: VmId, ours: Point, *, follows: PointId | None) -> None:
        """Look whether a point that was just published stands, on the one that it follows, and nothing above it that
        follows another. follows: the newest point before it; its parent, where none between was dropped.

        Where the store gave a key twice, one of the two who had it sees that here, or when it begins its next run.
        IntegrityError, which names both points; StoreError if it can't be read back."""
        sequence = ours.id.sequence
        try:
            async with asyncio.TaskGroup() as tasks:
                own = tasks.create_task(self._there(vm, sequence))
                below = tasks.create_task(self._there(vm, follows.sequence if follows else 0))
                over = tasks.create_task(self._above(vm, sequence))
        except BaseExceptionGroup as group:
            error = group.exceptions[0]
            if not isinstance(error, StoreError):
                raise error from None
            what = f"restore point {ours.id.label} of VM {vm!r} is published, but it can't be read back: {error.what}"
            raise StoreError(what, where=error.where, hint=error.hint, retryable=error.retryable) from error
        there, before, above = own.result(), below.result(), over.result()
        if there != ours.id.label:
            raise self._overwritten(vm, f"restore point {ours.id.label} of VM {vm!r}, which this run published", there)
        if follows and before != follows.label:
            what = f"restore point {follows.label} of VM {vm!r}, which {ours.id.label} follows"
            raise self._overwritten(vm, what, before)
        if above is not None and above.record.parent != ours.id.sha256:
            stood = PointId(sequence, above.record.parent or "").label
            raise self._overwritten(
                vm, f"restore point {stood} of VM {vm!r}, which {above.id.label} follows", ours.id.label
            )

    async def _there(self, vm: VmId, sequence: int) -> str | None:
        """The label of what stands there."""
        if not sequence:
            return None
        key = layout.point_key(vm_key(vm), sequence)
        try:
            data = await self.store.get(key, max_bytes=restore_point.MAX_POINT_BYTES)
            return PointId(sequence, restore_point.identity(data)).label
        except NotFoundError:
            return None

    async def _above(self, vm: VmId, sequence: int) -> Point | None:
        key = layout.point_key(vm_key(vm), sequence + 1)
        try:
            return await self.load(vm, sequence + 1) if await self.store.head(key) is not None else None
        except NotFoundError:
            return None

    def _overwritten(self, vm: VmId, what: str, there: str | None) -> IntegrityError:
        now = f"{there} stands in its place now" if there else "nothing stands in its place now"
        return IntegrityError(
            f"{what}, was written over or removed: {now}",
            where=self.store.uri,
            hint="two senders are at work and the server does not keep conditional writes, or somebody removes restore "
            "points: let only one host send, find out which of the two points is to be kept, and audit the repository",
        )


async def open_repository(store: Store) -> Repository:
    """The repository in a store. NoRepositoryError where there is none: only `make_repository` makes one."""
    return Repository(store, (await own_record(store)).id)


async def own_record(store: Store) -> RepositoryRecord:
    """The record that makes a store a repository. NoRepositoryError where nothing is there, IntegrityError where VMs
    are there and it is not."""
    where = f"{store.uri.rstrip('/')}/{layout.repository_key()}"
    try:
        data = await store.get(layout.repository_key(), max_bytes=MAX_RECORD_BYTES)
    except NotFoundError:
        async for info in store.list(layout.all_vms_prefix()):
            raise IntegrityError(
                "the repository's own record is missing though it holds restore points",
                where=f"{where}, beside {info.key}",
                hint="put repository.json back from a copy of the repository",
            ) from None
        raise NoRepositoryError(
            "there is no warmspare repository here",
            where=store.uri,
            hint=f"check the URI, or make one with `warmspare init {store.uri}`",
        ) from None
    return repofile.decode(data, where)
