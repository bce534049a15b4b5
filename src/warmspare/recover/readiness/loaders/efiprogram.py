"""What an EFI program is: shim, GRUB, systemd-boot, a unified kernel image, Windows' boot manager; follows none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import Absent, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.loaders import kernelimage, pe
from warmspare.recover.readiness.loaders.grub.core_image import CoreImage, objects

MAX_BYTES = 32 << 20  # that are read of a program
_GRUBS = 24 << 20  # of the objects in GRUB's image; with all its modules and fonts it has 10 MiB
_MAGIC_BYTES = 256
_SECOND = re.compile(rb"(?:[A-Za-z0-9._-]\0){1,60}\.\0[eE]\0[fF]\0[iI]\0\0\0")
_FALLBACKS = ("fbx64.efi", "fallback.efi")  # the second is of older shims, and of SUSE's
_NOT_SECOND = (*_FALLBACKS, "mmx64.efi", "mokmanager.efi", "bootx64.efi")


class What(Enum):
    """value: for people, as what it is."""

    SHIM = "shim"
    FALLBACK = "shim's fallback"
    MOK_MANAGER = "shim's key manager"
    GRUB = "GRUB"
    SYSTEMD_BOOT = "systemd-boot"
    UNIFIED = "a unified kernel image"
    KERNEL = "a kernel of Linux's, started without a loader"
    WINDOWS = "Windows' boot manager"
    REFIND = "rEFInd"
    SYSLINUX = "SYSLINUX for EFI"
    NO_PROGRAM = "no EFI program for x86-64"
    OTHER = "a program that is not known here"


@dataclass(frozen=True, slots=True)
class KnownProgram:
    """second: the program that shim starts beside itself. fallback: the one that it starts instead on the removable
    path, where that is there. objects: GRUB's, None where they can't be read. folder_first:
    this GRUB looks for its configuration beside itself first."""

    what: What
    second: str = ""
    fallback: str = ""
    objects: CoreImage | None = None
    folder_first: bool = False


def known(files: GuestFiles, path: str) -> Answer[KnownProgram]:
    """ABSENT where there is no such file."""
    head = files.head(path, pe.HEAD_BYTES)
    if isinstance(head, Absent | Unknown):
        return head
    program = pe.program(head)
    if program is None or program.machine != pe.MACHINE_X64:
        return KnownProgram(What.NO_PROGRAM)
    if program.section(".linux"):
        return KnownProgram(What.UNIFIED)
    if kernelimage.is_image(head):
        return KnownProgram(What.KERNEL)
    if magic := program.section(".sdmagic"):
        text = pe.section_bytes(files, path, magic, most_bytes=_MAGIC_BYTES)
        if isinstance(text, Absent | Unknown):
            return text
        return KnownProgram(What.SYSTEMD_BOOT if b"systemd-boot" in text else What.OTHER)
    whole = _whole(files, path)
    if isinstance(whole, Unknown):
        return whole
    if mods := program.section("mods"):
        grub = objects(whole[mods.offset : mods.offset + min(mods.bytes, _GRUBS)], wide=True)
        return KnownProgram(What.GRUB, objects=grub, folder_first=b"fw_path" in whole)
    return _by_words(whole)


def _whole(files: GuestFiles, path: str) -> bytes | Unknown:
    try:
        with files.stream(path) as stream:
            data = pe.part(stream, MAX_BYTES + 1)
    except Exceeded as error:
        return Unknown(str(error))
    except OSError as error:
        return Unknown(f"{path} can't be read: {error}")
    return data if len(data) <= MAX_BYTES else Unknown(f"{path} is larger than {MAX_BYTES >> 20} MiB")


def _by_words(data: bytes) -> KnownProgram:
    """By what stands in it. Shim's helpers name shim too."""

    def has(text: str, *, wide: bool = True) -> bool:
        return (text.encode("utf-16-le") if wide else text.encode()) in data

    if has("UEFI SHIM", wide=False):
        names = [match.decode("utf-16-le").rstrip("\0") for match in _SECOND.findall(data)]
        second = next((name for name in names if name.lower() not in _NOT_SECOND and "_" not in name), "grubx64.efi")
        fallback = next((name for name in names if name.lower() in _FALLBACKS), _FALLBACKS[0])
        return KnownProgram(What.SHIM, second=second, fallback=fallback)
    if any(map(has, ("bootx64.csv", "BOOTX64.CSV", "FALLBACK_VERBOSE"))):
        return KnownProgram(What.FALLBACK)
    if has("MokManager", wide=False) or has("MokManager"):
        return KnownProgram(What.MOK_MANAGER)
    if has("bootmgfw.efi") or has("Windows Boot Manager") or (has("Microsoft Corporation") and has("BCD")):
        return KnownProgram(What.WINDOWS)
    if has("rEFInd"):
        return KnownProgram(What.REFIND)
    if has("SYSLINUX", wide=False):
        return KnownProgram(What.SYSLINUX)
    return KnownProgram(What.OTHER)
