"""What is wrong with the disks themselves: their partition tables, and volumes that EC2 can't have; owns no system."""

from __future__ import annotations

from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind
from warmspare.recover.readiness.devices.blocks import Device
from warmspare.recover.readiness.guest import partition_tables
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.guest.partition_tables import LDM_DATA, LDM_METADATA, MBR_LDM, PartitionTable
from warmspare.recover.readiness.readiness_report import ReadinessReport

GIB = 1 << 30
_DYNAMIC = (MBR_LDM, LDM_DATA, LDM_METADATA)


def look(machine: GuestDisks, report: ReadinessReport) -> None:
    """Of every disk what it holds, and what is wrong with that."""
    for number, (disk, table) in enumerate(zip(machine.disks, machine.tables, strict=True)):
        report.at(disk.id, "what its partitions hold")
        devices = [one for one in machine.devices if one.disk == number and one.kind in ("partition", "disk")]
        report.seen(_seen(machine, disk, table, devices))
        if number in machine.images:
            report.add(BootFinding(BootFindingKind.DISK_FORMAT, disk.id, "its bytes", machine.images[number]))
        if table.more:
            what = f"there are more than {partition_tables.MAX_PARTITIONS} partitions; the others were not looked at"
            report.add(BootFinding(BootFindingKind.NOT_JUDGED, disk.id, "its partition table", what))
        report.add(*_gpt(disk, table), *_size(machine, number))
    for one in machine.devices:
        if one.contents and one.contents.kind == "crypto_LUKS":
            report.add(BootFinding(BootFindingKind.LUKS, *machine.where(one)))


def _seen(machine: GuestDisks, disk: OpenDisk, table: PartitionTable, devices: list[Device]) -> str:
    kind = {"gpt": "GPT", "dos": "MBR"}.get(table.kind, "no partition table")
    kind += " with a hybrid MBR" if table.hybrid else ""
    held = ((machine.where(one)[1], one.contents.kind if one.contents else "unknown") for one in devices)
    return f"{disk.id}: {kind}; {', '.join(f'{place} {what}' for place, what in held)}"


def _gpt(disk: OpenDisk, table: PartitionTable) -> list[BootFinding]:
    if table.gpt is None:
        return []
    out = []
    if not table.protective:
        out.append(BootFinding(BootFindingKind.PROTECTIVE_MBR, disk.id, "its first sector"))
    if not table.gpt.primary:
        out.append(BootFinding(BootFindingKind.GPT_DAMAGED, disk.id, "its second sector"))
    elif not table.gpt.backup or not table.gpt.at_end:
        found = f"the primary header names byte {table.gpt.backup_at} as the place of the backup"
        out.append(BootFinding(BootFindingKind.GPT_BACKUP, disk.id, "its end", found))
    elif disk.capacity_bytes % GIB:
        out.append(BootFinding(BootFindingKind.GPT_ROUNDED, disk.id, "its end", f"{disk.capacity_bytes} bytes"))
    return out


def _size(machine: GuestDisks, number: int) -> list[BootFinding]:
    """What EC2 does not start for its size, or for what it counts in."""
    disk, table = machine.disks[number], machine.tables[number]
    if table.sector_bytes != partition_tables.SECTOR_BYTES:
        return [
            BootFinding(
                BootFindingKind.SECTORS_4K, disk.id, "its partition table", f"{table.sector_bytes} bytes a sector"
            )
        ]
    out = []
    if number == machine.boots and machine.firmware == "bios" and table.beyond_mbr:
        out.append(
            BootFinding(BootFindingKind.MBR_TOO_LARGE, disk.id, "its partition table", f"{disk.capacity_bytes} bytes")
        )
    for each in table.beyond_end:
        found = f"it ends at byte {each.offset + each.bytes}, and the disk at {disk.capacity_bytes}"
        out.append(BootFinding(BootFindingKind.BEYOND_END, disk.id, f"partition {each.number}", found))
    return out


def of_windows(machine: GuestDisks, *, starts: bool) -> list[BootFinding]:
    """What Windows has on the disk that boots and EC2 can't open. starts: whether it is what starts; it keeps no other
    system from that."""
    disk, table = machine.disks[machine.boots].id, machine.tables[machine.boots]
    devices = [one for one in machine.devices if one.disk == machine.boots and one.contents]
    locked = [machine.where(one) for one in devices if one.contents and one.contents.kind == "BitLocker"]
    dynamic = [(disk, f"partition {each.number}") for each in table.partitions if each.kind in _DYNAMIC][:1]
    if starts:
        return [
            *(BootFinding(BootFindingKind.BITLOCKER, *place) for place in locked),
            *(BootFinding(BootFindingKind.DYNAMIC_DISK, *place) for place in dynamic),
        ]
    return [
        *(BootFinding(BootFindingKind.OTHER_SYSTEM, *place, "Windows, encrypted by BitLocker") for place in locked),
        *(BootFinding(BootFindingKind.OTHER_SYSTEM, *place, "Windows, a dynamic disk") for place in dynamic),
    ]


def is_dynamic(table: PartitionTable) -> bool:
    """Whether Windows has made a dynamic disk of it."""
    return any(each.kind in _DYNAMIC for each in table.partitions)
