"""Whether a kernel has EC2's drivers, and where: built in, in its initramfs, among its modules; refuses to judge.

NVMe must be there before the root is mounted; ENA may come from the root. A list that was not read says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO

from warmspare.errors import FormatError
from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.kernels import initramfs

MAX_LIST_BYTES = 4 << 20  # of modules.dep
MAX_VERSIONS = 8  # of other kernels in an initramfs, that are named
_VERSION = re.compile(r"[\w.+~-]{1,128}", re.ASCII)
_HOMES = ("/usr/lib/modules", "/lib/modules")
_LISTS = {"modules.dep", "modules.builtin", "kernel/"}
_MODULE = re.compile(r"([\w-]+)\.ko(?:\.\w{1,5})?", re.ASCII)
_OF_VERSION = re.compile(r"(?:^|/)lib/modules/([0-9][^/]*)/")
# What dracut packs its files into, so that an initramfs names none of them.
_NESTED = re.compile(r"(?:^|/)(?:squash-?root|squashfs-root|erofs-root)\.img$")


@dataclass(frozen=True, slots=True)
class DriverKind:
    """A driver. module: its name. folder: of every kernel that has it as a module. option: of a kernel's .config."""

    module: str
    folder: str
    option: str

    def is_in(self, path: str) -> bool:
        """Whether a path is this module's, packed or not."""
        found = _MODULE.fullmatch(path.rpartition("/")[2])
        return found is not None and found[1] == self.module


NVME = DriverKind("nvme", "kernel/drivers/nvme/host", "CONFIG_BLK_DEV_NVME")
ENA = DriverKind("ena", "kernel/drivers/net/ethernet/amazon/ena", "CONFIG_ENA_ETHERNET")


@dataclass(frozen=True, slots=True)
class Driver:
    """Where a driver is, each as a path or a list's path that names it. modules: of the root (or its /usr)."""

    builtin: Answer[str]
    initramfs: Answer[str]
    modules: Answer[str]

    @property
    def early(self) -> Answer[str]:
        """Before the root is mounted."""
        return _any(self.builtin, self.initramfs)

    @property
    def ever(self) -> Answer[str]:
        return _any(self.builtin, self.initramfs, self.modules)


@dataclass(frozen=True, slots=True)
class Drivers:
    """others: the versions of other kernels whose modules the initramfs has, if it has none of this one's. cut: that an
    initramfs ends too early, whatever it has before that; "" where none does."""

    nvme: Driver
    ena: Driver
    others: tuple[str, ...] = ()
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Packed:
    """An initramfs. name: for people. open: its bytes; FileNotFoundError where it is not there, another OSError where
    it can't be read, Exceeded at a limit."""

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]


def look(system: GuestFiles, version: Answer[str], packed: Sequence[Packed]) -> Drivers:
    """What a kernel of this version has in a system's tree and in these initramfs, of which Linux unpacks all."""
    if isinstance(version, str) and not _VERSION.fullmatch(version):
        version = Unknown("the kernel's version is none that a folder of modules could have")
    known = version if isinstance(version, str) else None
    inside = _Inside(known)
    for each in packed:
        inside.read(each)
    home: Answer[str]
    if known is None:
        home = version if isinstance(version, Unknown) else Unknown("the kernel's version is not known")
    else:
        home = _home(system, known)
    builtin = _Builtin.read(system, home, known, inside)
    others = () if known in inside.versions else tuple(sorted(inside.versions)[:MAX_VERSIONS])
    nvme, ena = (Driver(builtin.answer(kind), inside.answer(kind), _module(system, home, kind)) for kind in (NVME, ENA))
    return Drivers(nvme, ena, others, inside.cut)


@dataclass(slots=True)
class _Inside:
    """What the initramfs have. wrong: why one was not read to its end."""

    version: str | None
    found: dict[str, str] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    builtin: tuple[str, str] | None = None  # (where, the list)
    wrong: str = ""
    cut: str = ""

    def read(self, packed: Packed) -> None:
        try:
            with packed.open() as file:
                for member in initramfs.members(file, packed.name, lambda name: name.endswith("/modules.builtin")):
                    self._take(member, packed.name)
        except FileNotFoundError:  # nothing is loaded from it, which its loader has to say
            return
        except OSError as error:
            self.wrong = self.wrong or f"{packed.name}: {error}"
        except initramfs.Cut as error:
            self.wrong = self.cut = self.wrong or f"{packed.name}: {error.what}"
        except (FormatError, Exceeded) as error:
            self.wrong = self.wrong or f"{packed.name}: {error.what}"

    def _take(self, member: initramfs.ArchiveMember, where: str) -> None:
        name = member.name
        if _NESTED.search(name):
            self.wrong = self.wrong or f"{where}: its files are in {name} inside of it"
        of = _OF_VERSION.search(name)
        if of and (of[1] == self.version or len(self.versions) < MAX_VERSIONS):
            self.versions.add(of[1])
        if of and self.version and of[1] != self.version:
            return  # another kernel's
        for kind in (NVME, ENA):
            if kind.is_in(name):
                self.found.setdefault(kind.module, f"{where}: {name}")
        if member.content is not None and of:
            self.builtin = f"{where}: {name}", member.content.decode(errors="replace")

    def answer(self, kind: DriverKind) -> Answer[str]:
        if kind.module in self.found:
            return self.found[kind.module]
        return Unknown(self.wrong) if self.wrong else ABSENT


@dataclass(frozen=True, slots=True)
class _Builtin:
    """What is built into the kernel: a list of modules, or its configuration; where none was read, why."""

    where: str = ""
    modules: tuple[str, ...] | None = None
    options: frozenset[str] | None = None
    why: str = ""

    @classmethod
    def read(cls, system: GuestFiles, home: Answer[str], version: str | None, inside: _Inside) -> _Builtin:
        why = home.why if isinstance(home, Unknown) else ""
        if isinstance(home, str):
            path = f"{home}/modules.builtin"
            data = system.read(path)
            if isinstance(data, bytes):
                return cls(path, tuple(data.decode(errors="replace").splitlines()))
            why = data.why if isinstance(data, Unknown) else ""
        if inside.builtin and version:
            return cls(inside.builtin[0], tuple(inside.builtin[1].splitlines()))
        for path in _configurations(home, version):
            data = system.read(path)
            if isinstance(data, bytes):
                return cls(path, options=frozenset(data.decode(errors="replace").splitlines()))
            why = why or (data.why if isinstance(data, Unknown) else "")
        why = why or "its list, modules.builtin, is not there"
        return cls(why=f"what is built into the kernel is not known: {why}")

    def answer(self, kind: DriverKind) -> Answer[str]:
        if self.modules is not None:
            return self.where if any(kind.is_in(line) for line in self.modules) else ABSENT
        if self.options is not None:
            return self.where if f"{kind.option}=y" in self.options else ABSENT
        return Unknown(self.why)


def _configurations(home: Answer[str], version: str | None) -> Iterable[str]:
    if isinstance(home, str):
        yield f"{home}/config"
    if version:
        yield f"/boot/config-{version}"


def _home(system: GuestFiles, version: str) -> Answer[str]:
    """The folder of a kernel's modules. Where /lib is a link into /usr, both are the same."""
    unread: Unknown | None = None
    bare = ""
    for folder in _HOMES:
        names = system.names(f"{folder}/{version}")
        if isinstance(names, Unknown):
            unread = unread or names
        elif isinstance(names, list):
            if _LISTS & {*names}:
                return f"{folder}/{version}"
            bare = bare or f"{folder}/{version}"
    if unread:
        return Unknown(f"the modules of {version} can't be read: {unread.why}")
    return bare or ABSENT


def _module(system: GuestFiles, home: Answer[str], kind: DriverKind) -> Answer[str]:
    """Where a driver's module is. modules.dep lists all where depmod has run, and what it does not list is not
    loaded."""
    if isinstance(home, Absent | Unknown):
        return home
    listed = system.read(f"{home}/modules.dep", most_bytes=MAX_LIST_BYTES)
    if isinstance(listed, bytes):
        for line in listed.decode(errors="replace").splitlines():
            path = line.partition(":")[0]
            if kind.is_in(path):
                whole = path if path.startswith("/") else f"{home}/{path}"
                return _listed(system, whole)
        return ABSENT
    names = system.names(f"{home}/{kind.folder}")
    for name in names if isinstance(names, list) else []:
        if kind.is_in(name):
            return f"{home}/{kind.folder}/{name}"
    if isinstance(listed, Unknown):
        return listed
    return Unknown(f"{home}/modules.dep, which lists the modules, is not there")


def _listed(system: GuestFiles, path: str) -> Answer[str]:
    """A module that modules.dep lists: not there only where its folder was read, for that may be kept elsewhere."""
    head = system.head(path, 1)
    if head is ABSENT and not isinstance(system.names(path.rpartition("/")[0]), list):
        return Unknown(f"modules.dep lists {path}, whose folder is not there")
    return head if isinstance(head, Absent | Unknown) else path


def _any(*answers: Answer[str]) -> Answer[str]:
    """The first that was found; what is not known of any is not known of all."""
    for answer in answers:
        if isinstance(answer, str):
            return answer
    for answer in answers:
        if isinstance(answer, Unknown):
            return answer
    return ABSENT
