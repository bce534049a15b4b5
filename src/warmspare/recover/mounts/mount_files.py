"""What the files of a mount are called and where they lie: `NAME` of a disk, `NAME-part1` of a partition on it.

Owns the names: what can't stand in one is escaped as in keys (model/keyparts.py), and no two are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from warmspare.format.restore_point import Disk
from warmspare.model.keyparts import encode_name
from warmspare.recover.mounts.partition_files import DiskPartitions


@dataclass(frozen=True, slots=True)
class MountFile:
    """name: in the folder. disk: its place among the disks. partition: its number, None for the whole disk. offset,
    bytes: of the disk."""

    name: str
    disk: int
    partition: int | None
    offset: int
    bytes: int


def files_of(disks: Sequence[Disk], partitions: Sequence[DiskPartitions]) -> list[MountFile]:
    """All disks under their names, and their partitions. A name that is taken already goes on with `~2`, `~3`, …, which
    no escaped name has; whole disks come first."""
    taken: set[str] = set()

    def free(name: str) -> str:
        chosen, count = name, 1
        while chosen in taken:
            count += 1
            chosen = f"{name}~{count}"
        taken.add(chosen)
        return chosen

    whole = [
        MountFile(free(encode_name(disk.name or disk.id)), number, None, 0, disk.capacity_bytes)
        for number, disk in enumerate(disks)
    ]
    return [
        file
        for one in whole
        for file in (
            one,
            *(
                MountFile(free(f"{one.name}-part{each.number}"), one.disk, each.number, each.offset, each.bytes)
                for each in partitions[one.disk].shown
            ),
        )
    ]
