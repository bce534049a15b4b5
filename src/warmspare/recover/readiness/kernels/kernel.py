"""Whether a boot loader's entry can start its kernel, and whether that has what EC2's machines need: its files, its
drivers; owns no driver's name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO

from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.boot_findings import BootFinding
from warmspare.recover.readiness.boot_kinds import BootFindingKind, Family
from warmspare.recover.readiness.guest.entries import Entry, FilePlace
from warmspare.recover.readiness.guest.guest_files import GuestFiles, UnreadFiles
from warmspare.recover.readiness.kernels import drivers
from warmspare.recover.readiness.kernels.drivers import Driver, Drivers, Packed
from warmspare.recover.readiness.kernels.kernel_options import blacklist
from warmspare.recover.readiness.loaders import kernelimage
from warmspare.recover.readiness.reach import Reach
from warmspare.recover.readiness.readiness_report import ReadinessReport, short

_VERSION = re.compile(r"(?:vmlinuz|vmlinux|linux|kernel|bzImage)-(.+)$")


class Starting:
    """An entry's kernel. where: (disk's ID, place) of what the entry's file is on. family: of its system. certain: that
    this entry is the one that starts."""

    def __init__(
        self,
        entry: Entry,
        reach: Reach,
        where: tuple[str, str],
        family: Family,
        report: ReadinessReport,
        *,
        certain: bool,
    ) -> None:
        self._entry, self._reach, self._report = entry, reach, report
        self._disk, self._place = where
        self._family, self._certain = family, certain
        self._gone = False  # one of its initramfs

    def judge(self, system: GuestFiles | None) -> None:
        """system: the tree of its root; None where that was not found, which is said elsewhere."""
        version = self._kernel()
        if version is ABSENT:
            return
        packed = [self._initramfs(each) for each in self._entry.initrds]
        found = drivers.look(
            system or UnreadFiles("the root was not found"), version, [each for each in packed if each]
        )
        self._nvme(found, version)
        if system is not None:
            self._ena(found, version)
        self._unread(found, found.ena if system is not None else None)

    def _kernel(self) -> Answer[str]:
        """The kernel's version. ABSENT where it is not there, or is none, which is said."""
        entry = self._entry
        files = self._reach.files(entry.kernel.device)
        version: Answer[str] = (
            files if isinstance(files, Absent | Unknown) else (kernelimage.version_of(files, entry.kernel.path))
        )
        if version is ABSENT:
            self._missing(BootFindingKind.KERNEL_MISSING, f"{short(entry.kernel.path)} is not there")
        if isinstance(version, kernelimage.NoKernel):
            self._missing(BootFindingKind.KERNEL_MISSING, version.why)
            return ABSENT
        if not isinstance(version, Unknown):
            return version
        if entry.version:
            return entry.version
        named = _VERSION.search(entry.kernel.path.rpartition("/")[2])
        return named[1] if named else version

    def _initramfs(self, place: FilePlace) -> Packed | None:
        """None where it is not there, which is said."""
        files = self._reach.files(place.device)
        head = files if isinstance(files, Absent | Unknown) else files.head(place.path, 1)
        if head is ABSENT:
            self._gone = True
            self._missing(BootFindingKind.INITRAMFS_MISSING, f"{short(place.path)} is not there")
            return None
        return Packed(short(place.path), _opening(files, place.path)) if not isinstance(files, Absent) else None

    def _missing(self, kind: BootFindingKind, said: str) -> None:
        """That a file of the entry's is not there. Where the way to the entry is not known, it may be an old one."""
        if not self._certain:
            kind, said = BootFindingKind.DEFAULT_UNKNOWN, f"{said}, so that this may not be the entry that starts"
        self._add(kind, f"{self._place}, {self._entry.source}", said)

    def _kept_out(self, driver: Driver, module: str) -> bool:
        """Whether a word of the command line keeps a driver that is no part of the kernel from being loaded; said."""
        word = blacklist(self._entry.arguments, module)
        if not word or driver.builtin is not ABSENT:
            return False
        self._add(
            BootFindingKind.KERNEL_OPTION,
            f"{self._place}, {self._entry.source}",
            f"{short(word)}: {module} is not loaded",
        )
        return True

    def _nvme(self, found: Drivers, version: Answer[str]) -> None:
        if self._kept_out(found.nvme, drivers.NVME.module):
            return
        if found.nvme.early is not ABSENT or self._gone:
            return
        inside = ", ".join(each.path for each in self._entry.initrds) or "no initramfs"
        said = f"kernel {version}" if isinstance(version, str) else ""
        if found.others:
            said += f"; the initramfs has modules of {', '.join(found.others)}"
        self._add(BootFindingKind.NVME_MISSING, f"{self._place}, {inside}", said)

    def _ena(self, found: Drivers, version: Answer[str]) -> None:
        if self._kept_out(found.ena, drivers.ENA.module):
            return
        if found.ena.ever is ABSENT:
            self._add(BootFindingKind.ENA_MISSING, self._place, f"kernel {version}" if isinstance(version, str) else "")

    def _unread(self, found: Drivers, ena: Driver | None) -> None:
        """What is not known, once: of the initramfs where that is why, else of the lists."""
        nvme = found.nvme
        if self._gone:
            return
        if isinstance(nvme.early, Unknown) and isinstance(nvme.initramfs, Unknown):
            self._add(BootFindingKind.INITRAMFS_UNREAD, self._place, nvme.initramfs.why)
        elif found.cut:
            self._add(BootFindingKind.INITRAMFS_UNREAD, self._place, found.cut)
        whys = [_why(driver, early=driver is nvme) for driver in (nvme, ena) if driver]
        if said := next((why for why in whys if why), ""):
            self._add(BootFindingKind.DRIVERS_UNREAD, self._place, said)

    def _add(self, kind: BootFindingKind, place: str, found: str) -> None:
        self._report.add(BootFinding(kind, self._disk, place, found, self._family))


def _why(driver: Driver, *, early: bool) -> str:
    """Why a driver is not known, but for the initramfs."""
    if not isinstance(driver.early if early else driver.ever, Unknown):
        return ""
    parts = (driver.builtin,) if early else (driver.builtin, driver.modules)
    return next((each.why for each in parts if isinstance(each, Unknown)), "")


def _opening(files: GuestFiles | Unknown, path: str) -> Callable[[], AbstractContextManager[BinaryIO]]:
    @contextmanager
    def opened() -> Iterator[BinaryIO]:
        if isinstance(files, Unknown):
            raise OSError(files.why)
        with files.stream(path) as file:
            yield file

    return opened
