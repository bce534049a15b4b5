"""Which restore points of a VM somebody wants to see: by date, or the newest; refuses to read a record that can't be
one.

The store's dates say of most points that they are too old, for no object is older than the point that it holds; what
the record states decides.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from warmspare.errors import IntegrityError, NotFoundError, WarmspareError
from warmspare.format.retained.retention import Retention
from warmspare.model.ids import VmId
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history import retained
from warmspare.repository.holds import holds_of, reasons, standing
from warmspare.repository.vm_lookup import NamedVm
from warmspare.side_by_side import side_by_side

AT_ONCE = 32  # records of a VM that are read side by side
VMS_AT_ONCE = 16
CLOCKS_S = 86400.0  # by which a sender's clock may be ahead of the store's

Read = Point | WarmspareError  # a record, or why it can't be read


@dataclass(frozen=True, slots=True)
class PointChoice:
    """since_s, until_s: Unix seconds that a point was made between, both included; None: any. last: so many of the
    newest of these; None: all. stored: whether the store's dates are wanted, too."""

    since_s: float | None = None
    until_s: float | None = None
    last: int | None = None
    stored: bool = False

    def admits(self, read: Read) -> bool:
        """What can't be read may be one of those."""
        if not isinstance(read, Point):
            return True
        made_s = datetime.datetime.fromisoformat(read.record.created).timestamp()
        since, until = self.since_s, self.until_s
        return (since is None or made_s >= since) and (until is None or made_s <= until)


@dataclass(frozen=True, slots=True)
class ReadPoint:
    """A restore point that was read. number: 0 stands for the VM's holds, which can't be read. stored_s: since when the
    store has its record, Unix seconds; None where it was not asked. held: the reasons of the holds on it. meant:
    whether it is one of those that are to be seen; others were read to find them."""

    vm: VmId
    number: int
    read: Read
    stored_s: float | None = None
    held: tuple[str, ...] = ()
    meant: bool = True


async def points_of(repository: Repository, vms: Sequence[NamedVm], choice: PointChoice) -> AsyncIterator[ReadPoint]:
    """Those of each VM, oldest first; each that can't be read as its error. StoreError."""
    if choice.last is None:  # there may be many, of which no more are held than are read side by side
        for vm in vms:
            async for read in _chosen(repository, vm, choice):
                yield read
        return

    async def newest(vm: NamedVm) -> list[ReadPoint]:
        return [read async for read in _chosen(repository, vm, choice)]

    for at in range(0, len(vms), VMS_AT_ONCE):
        for reads in await side_by_side(newest, vms[at : at + VMS_AT_ONCE], VMS_AT_ONCE):
            for read in reads:
                yield read


async def one_point(repository: Repository, vm: NamedVm, point: Point) -> ReadPoint:
    """One that is at hand."""
    held = reasons(await standing(repository, await holds_of(repository, vm.id)))
    return ReadPoint(vm.id, point.id.sequence, point, held=held.get(point.id.sequence, ()))


async def _chosen(repository: Repository, vm: NamedVm, choice: PointChoice) -> AsyncIterator[ReadPoint]:
    held: dict[int, tuple[str, ...]] = {}
    try:
        held = reasons(await standing(repository, await holds_of(repository, vm.id)))
    except IntegrityError as error:
        yield ReadPoint(vm.id, 0, error)
    if choice == PointChoice(last=1) and vm.newest is not None:
        read = vm.point or await _read(repository, vm.id, vm.newest)
        yield ReadPoint(vm.id, vm.newest, read, held=held.get(vm.newest, ()))
        return
    record = await retained.newest(repository, vm.id)
    listed = await repository.listed(vm.id, after=_before(vm, choice, record.record if record else None))
    if record is not None:
        listed = [one for one in listed if not record.record.dropped(one[0])]
    oldest_s = choice.since_s - CLOCKS_S if choice.since_s is not None else float("-inf")
    numbers = {number: info.modified_s for number, info in listed if info.modified_s >= oldest_s}

    async def some(few: Sequence[int]) -> list[ReadPoint]:
        async def read(number: int) -> ReadPoint:
            there = await _read(repository, vm.id, number)
            return ReadPoint(vm.id, number, there, numbers[number], held.get(number, ()), choice.admits(there))

        return await side_by_side(read, few, AT_ONCE)

    left = [*numbers]
    if choice.last is None:
        for at in range(0, len(left), AT_ONCE):
            for point in await some(left[at : at + AT_ONCE]):
                yield point
        return
    found: list[ReadPoint] = []
    while left and (lacking := choice.last - sum(point.meant for point in found)) > 0:
        few = min(lacking, AT_ONCE)
        left, newest = left[:-few], left[-few:]
        found = [*await some(newest), *found]
    for point in found:
        yield point


def _before(vm: NamedVm, choice: PointChoice, record: Retention | None) -> int:
    """From which sequence on the keys need not be listed."""
    dated = choice.since_s is not None or choice.until_s is not None
    if dated or choice.last is None or vm.newest is None:
        return 0
    before = vm.newest
    for _ in range(choice.last):
        fold = record.of_target(before) if record else None
        before = fold.after if fold else before - 1
        if before <= 0:
            return 0
    return before


async def _read(repository: Repository, vm: VmId, number: int) -> Read:
    try:
        return await repository.load(vm, number)
    except (IntegrityError, NotFoundError) as error:
        return error
