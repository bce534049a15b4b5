"""A VDDK on this machine's disk: finds the library in the directory that a user names; refuses to load it.

VMware's licence forbids to ship it, so users download it; every refusal says what to get and where to point.
"""

from __future__ import annotations

import platform
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from warmspare.errors import ConfigError

NEWEST = (9, 1)
GET_IT = (
    "download the Virtual Disk Development Kit (VDDK) 6.7 to 9.1 for Linux from Broadcom's developer portal, "
    "unpack it, and point --vddk at the folder that holds lib64"
)
_NAME = re.compile(r"libvixDiskLib\.so(?:\.(\d+(?:\.\d+)*))?")
_ELF_MACHINES = {0x3E: "x86_64", 0xB7: "aarch64", 0x03: "i386"}
# What a VDDK brings and Python or its extensions may have too.
_SHARED = (
    "libcrypto",
    "libssl",
    "libstdc++",
    "libgcc_s",
    "libz",
    "libcurl",
    "libxml2",
    "libexpat",
    "libffi",
    "libsqlite3",
)


@dataclass(frozen=True, slots=True)
class Install:
    """directory: as the user names it. library: the file to load. version: by the file's name, "" if it has none."""

    directory: Path
    library: Path
    version: str

    @property
    def library_dir(self) -> Path:
        return self.library.parent

    @property
    def lib_dir(self) -> Path:
        """InitEx's libDir: the folder above lib64, whichever of the two the user named. Given lib64 itself, a library
        does not find its plugins and works with less."""
        folder = self.library_dir.absolute()
        if folder.name != "lib64" and folder.resolve().name == "lib64":
            folder = folder.resolve()
        return folder.parent if folder.name == "lib64" else folder

    @property
    def newer(self) -> bool:
        """Whether it is newer than any that was looked at."""
        return tuple(int(part) for part in self.version.split(".") if part)[:2] > NEWEST


def find(directory: Path) -> Install:
    """The library below `directory` (or in it, if it is the lib64 itself). ConfigError where there is none, or none
    for this machine."""
    if not directory.is_dir():
        raise ConfigError("there is no VDDK: no such directory", where=str(directory), hint=GET_IT)
    places = [directory / "lib64", directory]
    inside = [path for place in places if place.is_dir() for path in sorted(place.iterdir())]
    found = [path for path in inside if _NAME.fullmatch(path.name)]
    if not found:
        raise ConfigError("this is no VDDK: it has no lib64/libvixDiskLib.so", where=str(directory), hint=GET_IT)
    present = [path for path in found if path.exists()]
    if not present:
        raise ConfigError("the VDDK is incomplete: libvixDiskLib.so points nowhere", where=str(found[0]), hint=GET_IT)
    # all are names of one file, as a rule; the one with the longest version says most
    library = max(present, key=lambda path: (len(_version(path)), _version(path), path.name))
    _check_machine(library)
    return Install(directory, library, ".".join(map(str, _version(library))))


def _version(path: Path) -> tuple[int, ...]:
    match = _NAME.fullmatch(path.resolve().name) or _NAME.fullmatch(path.name)
    return tuple(int(part) for part in match[1].split(".")) if match and match[1] else ()


def _check_machine(library: Path) -> None:
    try:
        with library.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise ConfigError(f"the VDDK can't be read: {error.strerror}", where=str(library), hint=GET_IT) from error
    if len(head) < 20 or head[:4] != b"\x7fELF":
        raise ConfigError("the VDDK is damaged: its library is no shared object", where=str(library), hint=GET_IT)
    (machine,) = struct.unpack_from("<H", head, 18)
    wanted = platform.machine()
    if head[4] != 2 or _ELF_MACHINES.get(machine) != wanted:
        built_for = _ELF_MACHINES.get(machine, f"machine {machine:#x}")
        raise ConfigError(
            f"the VDDK is for another processor: {built_for} ({64 if head[4] == 2 else 32} bit), and this is {wanted}",
            where=str(library),
            hint=GET_IT,
        )


def shared_libraries(install: Install) -> list[str]:
    """Files beside the library whose like Python's own process may have loaded: they would clash in one process."""
    return sorted(
        path.name
        for path in install.library_dir.iterdir()
        if ".so" in path.name and path.name.split(".so")[0].rstrip("-.0123456789") in _SHARED
    )
