"""The chain of evidence: from the disk that boots to the drivers of the kernel that starts; owns its links' order.

Each link is derived from the one before. A break is said at its link; what is not known is said too, and then only what
is certain all the same is judged on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from warmspare.recover.readiness import firmware, guesses, metadata
from warmspare.recover.readiness.answers import ABSENT, Absent, Unknown
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, Family
from warmspare.recover.readiness.boot_meanings import ABOUT
from warmspare.recover.readiness.devices.blocks import Device
from warmspare.recover.readiness.devices.blocks import DeviceKind as Sort_of
from warmspare.recover.readiness.devices.mounts import subvolume
from warmspare.recover.readiness.firmware import FirmwareWay
from warmspare.recover.readiness.guest import disk_layout, needs, system
from warmspare.recover.readiness.guest.entries import Entry, FilePlace, root_flags
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.guest.system import System
from warmspare.recover.readiness.kernels.kernel import Starting
from warmspare.recover.readiness.loaders import devices as looks
from warmspare.recover.readiness.loaders.started import Started
from warmspare.recover.readiness.reach import Reach
from warmspare.recover.readiness.readiness_report import ReadinessReport, Runs, short

_WINDOWS = {"ntfs", "BitLocker"}
_BILLED: dict[str, Runs] = {"rhel": "RHEL", "sles": "SUSE", "sles_sap": "SUSE"}  # by the ID of os-release
_LINUX = {
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "f2fs",
    "jfs",
    "reiserfs",
    "swap",
    "LVM2_member",
    "crypto_LUKS",
    "linux_raid_member",
}


class BootChain:
    def __init__(self, machine: GuestDisks, report: ReadinessReport) -> None:
        self._machine, self._report = machine, report
        self._used: list[Device] = []  # what the chain stands on
        self._unreadable = set[str]()  # of which that is said
        self._done = set[tuple[str, str]]()  # the systems that are judged

    def judge(self) -> None:
        machine, report = self._machine, self._report
        disk = machine.disks[machine.boots].id
        way = FirmwareWay()
        with report.part(disk, "its boot loader"):
            way = firmware.way_in(machine)
            self._say(way.findings)
        if way.unread:
            report.add(
                BootFinding(
                    BootFindingKind.ROOT_UNSEEN, disk, "all volumes", "the disk that boots can't be read as one"
                )
            )
            return
        disk = machine.disks[machine.boots].id
        reach, started = way.reach, None
        if way.start is not None:
            with report.part(disk, "the boot loader's configuration"):
                started = way.start()
        elif not way.windows:
            with report.part(disk, "the boot loaders' configurations"):
                reach, started = self._guessed()
        if way.windows or (started is None and way.start is None and self._windows()):
            report.runs("Windows")
            report.add(
                BootFinding(BootFindingKind.WINDOWS, disk, "its partitions"),
                *disk_layout.of_windows(machine, starts=True),
            )
            with report.part(disk, "who asks EC2's metadata service"):
                self._clients_of_windows()
        else:
            if way.start is not None:
                report.add(*disk_layout.of_windows(machine, starts=False))
            if way.doubt:
                report.add(way.doubt)
            with report.part(disk, "what starts"):
                self._follow(started, reach, certain=way.start is not None)
        with report.part(disk, "other systems"):
            self._others()

    def _guessed(self) -> tuple[Reach | None, Started | None]:
        """What the one configuration says that there is."""
        found = guesses.on(self._machine, self._machine.boots)
        return (found[0].reach, found[0].start()) if len(found) == 1 else (None, None)

    def _windows(self) -> bool:
        """Whether the disk that boots holds Windows, as far as its file systems tell."""
        on_disk = [one.contents for one in self._machine.devices if one.disk == self._machine.boots]
        kinds = {held.kind for held in on_disk if held is not None}
        windows = bool(kinds & _WINDOWS) or disk_layout.is_dynamic(self._machine.tables[self._machine.boots])
        return windows and not kinds & _LINUX

    def _clients_of_windows(self) -> None:
        for one in self._machine.readable():
            files = self._machine.files(one)
            ntfs = one.contents is not None and one.contents.kind == "ntfs" and self._here(one)
            if ntfs and not isinstance(files, Absent | Unknown):
                self._report.add(*metadata.of_windows(files, self._machine.where(one)))

    def _follow(self, started: Started | None, reach: Reach | None, *, certain: bool) -> None:
        """From what the loader starts on. certain: that it is this loader that starts."""
        report = self._report
        if started is None or reach is None:
            self._only()
            return
        where, source = self._place(started, reach)
        if started.waits and certain:
            self._say([BootFinding(BootFindingKind.LOADER_WAITS, *source, started.waits)])
        entry = started.entry
        if not isinstance(entry, Entry):
            self._no_entry(started, reach, source)
            self._only()
            return
        if fallback := self._fallback(started, entry, reach):
            gone = short(_missing(entry, reach))
            said = f"{gone} is not there, so that {short(fallback.title)!r} starts in its place"
            report.add(BootFinding(BootFindingKind.DEFAULT_UNKNOWN, *source, said))
            entry = fallback
        self._entry(entry, reach, where, certain=certain)
        if isinstance(started.later, Entry) and started.later != entry:  # this one starts once, and then the other
            self._entry(started.later, reach, where, certain=certain)

    def _entry(self, entry: Entry, reach: Reach, where: tuple[str, str], *, certain: bool) -> None:
        """From an entry on: its root, and what its kernel has."""
        report, (disk, place) = self._report, where
        line = f"{place}, {entry.source}"
        found = None
        with report.part(disk, f"{line}: root="):
            found = self._root(entry, disk, line)
        family = found.family if found else Family.OTHER
        with report.part(disk, f"{line}: the kernel's command line"):
            needs.options(self._machine, entry.arguments, entry.root or "", (disk, line), family, report)
        if not entry.serial:
            report.add(BootFinding(BootFindingKind.CONSOLE_MISSING, disk, line, " ".join(entry.arguments), family))
        with report.part(disk, f"{place}, the drivers of the kernel and its initramfs"):
            for each in entry.files:
                if isinstance(device := reach.device(each.device), Device):
                    self._used.append(device)
            starting = Starting(entry, reach, where, family, report, certain=certain)
            starting.judge(found.tree if found else None)

    @staticmethod
    def _fallback(started: Started, entry: Entry, reach: Reach) -> Entry | None:
        """What the loader starts where the default entry's kernel, or an initramfs of it, is not there."""
        if not started.fallbacks or not _missing(entry, reach):
            return None
        for one in started.fallbacks:
            if isinstance(one, Entry) and all(isinstance(looks.first(reach, file), bytes) for file in one.files):
                return one
        return None

    def _place(self, started: Started, reach: Reach) -> tuple[tuple[str, str], tuple[str, str]]:
        """(disk's ID, place) of what the menu's file is on, and of that file."""
        unread = [place for place, why in started.looked if why]
        config = started.config or (unread[-1] if unread else FilePlace("", ""))
        device = reach.device(config.device)
        if isinstance(device, Device):
            self._used.append(device)
            disk, place = self._machine.where(device)
        else:
            disk, place = self._machine.disks[self._machine.boots].id, "its boot loader"
        return (disk, place), (disk, f"{place}, {config.path}" if config.path else place)

    def _no_entry(self, started: Started, reach: Reach, source: tuple[str, str]) -> None:
        """That the loader starts no kernel, or that it is not known which."""
        if started.entry is ABSENT:
            nowhere = f" ({', '.join(started.unfound)} is on none of these disks)" if started.unfound else ""
            self._say([BootFinding(BootFindingKind.LOADER_INCOMPLETE, *source, f"{started.how}{nowhere}")])
            return
        assert isinstance(started.entry, Unknown)
        for place, why in started.looked:
            device = reach.device(place.device)
            if why in ("", "not there") or not isinstance(device, Device):
                continue
            files = self._machine.files(device)
            names = files if isinstance(files, Absent | Unknown) else files.names("/")
            if isinstance(names, Unknown):
                self._unread(device, names.why)
                return
        said = f"{started.how}: {started.entry.why}" if started.how else started.entry.why
        self._report.add(BootFinding(BootFindingKind.DEFAULT_UNKNOWN, *source, said))

    def _root(self, entry: Entry, disk: str, line: str) -> System | None:
        """The system that the entry's root= means; judged."""
        value = entry.root
        if value is None:
            self._report.add(
                BootFinding(BootFindingKind.ROOT_UNSEEN, disk, line, "the kernel's command line names no root")
            )
            return self._only()
        alone = not entry.initrds
        meaning = system.named_root(self._machine, value, entry.arguments, alone=alone)
        finding = needs.root(meaning, value, disk, line)
        if alone and not finding:
            finding = needs.root_alone(meaning, value, disk, line)
        if finding:
            self._report.add(finding)
        target = meaning.target
        if not isinstance(target, Device):
            return self._only()
        if target.lacks:
            report = self._report
            report.add(
                BootFinding(
                    BootFindingKind.ROOT_UNSEEN, *self._machine.where(target), "what root= names does not come up"
                )
            )
            return None
        self._used.append(target)
        named = subvolume(root_flags(entry.arguments))
        if needs.lacks_subvolume(self._machine, target, named):
            said = f"{target.place} has no subvolume {short(named)}, which rootflags= names"
            self._report.add(BootFinding(BootFindingKind.ROOT_UNKNOWN, disk, line, said))
            return None
        return self._system(target, entry.arguments)

    def _system(self, device: Device, arguments: tuple[str, ...]) -> System | None:
        """The system on a volume; judged. Of an encrypted one it is said that it is."""
        if device.kind is Sort_of.OPENED or self._encrypted(device):
            return None
        found = system.at(self._machine, device, arguments)
        disk, place = self._machine.where(device)
        if isinstance(found, Unknown):
            self._unread(device, found.why)
            return None
        if isinstance(found, Absent):
            self._report.add(BootFinding(BootFindingKind.ROOT_UNSEEN, disk, place, "no system is on what root= names"))
            return None
        self._judged(found)
        return found

    @staticmethod
    def _encrypted(device: Device) -> bool:
        return device.contents is not None and device.contents.kind == "crypto_LUKS"

    def _here(self, device: Device) -> bool:
        """Whether a volume is on the disk that boots, or made of several."""
        return device.disk == self._machine.boots or device.kind not in (Sort_of.PARTITION, Sort_of.DISK)

    def _only(self) -> System | None:
        """Where the chain does not lead to a root: the system that is there, if no other can be it. What is on other
        disks is another's."""
        found = system.every(self._machine)
        here = [each for each in found.systems if self._here(each.device)]
        hidden = [one for one in self._machine.devices if self._here(one) and self._encrypted(one)]
        if len(here) == 1 and not hidden and not any(self._here(device) for device, _ in found.unread):
            self._used.append(here[0].device)
            self._judged(here[0])
            return here[0]
        for device, why in found.unread:
            self._unread(device, why)
        if found.systems or not found.unread:
            places = ", ".join(each.device.place for each in found.systems[:8])
            why = f"which system starts is not known: {places}" if places else "no file system has an /etc/fstab"
            disk = self._machine.disks[self._machine.boots].id
            self._report.add(BootFinding(BootFindingKind.ROOT_UNSEEN, disk, "all volumes", why))
        return None

    def _unread(self, device: Device, why: str) -> None:
        """That a volume can't be read, once."""
        if device.grub not in self._unreadable:
            self._unreadable.add(device.grub)
            self._report.add(BootFinding(BootFindingKind.SYSTEM_UNREAD, *self._machine.where(device), why))

    def _judged(self, found: System) -> None:
        if (found.device.grub, found.prefix) in self._done:
            return
        self._done.add((found.device.grub, found.prefix))
        needed = [found.device, *needs.stops(found)]
        self._used += needs.fstab(found, self._report)
        needs.lvm(found, needed, self._report)
        self._report.runs(_BILLED.get(found.release.get("ID", ""), "Linux"))
        self._report.add(*metadata.of_linux(found.tree, found.place, found.family))

    def _say(self, findings: Sequence[BootFinding]) -> None:
        """Of a loader that is broken, with the commands of whose it is; these findings stand whatever comes of asking
        that."""
        family = Family.OTHER
        try:
            if any(not each.family and ABOUT[each.kind].remedies for each in findings):
                family = self._whose()
        finally:
            self._report.add(*(replace(each, family=each.family or family) for each in findings))

    def _whose(self) -> Family:
        """Of what family the systems of the disk that boots are, where they are of one."""
        here = [each for each in system.others(self._machine, ()) if self._here(each.device)]
        families = {each.family for each in here}
        return families.pop() if len(families) == 1 else Family.OTHER

    def _others(self) -> None:
        """Other systems, which are left alone."""
        for each in system.others(self._machine, self._used):
            title = each.release.get("PRETTY_NAME") or each.release.get("NAME", "a system of Linux's")
            self._report.add(BootFinding(BootFindingKind.OTHER_SYSTEM, *each.place, short(title)))


def _missing(entry: Entry, reach: Reach) -> str:
    """The first of an entry's files that is not there, "" if none is missing."""
    return next((file.path for file in entry.files if looks.first(reach, file) is ABSENT), "")
