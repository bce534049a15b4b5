"""All that can hold a file system on a VM's disks: what stands in partitions, groups of LVM and arrays; owns the order.

blkid tells what a range of bytes holds; LVM's and md's metadata are read here. What GRUB sees besides is taken in, and
what nobody reads is a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.devices import lvmdata, mdraid
from warmspare.recover.readiness.devices.blocks import Depth, Device, DeviceGap, DeviceKind, split
from warmspare.recover.readiness.devices.lvmdata import Physical
from warmspare.recover.readiness.devices.lvmgroup import Group
from warmspare.recover.readiness.devices.mdraid import Array, RaidMember
from warmspare.recover.readiness.devices.names import Names
from warmspare.recover.readiness.guest.partition_tables import PartitionTable
from warmspare.recover.readiness.guest.volumes import Contents, Volume

MAX_LOGICAL = 128  # volumes of LVM whose contents are looked at
MAX_NAMED = 2048  # of which no more is known than that they are there
# What hides what is in it, from a reader without its key or its driver.
_HIDING = {
    "crypto_LUKS": "it is encrypted by LUKS",
    "zfs_member": "it belongs to ZFS, which can't be read",
    "bcache": "it belongs to bcache, which can't be read",
    "drbd": "it belongs to DRBD, which can't be read",
    "vdo": "it belongs to VDO, which can't be read",
    "stratis": "it belongs to Stratis, which can't be read",
    "isw_raid_member": "it belongs to a RAID of Intel's firmware",
    "ddf_raid_member": "it belongs to a RAID of DDF",
    "LVM1_member": "it belongs to LVM 1, which can't be read",
    "DM_integrity": "it is kept by dm-integrity, which can't be read",
}

Read = Callable[[int, int, int], bytes]  # disk, offset, count
Probe = Callable[[int, int, int], Answer[Contents]]  # disk, offset, size: what blkid finds there


@dataclass(frozen=True, slots=True)
class DeviceInventory:
    """devices: in the VM's order; partitions first, then what is made of them. groups, there: of LVM, and the UUIDs of
    the physical volumes on these disks. arrays: of md."""

    disks: int
    devices: tuple[Device, ...]
    gaps: tuple[DeviceGap, ...]
    groups: tuple[Group, ...] = ()
    there: frozenset[str] = frozenset()
    arrays: tuple[Array, ...] = ()

    @property
    def names(self) -> Names:
        """What can be looked up without knowing what a system calls things."""
        return Names(self.devices, self.gaps, [each.name for each in self.groups], self.disks)

    @property
    def physical(self) -> dict[str, Device]:
        """What the physical volumes of LVM stand in, by their UUIDs."""
        members = [(one.contents, one) for one in self.devices]
        return {held.uuid: one for held, one in members if held and held.kind == "LVM2_member"}

    def without(self, hidden: Mapping[str, str | Unknown]) -> DeviceInventory:
        """The same where LVM does not find these physical volumes (`lvmfile.hidden`): what needs them lacks them."""
        walks = {each.name: each.walk(self.there - hidden.keys()) for each in self.groups}
        out = []
        for one in self.devices:
            if one.kind is DeviceKind.LOGICAL and not one.lacks and (walk := walks.get(one.group)):
                lacks = walk.lacks(one.name)
                whys = [lacks] if isinstance(lacks, Unknown) else [hidden[uuid] for uuid in lacks if uuid in hidden]
                # What is certain of one is certain of the volume.
                whys.sort(key=lambda why: isinstance(why, Unknown))
                one = replace(one, lacks=whys[0]) if whys else one
            out.append(one)
        return replace(self, devices=tuple(out))

    def seen(self, volumes: Sequence[Volume]) -> DeviceInventory:
        """With what GRUB sees of file systems besides: in volumes whose bytes only it puts together."""
        left = {each.device: each for each in volumes if each.filesystem and not each.device.startswith("loop")}
        devices = []
        for one in self.devices:
            own = one.name.rpartition(":")[2]
            aliases = [f"md/{own}", f"md/md{own}"] if one.kind is DeviceKind.ARRAY else [one.grub]
            found = next((left.pop(alias) for alias in aliases if alias in left), None)
            if found and not one.contents:
                one = replace(one, holds=Contents(found.filesystem, found.uuid, found.label))
            devices.append(one)
        return replace(self, devices=(*devices, *(_of_grub(each) for each in left.values())))


def _of_grub(volume: Volume) -> Device:
    """A volume of which only GRUB knows."""
    kind = DeviceKind.LOGICAL if volume.device.startswith("lvm/") else DeviceKind.ARRAY
    name = volume.device.partition("/")[2]
    group, name = (split(name) if kind is DeviceKind.LOGICAL else None) or ("", name)
    place = f"logical volume {group}/{name}" if group else f"{kind} {name}"
    contents = Contents(volume.filesystem, volume.uuid, volume.label)
    return Device(kind, volume.device, place, 0, contents, group=group, name=name)


def take(ids: Sequence[str], tables: Sequence[Answer[PartitionTable]], read: Read, probe: Probe) -> DeviceInventory:
    """All there is. ids: what the disks are called, in their order. read: OSError where it can't."""
    return _Taking(ids, read, probe).all(tables)


@dataclass(slots=True)
class _Taking:
    ids: Sequence[str]
    read: Read
    probe: Probe
    devices: list[Device] = field(default_factory=list)
    gaps: list[DeviceGap] = field(default_factory=list)
    members: list[RaidMember] = field(default_factory=list)
    physical: list[Physical] = field(default_factory=list)
    homes: list[int] = field(default_factory=list)  # the disk of each of `physical`
    starts: list[int] = field(default_factory=list)  # and where it begins there
    sizes: list[int] = field(default_factory=list)  # of the disks

    def all(self, tables: Sequence[Answer[PartitionTable]]) -> DeviceInventory:
        for disk, table in enumerate(tables):
            self.sizes.append(table.capacity_bytes if isinstance(table, PartitionTable) else 0)
            self._disk(disk, table)
        arrays = mdraid.assembled(self.members)
        for array in arrays:
            self._array(array)
        found = lvmdata.find(self.physical)
        self.gaps += [DeviceGap(Depth.MEMBER, why) for why in found.unread]
        left = MAX_LOGICAL
        for group in found.groups:
            left = self._group(group, found.places, left)
        self._doubt()
        return DeviceInventory(
            len(self.ids), tuple(self.devices), tuple(self.gaps), found.groups, frozenset(found.places), tuple(arrays)
        )

    def _doubt(self) -> None:
        """What is missing may be where nobody could look."""
        whys = [gap.why for gap in self.gaps if gap.depth >= Depth.MEMBER]
        whys += [
            f"{one.place}: {one.holds.why}"
            for one in self.devices
            if isinstance(one.holds, Unknown) and one.kind in (DeviceKind.PARTITION, DeviceKind.DISK)
        ]
        if whys:
            self.devices = [
                replace(one, lacks=Unknown(f"{one.lacks}, and it may be in what can't be read ({whys[0]})"))
                if one.lacks and isinstance(one.lacks, str)
                else one
                for one in self.devices
            ]

    def _disk(self, disk: int, table: Answer[PartitionTable]) -> None:
        name = self.ids[disk]
        if not isinstance(table, PartitionTable):
            why = table.why if isinstance(table, Unknown) else "it has none"
            self.gaps.append(DeviceGap(Depth.TABLE, f"the partition table of {name}: {why}"))
            return
        if table.more:
            self.gaps.append(DeviceGap(Depth.TABLE, f"{name} has more partitions than are looked at"))
        for each in table.partitions:
            label = "gpt" if table.kind == "gpt" else "msdos"
            device = Device(
                DeviceKind.PARTITION,
                f"loop{disk},{label}{each.number}",
                f"partition {each.number} of {name}",
                disk,
                ABSENT,
                each.number,
                each.uuid,
                each.label,
            )
            self._range(device, each.offset, each.bytes)
        if not table.partitions:
            device = Device(DeviceKind.DISK, f"loop{disk}", f"the whole of {name}", disk, ABSENT)
            self._range(device, 0, table.capacity_bytes)

    def _range(self, device: Device, offset: int, size: int) -> None:
        """What stands in a range of a disk's bytes, and what that is a part of."""
        device = replace(device, holds=self._probed(device.disk, offset, size))
        self.devices.append(device)
        self._hidden(device)
        held = device.contents
        if held is None:
            return
        if held.kind == "linux_raid_member":
            member = mdraid.member(lambda at, count: self._read(device.disk, offset + at, count), size)
            if isinstance(member, Unknown | Absent):
                why = member.why if isinstance(member, Unknown) else "the superblock of its RAID is not found"
                self.gaps.append(DeviceGap(Depth.MEMBER, f"{device.place}: {why}"))
                return
            self.members.append(replace(member, disk=device.disk, offset=offset, place=device.place))
        if held.kind == "LVM2_member":
            self._physical(device.place, device.disk, offset)

    def _hidden(self, device: Device) -> None:
        held = device.contents
        if held and held.kind in _HIDING:
            self.gaps.append(DeviceGap(Depth.MEMBER, f"{device.place}: {_HIDING[held.kind]}"))

    def _physical(self, place: str, disk: int, offset: int) -> None:
        self.physical.append(Physical(place, lambda at, count: self._read(disk, offset + at, count)))
        self.homes.append(disk)
        self.starts.append(offset)

    def _array(self, array: Array) -> None:
        """An array, and what stands at its beginning, where one member alone tells."""
        place = f"the array {array.name or array.uuid}"
        holds: Answer[Contents] = Unknown(array.lacks or "which of its members has its beginning is not known")
        begin = array.begin
        if begin is not None and not array.lacks:
            holds = self._probed(begin.disk, begin.offset, begin.bytes)
        first = array.members[0]
        device = Device(
            DeviceKind.ARRAY,
            f"mduuid/{array.uuid}",
            place,
            first.disk,
            holds,
            name=array.name,
            uuid=array.uuid,
            lacks=array.lacks,
        )
        self.devices.append(device)
        self._hidden(device)
        held = device.contents
        if held and held.kind == "LVM2_member":
            if begin is not None and array.whole:
                self._physical(place, begin.disk, begin.offset)
            else:
                self.gaps.append(DeviceGap(Depth.MEMBER, f"{place}: LVM on a striped array is not read"))

    def _group(self, group: Group, places: dict[str, int], left: int) -> int:
        there = frozenset(places)
        walk = group.walk(there)
        for volume in group.volumes.values():
            if not volume.visible or volume.kind in ("thin-pool", "cache-pool", "vdo-pool"):
                continue
            left -= 1
            if left < -MAX_NAMED:
                self.gaps.append(DeviceGap(Depth.MEMBER, f"there are more than {MAX_NAMED} logical volumes"))
                break
            begin = walk.begins(volume.name)
            disk = next((self.homes[places[uuid]] for uuid, _ in group.physical.values() if uuid in places), 0)
            holds: Answer[Contents]
            if volume.name in group.snapshots:
                holds = ABSENT  # what its origin held: nothing that is not there by another name
            elif isinstance(begin, Unknown):
                holds = begin
            elif left < 0:
                holds = Unknown(f"there are more than {MAX_LOGICAL} logical volumes")
            else:
                number = places[begin.physical]
                disk = self.homes[number]
                holds = self._probed(disk, self.starts[number] + begin.offset, begin.bytes)
            device = Device(
                DeviceKind.LOGICAL,
                "",
                f"logical volume {group.name}/{volume.name}",
                disk,
                holds,
                group=group.name,
                name=volume.name,
                uuid=volume.uuid,
                lacks=_clause(group, walk.lacks(volume.name)),
            )
            device = replace(device, grub=f"lvm/{device.mapped}")
            self.devices.append(device)
            self._hidden(device)
            if device.contents and device.contents.kind in ("LVM2_member", "linux_raid_member"):
                self.gaps.append(DeviceGap(Depth.MEMBER, f"{device.place}: what it is a part of is not read"))
        return left

    def _read(self, disk: int, offset: int, count: int) -> bytes:
        """Nothing is beyond the end, wherever a guest's metadata says that something is."""
        return self.read(disk, offset, count) if 0 <= offset < self.sizes[disk] else b""

    def _probed(self, disk: int, offset: int, size: int) -> Answer[Contents]:
        within = min(size, self.sizes[disk] - offset)
        if within <= 0:
            return Unknown("it begins beyond the end of its disk")
        try:
            return self.probe(disk, offset, within)
        except Exceeded as error:
            return Unknown(error.what)


def _clause(group: Group, lacks: list[str] | Unknown) -> str | Unknown:
    """Why a logical volume does not come up."""
    if isinstance(lacks, Unknown):
        return lacks
    if group.exported:
        return f"the volume group {group.name} is exported"
    if not lacks:
        return ""
    return f"{len(lacks)} of its physical volumes ({lacks[0]}) " + ("is" if len(lacks) == 1 else "are") + " not there"
