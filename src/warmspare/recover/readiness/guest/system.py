"""A system on a VM's disks: its root, its tree with what fstab mounts into it, what its own files call devices.

Judges nothing: `needs.py` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.boot_kinds import Family
from warmspare.recover.readiness.devices import crypttab, mdraid, mounts
from warmspare.recover.readiness.devices.blocks import Device, mapped
from warmspare.recover.readiness.devices.mounts import FstabLine
from warmspare.recover.readiness.devices.names import NameMeaning, Names
from warmspare.recover.readiness.guest.entries import root_flags
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.guest.tree import MountTree, of_system
from warmspare.recover.readiness.loaders.uki import release

FSTAB, CRYPTTAB = "/etc/fstab", "/etc/crypttab"
_ARRAYS = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")
_RELEASES = ("/etc/os-release", "/usr/lib/os-release")
_OTHERS = ("vfat", "exfat", "ntfs", "iso9660")  # on which Linux has no root
_FAMILIES = {
    "debian": Family.DEBIAN,
    "ubuntu": Family.DEBIAN,
    "rhel": Family.RED_HAT,
    "fedora": Family.RED_HAT,
    "centos": Family.RED_HAT,
    "almalinux": Family.RED_HAT,
    "rocky": Family.RED_HAT,
    "ol": Family.RED_HAT,
    "amzn": Family.RED_HAT,
    "sles": Family.SUSE,
    "suse": Family.SUSE,
    "opensuse": Family.SUSE,
}


@dataclass(frozen=True)
class System:
    """device: the root's. files: from the root's folder on. prefix: that folder, "" for the volume's own top.
    arguments: of its kernel."""

    machine: GuestDisks
    device: Device
    files: GuestFiles
    prefix: str
    arguments: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str]:
        """(disk's ID, place) of its root."""
        return self.machine.where(self.device)

    @cached_property
    def fstab(self) -> Answer[bytes]:
        return self.files.read(FSTAB)

    @cached_property
    def lines(self) -> list[FstabLine]:
        """Of fstab, as far as they are read; what ends that early is said where they are judged."""
        found: list[FstabLine] = []
        try:
            for mount in mounts.mounts(self.fstab.decode(errors="replace") if isinstance(self.fstab, bytes) else ""):
                found.append(mount)
        except Exceeded:
            pass
        return found

    @cached_property
    def names(self) -> Names:
        """What its own files call devices."""
        table = self.files.read(CRYPTTAB) if self._has_mapped else ABSENT
        openings = list(crypttab.openings(table.decode(errors="replace"))) if isinstance(table, bytes) else []
        arrays: dict[str, str] = {}
        if self.machine.inventory.arrays:
            texts = (self.files.read(path) for path in _ARRAYS)
            for text in texts:
                if isinstance(text, bytes):
                    arrays = mdraid.configured(text.decode(errors="replace")) | arrays
        return self.machine.inventory.names.having(crypttab.mapped(openings, self.arguments), arrays)

    @property
    def _has_mapped(self) -> bool:
        """Whether something is named, or encrypted, so that crypttab tells what it is."""
        held = (one.contents for one in self.machine.devices)
        return any(each is not None and each.kind == "crypto_LUKS" for each in held) or any(
            "/mapper/" in mount.device or "dm-" in mount.device for mount in self.lines
        )

    @cached_property
    def tree(self) -> MountTree:
        """Its files with what is mounted into them."""
        return of_system(self.files, self.lines, self._mounted)

    @cached_property
    def release(self) -> dict[str, str]:
        """What its os-release says."""
        for path in _RELEASES:
            data = self.tree.read(path)
            if isinstance(data, bytes):
                return release(data.decode(errors="replace"))
        return {}

    @property
    def family(self) -> Family:
        """Whose commands mend it."""
        words = [self.release.get("ID", ""), *self.release.get("ID_LIKE", "").split()]
        found = (_FAMILIES.get(word.partition("-")[0]) for word in words)
        return next((each for each in found if each), Family.OTHER)

    def _mounted(self, name: str, options: tuple[str, ...]) -> Answer[GuestFiles]:
        target = self.names.lookup(name).target
        return target if isinstance(target, Absent | Unknown) else self.machine.mounted(target, options)


def named_root(machine: GuestDisks, value: str, arguments: Sequence[str], *, alone: bool = False) -> NameMeaning:
    """What a kernel's root= means, by what else its command line calls devices. alone: without an initramfs."""
    names = machine.inventory.names.having(crypttab.mapped([], arguments), {})
    meaning = names.root(value, alone=alone)
    if meaning.spelled:
        meaning = replace(names.any_case(value), spelled=meaning.spelled)
    if isinstance(meaning.target, Unknown) and value.startswith("/dev/mapper/"):
        for word in arguments:  # of LVM, where dracut is told to look for it there
            group, _, name = word.removeprefix("rd.lvm.lv=").partition("/")
            if word.startswith("rd.lvm.lv=") and value == f"/dev/mapper/{mapped(group, name)}":
                return names.lookup(f"/dev/{group}/{name}")
    return meaning


def at(machine: GuestDisks, device: Device, arguments: Sequence[str]) -> Answer[System]:
    """The system on a volume. ABSENT where that holds none. arguments: of the kernel whose root it is."""
    opened = machine.root(device, root_flags(arguments))
    if isinstance(opened, Absent | Unknown):
        return opened
    files, folder = opened
    prefix = folder.prefix
    deployed = [word.removeprefix("ostree=") for word in arguments if word.startswith("ostree=")]
    if deployed:  # OSTree's root is a folder of the volume, by a link
        prefix += "/" + deployed[-1].strip("/")
        files = machine.within(device, prefix)
    system = System(machine, device, files, prefix, tuple(arguments))
    if isinstance(system.fstab, bytes):
        return system
    names = files.names("/")
    if isinstance(names, Unknown):
        return names
    return system if isinstance(names, list) and {"etc/", "etc"} & {*names} else ABSENT


@dataclass(frozen=True, slots=True)
class FoundSystem:
    """unread: volumes that may hold one and can't be read, and why."""

    systems: list[System]
    unread: list[tuple[Device, str]]


def every(machine: GuestDisks) -> FoundSystem:
    """All that are there: volumes with an /etc/fstab."""
    return _among(machine, machine.readable())


def others(machine: GuestDisks, used: Sequence[Device]) -> list[System]:
    """Those that the devices used are no part of, as far as to look for them costs little."""
    left = [one for one in machine.readable() if all(one.grub != each.grub for each in used)]
    return _among(machine, [one for one in left if _may_be_root(one) and machine.at_once(one)]).systems


def _among(machine: GuestDisks, devices: Sequence[Device]) -> FoundSystem:
    found = FoundSystem([], [])
    for device in devices:
        system = at(machine, device, ()) if _may_be_root(device) else ABSENT
        if isinstance(system, Unknown):
            found.unread.append((device, system.why))
        elif isinstance(system, System) and isinstance(system.fstab, bytes):
            found.systems.append(system)
    return found


def _may_be_root(device: Device) -> bool:
    return device.contents is not None and device.contents.kind not in _OTHERS
