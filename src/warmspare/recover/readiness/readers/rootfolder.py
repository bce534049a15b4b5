"""Which folder of a Btrfs is the root: the subvolume that is named, else the default one; refuses to guess unsaid.

Distributions: Debian `@rootfs`, Ubuntu `@`, Fedora `root`, by `rootflags=`; SUSE `@/.snapshots/N/snapshot`, by the
default subvolume, which a rollback changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.readers.btrfs import TOP

_USUAL = ("", "/@", "/@rootfs", "/root")
_SNAPSHOTS = ("/@/.snapshots", "/.snapshots")


class SubvolumesOf(Protocol):
    """As of `btrfs.Subvolumes`."""

    def default(self) -> int | Unknown: ...

    def path(self, number: int) -> str | Unknown: ...


@dataclass(frozen=True, slots=True)
class RootFolder:
    """prefix: "" for the file system's own root, or `/@`. stated: what mounts it says so; else it is the one in which a
    system is, where the default subvolume holds none: an initramfs may name it."""

    prefix: str
    stated: bool


def stated_folder(options: Sequence[str], subvolumes: Callable[[], SubvolumesOf | Unknown]) -> Answer[str]:
    """The subvolume that mount options name; the default one where they name none."""
    name = [word.removeprefix("subvol=") for word in options if word.startswith("subvol=")]
    number = [word.removeprefix("subvolid=") for word in options if word.startswith("subvolid=")]
    if name:  # a number beside it must be the same subvolume's
        return "".join("/" + part for part in name[-1].strip('"').split("/") if part not in ("", "."))
    known = subvolumes()
    if isinstance(known, Unknown):
        return known
    wanted = _number(number[-1]) if number else known.default()
    return wanted if isinstance(wanted, Unknown) else known.path(wanted or TOP)


def root_folder(
    top: GuestFiles, options: Sequence[str], subvolumes: Callable[[], SubvolumesOf | Unknown]
) -> Answer[RootFolder]:
    """Where the root is. top: of the file system from its own root. options: of `rootflags=`, apart."""
    stated = stated_folder(options, subvolumes)
    if any(word.startswith(("subvol=", "subvolid=")) for word in options):
        return RootFolder(stated, True) if isinstance(stated, str) else stated
    if isinstance(stated, str) and _holds_system(top, stated):
        return RootFolder(stated, True)
    for prefix in _likely(top):
        if _holds_system(top, prefix):
            return RootFolder(prefix, False)
    if isinstance(stated, Unknown):
        return stated
    seen = top.names("/")
    return seen if isinstance(seen, Unknown) else ABSENT


def _likely(top: GuestFiles) -> Iterator[str]:
    yield from _USUAL
    for folder in _SNAPSHOTS:
        names = top.names(folder)
        if isinstance(names, list):
            numbers = [name.rstrip("/") for name in names if name.rstrip("/").isascii() and name.rstrip("/").isdigit()]
            if numbers:  # the newest
                yield f"{folder}/{max(numbers, key=lambda text: (len(text), text))}/snapshot"


def _holds_system(top: GuestFiles, prefix: str) -> bool:
    names = top.names(prefix or "/")
    return isinstance(names, list) and "etc/" in names


def _number(text: str) -> int | Unknown:
    """Decimal, octal or hexadecimal, as mount takes it."""
    try:
        if len(text) > 20:
            raise ValueError
        return int(text, 8 if text.startswith("0") and text.isdigit() and len(text) > 1 else 0)
    except ValueError:
        return Unknown("the number of its subvolume is none")
