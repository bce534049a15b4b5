"""What on a VM's disks can hold a file system: partitions, logical volumes, arrays, opened LUKS; owns no search.

A gap is what could not be looked into, so that nothing can be said not to be there which might be in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from warmspare.recover.readiness.answers import Answer, Unknown
from warmspare.recover.readiness.guest.volumes import Contents

# Of blkid's types: those that are a part of something, and whose UUID or label is that of the whole.
MEMBERS = frozenset(
    {
        "LVM2_member",
        "LVM1_member",
        "linux_raid_member",
        "isw_raid_member",
        "ddf_raid_member",
        "zfs_member",
        "bcache",
        "drbd",
        "vdo",
        "stratis",
        "DM_snapshot_cow",
        "BitLocker",
        "dm-verity",
        "DM_integrity",
    }
)


class DeviceKind(StrEnum):
    """What a device is. OPENED: what stands in an encrypted one, once it is opened."""

    DISK = "disk"
    PARTITION = "partition"
    LOGICAL = "logical volume"
    ARRAY = "array"
    OPENED = "opened"


@dataclass(frozen=True, slots=True)
class Device:
    """One of them.

    grub: GRUB's name for it, without brackets; "" where GRUB has none. place: in words. disk: its number in the VM's
    order, from 0; the first where it is on several. number: of a partition. holds: what blkid says that it holds;
    ABSENT where that is nothing blkid knows. part_uuid, part_label: of a partition, as its table says. group: of LVM.
    name: of a logical volume, an array, or what device mapper calls it. uuid: of LVM, the group's and the volume's in
    one, without dashes; of an array, 32 hex digits. lacks: why it will not come up, as a clause, "" where nothing is
    known against it; Unknown where what it lacks may be in a gap.
    """

    kind: DeviceKind
    grub: str
    place: str
    disk: int
    holds: Answer[Contents]
    number: int = 0
    part_uuid: str = ""
    part_label: str = ""
    group: str = ""
    name: str = ""
    uuid: str = ""
    lacks: str | Unknown = ""

    @property
    def contents(self) -> Contents | None:
        """What it holds, where that is known."""
        return self.holds if isinstance(self.holds, Contents) else None

    @property
    def mapped(self) -> str:
        """Device mapper's name for a logical volume: dashes are doubled."""
        return mapped(self.group, self.name)


_SPLIT = re.compile(r"((?:[^-]|--)+)-((?:[^-]|--)+)")


def split(mapped: str) -> tuple[str, str] | None:
    """The group and the volume that device mapper's name for a logical volume tells; None where it is none."""
    found = _SPLIT.fullmatch(mapped[:256])
    return (found[1].replace("--", "-"), found[2].replace("--", "-")) if found else None


class Depth(IntEnum):
    """What may be in a gap. CONTENT: file systems, swap, LUKS. MEMBER: parts of groups and arrays too. TABLE:
    partitions too."""

    CONTENT = 1
    MEMBER = 2
    TABLE = 3


@dataclass(frozen=True, slots=True)
class DeviceGap:
    """What could not be looked into. why: as a clause, with its place."""

    depth: Depth
    why: str


def mapped(group: str, name: str) -> str:
    """What the device mapper calls a logical volume."""
    return f"{group.replace('-', '--')}-{name.replace('-', '--')}"
