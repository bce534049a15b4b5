"""What VM Import says when it fails, in words and with what to do; owns the words.

AWS documents: "Troubleshooting VM Import/Export". A task's status message is matched by the part that does not change.
"""

from __future__ import annotations

from typing import Final

from warmspare.errors import RecoverError, by_hand
from warmspare.recover.aws.words import plain, quoted, sentence

_REGISTER = "or run this again with `--via register-image`, which does not look into the disk"
_SUPPORTED = "compare it with AWS's list of supported systems, " + _REGISTER
_RAW = "name a raw disk by import_from in the recovery plan, or take it out: what is staged is imported then"
_HERE = "copy the object to a bucket of this region, and correct import_from in the recovery plan"
_ONE_ROOT = "it takes no dual boot and no second /etc: mend the guest, sync and stage, "

MESSAGES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "disk-image-size=0 has an invalid format",
        "VM Import does not know the format of the disk",
        _RAW,
    ),
    (
        "ova with chunked disk files",
        "VM Import does not take a disk in several files",
        _RAW,
    ),
    (
        "unsupported vmdk file format",
        "VM Import takes VMDKs only if they are stream-optimised",
        _RAW,
    ),
    (
        "multiple different grub/menu.lst",
        "VM Import found several boot loader configurations (grub.cfg, grub.conf, menu.lst)",
        "leave one of them in the guest, sync and stage, " + _REGISTER,
    ),
    (
        "service role",
        "VM Import's role does not exist or has too few rights",
        "make the role of docs/rights.md, or name it by import_role in the recovery plan",
    ),
    (
        "no bootable partition found",
        "VM Import found no partition to boot from",
        "name the boot disk by root_disk in the recovery plan; `warmspare recover check` shows the partitions",
    ),
    (
        "footers not identical",
        "the VHD is a differencing disk or damaged",
        _RAW,
    ),
    (
        "uncompressed data has an invalid length",
        "the VMDK is damaged",
        _RAW,
    ),
    (
        "unsupported compression algorithm",
        "the VMDK was made for an OVA",
        _RAW,
    ),
    (
        "invalid s3 source location",
        "there is no such object for VM Import to read",
        "correct import_from in the recovery plan, and run this again",
    ),
    (
        "not local to the region",
        "the bucket of the raw disk lies in another region",
        _HERE,
    ),
    (
        "is not in the",
        "the bucket of the raw disk lies in another region",
        _HERE,
    ),
    (
        "unknown os",
        "VM Import does not recognise the guest's system",
        _SUPPORTED,
    ),
    (
        "booter networking",
        "Windows did not get to the network on its first start in AWS",
        by_hand(
            "install .NET Framework 3.5 SP1 or later in the guest and let it use DHCP; then sync, stage and run "
            "this again"
        ),
    ),
    (
        "firstbootfailure",
        "the guest did not start in AWS and get to the network",
        by_hand(
            "let it use DHCP, take away firewalls, hardening, the Hyper-V role and further boot partitions, and "
            "free some space on its system volume; then sync, stage and run this again"
        ),
    ),
    (
        "could not read fstab",
        "VM Import could not read the guest's /etc/fstab",
        _ONE_ROOT + _REGISTER,
    ),
    (
        "unable to detect default kernel",
        "VM Import can't tell which kernel the guest starts",
        "set GRUB_DEFAULT=saved and the entry in grubenv, sync and stage, " + _REGISTER,
    ),
    (
        "unable to determine kernel version",
        "VM Import can't tell the version of the guest's kernel",
        _SUPPORTED,
    ),
    (
        "initramfs/initrd",
        "VM Import could not read the guest's initramfs",
        "check it with lsinitramfs or lsinitrd, build it anew, sync and stage, " + _REGISTER,
    ),
    (
        "logical volume group activation",
        "a volume group of the guest did not activate",
        "protect all of its disks, and check its file systems, " + _REGISTER,
    ),
    (
        "multiple directories found",
        "VM Import found several root directories in the guest",
        _ONE_ROOT + _REGISTER,
    ),
    (
        "unsupported kernel version",
        "VM Import does not support the guest's kernel",
        _SUPPORTED,
    ),
    (
        "not supported on the requested instance",
        "VM Import does not take this system for this type of instance",
        _SUPPORTED,
    ),
    (
        "disk validation failed",
        "VM Import does not take the disk as it is",
        _RAW,
    ),
)
"""(part of the message in lower case, what it means, what to do). The first that fits counts."""


def explain_import(task: str, status: str, message: str) -> RecoverError:
    """The error for an import that did not complete. message: the task's StatusMessage."""
    said = quoted("", sentence(message))
    lower = " ".join(message.lower().split())
    for part, what, hint in MESSAGES:
        if part in lower:
            return RecoverError(f"{what}{said}", where=task, hint=hint)
    return RecoverError(
        f"VM Import ended as {plain(status)}" + (said or " and does not say why"),
        where=task,
        hint='look it up in AWS\'s "Troubleshooting VM Import/Export", ' + _REGISTER,
    )
