"""What a boot loader starts: a kernel, its initramfs and its command line, each where the loader finds it; owns no
format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file as a boot loader names it.

    device: "" for the file system that the loader's configuration is on; else how the loader finds another:
    `uuid:…`, `label:…`, `file:/path` (whichever has that file), `partuuid:…`, or `grub:hd0,msdos1`, `grub:lvm/vg-boot`
    in GRUB's own names. path: on that file system, absolute.
    """

    device: str
    path: str


@dataclass(frozen=True, slots=True)
class Entry:
    """source: the file that says so, and where in it. title: as people see it. kernel, initrds: what is loaded.
    arguments: the kernel's command line, in words. version: what the entry itself says of the kernel's, or ""."""

    source: str
    title: str
    kernel: FilePlace
    initrds: tuple[FilePlace, ...]
    arguments: tuple[str, ...]
    version: str = ""

    @property
    def root(self) -> str | None:
        """The kernel's root=; the last counts, as it does for the kernel."""
        found = [word.removeprefix("root=") for word in self.arguments if word.startswith("root=")]
        return found[-1].strip('"') if found else None

    @property
    def files(self) -> tuple[FilePlace, ...]:
        """All that the loader loads."""
        return (self.kernel, *self.initrds)

    @property
    def serial(self) -> bool:
        """Whether the serial port is one of its consoles."""
        return any(word.startswith("console=ttyS") for word in self.arguments)


def root_flags(arguments: Sequence[str]) -> list[str]:
    """The options with which the root is mounted, by a command line; the last rootflags= counts."""
    found = [word.removeprefix("rootflags=") for word in arguments if word.startswith("rootflags=")]
    return found[-1].split(",") if found else []
