"""The machine that a VM becomes: firmware, architecture, size, network cards, disks in order; out of its restore point
and the recovery plan. Owns what is missing for that, and refuses to ask AWS.

AWS documents: "Device names for volumes", "Instance launch behavior with Amazon EC2 boot modes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from warmspare.errors import ConfigError, by_hand
from warmspare.format.restore_point import RestorePoint
from warmspare.model.ids import DiskId, VmId
from warmspare.recover.disks.origin import boot_first
from warmspare.recover.failover.plan import Metadata, VmPlan
from warmspare.recover.failover.platform import decided, licensed, losses, of_plan, of_vsphere
from warmspare.recover.failover.volume_limits import wrong_for
from warmspare.recover.staging.staged import StagedDisk, StagedPoint

ROOT_DEVICE = "/dev/sda1"
DEVICES = (ROOT_DEVICE, *(f"/dev/sd{letter}" for letter in "bcdefghijklmnopqrstuvwxyz"))
MOST_UNKNOWN = 5  # that a note names
BOOT_MODES = {"efi": "uefi", "uefi": "uefi", "bios": "legacy-bios"}


@dataclass(frozen=True, slots=True)
class Card:
    """A network card to be. security_groups: empty for those of the default network."""

    port_group: str
    subnet: str
    security_groups: tuple[str, ...]
    ip: str | None


@dataclass(frozen=True, slots=True)
class RootedDisk:
    """An EBS snapshot and the device it becomes."""

    device: str
    name: str
    staged: StagedDisk


@dataclass(frozen=True, slots=True)
class Ec2Machine:
    """boot_mode: `uefi` or `legacy-bios`. cpus, memory_mib: 0 where not known. cards: empty for EC2's default network.
    known: its system by vSphere, stated: by the plan, platform: what counts (platform.py), "" where not known. missing:
    what keeps it from being started, each with what to do. notes: what is not as it was at home. metadata: of its
    metadata service."""

    vm_id: VmId
    vm_name: str
    boot_mode: str
    architecture: str
    cpus: int
    memory_mib: int
    cards: tuple[Card, ...]
    disks: tuple[RootedDisk, ...]
    known: str
    stated: str
    platform: str
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    metadata: Metadata = field(default_factory=Metadata)


def machine(record: RestorePoint, staged: StagedPoint, plan: VmPlan) -> Ec2Machine:
    """The machine for one VM at one restore point."""
    hardware = record.hardware
    missing: list[str] = []
    notes: list[str] = []
    told = plan.firmware or str(hardware.get("firmware") or "")
    if told not in BOOT_MODES:
        says = f"says {told!r}, which is not known, for" if told else "does not say"
        missing.append(f"the restore point {says} the VM's firmware; set firmware of the VM in the recovery plan")
    cpus, memory = int(hardware.get("cpus") or 0), int(hardware.get("memory_mib") or 0)
    if not plan.types and not (cpus and memory):
        missing.append("the restore point does not say how large the VM is; set instance_type in the recovery plan")
    if hardware.get("secure_boot"):
        notes.append("the VM uses secure boot and starts without it")
    if unknown := [str(each) for each in hardware.get("unknown") or []]:
        more = f" and {len(unknown) - MOST_UNKNOWN} more" if len(unknown) > MOST_UNKNOWN else ""
        notes.append(f"not understood of the VM when it was read: {'; '.join(unknown[:MOST_UNKNOWN])}{more}")
    for disk in record.unprotected:
        notes.append(f"disk {disk.name} is not in the restore point: {disk.reason}")
    known, stated = of_vsphere(hardware), of_plan(plan.platform)
    platform, differ = decided(stated, known, ())
    notes += [differ] if differ else []
    notes += _of_platform(platform, plan)
    cards, disks = _cards(hardware, plan, missing, notes), _disks(record, staged, plan, missing)
    missing += wrong_for(plan.volumes, ((disk.name, disk.staged.volume_gib) for disk in disks))
    return Ec2Machine(
        record.vm_id,
        record.vm_name,
        BOOT_MODES.get(told, ""),
        plan.architecture or _architecture(hardware),
        cpus,
        memory,
        cards,
        disks,
        known,
        stated,
        platform,
        tuple(missing),
        tuple(notes),
        plan.metadata,
    )


def looked_into(built: Ec2Machine, plan: VmPlan, runs: Sequence[str]) -> tuple[Ec2Machine, list[str]]:
    """The same once its disks were looked into, and what is to be said now that was not. runs: what they have that
    starts."""
    platform, differ = decided(built.stated, built.known, runs)
    notes = [differ] if differ else []
    notes += _of_platform(platform, plan)
    return replace(built, platform=platform), [note for note in notes if note not in built.notes]


def _of_platform(platform: str, plan: VmPlan) -> list[str]:
    return losses(platform) if plan.via == "register-image" else licensed(platform, plan.license)


def _architecture(hardware: Mapping[str, Any]) -> str:
    """By vSphere's guest ID. 32-bit systems for x86 run on x86_64."""
    return "arm64" if "arm" in str(hardware.get("guest_id") or "").lower().split("windows")[0] else "x86_64"


def _cards(hardware: Mapping[str, Any], plan: VmPlan, missing: list[str], notes: list[str]) -> tuple[Card, ...]:
    nics = hardware.get("nics") or []
    port_groups = [str(nic.get("network") or "") for nic in nics]
    if not port_groups and (plan.subnet or plan.ips):
        port_groups = [next(iter(plan.ips), "")]
    if not plan.subnet and not plan.networks:
        if plan.ips:
            missing.append("a fixed address needs a subnet; add [network.NAME] or subnet to the recovery plan")
        elif port_groups:
            notes.append("the plan names no network: it starts in the default VPC, with one network card")
        return ()
    if not port_groups:
        missing.append(
            "the restore point names no network card; set subnet and security_groups of the VM in the recovery plan"
        )
    cards = []
    left = dict(plan.ips)
    for number, port_group in enumerate(port_groups):
        network = plan.network(port_group)
        if network is None and not port_group:
            label = str(nics[number].get("label") or f"network card {number + 1}")
            missing.append(
                f"the restore point does not say which network {label} is on; set subnet and security_groups of the "
                "VM, for all its network cards"
            )
            continue
        if network is None:
            missing.append(
                f"the plan does not say where port group {port_group!r} goes; add a [network.{port_group!r}] to the "
                "recovery plan"
            )
            continue
        ip = left.pop(port_group, None) or (left.pop("", None) if number == 0 else None)
        cards.append(Card(port_group, network.subnet, network.security_groups, ip))
    for port_group in left:
        missing.append(
            f"the VM has no further network card on {port_group!r} for its fixed address; take it out of "
            "ips in the recovery plan"
        )
    return tuple(cards)


def _disks(record: RestorePoint, staged: StagedPoint, plan: VmPlan, missing: list[str]) -> tuple[RootedDisk, ...]:
    names = [(disk.id, disk.name) for disk in record.disks]
    try:
        order: Sequence[tuple[DiskId, str]] = boot_first(names, record.hardware, plan.root_disk)
    except ConfigError as error:
        missing.append(f"root_disk: {error.what}; {error.hint}")
        order = names
    by_id = {disk.id: disk for disk in record.disks}
    disks = [by_id[disk_id] for disk_id, _ in order]
    if len(disks) > len(DEVICES):
        missing.append(
            f"an instance takes {len(DEVICES)} volumes and the VM has {len(disks)}; "
            + by_hand("protect fewer of its disks")
        )
    found = [(disk, staged.disk(disk.id)) for disk in disks]
    return tuple(
        RootedDisk(device, disk.name, each) for device, (disk, each) in zip(DEVICES, found, strict=False) if each
    )
