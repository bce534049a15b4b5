"""What a system's start needs of the disks: its root, fstab's lines, LVM's volumes; owns what it means that one is not
there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, Family
from warmspare.recover.readiness.devices import crypttab, lvmfile, mounts
from warmspare.recover.readiness.devices.blocks import Device
from warmspare.recover.readiness.devices.blocks import DeviceKind as Sort_of
from warmspare.recover.readiness.devices.mounts import Effect, FstabLine, Sort
from warmspare.recover.readiness.devices.names import Bond, NameMeaning
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.guest.system import FSTAB, System
from warmspare.recover.readiness.kernels import kernel_options as words
from warmspare.recover.readiness.readiness_report import ReadinessReport, short

# Nothing of a start asks for it, or it comes over the network: it need not be on the VM's disks.
_ELSEWHERE = {"_netdev", "x-systemd.automount", "comment=systemd.automount"}
_LATER = (Effect.WAITS, Effect.GOES_ON)


def root(meaning: NameMeaning, value: str, disk: str, source: str) -> BootFinding | None:
    """What is wrong with a kernel's root=. source: where it stands."""
    said = f"root={short(value)}"
    target = meaning.target
    if meaning.bond in (Bond.MACHINE, Bond.ORDER) and target is ABSENT:
        return BootFinding(BootFindingKind.ROOT_BY_NAME, disk, source, said)
    if meaning.bond in (Bond.NETWORK, Bond.NOTHING):
        return BootFinding(BootFindingKind.ROOT_UNSEEN, disk, source, f"{said} is on no disk of the VM")
    if isinstance(target, Absent):
        return BootFinding(BootFindingKind.ROOT_UNKNOWN, disk, source, said)
    if isinstance(target, Unknown):
        return BootFinding(BootFindingKind.VOLUME_UNREAD, disk, source, f"{said}: {target.why}")
    if meaning.others:
        places = ", ".join(one.place for one in (target, *meaning.others)[:4])
        return BootFinding(BootFindingKind.VOLUME_UNREAD, disk, source, f"{said}: several have that name: {places}")
    if meaning.spelled:
        why = f"it is written {meaning.spelled}, and not every initramfs finds it in other letters"
        return BootFinding(BootFindingKind.VOLUME_UNREAD, disk, source, f"{said}: {why}")
    return lacking(target, disk, source, said)


def root_alone(meaning: NameMeaning, value: str, disk: str, source: str) -> BootFinding | None:
    """What is not known of a root that is there, where the loader gives the kernel no initramfs: by itself a kernel
    finds partitions, and an array that it starts by itself, and nothing by what stands in them (`init/do_mounts.c`)."""
    found = meaning.target
    if not isinstance(found, Device) or value.startswith(("PARTUUID=", "PARTLABEL=", "/dev/nvme")):
        return None
    if found.kind is Sort_of.ARRAY and re.fullmatch(r"/dev/md\d+", value):
        return None
    why = "the loader names no initramfs, and without one, perhaps built into it, the kernel finds no root by this name"
    return BootFinding(BootFindingKind.VOLUME_UNREAD, disk, source, f"root={short(value)}: {why}")


def _spelled(meaning: NameMeaning) -> str:
    return f"it is written {meaning.spelled}, and other letters name nothing" if meaning.spelled else ""


def lacking(target: Device, disk: str, source: str, said: str) -> BootFinding | None:
    """What keeps a needed device from coming up."""
    if isinstance(target.lacks, Unknown):
        return BootFinding(BootFindingKind.VOLUME_UNREAD, disk, source, f"{said}: {target.lacks.why}")
    if target.lacks:
        return BootFinding(BootFindingKind.LVM_INCOMPLETE, disk, source, f"{said}: {target.place}: {target.lacks}")
    return None


def options(
    machine: GuestDisks,
    arguments: Sequence[str],
    root: str,
    where: tuple[str, str],
    family: Family,
    report: ReadinessReport,
) -> None:
    """Judge the words of a kernel's command line. root: what root= names. where: (disk's ID, source) of the words."""
    for word in words.shells(arguments):
        report.add(
            BootFinding(
                BootFindingKind.KERNEL_OPTION, *where, f"{short(word)}: it asks for a shell at the console", family
            )
        )
    names = machine.inventory.names.having(crypttab.mapped([], arguments), {})
    for word, why in words.awaited(machine, names, arguments, root):
        # Whose initramfs is dracut's; another's does not know the word.
        if isinstance(why, Unknown):
            report.add(BootFinding(BootFindingKind.VOLUME_UNREAD, *where, f"{short(word)}: {why.why}", family))
        elif family in (Family.RED_HAT, Family.SUSE):
            said = f"{short(word)}: {why}, and dracut waits for it in vain: the start ends there"
            report.add(BootFinding(BootFindingKind.KERNEL_OPTION, *where, said, family))
        else:
            said = f"{short(word)}: {why}; whether the initramfs is dracut's, which waits for it, is not known"
            report.add(BootFinding(BootFindingKind.VOLUME_UNREAD, *where, said, family))


def fstab(system: System, report: ReadinessReport) -> list[Device]:
    """Judge fstab's lines; the devices that they mean."""
    disk, place = system.place
    where = f"{place}, {system.prefix}{FSTAB}" if system.prefix else f"{place}, {FSTAB}"
    used: list[Device] = []
    data = system.fstab
    if isinstance(data, Unknown):
        report.add(BootFinding(BootFindingKind.NOT_JUDGED, disk, where, data.why))
    if not isinstance(data, bytes):
        return used
    with report.part(disk, where):
        for mount in mounts.mounts(data.decode(errors="replace")):
            found, device = _line(system, mount)
            if device:
                used.append(device)
            if found:
                kind, words = found
                line = f"{where} line {mount.line}"
                said = f"{short(mount.device)} on {mount.point}" + (f": {words}" if words else "")
                report.add(BootFinding(kind, disk, line, said, system.family))
    return used


def _line(system: System, mount: FstabLine) -> tuple[tuple[BootFindingKind, str] | None, Device | None]:
    """What is wrong with a line, and the device that it means."""
    if mount.effect is Effect.UNUSED or _ELSEWHERE & {*mount.options}:
        return None, None
    if mount.sort is Sort.SHARED:
        later = mount.effect in _LATER
        return (
            BootFindingKind.FSTAB_OPTIONAL if later else BootFindingKind.FSTAB_UNKNOWN,
            "the hypervisor lends it",
        ), None
    if mount.sort not in (Sort.DEVICE, Sort.DATASET):
        return None, None
    meaning = system.names.pool(mount.device) if mount.sort is Sort.DATASET else system.names.lookup(mount.device)
    device = meaning.target if isinstance(meaning.target, Device) else None
    found = _judged(mount, meaning)
    root = mount.effect is Effect.ROOT
    if device and not found and not root and lacks_subvolume(system.machine, device, mount.subvolume):
        found = _missing(mount), f"{device.place} has no subvolume {short(mount.subvolume)}"
    return found, device


def _judged(mount: FstabLine, meaning: NameMeaning) -> tuple[BootFindingKind, str] | None:
    if meaning.bond in (Bond.NETWORK, Bond.NOTHING):
        return None
    later = _later(mount)
    target = meaning.target
    if meaning.bond in (Bond.MACHINE, Bond.ORDER) and target is ABSENT:
        return BootFindingKind.FSTAB_OPTIONAL if later else BootFindingKind.FSTAB_BY_NAME, ""
    if isinstance(target, Device):
        return _there(target, meaning, mount, later=later)
    if isinstance(target, Unknown):
        return None if later else (BootFindingKind.VOLUME_UNREAD, target.why)
    if mount.effect is Effect.UNKNOWN:
        return BootFindingKind.FSTAB_OPTIONAL, "whether the start waits for it hangs on other units"
    if meaning.spelled and mount.effect is Effect.ROOT:  # what is mounted stays so, perhaps read-only
        return BootFindingKind.FSTAB_OPTIONAL, _spelled(meaning)
    return _missing(mount), _spelled(meaning)


def lacks_subvolume(machine: GuestDisks, device: Device, name: str) -> bool:
    """Whether a Btrfs that is read has no such subvolume, or folder."""
    if not name or not machine.is_btrfs(device):
        return False
    above, _, last = ("/" + name.strip('"/')).rpartition("/")
    files = machine.files(device)
    if isinstance(files, Absent | Unknown):
        return False
    names = files.names(above or "/")
    return names is ABSENT or (isinstance(names, list) and not {last, f"{last}/"} & {*names})


def _missing(mount: FstabLine) -> BootFindingKind:
    """What it is that a line's file system is not there."""
    return BootFindingKind.FSTAB_OPTIONAL if _later(mount) else BootFindingKind.FSTAB_UNKNOWN


def _later(mount: FstabLine) -> bool:
    """Whether the start goes on without its device. Swap is waited for in any start, and by its line's own word for
    ever; what comes over the network is waited for when the machine is up."""
    return mount.effect in _LATER and not (mount.effect is Effect.WAITS and mount.kind == "swap" and mount.forever)


def _there(
    target: Device, meaning: NameMeaning, mount: FstabLine, *, later: bool
) -> tuple[BootFindingKind, str] | None:
    if isinstance(target.lacks, Unknown):
        return None if later else (BootFindingKind.VOLUME_UNREAD, target.lacks.why)
    if target.lacks:
        return (
            BootFindingKind.FSTAB_OPTIONAL if later else BootFindingKind.LVM_INCOMPLETE,
            f"{target.place}: {target.lacks}",
        )
    held = target.contents
    if held and held.kind and mount.effect is not Effect.ROOT and not mount.takes(held.kind):
        said = f"{target.place} holds {held.kind}, which is not mounted as {short(mount.kind)}"
        return _missing(mount), said
    if meaning.others and not later:
        places = ", ".join(one.place for one in (target, *meaning.others)[:4])
        return BootFindingKind.VOLUME_UNREAD, f"several have that name: {places}"
    return None


def lvm(system: System, needed: list[Device], report: ReadinessReport) -> None:
    """Whether LVM finds in EC2 what the needed volumes stand in. needed: what the start does not go on without."""
    logical = {one.mapped for one in needed if one.kind is Sort_of.LOGICAL and not one.lacks}
    if not logical:
        return
    disk, place = system.place
    with report.part(disk, f"{place}, /etc/lvm"):
        inventory = system.machine.inventory
        chosen = _settings(system)
        file: Answer[lvmfile.DevicesFile] = ABSENT
        name = chosen.file if isinstance(chosen.file, str) else lvmfile.DEVICES_FILE
        where = f"{lvmfile.FOLDER}{name}"
        if chosen.file is not ABSENT:
            data = system.tree.read(where)
            file = lvmfile.parsed(data.decode(errors="replace")) if isinstance(data, bytes) else data
        if file is ABSENT:
            where = lvmfile.CONFIGURATIONS[0]
        hidden = lvmfile.hidden(inventory.physical, chosen, file, inventory.disks)
        whys: dict[str, str | Unknown] = {}
        for one in inventory.without(hidden).devices:
            if one.mapped in logical and one.kind is Sort_of.LOGICAL and one.lacks:
                why = one.lacks if isinstance(one.lacks, str) else one.lacks.why
                whys.setdefault(why, one.lacks)
        for why, lacks in whys.items():
            kind = BootFindingKind.LVM_DEVICES_FILE if isinstance(lacks, str) else BootFindingKind.VOLUME_UNREAD
            report.add(BootFinding(kind, disk, f"{place}, {where}", why, system.family))


def _settings(system: System) -> lvmfile.LvmSettings:
    texts = []
    for path in lvmfile.CONFIGURATIONS:
        data = system.tree.read(path)
        if isinstance(data, bytes):
            texts.append(data.decode(errors="replace"))
        elif isinstance(data, Unknown):
            return lvmfile.LvmSettings(Unknown(f"{path} can't be read: {data.why}"))
    return lvmfile.settings(texts, system.release.get("ID", ""), system.release.get("VERSION_ID", ""))


def stops(system: System) -> list[Device]:
    """The devices of the lines without which the start ends."""
    found = []
    for mount in system.lines:
        if mount.sort is Sort.DEVICE and mount.effect in (Effect.STOPS, Effect.ROOT):
            target = system.names.lookup(mount.device).target
            if isinstance(target, Device):
                found.append(target)
    return found
