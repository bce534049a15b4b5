"""What a boot loader starts: a kernel, its initramfs and its command line, each where the loader finds it; owns no
format."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
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
    kernel: Place
    initrds: tuple[Place, ...]
    arguments: tuple[str, ...]
    version: str = ""

    @property
    def root(self) -> str | None:
        """The kernel's root=; the last counts, as it does for the kernel."""
        found = [word.removeprefix("root=") for word in self.arguments if word.startswith("root=")]
        return found[-1].strip('"') if found else None

    @property
    def files(self) -> tuple[Place, ...]:
        """All that the loader loads."""
        return (self.kernel, *self.initrds)

    @property
    def subvolume(self) -> str:
        """Of Btrfs, that rootflags= names; "" for none."""
        flags = [word.removeprefix("rootflags=") for word in self.arguments if word.startswith("rootflags=")]
        named = [one.partition("=")[2] for one in (flags[-1].split(",") if flags else ()) if one.startswith("subvol=")]
        return named[-1] if named else ""

    @property
    def serial(self) -> bool:
        """Whether the serial port is one of its consoles."""
        return any(word.startswith("console=ttyS") for word in self.arguments)
