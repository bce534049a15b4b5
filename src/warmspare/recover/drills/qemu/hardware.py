"""The machine that a drill starts: firmware, memory, processors, where the disks hang; owns its choice.

As much of the VM as its restore point tells, as little of this host as is left. Disks hang on NVMe by default, as they
do in EC2, so that a guest without its driver fails here and not there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmspare.errors import ConfigError

FIRMWARES = ("bios", "uefi")
CONTROLLERS = ("nvme", "pvscsi", "virtio-scsi", "lsisas", "sata", "ide")
IDE_DISKS, NVME_DISKS, SATA_DISKS, SCSI_DISKS = 4, 16, 6, 7
_MOST_DISKS = {"ide": IDE_DISKS, "nvme": NVME_DISKS, "sata": SATA_DISKS}
# Debian's OVMF has drivers for these; a VM with UEFI can be started from nothing else.
UEFI_CONTROLLERS = ("nvme", "virtio-scsi", "sata")
UNKNOWN_MEMORY_MIB, LEAST_MEMORY_MIB = 1024, 256
MOST_CPUS = 4


@dataclass(frozen=True, slots=True)
class Hardware:
    """firmware: bios or uefi; firmware_by: who said so. controller: one of CONTROLLERS. notes: where it differs from
    the VM."""

    firmware: str
    firmware_by: str
    controller: str
    cpus: int
    memory_mib: int
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        cpus = f"{self.cpus} CPU{'' if self.cpus == 1 else 's'}"
        return f"{self.firmware.upper()}, disks on {self.controller}, {cpus} and {self.memory_mib} MiB"


def choose(
    recorded: Mapping[str, Any],
    found_firmware: str,
    disks: int,
    *,
    firmware: str | None = None,
    controller: str | None = None,
    memory_mib: int | None = None,
    room_mib: int | None = None,
) -> Hardware:
    """The machine for a VM. recorded: its restore point's hardware, empty where nothing is known. found_firmware: what
    the first disk looks like. room_mib: memory that a machine may have here, None for what `room` says now. The rest is
    the user's choice. ConfigError for what can't be."""
    notes: list[str] = []
    of_vm = firmware_of(recorded, None)
    if recorded.get("firmware") and of_vm is None:
        notes.append(f"the restore point names a firmware that is not known here, {str(recorded['firmware'])!r}")
    if firmware is not None:
        chosen, by = firmware_of(recorded, firmware) or firmware, "option"
        if of_vm and of_vm != firmware:
            notes.append(f"the VM's firmware is {of_vm}")
    elif of_vm:
        chosen, by = of_vm, "restore point"
    else:
        chosen, by = found_firmware, "partition table"
    if controller is None:
        controller = "nvme"
    _demand(controller, CONTROLLERS, "--controller")
    if chosen == "uefi" and controller not in UEFI_CONTROLLERS:
        raise ConfigError(
            f"the UEFI firmware here can't start from {controller}",
            hint=f"give --controller as one of {', '.join(UEFI_CONTROLLERS)}",
        )
    most = _MOST_DISKS.get(controller, SCSI_DISKS)
    if disks > most:
        raise ConfigError(f"{controller} takes {most} disks here and the VM has {disks}", hint="use --controller nvme")
    if recorded.get("secure_boot"):
        notes.append("the VM uses secure boot; this was started without it")
    memory = _memory(recorded, memory_mib, room() if room_mib is None else room_mib, notes)
    cpus = min(int(recorded.get("cpus") or 1), MOST_CPUS, len(os.sched_getaffinity(0)))
    return Hardware(chosen, by, controller, max(cpus, 1), memory, tuple(notes))


def firmware_of(recorded: Mapping[str, Any], wanted: str | None) -> str | None:
    """The user's choice, or the VM's firmware in our words; None where nothing is known. ConfigError."""
    if wanted is not None:
        _demand(wanted, FIRMWARES, "--firmware")
        return wanted
    return {"efi": "uefi", "uefi": "uefi", "bios": "bios"}.get(str(recorded.get("firmware") or ""))


def _demand(value: str, known: tuple[str, ...], option: str) -> None:
    if value not in known:
        raise ConfigError(f"{option} is {value!r}", hint=f"give one of {', '.join(known)}")


def own_memory_mib(recorded: Mapping[str, Any]) -> int:
    """The VM's own."""
    return int(recorded.get("memory_mib") or UNKNOWN_MEMORY_MIB)


def room() -> int:
    """MiB that machines may have here: half of what is free."""
    return max(_available_mib() // 2, LEAST_MEMORY_MIB)


def _memory(recorded: Mapping[str, Any], wanted: int | None, room_mib: int, notes: list[str]) -> int:
    """What was asked for; else the VM's own, as far as there is room."""
    if wanted is not None:
        if wanted < LEAST_MEMORY_MIB:
            raise ConfigError(f"--memory is {wanted} MiB", hint=f"give at least {LEAST_MEMORY_MIB}")
        return wanted
    own = own_memory_mib(recorded)
    if own > room_mib:
        notes.append(f"the VM has {own} MiB of memory; half of what is free here is {room_mib} MiB")
    return min(own, room_mib)


def _available_mib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return UNKNOWN_MEMORY_MIB
