"""Disks that a new restore point does not protect, though they are the VM's; owns the reasons."""

from __future__ import annotations

from collections.abc import Set

from warmspare.format.restore_point import Unprotected
from warmspare.model.ids import DiskId
from warmspare.repository.chain import Point
from warmspare.source.ports import Opened


def lost_disks(opened: Opened, head: Point | None, covered: Set[DiskId]) -> list[Unprotected]:
    """Those that the machine can't give, and those of the last point that nobody gave. covered: in the new point."""
    lost = [Unprotected(name, reason) for name, reason in opened.unprotected]
    named = {entry.name for entry in lost} | {name for name, _ in opened.excluded}
    for disk in head.record.disks if head else []:
        if disk.id not in covered and disk.name not in named and disk.id not in named:
            lost.append(Unprotected(disk.name, "in the last restore point and not given to this sync"))
    return lost
