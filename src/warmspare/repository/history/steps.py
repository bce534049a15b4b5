"""The way from one restore point of a VM to another, over those that retention left; owns the proof of each step.

That one point descends from another is proved by their records, and where these are gone by the fold's descent, which
has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

from warmspare.errors import ConfigError, IntegrityError, NotFoundError
from warmspare.format.restore_point import Disk, ObjectRef
from warmspare.format.retained import dropped_records
from warmspare.format.retained.retention import Fold, Retention
from warmspare.model.ids import PointId, VmId, vm_key
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history import retained
from warmspare.repository.history.step import Step
from warmspare.repository.verified_objects import verified_bytes
from warmspare.side_by_side import ahead
from warmspare.store import layout

AHEAD = 16  # records that are read side by side
_HINT = "put the right record back from a copy of the repository"


async def since(repository: Repository, vm: VmId, known: PointId | None) -> tuple[Point | None, list[Step]]:
    """(the newest restore point, None where there is none; the steps from `known` to it, oldest first, each proved to
    descend from it). No steps without `known`, and where it is the newest itself.

    IntegrityError if the chain was rolled back behind `known`, forked or has a gap above it.
    """
    found = await repository.sequences(vm, after=known.sequence - 1 if known else 0)
    if not found:
        if known is not None:
            raise repository.rolled_back(vm, known, await repository.newest(vm) or 0)
        return None, []
    if known is None:
        return await repository.load(vm, found[-1]), []
    if found[-1] == known.sequence:
        return await repository.unchanged(vm, known, found[-1]), []
    steps = [step async for step in descend(repository, vm, known, found[-1])]
    return steps[-1].point, steps


async def last_step(repository: Repository, head: Point) -> Step:
    """The step that leads to `head`."""
    steps = ancestors(repository, head)
    try:
        return await anext(steps)
    finally:
        await steps.aclose()


async def descend(repository: Repository, vm: VmId, known: PointId | None, target: int) -> AsyncIterator[Step]:
    """The steps from `known` to `target`, oldest first, each proved to descend from the one before. Nothing where that
    is `known` itself. Without `known`: from nothing, over all that is left.

    `known` itself is read again and must be unchanged; if it was dropped, a descent must name it. IntegrityError where
    the chain was rolled back, forked, or has a gap; where target was dropped.
    """
    if known is not None and known.sequence == target:
        await repository.unchanged(vm, known, target)
        return
    record = await _retention(repository, vm)
    if record is not None and record.dropped(target):
        raise gone(repository, vm, target, record)
    at = known.sequence if known else 0
    before: PointId | None = known
    if known is not None and (record is None or not record.dropped(at)):
        await repository.unchanged(vm, known, target)
    way = _upwards(record, at, target)
    async with aclosing(ahead(lambda number: _there(repository, vm, number, target), way, AHEAD)) as reads:
        async for number, reading in reads:
            fold = record.covering(at) if record else None
            point = await reading
            if fold is not None:
                _demand_target(repository, fold, point)
                if before is not None:
                    await prove(repository, vm, fold, point, before)
                yield Step(point, fold.base, fold)
            else:
                if (parent := point.record.parent) != (before.sha256 if before else None):
                    raise IntegrityError(
                        f"restore point {point.id.label} of VM {vm!r} does not descend from "
                        f"{before.label if before else 'the first one'} but from "
                        f"{PointId(at, parent).label if parent else 'none'}: the "
                        "chain was forked or a record replaced",
                        where=repository.where(layout.point_key(vm_key(vm), number)),
                        hint=_HINT,
                    )
                yield Step(point, before)
            before, at = point.id, number
    if at < target:  # a fold goes on beyond it
        raise gone(repository, vm, target, record)


def _upwards(record: Retention | None, at: int, target: int) -> Iterator[int]:
    """Sequences of the points that lead from there to the target, as far as one need not go beyond it."""
    while at < target:
        fold = record.covering(at) if record else None
        at = fold.target.sequence if fold else at + 1
        if at <= target:
            yield at


async def ancestors(
    repository: Repository, head: Point, *, ahead: int = 1, lingering: bool = False
) -> AsyncGenerator[Step]:
    """The step to `head` and the steps before it, newest first, each proved to lead where the next begins. A fold's
    descent is not read: what is made of its manifest is held against the root of `head`. ahead: how many records are
    read at once; what is wrong with one is said when its turn has come. lingering: head may have been dropped, as long
    as all that it needs is there still. IntegrityError; ConfigError where it was dropped."""
    vm, point = head.record.vm_id, head
    record = await _retention(repository, vm) if head.record.parent else None
    if record is not None and record.dropped(head.id.sequence):
        newest = record
        record = await _before_dropped(repository, newest, head.id.sequence) if lingering else newest
        if record is newest:
            raise gone(repository, vm, head.id.sequence, newest)
    read: dict[int, asyncio.Task[Point]] = {}
    try:
        while True:
            fold = record.of_target(point.id.sequence) if record else None
            if fold is not None:
                _demand_target(repository, fold, point)
                before = fold.base
            else:
                parent = point.record.parent
                before = PointId(point.id.sequence - 1, parent) if parent else None
            yield Step(point, before, fold)
            if before is None:
                return
            if before.sequence not in read:
                for number in _downwards(record, before.sequence, ahead):
                    read[number] = asyncio.create_task(repository.load(vm, number))
            point = await _parent(repository, point, before, read.pop(before.sequence))
    finally:
        for task in read.values():
            task.cancel()
        await asyncio.gather(*read.values(), return_exceptions=True)


async def _before_dropped(repository: Repository, newest: Retention, sequence: int) -> Retention | None:
    """The last retention record before one dropped that point; None: nothing had been dropped then. `newest`, where it
    is gone, and so is what the point needs."""
    vm, before = newest.vm_id, newest.generation
    for generation, info in reversed(await retained.generations(repository, vm)):
        if generation >= newest.generation:
            continue
        try:
            record = (await retained.load(repository, vm, generation, info)).record
        except NotFoundError:
            return newest
        if generation != before - 1:
            return newest
        if not record.dropped(sequence):
            return record
        before = generation
    return None if before == 1 else newest


def _downwards(record: Retention | None, sequence: int, count: int) -> list[int]:
    """Sequences of points that are left, from that one down."""
    out: list[int] = []
    while sequence and len(out) < count:
        out.append(sequence)
        fold = record.of_target(sequence) if record else None
        sequence = fold.after if fold else sequence - 1
    return out


async def _parent(repository: Repository, child: Point, wanted: PointId, reading: asyncio.Task[Point]) -> Point:
    vm = child.record.vm_id
    where = repository.where(layout.point_key(vm_key(vm), wanted.sequence))
    try:
        parent = await reading
    except NotFoundError:
        what = f"restore point {wanted.sequence} is missing though {child.id.label} descends from it"
        raise IntegrityError(what, where=where, hint=_HINT) from None
    if parent.id != wanted:
        what = f"restore point {child.id.label} does not descend from {parent.id.label}"
        raise IntegrityError(what, where=where, hint=_HINT)
    return parent


async def prove(repository: Repository, vm: VmId, fold: Fold, target: Point, known: PointId) -> None:
    """IntegrityError unless `known` is one of those that the fold stands for, or its base, and all of them descend to
    its target."""
    found = fold.base == known
    last = fold.base
    async for point in dropped(repository, vm, fold):
        last = point.id
        found = found or last == known
    demand_led(repository, target, last)
    if not found:
        raise repository.forked(vm, known, fold.target)


def demand_led(repository: Repository, target: Point, last: PointId | None) -> None:
    """IntegrityError unless a fold's target descends from the last point that the fold has taken out."""
    if target.record.parent != (last.sha256 if last else None):
        raise IntegrityError(
            f"the fold that leads to restore point {target.id.label} was made of other points than that one descends "
            "from",
            where=repository.where(layout.point_key(vm_key(target.record.vm_id), target.id.sequence)),
            hint="audit the repository",
        )


async def dropped(repository: Repository, vm: VmId, fold: Fold) -> AsyncGenerator[Point]:
    """The points that a fold stands for, oldest first, out of its descent, each proved to descend from the one before;
    the first of them from the fold's base. IntegrityError, FormatError."""
    async for _, points in dropped_parts(repository, vm, fold):
        for point in points:
            yield point


async def dropped_parts(repository: Repository, vm: VmId, fold: Fold) -> AsyncGenerator[tuple[ObjectRef, list[Point]]]:
    """The same, by the parts of the descent."""
    before, sequence = (fold.base.sha256 if fold.base else None), fold.after
    for part in fold.descent:
        where = repository.where(part.key)
        data = await verified_bytes(repository, part, f"the descent of restore point {fold.target.label}")
        first, records = dropped_records.decode(data, before, where)
        if first != sequence + 1:
            raise IntegrityError("a descent is of other points than its fold", where=where, hint="audit the repository")
        points: list[Point] = []
        for stored in records:
            sequence += 1
            point = repository.parse(vm, sequence, stored)
            if point.record.parent != before:
                raise IntegrityError(
                    f"the descent of restore point {fold.target.label} is no chain: number {sequence} does not name "
                    "the one before",
                    where=where,
                    hint="audit the repository",
                )
            before = point.id.sha256
            points.append(point)
        yield part, points
    if sequence + 1 != fold.target.sequence:
        where = repository.where(fold.descent[0].key)
        raise IntegrityError("a descent is of fewer points than its fold", where=where, hint="audit the repository")


def gone(repository: Repository, vm: VmId, sequence: int, record: Retention | None) -> ConfigError:
    """The error that says that a point was dropped."""
    near = ""
    if record is not None and (fold := record.covering(sequence)) is not None:
        near = f"; the nearest that are kept are {f'{fold.base.label} and ' if fold.base else ''}{fold.target.label}"
    return ConfigError(
        f"restore point {sequence} of VM {vm!r} was dropped by retention{near}",
        where=repository.store.uri,
        hint="take one that is there, as `warmspare points` lists them; a replica that is at it goes on with "
        "`warmspare apply`",
    )


async def _retention(repository: Repository, vm: VmId) -> Retention | None:
    stored = await retained.newest(repository, vm)
    return stored.record if stored else None


async def _there(repository: Repository, vm: VmId, sequence: int, target: int) -> Point:
    try:
        return await repository.load(vm, sequence)
    except NotFoundError:
        raise IntegrityError(
            f"restore point {sequence} of VM {vm!r} is missing though {target} is there"
            if sequence != target
            else f"restore point {sequence} of VM {vm!r} is missing",
            where=repository.where(layout.point_key(vm_key(vm), sequence)),
            hint="put the missing record back from a copy of the repository",
        ) from None


def _demand_target(repository: Repository, fold: Fold, point: Point) -> None:
    if fold.target != point.id:
        raise IntegrityError(
            f"a fold leads to restore point {fold.target.label}, and {point.id.label} stands there",
            where=repository.where(layout.point_key(vm_key(point.record.vm_id), point.id.sequence)),
            hint=_HINT,
        )


async def since_checkpoint(
    repository: Repository, disk: Disk, head: Point, *, lingering: bool = False
) -> tuple[bool, list[Step]]:
    """(whether to begin with the disk's checkpoint, the steps after it), newest first; otherwise the steps are all that
    the disk is in. The first of these may be a fold that begins before the checkpoint: it says all that came after.
    lingering: see `ancestors`."""
    path: list[Step] = []
    wanted = disk.checkpoint.sequence if disk.checkpoint else 0
    async for step in ancestors(repository, head, lingering=lingering):
        if wanted == step.point.id.sequence:
            return True, path
        manifest = step.manifest(disk.id)
        if manifest is None:  # the disk joined the VM just after this point
            break
        path.append(step)
        if manifest.from_nothing:
            break
        if wanted and step.reaches(wanted):
            return True, path
    return False, path


async def recall(repository: Repository, vm: VmId, known: PointId) -> Point:
    """A restore point that was seen before, also one that was dropped since: then out of a descent. IntegrityError
    where it is gone, or another stands there."""
    try:
        there = await repository.load(vm, known.sequence)
    except NotFoundError:
        found = await dropped_point(repository, vm, known.sequence)
        if found is None:
            raise repository.rolled_back(vm, known, await repository.newest(vm) or 0) from None
        there = found
    if there.id != known:
        raise repository.forked(vm, known, there.id)
    return there


async def dropped_point(repository: Repository, vm: VmId, sequence: int) -> Point | None:
    """A point that was dropped, out of the descent that has it; None where no fold stands for it. IntegrityError."""
    record = await _retention(repository, vm)
    fold = record.covering(sequence) if record else None
    if fold is None or not fold.drops(sequence):
        return None
    async for point in dropped(repository, vm, fold):
        if point.id.sequence == sequence:
            return point
    return None


async def dropped_error(repository: Repository, vm: VmId, sequence: int) -> ConfigError:
    """As `gone`, of the retention as it is now."""
    return gone(repository, vm, sequence, await _retention(repository, vm))


async def kept_before(repository: Repository, vm: VmId, sequence: int) -> int | None:
    """The newest point up to that one that was not dropped; None where all were."""
    record = await _retention(repository, vm)
    fold = record.covering(sequence) if record else None
    if fold is None or not fold.drops(sequence):
        return sequence
    return fold.after or None
