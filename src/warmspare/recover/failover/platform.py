"""Which system a VM runs, by the plan, by its disks and by vSphere, and what that one loses in an image that is only
registered; owns the words, and refuses to look into disks.

AWS documents: "RegisterImage" (it derives billing from the snapshots' metadata, and what EBS direct APIs wrote has
none), "Understand AMI billing information", "Licensing options" of VM Import, "Microsoft licensing on AWS", "Convert a
license type" of License Manager, "GetPasswordData", "Troubleshoot Windows activation", "Red Hat on AWS FAQ".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

WINDOWS: Final = "Windows"
LINUX: Final = "Linux"
BILLED: Final = (WINDOWS, "RHEL", "SUSE")
_BILLED_IDS = (("win", WINDOWS), ("rhel", "RHEL"), ("sles", "SUSE"), ("suse", "SUSE"))
_LINUX_IDS = (
    "linux",
    "debian",
    "ubuntu",
    "centos",
    "oracle",
    "rocky",
    "alma",
    "fedora",
    "amazon",
    "coreos",
    "asianux",
    "opensuse",
    "photon",
    "mandriva",
    "mandrake",
    "redhat",
    "nld",
    "oes",
    "sjds",
    "turbolinux",
    "genericlinux",
)
UNKNOWN: Final = (
    "whether the VM runs Windows or Linux is not known, neither from vSphere nor from its disks, and an import must "
    'say it; set platform = "windows" or "linux" in the recovery plan'
)
_BY_IMPORT = "`--via import-image` records it"
_SUBSCRIPTION = (
    "billing: AWS takes the image for any Linux and gives no subscription, so that updates come by your own, which has "
    f"to be one that may be used in AWS. {_BY_IMPORT}"
)

_LOSSES: Final[dict[str, tuple[str, ...]]] = {
    WINDOWS: (
        "billing: AWS takes the image for Linux, and neither bills Windows nor licenses it. The licence has to be your "
        "own and one that may be used in AWS: Windows Server only on Dedicated Hosts, and only if it was bought before "
        f"October 2019. {_BY_IMPORT}; License Manager converts only what was imported",
        "activation: AWS's key servers are for instances that AWS bills for Windows. Have it activated by your own "
        "(`slmgr /skms HOST`, `slmgr /ato`), or it runs out of its time",
        "passwords: `aws ec2 get-password-data` gives none, and key_pair is of no use. Know one of a local "
        "administrator; domain controllers may not be there",
        "drivers: AWS's NVMe and ENA drivers and EC2Launch are not put into it; without them it does not start, or is "
        "not reached. Install them before the next sync",
    ),
    "RHEL": (_SUBSCRIPTION,),
    "SUSE": (_SUBSCRIPTION,),
}


def of_vsphere(hardware: Mapping[str, Any]) -> str:
    """By vSphere's guest ID: one of BILLED, LINUX, or "" where that does not say."""
    guest = str(hardware.get("guest_id") or "").lower()
    for start, name in _BILLED_IDS:
        if guest.startswith(start):
            return name
    return LINUX if any(word in guest for word in _LINUX_IDS) else ""


def of_plan(platform: str | None) -> str:
    """As the recovery plan has it; "" where it does not say."""
    return {"windows": WINDOWS, "linux": LINUX}.get(platform or "", "")


def decided(stated: str, known: str, runs: Sequence[str]) -> tuple[str, str]:
    """The platform that counts, and what is to be said where the three disagree, "" where they do not. stated: the
    plan's. known: vSphere's. runs: what the disks have that starts; none if that was not seen, several if it is not
    sure."""
    seen = runs[0] if len(set(runs)) == 1 else ""
    if not stated:
        differ = bool(seen and known and seen != known)
        return seen or known, f"vSphere says {known}, and its disks hold {seen}: the disks count" if differ else ""
    others = [f"vSphere says {known}"] if known and not _alike(stated, known) else []
    others += [f"its disks hold {seen}"] if seen and not _alike(stated, seen) else []
    finer = next((name for name in (seen, known) if name and _alike(stated, name)), stated)
    return finer, f"the plan says {stated}, and {' and '.join(others)}: the plan counts" if others else ""


def licensed(platform: str, license: str | None) -> list[str]:
    """What is to be said of an import that asks AWS for the licence."""
    if license != "AWS" or platform in (WINDOWS, ""):
        return []
    return [
        f'license = "AWS" is for Windows Server; AWS takes {platform} with the licence that it has, and may refuse the '
        'import: take license out of the recovery plan, or write "BYOL"'
    ]


def losses(platform: str) -> list[str]:
    """What that system loses by a registered image, a sentence each."""
    return [f"{platform} from a registered image: {loss}" for loss in _LOSSES.get(platform, ())]


def _alike(stated: str, name: str) -> bool:
    """Whether it is one of what the plan calls Linux, or Windows as well."""
    return (stated == WINDOWS) == (name == WINDOWS)
