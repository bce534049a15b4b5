"""Which partitions of a disk are shown as files, by a process with limits; refuses what can't lie on the disk.

The table is a guest's: sfdisk reads it, confined, and what comes from there is believed no further than its bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from warmspare.errors import ConfigError
from warmspare.recover.disks import programs
from warmspare.recover.disks.confined import ProcessLimits, Say, Spent, confined
from warmspare.recover.disks.programs import Budget, Exceeded
from warmspare.recover.readiness.guest import partition_tables
from warmspare.recover.readiness.guest.partition_tables import MAX_PARTITIONS, SECTOR_BYTES, PartitionTable

LIMITS = ProcessLimits(wall_s=300.0)
_EXTENDED = frozenset({"5", "05", "f", "0f", "85"})  # of an MBR: it holds the logical ones, and no file system
_MOST = 1 << 62  # beyond any disk: what a table says more is no more
_Number = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class _PartitionsTold(msgspec.Struct, frozen=True):
    """What the process says of a disk. partitions: (number, offset, bytes) each. why: what is missing, a clause."""

    disk: _Number
    partitions: Annotated[list[tuple[_Number, _Number, _Number]], msgspec.Meta(max_length=MAX_PARTITIONS)]
    why: Annotated[str, msgspec.Meta(max_length=400)] = ""


@dataclass(frozen=True, slots=True)
class ShownPartition:
    """number: as the table counts. offset, bytes: of the disk, inside of it."""

    number: int
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DiskPartitions:
    """left_out: what is not shown, a clause each."""

    shown: tuple[ShownPartition, ...] = ()
    left_out: tuple[str, ...] = ()


async def partitions_of(fds: Sequence[int], capacities: Sequence[int]) -> list[DiskPartitions]:
    """Of each disk. fds: open for reading, and not read by this process's event loop. capacities: their bytes."""
    try:
        for program in ("prlimit", "sfdisk"):
            programs.found(program)
    except ConfigError as error:
        return [DiskPartitions((), (f"its partitions: {error.what}",)) for _ in fds]

    def work(say: Say) -> None:
        budget = Budget()
        for number, (fd, capacity) in enumerate(zip(fds, capacities, strict=True)):
            try:
                told = _told(number, partition_tables.read(fd, capacity, budget))
            except (Exceeded, Spent, OSError) as error:
                told = _PartitionsTold(number, [], f"its partition table can't be read: {error}"[:400])
            say(msgspec.json.encode(told))

    answer = await confined(work, list(fds), LIMITS)
    unread = answer.ended or "nothing was said of it"
    found = [DiskPartitions((), (f"its partition table can't be read: {unread}",)) for _ in fds]
    for line in answer.lines:
        try:
            told = msgspec.json.decode(line, type=_PartitionsTold)
        except msgspec.MsgspecError:
            continue
        if told.disk < len(found):
            found[told.disk] = _bounded(told, capacities[told.disk])
    return found


def _told(number: int, table: PartitionTable) -> _PartitionsTold:
    """Over there."""
    if table.sector_bytes != SECTOR_BYTES:
        return _PartitionsTold(number, [], f"its partitions: the table counts in sectors of {table.sector_bytes} bytes")
    several = [one for one in table.partitions if table.kind != "dos" or one.kind not in _EXTENDED]
    why = f"partitions after the first {MAX_PARTITIONS}" if table.more else ""
    return _PartitionsTold(
        number, [(one.number, min(one.offset, _MOST), min(one.bytes, _MOST)) for one in several], why
    )


def _bounded(told: _PartitionsTold, capacity_bytes: int) -> DiskPartitions:
    shown, left_out = [], [told.why] if told.why else []
    numbers: set[int] = set()
    for number, offset, length in told.partitions:
        if not length:
            left_out.append(f"partition {number}, which has no bytes")
        elif offset + length > capacity_bytes:
            left_out.append(
                f"partition {number}, which ends at byte {offset + length}, and the disk at {capacity_bytes}"
            )
        elif number in numbers:
            left_out.append(f"partition {number}, whose number another has")
        else:
            numbers.add(number)
            shown.append(ShownPartition(number, offset, length))
    return DiskPartitions(tuple(shown), tuple(left_out))
