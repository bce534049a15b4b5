"""Which staged EBS snapshots are no longer needed; decides, removes nothing.

Never: those of the newest usable point, the newest completed one of a disk (the next increment builds on it), a parent
of a pending one, what is pending. A snapshot whose parent is removed keeps all its blocks: EBS counts references.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from warmspare.model.ids import DiskKey
from warmspare.recover.staging.staged import FAILED, PENDING, StagedDisk, points_of


@dataclass(frozen=True, slots=True)
class Keep:
    """points: how many of the newest usable points are kept. days: and those that were staged at most so long ago, by
    AWS's clock alone: what a restore point is dated by is the clock of whichever host made it."""

    points: int = 3
    days: float = 0.0


def expired(staged: Sequence[StagedDisk], keep: Keep, now: datetime.datetime) -> list[StagedDisk]:
    """The snapshots to remove, oldest point first.

    staged: all of one VM. now: by AWS's clock, as `started` is. A point that is not whole is kept as long as it is
    newer than the newest usable one: it may still become whole. Without any usable point nothing is removed but what
    AWS has given up. One that somebody restores from the Recycle Bin (`recovering`) is neither until it is completed.
    """
    points = points_of(staged)
    usable = [point for point in points if point.usable]
    safe = {disk.snapshot_id for point in usable[: max(1, keep.points)] for disk in point.disks}
    floor = usable[0].id.sequence if usable else 0
    current = {disk.key for disk in staged if disk.point.sequence >= floor}  # a disk that left the VM is in none
    newest: dict[DiskKey, StagedDisk] = {}
    for disk in staged:
        if (
            disk.key in current
            and disk.completed
            and (disk.key not in newest or disk.point.sequence > newest[disk.key].point.sequence)
        ):
            newest[disk.key] = disk
    safe |= {disk.snapshot_id for disk in newest.values()}
    safe |= {disk.parent for disk in staged if disk.state == PENDING}
    out = []
    for disk in sorted(staged, key=lambda disk: (disk.point.sequence, disk.number)):
        dead = disk.state == FAILED
        young = keep.days > 0 and now - disk.started <= datetime.timedelta(days=keep.days)
        old = disk.completed and disk.point.sequence < floor and not young
        if disk.snapshot_id not in safe and (dead or old):
            out.append(disk)
    return out
