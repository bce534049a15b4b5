"""Whether a VM's disks will start in EC2, by looking and without booting; owns the order of the looks.

docs/operations.md, "Readiness". Each look adds findings; what can't be seen is a finding too, and never silence. All
that is made of the guest's files is made in a process of its own (`disks/confined.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from warmspare.errors import RecoverError
from warmspare.recover.disks import programs
from warmspare.recover.disks.base import OpenDisk
from warmspare.recover.disks.confined import Limits, Say, confined
from warmspare.recover.disks.programs import Budget
from warmspare.recover.readiness import linux, tables
from warmspare.recover.readiness.findings import Finding, Kind, Severity
from warmspare.recover.readiness.readers.appliance import parts
from warmspare.recover.readiness.readers.appliance.files import Appliance
from warmspare.recover.readiness.report import Report, heard
from warmspare.recover.readiness.tables import LDM_DATA, LDM_METADATA, MBR_LDM, Table
from warmspare.recover.readiness.volumes import Contents, Volume, Volumes

GIB = 1 << 30
LOADER = "/EFI/BOOT/BOOTX64.EFI"
_WINDOWS_TYPES = ("ntfs", "BitLocker")
LIMITS = Limits()
MAX_READ_BYTES = 2 << 30  # some 20 s of CPU, to fetch, unpack and prove it


@dataclass(frozen=True, slots=True)
class Ready:
    """What was found, and what was looked at: tables and contents of each disk's partitions, in words."""

    findings: list[Finding]
    seen: list[str]


async def look(disks: Sequence[OpenDisk], firmware: str | None, limits: Limits = LIMITS) -> Ready:
    """Look into a VM's disks, in its order; the first is the one that boots. firmware: the VM's (bios, uefi), None if
    not known. ConfigError where a program that it needs is not installed."""
    for program in ("prlimit", "sfdisk", "blkid", "grub-fstest"):
        programs.found(program)

    appliance = Appliance(parts.found(), disks)

    def work(say: Say) -> None:
        report = Report(say)
        with report.whole():
            _judge(disks, firmware, report, appliance)

    said = await confined(work, [disk.fd for disk in disks], limits, lambda: _enough(disks), appliance.prepare)
    findings, seen = heard(said)
    return Ready(sorted(findings, key=lambda each: list(Severity).index(each.severity)), seen)


async def made_for(disk: OpenDisk, limits: Limits = LIMITS) -> str:
    """The firmware that a disk looks as if made for, bios or uefi. RecoverError where that can't be told."""

    def work(say: Say) -> None:
        say(tables.read(disk.fd, disk.capacity_bytes, Budget()).firmware.encode())

    for program in ("prlimit", "sfdisk"):
        programs.found(program)
    said = await confined(work, [disk.fd], limits)
    if said.lines not in ([b"bios"], [b"uefi"]):
        raise RecoverError(
            "the partition table can't be read, so that the firmware is not known", where=disk.id,
            hint="give --firmware",
        )  # fmt: skip
    return said.lines[0].decode()


def _enough(disks: Sequence[OpenDisk]) -> str:
    """Why no more is to be read of a restore point, which costs this process time and its store money."""
    read_bytes = sum(disk.read_bytes for disk in disks)
    return f"it has read {MAX_READ_BYTES >> 30} GiB of the disks" if read_bytes > MAX_READ_BYTES else ""


def _judge(disks: Sequence[OpenDisk], firmware: str | None, report: Report, appliance: Appliance) -> None:
    """Over there: all looks, in their order."""
    budget = Budget()
    volumes = Volumes(disks, budget, appliance)
    held: list[Contents] = []
    found: list[Table] = []
    for disk in disks:
        report.at(disk.id, "its partition table")
        found.append(tables.read(disk.fd, disk.capacity_bytes, budget))
    of_vm = firmware or found[0].firmware
    encrypted = False
    for number, (disk, table) in enumerate(zip(disks, found, strict=True)):
        report.at(disk.id, "what its partitions hold")
        contents = [(f"partition {each.number}", volumes.contents(number, each)) for each in table.partitions] or [
            ("the whole disk", volumes.contents(number, None))
        ]
        held += [each for _, each in contents]
        report.seen(_seen(disk, table, contents))
        if table.more:
            what = f"there are more than {tables.MAX_PARTITIONS} partitions; the others were not looked at"
            report.add(Finding(Kind.NOT_JUDGED, disk.id, "its partition table", what))
        report.add(*_gpt(disk, table), *_windows(disk, table, contents, boots=number == 0))
        luks = [Finding(Kind.LUKS, disk.id, place) for place, each in contents if each.kind == "crypto_LUKS"]
        report.add(*luks)
        encrypted = encrypted or bool(luks)
    with report.part(disks[0].id, "its boot loader"):
        report.add(*_start(disks[0], found[0], of_vm, volumes))
    report.at(disks[0].id, "the volumes that GRUB sees")
    every = volumes.all()
    if any(each.kind == "LVM2_member" for each in held) and not any(v.device.startswith("lvm/") for v in every):
        report.add(Finding(Kind.LVM_INCOMPLETE, disks[0].id, "LVM"))
    if not any(each.kind in _WINDOWS_TYPES for each in held):
        names = {volume.device: _where(volume, disks) for volume in every}
        linux.look(volumes, every, held, names, report, encrypted=encrypted)


def _seen(disk: OpenDisk, table: Table, contents: list[tuple[str, Contents]]) -> str:
    kind = {"gpt": "GPT", "dos": "MBR"}.get(table.kind, "no partition table")
    parts = ", ".join(f"{place} {each.kind or 'unknown'}" for place, each in contents)
    return f"{disk.id}: {kind}; {parts}"


def _where(volume: Volume, disks: Sequence[OpenDisk]) -> tuple[str, str]:
    """(disk ID, place) of a volume, in words that people know."""
    if not volume.device.startswith("loop"):
        return disks[0].id, volume.device.replace("lvm/", "logical volume ")
    disk, _, partition = volume.device.removeprefix("loop").partition(",")
    number = "".join(letter for letter in partition if letter.isdigit())
    return disks[int(disk)].id, f"partition {number}" if number else "the whole disk"


def _start(disk: OpenDisk, table: Table, firmware: str, volumes: Volumes) -> list[Finding]:
    """What the firmware needs."""
    if not table.kind:
        return [Finding(Kind.NO_TABLE, disk.id, "its beginning")]
    if firmware == "bios":
        if table.boot_code and table.signature:
            return []
        if table.firmware == "uefi":
            found = "an EFI system partition, no boot code"
            return [Finding(Kind.FIRMWARE_OTHER, disk.id, "its partition table", found)]
        return [Finding(Kind.NO_BOOT_CODE, disk.id, "its first sector")]
    system = [each for each in table.partitions if each.is_esp]
    if not system:
        kind = Kind.FIRMWARE_OTHER if table.boot_code and table.firmware == "bios" else Kind.ESP_MISSING
        return [Finding(kind, disk.id, "its partition table")]
    for each in system:
        volume = Volume(f"loop0,{'gpt' if table.kind == 'gpt' else 'msdos'}{each.number}", "", "", "")
        if volumes.head(volume, LOADER, 2) == b"MZ":  # FAT takes any case
            return []
    where = f"partition {system[0].number}"
    return [Finding(Kind.LOADER_MISSING, disk.id, where, f"no {LOADER}")]


def _gpt(disk: OpenDisk, table: Table) -> list[Finding]:
    if table.gpt is None:
        return []
    out = []
    if not table.protective:
        out.append(Finding(Kind.PROTECTIVE_MBR, disk.id, "its first sector"))
    if not table.gpt.primary:
        out.append(Finding(Kind.GPT_DAMAGED, disk.id, "its second sector"))
    elif not table.gpt.backup or not table.gpt.at_end:
        found = f"the primary header names byte {table.gpt.backup_at} as the place of the backup"
        out.append(Finding(Kind.GPT_BACKUP, disk.id, "its end", found))
    elif disk.capacity_bytes % GIB:
        out.append(Finding(Kind.GPT_ROUNDED, disk.id, "its end", f"{disk.capacity_bytes} bytes"))
    return out


def _windows(disk: OpenDisk, table: Table, contents: list[tuple[str, Contents]], *, boots: bool) -> list[Finding]:
    out = [Finding(Kind.BITLOCKER, disk.id, place) for place, each in contents if each.kind == "BitLocker"]
    dynamic = [each for each in table.partitions if each.kind in (MBR_LDM, LDM_DATA, LDM_METADATA)]
    if dynamic:
        out.append(Finding(Kind.DYNAMIC_DISK, disk.id, f"partition {dynamic[0].number}"))
    if boots and any(each.kind in _WINDOWS_TYPES for _, each in contents):
        out.append(Finding(Kind.WINDOWS, disk.id, "its partitions"))
    return out
