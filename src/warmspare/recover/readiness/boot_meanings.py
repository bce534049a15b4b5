"""What each kind of what a look into a VM's disks can find means, how grave it is and what to do; owns no search.

docs/operations.md, "Readiness". Sources: Amazon EC2 User Guide (boot modes, Nitro, NVMe); VM Import/Export
requirements.
"""

from __future__ import annotations

from dataclasses import dataclass

from warmspare.observe.findings import About
from warmspare.recover.readiness.boot_kinds import BootFindingKind, BootSeverity, Family


@dataclass(frozen=True, slots=True)
class BootAbout(About[BootSeverity]):
    """What is always true of a kind. remedy: for any system, unless `remedies` has one of its family. known: False
    where the kind says that something is not known, so that neither answer can be given."""

    known: bool = True
    remedies: tuple[tuple[Family, str], ...] = ()


_BY_UUID = "in the VM: write it as UUID=… (`blkid` shows it)"
_DRILL = "run a drill"
_TIMEOUT = "in the VM: GRUB_TIMEOUT=5 in /etc/default/grub, and `grub2-mkconfig -o /boot/grub2/grub.cfg`"
_CONSOLE = "console=tty0 console=ttyS0,115200"

ABOUT: dict[BootFindingKind, BootAbout] = {
    BootFindingKind.DISK_FORMAT: BootAbout(
        BootSeverity.STOPS,
        "these bytes are not a disk but a file of a hypervisor or an archive that holds one",
        "replicate what it holds: `qemu-img convert -O raw FILE DISK`, then begin a chain with that",
    ),
    BootFindingKind.NO_BOOT_CODE: BootAbout(
        BootSeverity.STOPS,
        "the disk that boots has no boot code in its MBR, and this VM starts by the BIOS",
        "install the boot loader in the VM (`grub-install DISK`), or name the disk that boots (--boot-disk; root_disk "
        "in the recovery plan)",
        remedies=(
            (Family.RED_HAT, "in the VM: `grub2-install DISK`"),
            (Family.SUSE, "in the VM: `grub2-install DISK`"),
            (Family.WINDOWS, "from its installation medium: `bootrec /fixmbr` and `bootrec /fixboot`"),
        ),
    ),
    BootFindingKind.NO_TABLE: BootAbout(
        BootSeverity.STOPS,
        "the disk that boots has no partition table",
        "name the disk that boots (--boot-disk; root_disk in the recovery plan)",
    ),
    BootFindingKind.BOOT_DISK_OTHER: BootAbout(
        BootSeverity.STOPS,
        "an instance boots the first disk, and another of the VM's disks is the one that can",
        "name that disk: --boot-disk for the check, root_disk in the recovery plan",
    ),
    BootFindingKind.MBR_TOO_LARGE: BootAbout(
        BootSeverity.STOPS,
        "the disk is larger than 2 TiB and starts by its MBR: EC2 starts no such volume",
        "in the VM: move the data to another disk and make the system's at most 2 TiB, or convert it to GPT with UEFI",
    ),
    BootFindingKind.SECTORS_4K: BootAbout(
        BootSeverity.STOPS,
        "the partition table counts in sectors of 4096 bytes, and a volume of EBS has 512",
        "copy the system to a disk with sectors of 512 bytes, and replicate that",
    ),
    BootFindingKind.ESP_MISSING: BootAbout(
        BootSeverity.STOPS,
        "the VM starts by UEFI and the disk that boots has no EFI system partition",
        "name the disk that boots (--boot-disk; root_disk in the recovery plan)",
    ),
    BootFindingKind.LOADER_MISSING: BootAbout(
        BootSeverity.STOPS,
        "the EFI system partition has no boot loader at the removable path: an instance starts without the VM's boot "
        "entries",
        "in the VM: copy the whole folder of its boot loader to \\EFI\\BOOT, its loader as BOOTX64.EFI",
        remedies=(
            (Family.DEBIAN, "in the VM: `grub-install --target=x86_64-efi --removable`"),
            (Family.RED_HAT, "in the VM: `dnf reinstall shim-x64 grub2-efi-x64`, which put \\EFI\\BOOT there"),
            (Family.SUSE, "in the VM: `shim-install --removable`"),
            (Family.WINDOWS, "in the VM: `bcdboot C:\\Windows /s S: /f UEFI` with the EFI system partition as S:"),
        ),
    ),
    BootFindingKind.LOADER_INCOMPLETE: BootAbout(
        BootSeverity.STOPS,
        "the boot loader is there and what it needs next is not",
        "in the VM: install the boot loader anew",
        remedies=(
            (Family.DEBIAN, "in the VM: `grub-install --target=x86_64-efi --removable`, and `update-grub`"),
            (Family.RED_HAT, "in the VM: `dnf reinstall shim-x64 grub2-efi-x64 grub2-common`"),
            (Family.SUSE, "in the VM: `shim-install --removable`, and `grub2-mkconfig -o /boot/grub2/grub.cfg`"),
        ),
    ),
    BootFindingKind.LOADER_UNKNOWN: BootAbout(
        BootSeverity.WARNING,
        "what the firmware starts is not known, so that what comes after it could not be judged",
        _DRILL,
        known=False,
    ),
    BootFindingKind.LOADER_WAITS: BootAbout(
        BootSeverity.WARNING,
        "the boot loader waits for somebody at the keys before it starts anything",
        "in the VM: set a timeout in the boot loader's configuration",
        remedies=(
            (Family.DEBIAN, "in the VM: GRUB_TIMEOUT=5 in /etc/default/grub, and `update-grub`"),
            (Family.RED_HAT, _TIMEOUT),
            (Family.SUSE, _TIMEOUT),
        ),
    ),
    BootFindingKind.FIRMWARE_OTHER: BootAbout(
        BootSeverity.STOPS,
        "the disk is made for another firmware than the VM has",
        "check the VM's firmware",
    ),
    BootFindingKind.PROTECTIVE_MBR: BootAbout(
        BootSeverity.STOPS,
        "the GPT has no protective MBR: firmware does not take it for a GPT",
        "in the VM: `gdisk DISK`, take the GPT that it found (2), and write it (w), which makes a protective MBR",
    ),
    BootFindingKind.GPT_DAMAGED: BootAbout(
        BootSeverity.STOPS,
        "the GPT's primary header is damaged",
        "in the VM: restore it from the backup (`gdisk`, r, b)",
    ),
    BootFindingKind.GPT_BACKUP: BootAbout(
        BootSeverity.WARNING,
        "the GPT's backup header is damaged or not at the disk's end: the disk has grown",
        "in the VM: `sgdisk --move-second-header`",
    ),
    BootFindingKind.GPT_ROUNDED: BootAbout(
        BootSeverity.NOTE,
        "EBS volumes are whole GiB, so that the GPT's backup header will not stand at the volume's end; it boots",
        "in the instance, before resizing: `sgdisk --move-second-header`",
    ),
    BootFindingKind.BEYOND_END: BootAbout(
        BootSeverity.WARNING,
        "a partition ends beyond the disk: what is on it is not whole",
        "compare the disk's size with the VM's, and replicate all of it",
    ),
    BootFindingKind.BITLOCKER: BootAbout(
        BootSeverity.STOPS,
        "a volume is encrypted by BitLocker: the instance lacks the VM's TPM and waits for the key",
        "suspend BitLocker or decrypt before the next sync",
    ),
    BootFindingKind.DYNAMIC_DISK: BootAbout(
        BootSeverity.STOPS,
        "the disk is a dynamic disk (LDM) of Windows, which EC2 can't import",
        "convert it to a basic disk",
    ),
    BootFindingKind.LUKS: BootAbout(
        BootSeverity.WARNING,
        "a file system is encrypted by LUKS: what is in it could not be checked",
        "have its key where the start finds it, or type it at the serial console of EC2",
        known=False,
    ),
    BootFindingKind.LVM_INCOMPLETE: BootAbout(
        BootSeverity.STOPS,
        "a logical volume or an array that the start needs has a part that is on none of these disks",
        "replicate all disks of the volume group, or of the array",
    ),
    BootFindingKind.LVM_DEVICES_FILE: BootAbout(
        BootSeverity.STOPS,
        "LVM's devices file, or its filter, names the VM's disks as their hypervisor does: in EC2 the volume group is "
        "not found",
        "in the VM: `use_devicesfile = 0` in the section `devices` of /etc/lvm/lvm.conf, and build the initramfs anew "
        '(`dracut -f`); where it is a filter, have it take all: `filter = [ "a|.*|" ]`',
    ),
    BootFindingKind.DEFAULT_UNKNOWN: BootAbout(
        BootSeverity.WARNING,
        "which entry the boot loader starts by default could not be told",
        _DRILL,
        known=False,
    ),
    BootFindingKind.KERNEL_MISSING: BootAbout(
        BootSeverity.STOPS,
        "the boot loader's default entry names a kernel that is not there, or is none",
        "in the VM: choose another default, or install the kernel",
    ),
    BootFindingKind.KERNEL_OPTION: BootAbout(
        BootSeverity.STOPS,
        "the kernel's command line has a word with which the start ends in a shell that nobody reaches",
        "in the VM: take the word out of the boot loader's configuration",
        remedies=(
            (Family.DEBIAN, "in the VM: take the word out of /etc/default/grub, and `update-grub`"),
            (
                Family.RED_HAT,
                "in the VM: `grubby --update-kernel=ALL --remove-args=WORD`, and take it out of /etc/default/grub",
            ),
            (
                Family.SUSE,
                "in the VM: take the word out of /etc/default/grub, and `grub2-mkconfig -o /boot/grub2/grub.cfg`",
            ),
        ),
    ),
    BootFindingKind.ROOT_UNSEEN: BootAbout(
        BootSeverity.WARNING,
        "no root file system was found: what the system needs could not be checked",
        _DRILL,
        known=False,
    ),
    BootFindingKind.ROOT_BY_NAME: BootAbout(
        BootSeverity.STOPS,
        "the kernel's root= is a device name, which is another on NVMe",
        "in the VM: name it by UUID in the boot loader's configuration",
    ),
    BootFindingKind.ROOT_UNKNOWN: BootAbout(
        BootSeverity.STOPS,
        "the kernel's root= names a file system that is on none of these disks",
        "in the VM: correct it in the boot loader's configuration, or replicate that disk",
    ),
    BootFindingKind.SYSTEM_UNREAD: BootAbout(
        BootSeverity.WARNING,
        "a file system that the start needs can't be read here: what is on it could not be judged",
        'check on a host that has the second reader\'s parts (docs/operations.md, "Readiness") or a newer system, or '
        "run a drill",
        known=False,
    ),
    BootFindingKind.FSTAB_BY_NAME: BootAbout(
        BootSeverity.STOPS,
        "/etc/fstab names a device that has another name on NVMe: the start ends in emergency mode",
        f"{_BY_UUID}; where it is no disk, add `nofail`",
    ),
    BootFindingKind.FSTAB_UNKNOWN: BootAbout(
        BootSeverity.STOPS,
        "/etc/fstab needs a file system that is on none of these disks: the start waits, then ends in emergency mode",
        "correct the line, or replicate that disk, or add `nofail`",
    ),
    BootFindingKind.FSTAB_OPTIONAL: BootAbout(
        BootSeverity.WARNING,
        "/etc/fstab names something that will not be there; the start goes on without it",
        _BY_UUID,
    ),
    BootFindingKind.VOLUME_UNREAD: BootAbout(
        BootSeverity.WARNING,
        "whether a device that the start needs is on these disks is not known",
        _DRILL,
        known=False,
    ),
    BootFindingKind.NVME_MISSING: BootAbout(
        BootSeverity.STOPS,
        "neither kernel nor initramfs has the driver of NVMe: the root file system is not found",
        "in the VM: build the initramfs anew with the driver nvme in it",
        remedies=(
            (Family.DEBIAN, "in the VM: add nvme to /etc/initramfs-tools/modules and run `update-initramfs -u`"),
            (Family.RED_HAT, "in the VM: `dracut -f --add-drivers nvme`"),
            (Family.SUSE, "in the VM: `dracut -f --add-drivers nvme`"),
        ),
    ),
    BootFindingKind.ENA_MISSING: BootAbout(
        BootSeverity.STOPS,
        "the kernel has no driver of EC2's network (ena): the instance can't be reached",
        "in the VM: install a kernel that has it",
    ),
    BootFindingKind.DRIVERS_UNREAD: BootAbout(
        BootSeverity.WARNING,
        "the lists of the kernel's drivers could not be read: whether it has those of EC2 is not known",
        _DRILL,
        known=False,
    ),
    BootFindingKind.INITRAMFS_MISSING: BootAbout(
        BootSeverity.STOPS,
        "the boot loader's default entry names an initramfs that is not there",
        "in the VM: build it anew, and the boot loader's configuration",
        remedies=(
            (Family.DEBIAN, "in the VM: `update-initramfs -c -k VERSION`, and `update-grub`"),
            (Family.RED_HAT, "in the VM: `dracut -f --kver VERSION`"),
            (Family.SUSE, "in the VM: `dracut -f --kver VERSION`, and `grub2-mkconfig -o /boot/grub2/grub.cfg`"),
        ),
    ),
    BootFindingKind.INITRAMFS_UNREAD: BootAbout(
        BootSeverity.WARNING,
        "the initramfs could not be read to its end: whether it has all that a start needs is not known",
        _DRILL,
        known=False,
    ),
    BootFindingKind.CONSOLE_MISSING: BootAbout(
        BootSeverity.NOTE,
        "the kernel does not use the serial port: EC2's console shows nothing of its start",
        f"in the VM: add {_CONSOLE} to the kernel's command line",
        remedies=(
            (Family.DEBIAN, f"in the VM: add {_CONSOLE} to GRUB_CMDLINE_LINUX in /etc/default/grub; `update-grub`"),
            (Family.RED_HAT, f'in the VM: `grubby --update-kernel=ALL --args="{_CONSOLE}"`'),
            (
                Family.SUSE,
                f"in the VM: add {_CONSOLE} to GRUB_CMDLINE_LINUX in /etc/default/grub; "
                "`grub2-mkconfig -o /boot/grub2/grub.cfg`",
            ),
        ),
    ),
    BootFindingKind.WINDOWS: BootAbout(
        BootSeverity.WARNING,
        "the disk holds Windows, which needs AWS's NVMe and ENA drivers; they were not looked for",
        "install them before the next sync, or use `warmspare failover --via import-image`",
        known=False,
    ),
    BootFindingKind.IMDS_V1: BootAbout(
        BootSeverity.WARNING,
        "it asks EC2's metadata service without tokens (IMDSv1), and an instance answers only who has one: user data, "
        "keys and a role's rights do not come to it, and the start may wait for them for minutes",
        'in the VM: update it before the next sync; or write `imds = "v1-and-v2"` for the VM in the recovery plan',
    ),
    BootFindingKind.IMDS_UNKNOWN: BootAbout(
        BootSeverity.NOTE,
        "whether it asks EC2's metadata service with tokens (IMDSv2) is not known; an instance answers only who does",
        'in the VM: see that it is current; if it can\'t be, write `imds = "v1-and-v2"` for the VM in the recovery '
        "plan",
    ),
    BootFindingKind.OTHER_SYSTEM: BootAbout(
        BootSeverity.NOTE,
        "another system is on these disks; it does not start by default and was left alone",
        "nothing, unless it is the one that is wanted",
    ),
    BootFindingKind.NOT_JUDGED: BootAbout(
        BootSeverity.WARNING,
        "this was not judged: what the VM's disks hold there hurts its reader, or costs more than a check may take",
        "find out in the VM what stands there and why, and run a drill",
        known=False,
    ),
}
