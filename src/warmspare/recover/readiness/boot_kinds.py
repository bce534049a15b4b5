"""Kinds of what a look into a VM's disks can find, how grave they can be, whose commands mend them; no meanings."""

from __future__ import annotations

from enum import StrEnum


class BootSeverity(StrEnum):
    """STOPS: an instance does not come up, or can't be reached. WARNING: it may not, or needs a hand. NOTE: worth
    knowing."""

    STOPS = "stops"
    WARNING = "warning"
    NOTE = "note"


class Family(StrEnum):
    """Whose commands a remedy uses. OTHER: of none of these, or not known."""

    DEBIAN = "debian"
    RED_HAT = "redhat"
    SUSE = "suse"
    WINDOWS = "windows"
    OTHER = ""


class BootFindingKind(StrEnum):
    """All kinds of findings."""

    DISK_FORMAT = "disk-format"
    NO_BOOT_CODE = "no-boot-code"
    NO_TABLE = "no-partition-table"
    BOOT_DISK_OTHER = "boot-disk-other"
    MBR_TOO_LARGE = "mbr-too-large"
    SECTORS_4K = "sectors-4k"
    ESP_MISSING = "esp-missing"
    LOADER_MISSING = "loader-missing"
    LOADER_INCOMPLETE = "loader-incomplete"
    LOADER_UNKNOWN = "loader-unknown"
    LOADER_WAITS = "loader-waits"
    FIRMWARE_OTHER = "firmware-other"
    PROTECTIVE_MBR = "protective-mbr"
    GPT_DAMAGED = "gpt-damaged"
    GPT_BACKUP = "gpt-backup"
    GPT_ROUNDED = "gpt-rounded"
    BEYOND_END = "beyond-end"
    BITLOCKER = "bitlocker"
    DYNAMIC_DISK = "dynamic-disk"
    LUKS = "luks"
    LVM_INCOMPLETE = "lvm-incomplete"
    LVM_DEVICES_FILE = "lvm-devices-file"
    DEFAULT_UNKNOWN = "default-unknown"
    KERNEL_MISSING = "kernel-missing"
    KERNEL_OPTION = "kernel-option"
    ROOT_UNSEEN = "root-unseen"
    ROOT_BY_NAME = "root-by-name"
    ROOT_UNKNOWN = "root-unknown"
    SYSTEM_UNREAD = "system-unread"
    FSTAB_BY_NAME = "fstab-by-name"
    FSTAB_UNKNOWN = "fstab-unknown"
    FSTAB_OPTIONAL = "fstab-optional"
    VOLUME_UNREAD = "volume-unread"
    NVME_MISSING = "nvme-missing"
    ENA_MISSING = "ena-missing"
    DRIVERS_UNREAD = "drivers-unread"
    INITRAMFS_MISSING = "initramfs-missing"
    INITRAMFS_UNREAD = "initramfs-unread"
    CONSOLE_MISSING = "console-missing"
    WINDOWS = "windows"
    IMDS_V1 = "imds-v1"
    IMDS_UNKNOWN = "imds-unknown"
    OTHER_SYSTEM = "other-system"
    NOT_JUDGED = "not-judged"
