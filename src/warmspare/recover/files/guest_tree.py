"""From a path that a user names to the reader and the place that it means; owns how such paths are written.

`VOLUME:/path` is on a volume, from its own top. An absolute path is one of the system that the disks hold, through what
its fstab mounts, and `C:/path` one of its Windows; each is understood only where there is one such system.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence

from warmspare.recover.files.guest_entry import EntryKind, GuestEntry, MissingGuestError, UnreadGuestError, joined
from warmspare.recover.files.guest_systems import WINDOWS, GuestSystems
from warmspare.recover.files.guest_volumes import GuestVolumes, VolumeReader
from warmspare.recover.readiness.answers import Absent, Answer, Unknown
from warmspare.recover.readiness.devices.blocks import Device
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.guest.system import System
from warmspare.recover.readiness.guest.tree import Folder, MountTree, normal, of_system
from warmspare.recover.readiness.readers.rootfolder import stated_folder


class _OnVolume(Folder):
    """A folder of a volume's files, and which volume that is."""

    def __init__(self, files: GuestFiles, device: Device, prefix: str) -> None:
        super().__init__(files, prefix)
        self.device, self.prefix = device, prefix


class GuestTree:
    """One tree of paths: a volume's, or a system's with its mounts."""

    def __init__(self, volumes: GuestVolumes, files: MountTree) -> None:
        self._volumes, self._files = volumes, files

    def at(self, path: str) -> tuple[VolumeReader, str]:
        """Who reads a path, and what it is called there. UnreadGuestError."""
        files, inside = self._files.at(path)
        if isinstance(files, Unknown):
            raise UnreadGuestError(files.why)
        if isinstance(files, Absent):
            raise MissingGuestError("it is on no disk")
        while isinstance(files, Folder) and not isinstance(files, _OnVolume):  # a bind mount
            files, above = files.home
            inside = above + inside
            if isinstance(files, MountTree):
                return GuestTree(self._volumes, files).at(inside)
        assert isinstance(files, _OnVolume)
        return self._volumes.reader(files.device), files.prefix + normal(inside)

    def entries(self, path: str) -> Iterator[GuestEntry]:
        """What a folder holds. MissingGuestError, UnreadGuestError."""
        reader, inside = self.at(path)
        yield from reader.entries(inside)

    def ahead(self, folder: str, files: Sequence[GuestEntry]) -> None:
        """These files of a folder, which are small, are the next to be read."""
        reader, inside = self.at(folder)
        reader.ahead(inside, files)

    def chunks(self, path: str) -> Iterator[bytes]:
        """A file's bytes. UnreadGuestError."""
        reader, inside = self.at(path)
        yield from reader.chunks(inside)

    def entry(self, path: str) -> tuple[str, GuestEntry]:
        """A path as the folders on it name it, and what it is. Where a file system does not care for case, neither need
        the user. MissingGuestError, UnreadGuestError."""
        path = normal(path)
        if path == "/":
            return path, GuestEntry("", EntryKind.FOLDER)
        folder, name = posixpath.split(path)
        try:
            return self._named(folder, name)
        except UnreadGuestError:
            if not self.at(path)[0].any_case or folder == "/":
                raise
            there, _ = self.entry(folder)
            if there == folder:
                raise
            return self._named(there, name)

    def _named(self, folder: str, name: str) -> tuple[str, GuestEntry]:
        alike: list[GuestEntry] = []
        any_case = self.at(folder)[0].any_case
        for entry in self.entries(folder):
            if entry.name == name:
                return joined(folder, name), entry
            if any_case and entry.name.casefold() == name.casefold():
                alike.append(entry)
        if len(alike) == 1:
            return joined(folder, alike[0].name), alike[0]
        raise MissingGuestError("it is not there")


class GuestPaths:
    """What users' paths mean on these volumes."""

    def __init__(self, volumes: GuestVolumes, systems: GuestSystems) -> None:
        self._volumes, self._systems = volumes, systems
        self._trees: dict[str, GuestTree] = {}

    def parsed(self, text: str) -> tuple[GuestTree, str, str]:
        """(tree, path in it, what a path there begins with when it is shown). UnreadGuestError."""
        if text.startswith("/"):
            return self._tree(""), normal(text), ""
        name, colon, path = text.partition(":")
        if len(name) == 1 and colon and name.isalpha():
            if name.upper() != WINDOWS[0]:
                raise UnreadGuestError(f"which volume {name.upper()}: is only its Windows knows: name the volume")
            return self._tree(WINDOWS), normal(path.replace("\\", "/")), WINDOWS
        if not colon or (path and not path.startswith("/")):
            raise UnreadGuestError("it is no path: write VOLUME:/path, or /path or C:/path of the guest's system")
        return self._tree(name), normal(path), f"{name}:"

    def _tree(self, name: str) -> GuestTree:
        if name not in self._trees:
            self._trees[name] = GuestTree(self._volumes, self._mounts(name))
        return self._trees[name]

    def _mounts(self, name: str) -> MountTree:
        match name:
            case "":
                found = self._systems.root()
            case _ if name == WINDOWS:
                found = self._systems.windows()
            case _:
                found = self._volumes.named(name)
        if isinstance(found, System):
            return self._of(found)
        self._volumes.reader(found)
        return MountTree(self._top(found, ""))

    def _of(self, one: System) -> MountTree:
        machine = self._volumes.machine

        def find(name: str, options: tuple[str, ...]) -> Answer[GuestFiles]:
            target = one.names.lookup(name).target
            if isinstance(target, Absent | Unknown):
                return target
            if not machine.is_btrfs(target):
                return self._answer(target, "")
            folder = stated_folder(options, lambda: machine.subvolumes(target))
            return self._answer(target, folder) if isinstance(folder, str) else folder

        return of_system(self._top(one.device, one.prefix), one.lines, find)

    def _answer(self, device: Device, prefix: str) -> Answer[GuestFiles]:
        files = self._volumes.machine.files(device)
        return files if isinstance(files, Absent | Unknown) else _OnVolume(files, device, prefix)

    def _top(self, device: Device, prefix: str) -> GuestFiles:
        files = self._answer(device, prefix)
        if isinstance(files, Absent | Unknown):
            raise UnreadGuestError(files.why if isinstance(files, Unknown) else "it is not there")
        return files
