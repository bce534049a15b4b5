"""Whether a VM's disks will start in EC2, by looking and without booting; owns the order of the looks.

docs/operations.md, "Readiness". Each look adds findings; what can't be seen is a finding too, and never silence. All
that is made of the guest's files is made in a process of its own (`disks/confined.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from warmspare.errors import RecoverError
from warmspare.recover.disks import programs
from warmspare.recover.disks.confined import ProcessLimits, Say, confined
from warmspare.recover.disks.open_disk import OpenDisk
from warmspare.recover.disks.programs import Budget
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootSeverity
from warmspare.recover.readiness.guest import disk_layout, partition_tables
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.guest.partition_tables import PartitionTable
from warmspare.recover.readiness.links import BootChain
from warmspare.recover.readiness.readers.appliance import parts
from warmspare.recover.readiness.readers.appliance.appliance_files import Appliance
from warmspare.recover.readiness.readers.appliance.appliance_machine import ApplianceLimits as SecondLimits
from warmspare.recover.readiness.readiness_report import ReadinessReport, Runs, heard

LIMITS = ProcessLimits()
SECOND_LIMITS = SecondLimits()
MAX_READ_BYTES = 2 << 30  # some 20 s of CPU, to fetch, unpack and prove it


@dataclass(frozen=True, slots=True)
class Ready:
    """What was found, and what was looked at: tables and contents of each disk's partitions, in words. runs: what
    starts; several where that is not sure, none where it was not seen."""

    findings: list[BootFinding]
    seen: list[str]
    runs: tuple[Runs, ...] = ()

    @property
    def not_known(self) -> list[str]:
        """What could not be judged, a clause each."""
        return [f"{each.disk}, {each.place}: {each.found or each.meaning}" for each in self.findings if not each.known]


async def look(disks: Sequence[OpenDisk], firmware: str | None, limits: ProcessLimits = LIMITS) -> Ready:
    """Look into a VM's disks, in its order; the first is the one that boots. firmware: the VM's (bios, uefi), None if
    not known. ConfigError where a program that it needs is not installed."""
    for program in ("prlimit", "sfdisk", "blkid", "grub-fstest"):
        programs.found(program)

    appliance = Appliance(parts.found(), disks, SECOND_LIMITS)

    def work(say: Say) -> None:
        report = ReadinessReport(say)
        with contextlib.closing(appliance), report.whole():
            _judge(disks, firmware, report, appliance)

    said = await confined(work, [disk.fd for disk in disks], limits, lambda: _enough(disks), appliance.prepare)
    findings, seen, runs = heard(said)
    return Ready(sorted(findings, key=lambda each: list(BootSeverity).index(each.severity)), seen, tuple(runs))


async def made_for(disk: OpenDisk, limits: ProcessLimits = LIMITS) -> str:
    """The firmware that a disk looks as if made for, bios or uefi. RecoverError where that can't be told."""

    def work(say: Say) -> None:
        say(partition_tables.read(disk.fd, disk.capacity_bytes, Budget()).firmware.encode())

    for program in ("prlimit", "sfdisk"):
        programs.found(program)
    said = await confined(work, [disk.fd], limits)
    if said.lines not in ([b"bios"], [b"uefi"]):
        raise RecoverError(
            "the partition table can't be read, so that the firmware is not known",
            where=disk.id,
            hint="give --firmware",
        )
    return said.lines[0].decode()


def _enough(disks: Sequence[OpenDisk]) -> str:
    """Why no more is to be read of a restore point, which costs this process time and its store money."""
    read_bytes = sum(disk.read_bytes for disk in disks)
    return f"it has read {MAX_READ_BYTES >> 30} GiB of the disks" if read_bytes > MAX_READ_BYTES else ""


def _judge(disks: Sequence[OpenDisk], firmware: str | None, report: ReadinessReport, appliance: Appliance) -> None:
    """Over there: all looks, in their order."""
    budget = Budget()
    found: list[PartitionTable] = []
    for disk in disks:
        report.at(disk.id, "its partition table")
        found.append(partition_tables.read(disk.fd, disk.capacity_bytes, budget))
    machine = GuestDisks(disks, found, firmware or _made_for(found), budget, appliance)
    with report.part(disks[0].id, "what the disks hold"):
        disk_layout.look(machine, report)
    BootChain(machine, report).judge()


def _made_for(found: Sequence[PartitionTable]) -> str:
    """The firmware that the first disk looks as if made for that has something for one."""
    starting = (table for table in found if table.boot_code or any(each.is_esp for each in table.partitions))
    return next(starting, found[0]).firmware
