"""Restore points of one VM in a repository: listing, loading, and proving that one descends from another.

Owns the refusal of forks, gaps and rollbacks (architecture.md, invariant 2). Writes nothing but what
`Repository.publish` is given.
"""

from __future__ import annotations

import asyncio
import datetime
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from warmspare.errors import ConfigError, IntegrityError, NotFoundError, StoreError
from warmspare.format import repofile, restore_point
from warmspare.format.repofile import RepositoryRecord
from warmspare.format.restore_point import Disk, RestorePoint
from warmspare.model.ids import PointId, VmId, VmKey, vm_key, vm_of
from warmspare.model.named_moment import named_moment
from warmspare.store import layout
from warmspare.store.contract import ObjectInfo, Store

MAX_RECORD_BYTES = 1 << 16
MOST_VMS = 100_000
_LABEL = re.compile(r"([0-9]{1,10})(?:-([0-9a-f]{1,64}))?")


class NoRepositoryError(ConfigError):
    """Nothing is there yet."""


@dataclass(frozen=True, slots=True)
class Point:
    """A restore point as read from the store."""

    id: PointId
    record: RestorePoint


def now_text() -> str:
    """The time now, RFC 3339 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


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
            name = vm_of(key) or await self._long_name(key)
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

    async def _long_name(self, key: VmKey) -> VmId | None:
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
        return Point(PointId(sequence, restore_point.identity(data)), record)

    async def since(self, vm: VmId, known: PointId | None) -> list[Point]:
        """The restore points above `known`, oldest first, each proved to descend from it; `known` itself where
        there are none. Without `known`: the newest one alone, or nothing.

        IntegrityError if the chain was rolled back behind `known`, forked or has a gap above it.
        """
        found = await self.sequences(vm, after=known.sequence - 1 if known else 0)
        if known is None:
            return [await self.load(vm, found[-1])] if found else []
        if not found or found[0] != known.sequence:
            raise self.rolled_back(vm, known, found[-1] if found else 0)
        if found[-1] == known.sequence:
            return [await self.unchanged(vm, known, found[-1])]
        return [entry async for entry in self.descend(vm, known, found[-1])]

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
            raise IntegrityError(
                f"the repository was forked: restore point {known.sequence} of VM {vm!r} is now "
                f"{again.id.label} and was {known.label}",
                where=self.where(layout.point_key(vm_key(vm), known.sequence)),
                hint="find out who else writes here; to accept the new history remove the local state "
                "(of a sender) or the replica (of a receiver)",
            )
        return again

    async def descend(self, vm: VmId, known: PointId | None, target: int) -> AsyncIterator[Point]:
        """The restore points above `known` up to `target`, oldest first, each proved to name the one before.

        `known` itself is read again and must be unchanged. Without it the chain starts at its first point.
        """
        before: PointId | None = None
        if known:
            before = (await self.unchanged(vm, known, target)).id
        for sequence in range(known.sequence + 1 if known else 1, target + 1):
            try:
                entry = await self.load(vm, sequence)
            except NotFoundError:
                raise IntegrityError(
                    f"restore point {sequence} of VM {vm!r} is missing though {target} is there",
                    where=self.where(layout.point_key(vm_key(vm), sequence)),
                    hint="put the missing record back from a copy of the repository",
                ) from None
            if (parent := entry.record.parent) != (before.sha256 if before else None):
                raise IntegrityError(
                    f"restore point {entry.id.label} of VM {vm!r} does not descend from "
                    f"{before.label if before else 'the first one'} but from "
                    f"{PointId(sequence - 1, parent).label if parent else 'none'}: the "
                    "chain was forked or a record replaced",
                    where=self.where(layout.point_key(vm_key(vm), sequence)),
                    hint="put the right record back from a copy of the repository",
                )
            yield entry
            before = entry.id

    async def ancestors(self, head: Point, *, ahead: int = 1) -> AsyncIterator[Point]:
        """`head` and the points before it, newest first, each proved to be the one its child names. ahead: how many are
        read at once; what is wrong with one is said when its turn has come."""
        entry, vm = head, head.record.vm_id
        read: list[Point | BaseException] = []
        yield entry
        while entry.record.parent:
            where = self.where(layout.point_key(vm_key(head.record.vm_id), entry.id.sequence - 1))
            hint = "put the right record back from a copy of the repository"
            if not read:
                below = range(entry.id.sequence - 1, max(0, entry.id.sequence - 1 - ahead), -1)
                read = await asyncio.gather(*(self.load(vm, number) for number in below), return_exceptions=True)
            parent = read.pop(0)
            if isinstance(parent, NotFoundError):
                raise IntegrityError(
                    f"restore point {entry.id.sequence - 1} is missing though {entry.id.label} descends from it",
                    where=where,
                    hint=hint,
                )
            if isinstance(parent, BaseException):
                raise parent
            if parent.id.sha256 != entry.record.parent:
                raise IntegrityError(
                    f"restore point {entry.id.label} does not descend from {parent.id.label}",
                    where=where,
                    hint=hint,
                )
            entry = parent
            yield entry

    async def resolve(self, vm: VmId, wanted: str, *, newest: int | None = None) -> int:
        """The sequence that a user's --at names: a sequence, a label such as 12-3fa9c1d2, `latest`, or a time (see
        named_moment), which means the newest point that is not younger. newest: the newest point's, where it is known.
        ConfigError where there is none."""
        if wanted == "latest":
            found = newest or await self.newest(vm)
        elif (label := _LABEL.fullmatch(wanted)) is not None:
            found = await self._labelled(vm, wanted, int(label[1]), label[2])
        else:
            found = await self._timed(vm, wanted, newest)
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

    async def confirm(self, vm: VmId, ours: Point) -> None:
        """Look whether a point that was just published stands, on the one that it follows, and nothing above it that
        follows another. Where the store gave a key twice, one of the two who had it sees that here, or when it begins
        its next run (`since`). IntegrityError, which names both points; StoreError if it can't be read back."""
        sequence, parent = ours.id.sequence, ours.record.parent
        try:
            async with asyncio.TaskGroup() as tasks:
                own = tasks.create_task(self._there(vm, sequence))
                below = tasks.create_task(self._there(vm, sequence - 1 if parent else 0))
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
        if parent and before != (label := PointId(sequence - 1, parent).label):
            raise self._overwritten(vm, f"restore point {label} of VM {vm!r}, which {ours.id.label} follows", before)
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


async def since_checkpoint(repository: Repository, disk: Disk, head: Point) -> tuple[Point | None, list[Point]]:
    """(the point of the checkpoint, the points after it), newest first; no checkpoint: all the disk is in."""
    path: list[Point] = []
    async for point in repository.ancestors(head):
        if disk.checkpoint and point.record.sequence == disk.checkpoint.sequence:
            return point, path
        if point.record.disk(disk.id) is None:  # the disk joined the VM just after this point
            break
        path.append(point)
    return None, path
