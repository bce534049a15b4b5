"""EBS snapshots that an interrupted staging left pending: which can be gone on with; removes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from warmspare.errors import NotFoundError
from warmspare.model.ids import VmId, disk_key
from warmspare.recover.staging.staged import PENDING, StagedDisk
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history import retained


async def sort_unfinished(
    repository: Repository, vm: VmId, staged: Sequence[StagedDisk], target: Point, *, only_target: bool
) -> tuple[list[Point], list[tuple[StagedDisk, str]]]:
    """(points before `target` that were begun and can be finished, oldest first; snapshots that can't be gone on with,
    each with the reason).

    only_target: leave those of other points alone. StoreError, FormatError, IntegrityError.
    """
    points: dict[int, Point] = {}
    hopeless = []
    for each in staged:
        if each.state != PENDING or (only_target and each.point != target.id):
            continue
        point, why = await _judge(repository, vm, staged, each, target)
        if point is None:
            hopeless.append((each, why))
        elif point.id != target.id:
            points[point.id.sequence] = point
    return [points[sequence] for sequence in sorted(points)], hopeless


async def _judge(
    repository: Repository, vm: VmId, staged: Sequence[StagedDisk], pending: StagedDisk, target: Point
) -> tuple[Point | None, str]:
    """The restore point it is of, if it can be gone on with; else why not."""
    completed = [each for each in staged if each.completed]
    if any(each.point.sequence > pending.point.sequence for each in completed):
        return None, "a newer restore point is staged"
    if pending.parent and all(each.snapshot_id != pending.parent for each in completed):
        return None, "the snapshot that it builds on is gone"
    age = (pending.started, pending.snapshot_id)
    twins = [each for each in staged if (each.point, each.key) == (pending.point, pending.key) and each is not pending]
    if any(each.completed or (each.started, each.snapshot_id) < age for each in twins):
        return None, "there is another one of the same disk and restore point"
    record = await retained.newest(repository, vm)
    if record is not None and record.record.dropped(pending.point.sequence):
        return None, "its restore point was dropped by retention"
    try:
        point = await repository.load(vm, pending.point.sequence)
    except NotFoundError:
        return None, "its restore point is not in the repository"
    keys = [disk_key(disk.id) for disk in point.record.disks]
    if point.id != pending.point or pending.key not in keys or pending.point.sequence > target.id.sequence:
        return None, "the repository has another history now"
    return point, ""
