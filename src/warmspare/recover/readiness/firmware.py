"""The firmware's way in: what the disk that boots has for the BIOS or UEFI, and what that starts; follows no menu.

A recovered machine has neither the VM's boot entries nor its boot order: the firmware takes the first disk, and of its
EFI system partition the removable path (Amazon EC2 User Guide, boot modes).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from warmspare.recover.readiness.answers import Absent, Unknown
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, Family
from warmspare.recover.readiness.devices.blocks import Device
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.guest.partition_tables import BIOS_BOOT, SECTOR_BYTES, PartitionTable
from warmspare.recover.readiness.loaders import biosgrub, efi
from warmspare.recover.readiness.loaders.efiprogram import What
from warmspare.recover.readiness.loaders.started import Started
from warmspare.recover.readiness.reach import Reach

EXTENDED = "bc13c2ff-59e6-4262-a352-b275fd6f7172"  # XBOOTLDR, of the Boot Loader Specification
_VENDORS = {
    "debian": Family.DEBIAN,
    "ubuntu": Family.DEBIAN,
    "redhat": Family.RED_HAT,
    "centos": Family.RED_HAT,
    "fedora": Family.RED_HAT,
    "almalinux": Family.RED_HAT,
    "rocky": Family.RED_HAT,
    "oracle": Family.RED_HAT,
    "amzn": Family.RED_HAT,
    "sles": Family.SUSE,
    "sle": Family.SUSE,
    "opensuse": Family.SUSE,
    "microsoft": Family.WINDOWS,
}


_NOTHING = {
    BootFindingKind.NO_TABLE,
    BootFindingKind.NO_BOOT_CODE,
    BootFindingKind.ESP_MISSING,
}  # of what a disk to start from has


@dataclass(frozen=True, slots=True)
class FirmwareWay:
    """findings: what is broken on it. start: what comes of following it; None where it leads to no loader that is
    known. reach: the file systems that it reaches. windows: it leads to Windows. doubt: what is to be said where
    nothing else tells what starts. unread: what is wrong with the whole disk is said elsewhere."""

    findings: tuple[BootFinding, ...] = ()
    start: Callable[[], Started] | None = None
    reach: Reach | None = None
    windows: bool = False
    doubt: BootFinding | None = None
    unread: bool = False


def way_in(machine: GuestDisks) -> FirmwareWay:
    """From the disk that boots. Where only another disk has one, that is said, and followed."""
    table = machine.tables[machine.boots]
    if table.sector_bytes != SECTOR_BYTES or (machine.boots in machine.images and not table.kind):
        return FirmwareWay(unread=True)
    way = _way(machine)
    if way.start is not None or way.windows:
        return way
    others = [number for number in range(len(machine.disks)) if number != machine.boots and _starts(machine, number)]
    if len(others) != 1:
        return way
    found = f"{machine.disks[others[0]].id} has what {machine.firmware.upper()} starts"
    if way.doubt:
        return replace(way, doubt=replace(way.doubt, found=f"{way.doubt.found}; {found}"))
    broken = way.findings[0]
    if broken.kind not in _NOTHING and (
        broken.kind is not BootFindingKind.LOADER_INCOMPLETE or machine.firmware == "uefi"
    ):
        return way
    other = BootFinding(BootFindingKind.BOOT_DISK_OTHER, broken.disk, broken.place, f"{found}, and this disk has not")
    machine.boots = others[0]
    way = _way(machine)
    return replace(way, findings=(other, *way.findings))


def _way(machine: GuestDisks) -> FirmwareWay:
    broken = _without_table_or_code(machine, machine.boots)
    if broken is not None:
        return FirmwareWay((broken,))
    return _bios(machine) if machine.firmware == "bios" else _uefi(machine)


def _starts(machine: GuestDisks, number: int) -> bool:
    """Whether the firmware would start something from a disk. Boot code that is not known does not say so: most tools
    that write tables leave some."""
    table, before = machine.tables[number], machine.boots
    if table.sector_bytes != SECTOR_BYTES:
        return False
    machine.boots = number
    way = _way(machine)
    machine.boots = before
    marked = any(each.active or each.kind == BIOS_BOOT for each in table.partitions)
    return way.start is not None or way.windows or (way.doubt is not None and marked)


def _without_table_or_code(machine: GuestDisks, number: int) -> BootFinding | None:
    """What a disk lacks of which the firmware wants the first."""
    disk, table = machine.disks[number].id, machine.tables[number]
    if not table.kind:
        return BootFinding(BootFindingKind.NO_TABLE, disk, "its beginning")
    if machine.firmware == "bios":
        if table.boot_code and table.signature:
            return None
        if table.firmware == "uefi":
            found = "an EFI system partition, no boot code"
            return BootFinding(BootFindingKind.FIRMWARE_OTHER, disk, "its partition table", found)
        return BootFinding(BootFindingKind.NO_BOOT_CODE, disk, "its first sector")
    if any(each.is_esp for each in table.partitions):
        return None
    made_for_bios = table.boot_code and table.firmware == "bios" and _has_active(table)
    return BootFinding(
        BootFindingKind.FIRMWARE_OTHER if made_for_bios else BootFindingKind.ESP_MISSING, disk, "its partition table"
    )


def _has_active(table: PartitionTable) -> bool:
    return table.kind == "dos" or any(each.kind == BIOS_BOOT for each in table.partitions)


def _bios(machine: GuestDisks) -> FirmwareWay:
    """From the first sector."""
    boots = machine.boots
    disk, fd = machine.disks[boots].id, machine.disks[boots].fd
    try:
        way = biosgrub.look(lambda offset, count: os.pread(fd, count, offset))
    except OSError as error:
        return FirmwareWay(
            doubt=BootFinding(
                BootFindingKind.LOADER_UNKNOWN, disk, "its first sector", f"it can't be read: {error.strerror}"
            )
        )
    place, own = "its first sector", None
    if way.partition is not None:
        own = _beginning(machine, way.partition)
        place = machine.where(own)[1] if own else f"the partition at byte {way.partition}"
    match way.end:
        case biosgrub.BiosEnd.EMPTY if way.partition is None:
            return FirmwareWay((BootFinding(BootFindingKind.NO_BOOT_CODE, disk, place, way.why),))
        case biosgrub.BiosEnd.EMPTY | biosgrub.BiosEnd.ACTIVE:
            return FirmwareWay((BootFinding(BootFindingKind.LOADER_INCOMPLETE, disk, place, way.why),))
        case biosgrub.BiosEnd.WINDOWS:
            return FirmwareWay(windows=True)
    if way.core is None and way.end is not biosgrub.BiosEnd.SYSLINUX:
        return FirmwareWay(doubt=BootFinding(BootFindingKind.LOADER_UNKNOWN, disk, place, way.why))
    reach = Reach(machine, own)
    return FirmwareWay(start=lambda: way.started(reach), reach=reach)


def _beginning(machine: GuestDisks, offset: int) -> Device | None:
    """The partition of the disk that boots that begins there."""
    table = machine.tables[machine.boots]
    numbers = [each.number for each in table.partitions if each.offset == offset]
    on_disk = (one for one in machine.devices if one.disk == machine.boots and one.number in numbers)
    return next((one for one in on_disk if one.number), None)


def _uefi(machine: GuestDisks) -> FirmwareWay:
    """From the first of its EFI system partitions that has something at the removable path."""
    disk, table = machine.disks[machine.boots].id, machine.tables[machine.boots]
    label = "gpt" if table.kind == "gpt" else "msdos"
    missing: list[tuple[str, efi.EfiWay]] = []
    for each in table.partitions:
        device = machine.named(f"loop{machine.boots},{label}{each.number}") if each.is_esp else None
        if device is None:
            continue
        device = _mirrored(machine, each.offset) or device
        place = f"partition {each.number}"
        files = machine.files(device)
        if isinstance(files, Absent | Unknown):
            if device.contents is None and not isinstance(device.holds, Unknown):
                missing.append((place, efi.EfiWay((), efi.EfiEnd.MISSING, "it holds no file system")))
                continue
            why = files.why if isinstance(files, Unknown) else "it is not there"
            return FirmwareWay(doubt=BootFinding(BootFindingKind.LOADER_UNKNOWN, disk, place, why))
        way = efi.look(files)
        if way.end is efi.EfiEnd.MISSING and not way.steps:
            missing.append((place, way))
            continue
        return _followed(machine, device, place, way)
    place, way = missing[0]
    found = "; ".join(filter(None, (f"no {efi.REMOVABLE}", ", ".join(way.others) and f"there are {_few(way.others)}")))
    return FirmwareWay((BootFinding(BootFindingKind.LOADER_MISSING, disk, place, found, _family(way.others)),))


def _mirrored(machine: GuestDisks, offset: int) -> Device | None:
    """The mirror of which a partition is a member that the firmware reads as if it were none: its superblock stands
    behind what it holds."""
    for array in machine.inventory.arrays:
        here = any(one.disk == machine.boots and one.offset == offset and not one.data_offset for one in array.members)
        if array.whole and here:
            return machine.named(f"mduuid/{array.uuid}")
    return None


def _followed(machine: GuestDisks, device: Device, place: str, way: efi.EfiWay) -> FirmwareWay:
    """What a program at the removable path leads to."""
    disk = machine.disks[machine.boots].id
    files = machine.files(device)
    folders = files.names("/EFI") if not isinstance(files, Absent | Unknown) else []
    family = _family(tuple(f"/EFI/{name}" for name in folders) if isinstance(folders, list) else ())
    last = way.steps[-1]
    match way.end:
        case efi.EfiEnd.MISSING:
            return FirmwareWay((BootFinding(BootFindingKind.LOADER_INCOMPLETE, disk, place, way.why, family),))
        case efi.EfiEnd.WINDOWS:
            return FirmwareWay(windows=True)
        case efi.EfiEnd.OTHER if last.what is What.NO_PROGRAM:
            kind = BootFindingKind.LOADER_MISSING if len(way.steps) == 1 else BootFindingKind.LOADER_INCOMPLETE
            return FirmwareWay((BootFinding(kind, disk, place, f"{last.path} is {last.what.value}", family),))
        case efi.EfiEnd.OTHER | efi.EfiEnd.UNREAD:
            return FirmwareWay(doubt=BootFinding(BootFindingKind.LOADER_UNKNOWN, disk, place, way.why, family))
    reach = Reach(machine, device)
    return FirmwareWay(start=lambda: way.started(reach, _extended(machine)), reach=reach)


def _extended(machine: GuestDisks) -> str:
    """The extended boot partition, as loaders name it; "" where there is none."""
    table = machine.tables[machine.boots]
    return next((f"grub:,gpt{each.number}" for each in table.partitions if each.kind == EXTENDED), "")


def _few(paths: tuple[str, ...]) -> str:
    return ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")


def _family(paths: tuple[str, ...]) -> Family:
    """Whose folders are on the ESP, where they are all of one family. Windows' counts only alone."""
    found = {_VENDORS.get(path.split("/")[2].lower().rstrip("/")) for path in paths if path.count("/") > 1} - {None}
    linux = found - {Family.WINDOWS}
    return (linux or found).pop() or Family.OTHER if len(linux or found) == 1 else Family.OTHER
