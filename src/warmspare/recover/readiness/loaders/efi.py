"""The way in by UEFI: what the removable path's program is, where it leads, and what is missing on it; runs no program.

A new machine has no boot entries of its own, so its firmware starts \\EFI\\BOOT\\BOOTX64.EFI of the ESP, and nothing
else. Paths are written with slashes. FAT takes any case, and so does who reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.guest.entries import FilePlace
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.loaders import systemdboot, uki
from warmspare.recover.readiness.loaders.devices import LoaderDevices
from warmspare.recover.readiness.loaders.efiprogram import KnownProgram, What, known
from warmspare.recover.readiness.loaders.grub.start import Core
from warmspare.recover.readiness.loaders.grub.start import start as start_grub
from warmspare.recover.readiness.loaders.started import Started

REMOVABLE = "/EFI/BOOT/BOOTX64.EFI"
MAX_STEPS = 6
MAX_FOLDERS = 32
_CSV = ("BOOTX64.CSV", "BOOT.CSV")
_MAX_CSV = 1 << 14


class EfiEnd(Enum):
    """What the way leads to. MISSING: to a program that is not there."""

    GRUB = "GRUB 2"
    SYSTEMD_BOOT = "systemd-boot"
    UNIFIED = "a unified kernel image"
    WINDOWS = "Windows' boot manager"
    OTHER = "another program"
    MISSING = "nothing"
    UNREAD = "not known"


@dataclass(frozen=True, slots=True)
class EfiStep:
    """A program on the way."""

    path: str
    what: What


@dataclass(frozen=True, slots=True)
class EfiWay:
    """steps: the programs, in order. why: for MISSING, OTHER and UNREAD, as a clause. missing: the file that is not
    there. others: programs elsewhere on the ESP, where the way ends without one. core: GRUB's."""

    steps: tuple[EfiStep, ...]
    end: EfiEnd
    why: str = ""
    missing: str = ""
    others: tuple[str, ...] = ()
    core: Core | None = None

    def started(self, devices: LoaderDevices, extended: str = "") -> Started:
        """What it starts by itself. devices: the ESP first. extended: the extended boot partition's name, if any."""
        path = self.steps[-1].path if self.steps else REMOVABLE
        if self.end is EfiEnd.GRUB and self.core:
            return start_grub(devices, self.core)
        if self.end is EfiEnd.SYSTEMD_BOOT:
            return systemdboot.start(devices, extended)
        if self.end is EfiEnd.UNIFIED:
            files = devices.files("")
            image = files if isinstance(files, Absent | Unknown) else uki.image(files, FilePlace("", path))
            entry = image.entry() if isinstance(image, uki.UkiImage) else image
            return Started(entry, f"{path} is a unified kernel image", FilePlace("", path))
        program = None if self.end in (EfiEnd.MISSING, EfiEnd.UNREAD) else FilePlace("", path)
        return Started(ABSENT if self.end is EfiEnd.MISSING else Unknown(self.why), self.why, program=program)


def look(files: GuestFiles, path: str = REMOVABLE) -> EfiWay:
    """The way from this program of an ESP on. A limit that is met makes it UNREAD; `Spent` is raised through."""
    steps = list[EfiStep]()
    try:
        return _look(files, path, steps)
    except Exceeded as error:
        return EfiWay(tuple(steps), EfiEnd.UNREAD, str(error))


def _look(files: GuestFiles, path: str, steps: list[EfiStep]) -> EfiWay:
    said = "the firmware starts"
    while True:
        program = known(files, path)
        if isinstance(program, Absent):
            others = _others(files)
            return EfiWay(tuple(steps), EfiEnd.MISSING, f"{said} {path}, and that is not there", path, others)
        if isinstance(program, Unknown):
            return EfiWay(tuple(steps), EfiEnd.UNREAD, f"{said} {path}, and that can't be read: {program.why}")
        steps.append(EfiStep(path, program.what))
        if len(steps) > MAX_STEPS:
            return EfiWay(tuple(steps), EfiEnd.UNREAD, f"more than {MAX_STEPS} programs lead from one to the next")
        match program.what:
            case What.SHIM:
                following = _behind_shim(files, path, program)
            case What.FALLBACK:
                following = _behind_fallback(files)
            case _:
                return _ended(path, program, tuple(steps))
        if isinstance(following, EfiWay):
            return EfiWay(tuple(steps), following.end, following.why, following.missing, following.others)
        said, path = following


def _ended(path: str, program: KnownProgram, steps: tuple[EfiStep, ...]) -> EfiWay:
    folder = path.rpartition("/")[0]
    match program.what:
        case What.GRUB:
            grub = program.objects
            if grub is None:
                return EfiWay(steps, EfiEnd.UNREAD, f"GRUB's image {path} can't be read")
            core = Core(
                grub.prefix or folder, grub.config, "efi", folder, program.folder_first, grub.memdisk, grub.normal
            )
            return EfiWay(steps, EfiEnd.GRUB, core=core)
        case What.SYSTEMD_BOOT:
            return EfiWay(steps, EfiEnd.SYSTEMD_BOOT)
        case What.UNIFIED:
            return EfiWay(steps, EfiEnd.UNIFIED)
        case What.WINDOWS:
            return EfiWay(steps, EfiEnd.WINDOWS, "it starts Windows")
    return EfiWay(steps, EfiEnd.OTHER, f"{path} is {program.what.value}, which is not followed")


def _behind_shim(files: GuestFiles, path: str, program: KnownProgram) -> tuple[str, str] | EfiWay:
    """What shim starts: on the removable path its fallback, if that is there; else the program beside it."""
    folder = path.rpartition("/")[0]
    if path.upper().startswith("/EFI/BOOT/BOOT"):
        fallback = f"{folder}/{program.fallback}"
        head = files.head(fallback, 1)
        if isinstance(head, Unknown):
            return EfiWay((), EfiEnd.UNREAD, f"{fallback} can't be read: {head.why}")
        if isinstance(head, bytes):
            return f"shim ({path}) starts", fallback
    return f"shim ({path}) starts", f"{folder}/{program.second}"


def _behind_fallback(files: GuestFiles) -> tuple[str, str] | EfiWay:
    """What shim's fallback starts: the first program of the lists that systems leave in their folders."""
    folders = files.names("/EFI")
    if isinstance(folders, Unknown):
        return EfiWay((), EfiEnd.UNREAD, f"the folders of the ESP can't be read: {folders.why}")
    starts = list[str]()
    for name in [name for name in folders if name.endswith("/")][:MAX_FOLDERS] if isinstance(folders, list) else []:
        if name.upper() == "BOOT/":
            continue
        for csv in _CSV:
            data = files.read(f"/EFI/{name}{csv}", most_bytes=_MAX_CSV)
            if isinstance(data, Unknown):
                return EfiWay((), EfiEnd.UNREAD, f"/EFI/{name}{csv} can't be read: {data.why}")
            if isinstance(data, bytes):
                starts += [f"/EFI/{name}{file}" for file in listed(data)]
                break
    if not starts:
        why = f"shim's fallback looks for a {_CSV[0]} in the folders of /EFI that names a program, and there is none"
        return EfiWay((), EfiEnd.MISSING, why, f"/EFI/*/{_CSV[0]}", _others(files))
    if len({start.upper() for start in starts}) > 1:
        return EfiWay((), EfiEnd.UNREAD, f"shim's fallback has several programs to start: {', '.join(starts[:4])}")
    return "shim's fallback starts", starts[0]


def listed(data: bytes) -> list[str]:
    """The programs that a list for shim's fallback names. UTF-16, a line a program: file, title, arguments, comment."""
    text = data.decode("utf-16-le", errors="replace").removeprefix("\ufeff").replace("\0", "")
    names = [line.split(",", 1)[0].strip() for line in text.splitlines()]
    return [name.replace("\\", "/").lstrip("/") for name in names if name]


def _others(files: GuestFiles) -> tuple[str, ...]:
    """Programs in the folders of the ESP, as far as these can be read: for whoever mends it."""
    folders, found = files.names("/EFI"), list[str]()
    for name in folders[:MAX_FOLDERS] if isinstance(folders, list) else []:
        inner: Answer[list[str]] = files.names(f"/EFI/{name}") if name.endswith("/") else ABSENT
        if name.upper() == "MICROSOFT/":
            inner, name = files.names("/EFI/Microsoft/Boot"), "Microsoft/Boot/"
        if isinstance(inner, list):
            found += [f"/EFI/{name}{file}" for file in inner if file.lower().endswith(".efi")]
    return tuple(found[:MAX_FOLDERS])
