"""Which VMs and disks can be protected, and why the others can't; a pure judgement over what was read."""

from __future__ import annotations

from dataclasses import dataclass

from warmspare.config.disks import DiskPattern, DiskSelection
from warmspare.vsphere.inventory.vm_devices import VmDisk
from warmspare.vsphere.inventory.vm_info import VmInfo

OLDEST_VERSION = 7  # the first hardware that tracks changes

EXCLUDED = "excluded by the configuration"


@dataclass(frozen=True, slots=True)
class Protectability:
    """disks: to be protected. others: disks that are not, with the reason. unmatched: entries of the configuration
    that mean no disk of the VM."""

    disks: tuple[VmDisk, ...]
    others: tuple[tuple[VmDisk, str], ...]
    unmatched: tuple[DiskPattern, ...]


def judge(vm: VmInfo, selection: DiskSelection) -> Protectability:
    """Every disk of the VM is in exactly one of the two lists."""
    wanted, others = [], []
    for disk in vm.disks:
        excluded = not selection.takes(key=disk.key, label=disk.label, path=disk.base_path)
        reason = EXCLUDED if excluded else unprotectable(disk)
        if reason:
            others.append((disk, reason))
        else:
            wanted.append(disk)
    unmatched = [
        pattern
        for pattern in selection.patterns
        if not any(pattern.matches(key=d.key, label=d.label, path=d.base_path) for d in vm.disks)
    ]
    return Protectability(tuple(wanted), tuple(others), tuple(unmatched))


def unprotectable(disk: VmDisk) -> str:
    """Why a disk can't be protected; "" where it can. What is not understood is not taken for harmless."""
    if disk.unknown:
        return f"{disk.unknown}: it can't be told whether it is a disk, and how it would be read"
    if disk.rdm == "physical":
        return "it is a raw device in physical mode: snapshots leave it out"
    if disk.rdm not in ("", "virtual"):
        return f"it is a raw device in a mode that is not known ({disk.rdm})"
    if disk.mode.startswith("independent"):
        return f"its mode is {disk.mode}: snapshots leave it out"
    if disk.mode in ("nonpersistent", "undoable", "append"):
        return f"its mode is {disk.mode}: what the guest writes does not stay"
    if disk.mode != "persistent":
        return f"its mode is not known ({disk.mode or 'vCenter does not say it'})"
    if disk.sharing == "sharingMultiWriter":
        return "several VMs write to it (multi-writer): it can't be snapshotted"
    if disk.sharing not in ("", "sharingNone"):
        return f"whether others write to it is not known (its sharing is {disk.sharing})"
    if disk.bus_sharing not in ("", "noSharing"):
        return f"its controller shares the bus ({disk.bus_sharing}): it can't be snapshotted"
    if not disk.uuid:
        return "vSphere gives it no UUID, so that it could not be known again"
    return ""


def refusal(vm: VmInfo, judged: Protectability) -> tuple[str, str]:
    """Why the VM as a whole can't be protected, and what to do about it; empty where it can."""
    if vm.unreadable:
        return f"what vCenter says of it can't be read or understood ({vm.unreadable})", (
            "look at the VM in vCenter; a privilege may be missing (docs/rights.md), or it is newer than this version"
        )
    if vm.template:
        return "it is a template, which can't be snapshotted", "convert it to a virtual machine, or leave it out"
    if vm.connection not in ("", "connected"):
        return f"vCenter can't reach it: it is {vm.connection}", "look at the VM and its host in vCenter"
    if not vm.instance_uuid:
        return "it has no instance UUID to be known by", "look at the VM in vCenter"
    if vm.version < OLDEST_VERSION:
        return f"its hardware version {vm.version} is older than {OLDEST_VERSION}", "upgrade its hardware"
    if not judged.disks:
        reasons = "; ".join(f"{disk.label}: {reason}" for disk, reason in judged.others)
        return f"no disk of it can be protected ({reasons or 'it has none'})", "see docs/operations.md"
    uuids = [disk.uuid for disk in judged.disks]
    if twice := next((disk for disk in judged.disks if uuids.count(disk.uuid) > 1), None):
        same = ", ".join(disk.label for disk in judged.disks if disk.uuid == twice.uuid)
        return f"disks have the same UUID ({same})", "one was copied from another: give it a new UUID, or exclude it"
    return "", ""
