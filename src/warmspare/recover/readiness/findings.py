"""What a look into a VM's disks can find: kinds, how grave each is, what it means and what to do; owns no search.

docs/operations.md, "Readiness". Sources: Amazon EC2 User Guide (boot modes, Nitro, NVMe); VM Import/Export
requirements.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """STOPS: an instance does not come up, or can't be reached. WARNING: it may not, or needs a hand. NOTE: worth
    knowing."""

    STOPS = "stops"
    WARNING = "warning"
    NOTE = "note"


class Kind(StrEnum):
    """All kinds of findings."""

    NO_BOOT_CODE = "no-boot-code"
    NO_TABLE = "no-partition-table"
    ESP_MISSING = "esp-missing"
    LOADER_MISSING = "loader-missing"
    FIRMWARE_OTHER = "firmware-other"
    PROTECTIVE_MBR = "protective-mbr"
    GPT_DAMAGED = "gpt-damaged"
    GPT_BACKUP = "gpt-backup"
    GPT_ROUNDED = "gpt-rounded"
    BITLOCKER = "bitlocker"
    DYNAMIC_DISK = "dynamic-disk"
    LUKS = "luks"
    LVM_INCOMPLETE = "lvm-incomplete"
    ROOT_UNSEEN = "root-unseen"
    ROOT_BY_NAME = "root-by-name"
    ROOT_UNKNOWN = "root-unknown"
    FSTAB_BY_NAME = "fstab-by-name"
    FSTAB_UNKNOWN = "fstab-unknown"
    FSTAB_OPTIONAL = "fstab-optional"
    NVME_MISSING = "nvme-missing"
    ENA_MISSING = "ena-missing"
    INITRAMFS_UNREAD = "initramfs-unread"
    CONSOLE_MISSING = "console-missing"
    WINDOWS = "windows"
    NOT_JUDGED = "not-judged"


@dataclass(frozen=True, slots=True)
class About:
    """What is always true of a kind."""

    severity: Severity
    meaning: str
    remedy: str


_REGENERATE = (
    "in the VM: add nvme to /etc/initramfs-tools/modules and run `update-initramfs -u`; or run "
    "`dracut -f --add-drivers nvme`"
)
_BY_UUID = "in the VM: write it as UUID=… (`blkid` shows it)"

ABOUT: dict[Kind, About] = {
    Kind.NO_BOOT_CODE: About(
        Severity.STOPS, "the first disk has no boot code in its MBR, and this VM starts by the BIOS",
        "install the boot loader in the VM (`grub-install`), or give its first disk as the first",
    ),
    Kind.NO_TABLE: About(
        Severity.STOPS, "the first disk has no partition table", "give the VM's boot disk as the first",
    ),
    Kind.ESP_MISSING: About(
        Severity.STOPS, "the VM starts by UEFI and its first disk has no EFI system partition",
        "give the VM's boot disk as the first",
    ),
    Kind.LOADER_MISSING: About(
        Severity.STOPS,
        "the EFI system partition has no boot loader at the removable path: an instance starts without the VM's boot "
        "entries",
        "in the VM: `grub-install --removable`, or copy the loader to \\EFI\\BOOT\\BOOTX64.EFI",
    ),
    Kind.FIRMWARE_OTHER: About(
        Severity.STOPS, "the disk is made for another firmware than the VM has", "check the VM's firmware",
    ),
    Kind.PROTECTIVE_MBR: About(
        Severity.STOPS, "the GPT has no protective MBR: firmware does not take it for a GPT",
        "in the VM: `sgdisk --verify`, then write it anew with `sgdisk --move-second-header`",
    ),
    Kind.GPT_DAMAGED: About(
        Severity.STOPS, "the GPT's primary header is damaged", "in the VM: restore it from the backup (`gdisk`, r, b)",
    ),
    Kind.GPT_BACKUP: About(
        Severity.WARNING, "the GPT's backup header is damaged or not at the disk's end: the disk has grown",
        "in the VM: `sgdisk --move-second-header`",
    ),
    Kind.GPT_ROUNDED: About(
        Severity.NOTE,
        "EBS volumes are whole GiB, so that the GPT's backup header will not stand at the volume's end; it boots",
        "in the instance, before resizing: `sgdisk --move-second-header`",
    ),
    Kind.BITLOCKER: About(
        Severity.STOPS, "a volume is encrypted by BitLocker: the instance lacks the VM's TPM and waits for the key",
        "suspend BitLocker or decrypt before the next sync",
    ),
    Kind.DYNAMIC_DISK: About(
        Severity.STOPS, "the disk is a dynamic disk (LDM) of Windows, which EC2 can't import",
        "convert it to a basic disk",
    ),
    Kind.LUKS: About(
        Severity.WARNING, "a file system is encrypted by LUKS: what is in it could not be checked",
        "have its key where the start finds it, or type it at the serial console of EC2",
    ),
    Kind.LVM_INCOMPLETE: About(
        Severity.STOPS,
        "there are physical volumes of LVM and no logical volume can be read: a part of the group is missing",
        "replicate all disks of the volume group",
    ),
    Kind.ROOT_UNSEEN: About(
        Severity.WARNING, "no root file system was found: what the system needs could not be checked",
        "run a drill",
    ),
    Kind.ROOT_BY_NAME: About(
        Severity.STOPS, "the kernel's root= is a device name, which is another on NVMe",
        "in the VM: name it by UUID in the boot loader's configuration",
    ),
    Kind.ROOT_UNKNOWN: About(
        Severity.STOPS, "the kernel's root= names a file system that is on none of these disks",
        "in the VM: correct it in the boot loader's configuration, or replicate that disk",
    ),
    Kind.FSTAB_BY_NAME: About(
        Severity.STOPS, "/etc/fstab names a device that has another name on NVMe: the start ends in emergency mode",
        _BY_UUID,
    ),
    Kind.FSTAB_UNKNOWN: About(
        Severity.STOPS, "/etc/fstab needs a file system that is on none of these disks: the start waits, then ends in "
        "emergency mode",
        "replicate that disk, or add `nofail`",
    ),
    Kind.FSTAB_OPTIONAL: About(
        Severity.WARNING, "/etc/fstab names something that will not be there; the start goes on without it", _BY_UUID,
    ),
    Kind.NVME_MISSING: About(
        Severity.STOPS, "neither kernel nor initramfs has the driver of NVMe: the root file system is not found",
        _REGENERATE,
    ),
    Kind.ENA_MISSING: About(
        Severity.STOPS, "the kernel has no driver of EC2's network (ena): the instance can't be reached",
        "in the VM: install a kernel that has it",
    ),
    Kind.INITRAMFS_UNREAD: About(
        Severity.WARNING, "the initramfs could not be read: whether it has the driver of NVMe is not known",
        "run a drill",
    ),
    Kind.CONSOLE_MISSING: About(
        Severity.NOTE, "the kernel does not use the serial port: EC2's console shows nothing of its start",
        "in the VM: add console=tty0 console=ttyS0,115200 to the kernel's command line",
    ),
    Kind.WINDOWS: About(
        Severity.WARNING, "the disk holds Windows, which needs AWS's NVMe and ENA drivers; they were not looked for",
        "install them before the next sync, or use `warmspare failover --via import-image`",
    ),
    Kind.NOT_JUDGED: About(
        Severity.WARNING,
        "this was not judged: what the VM's disks hold there hurts its reader, or costs more than a check may take",
        "find out in the VM what stands there and why, and run a drill",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. disk: its ID. place: the partition, file and line it is about. found: what stands
    there."""

    kind: Kind
    disk: str
    place: str
    found: str = ""

    @property
    def severity(self) -> Severity:
        return ABOUT[self.kind].severity

    @property
    def meaning(self) -> str:
        return ABOUT[self.kind].meaning

    @property
    def remedy(self) -> str:
        return ABOUT[self.kind].remedy

    def event(self, vm: str, point: str) -> dict[str, Any]:
        """The fields of the `finding` event (docs/events.md)."""
        return {
            "kind": str(self.kind), "severity": str(self.severity), "vm": vm, "disk": self.disk, "place": self.place,
            "found": self.found, "point": point, "message": self.meaning, "remedy": self.remedy,
        }  # fmt: skip
