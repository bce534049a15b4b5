"""How a boot loader finds file systems, and files on them, as far as that can be told from outside; owns none."""

from __future__ import annotations

import re
from typing import Protocol

from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.guest.entries import FilePlace
from warmspare.recover.readiness.guest.guest_files import GuestFiles

_BLOCKS = re.compile(r"([0-9]{1,10})\+([0-9]{1,2})")


class LoaderDevices(Protocol):
    """The file systems that a loader can reach. Paths are the loader's: on Btrfs from the file system's own top, or, as
    SUSE has it, from its default subvolume. To `read`, a path may be a list of blocks."""

    def files(self, device: str) -> Answer[GuestFiles]:
        """Names as in `FilePlace.device`; "" is where the loader's configuration begins. `grub:,gpt2` is a partition of
        the disk that boots. ABSENT only if all that could be it was read."""


class Alone:
    """Devices of a single file system, where no others are known."""

    def __init__(self, files: GuestFiles) -> None:
        self._files = files

    def files(self, device: str) -> Answer[GuestFiles]:
        return Unknown("other file systems were not looked at") if device else self._files


def block_list(path: str) -> tuple[int, int] | None:
    """The first sector of the device, and how many, that GRUB means by a path; None where it is none such."""
    found = _BLOCKS.fullmatch(path)
    return (int(found[1]), int(found[2])) if found and int(found[2]) else None


def read(devices: LoaderDevices, place: FilePlace) -> Answer[bytes]:
    """A file of a loader's."""
    files = devices.files(place.device)
    return files if isinstance(files, Absent | Unknown) else files.read(place.path)


def listed(devices: LoaderDevices, place: FilePlace) -> Answer[list[str]]:
    files = devices.files(place.device)
    return files if isinstance(files, Absent | Unknown) else files.names(place.path)


def first(devices: LoaderDevices, place: FilePlace) -> Answer[bytes]:
    """The first byte of a file; none of an empty one."""
    files = devices.files(place.device)
    return files if isinstance(files, Absent | Unknown) else files.head(place.path, 1)


def holds(devices: LoaderDevices, place: FilePlace, kind: str) -> bool | Unknown:
    """Whether there is a file (`-f`), one that is not empty (`-s`), a folder (`-d`), or any of these (`-e`)."""
    if kind != "-d":
        head = first(devices, place)
        if isinstance(head, bytes):
            return kind != "-s" or bool(head)
        if kind != "-e":
            return head if isinstance(head, Unknown) else False
    else:
        head = ABSENT
    names = listed(devices, place)
    if isinstance(names, list):
        return True
    return next((answer for answer in (head, names) if isinstance(answer, Unknown)), False)
