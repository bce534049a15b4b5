"""Files of a whole system: its root's with what fstab mounts into it; refuses to tell what no reader tells of links.

The longest mount point counts, and of one that is mounted twice the last. What is on a volume that can't be read is not
known, and neither is what is on one that is not there: the folder under it is not what the system would see.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES, GuestFiles

MAX_MOUNTS = 256
_EMPTY = {
    "tmpfs",
    "ramfs",
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "efivarfs",
    "hugetlbfs",
    "mqueue",
    "pstore",
    "bpf",
    "selinuxfs",
    "fusectl",
}
_BINDS = {"bind", "rbind"}
# Folders that are links into /usr in every system that has merged them: the link's own target no reader tells.
_MERGED = ("lib", "lib64", "bin", "sbin")


class TreeMount(Protocol):
    """A line of fstab, as far as it counts here."""

    @property
    def device(self) -> str: ...

    @property
    def point(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def options(self) -> tuple[str, ...]: ...


Find = Callable[[str, tuple[str, ...]], Answer[GuestFiles]]
"""The files of what a device's name in fstab means, with its mount options (`subvol=`)."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """point: a normal path. files: of what is mounted there."""

    point: str
    files: Answer[GuestFiles]


class Folder:
    """`GuestFiles` of a folder of other files, as if it were the root: what a bind mount gives."""

    def __init__(self, files: GuestFiles, path: str) -> None:
        self._files, self._path = files, path.rstrip("/")

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        return self._files.read(self._whole(path), most_bytes=most_bytes)

    def head(self, path: str, count: int) -> Answer[bytes]:
        return self._files.head(self._whole(path), count)

    def stream(self, path: str) -> AbstractContextManager[BinaryIO]:
        return self._files.stream(self._whole(path))

    def names(self, path: str) -> Answer[list[str]]:
        return self._files.names(self._whole(path))

    @property
    def home(self) -> tuple[GuestFiles, str]:
        """The files that it is a folder of, and its path there, "" for their own top."""
        return self._files, self._path

    def _whole(self, path: str) -> str:
        return self._path + normal(path)


class MountTree:
    """`GuestFiles`. root: the root's. mounts: into it, in their order."""

    def __init__(self, root: GuestFiles, mounts: Sequence[Mounted] = ()) -> None:
        self._root = root
        self._mounts = sorted(mounts, key=lambda mounted: len(mounted.point))  # of equal ones the last stays the last
        self._merged: dict[str, bool] = {}

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        files, inside = self.at(path)
        return files.read(inside, most_bytes=most_bytes) if not isinstance(files, Absent | Unknown) else files

    def head(self, path: str, count: int) -> Answer[bytes]:
        files, inside = self.at(path)
        return files.head(inside, count) if not isinstance(files, Absent | Unknown) else files

    @contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        files, inside = self.at(path)
        if isinstance(files, Unknown):
            raise OSError(files.why)
        if isinstance(files, Absent):
            raise FileNotFoundError("it is not there")
        with files.stream(inside) as file:
            yield file

    def names(self, path: str) -> Answer[list[str]]:
        """What a folder holds. A mount point is named only where the folder that it is in names it."""
        files, inside = self.at(path)
        return files.names(inside) if not isinstance(files, Absent | Unknown) else files

    def at(self, path: str) -> tuple[Answer[GuestFiles], str]:
        """Whose file a path is, and its path there."""
        path = self._followed(normal(path))
        for mounted in reversed(self._mounts):
            if path == mounted.point or path.startswith(mounted.point + "/"):
                return mounted.files, path[len(mounted.point) :] or "/"
        return self._root, path

    def _followed(self, path: str) -> str:
        """A path through the links into /usr that merged systems have; only one that is a link is followed."""
        first = path.split("/", 2)[1]
        if first not in _MERGED or any(mounted.point == f"/{first}" for mounted in self._mounts):
            return path
        if first not in self._merged:
            names = self._root.names("/")
            self._merged[first] = isinstance(names, list) and first in names and f"{first}/" not in names
        return f"/usr{path}" if self._merged[first] else path


def normal(path: str) -> str:
    """An absolute path without `.`, `..` and doubled slashes."""
    return "/" + posixpath.normpath("/" + path).lstrip("/")


def of_system(root: GuestFiles, mounts: Sequence[TreeMount], find: Find) -> MountTree:
    """A system's tree by its fstab. The root's own line is left out, and what is not mounted at the start."""
    done: list[Mounted] = []
    for mount in mounts[:MAX_MOUNTS]:
        if _is_mounted(mount):
            done.append(Mounted(normal(mount.point), _files(root, done, mount, find)))
    if len(mounts) > MAX_MOUNTS:
        why = Unknown(f"fstab has more than {MAX_MOUNTS} lines, and what they mount was not looked at")
        done += [Mounted(normal(mount.point), why) for mount in mounts[MAX_MOUNTS:] if _is_mounted(mount)]
    return MountTree(root, done)


def _is_mounted(mount: TreeMount) -> bool:
    """Whether something is there as soon as it is looked at. The root is there before."""
    if not mount.point.startswith("/") or normal(mount.point) == "/":
        return False
    return "noauto" not in mount.options or "x-systemd.automount" in mount.options


def _files(root: GuestFiles, before: Sequence[Mounted], mount: TreeMount, find: Find) -> Answer[GuestFiles]:
    point = normal(mount.point)
    if _BINDS & {*mount.options} or mount.kind == "bind":
        files, inside = MountTree(root, before).at(mount.device)
        return Folder(files, inside) if not isinstance(files, Absent | Unknown) else files
    if mount.kind in _EMPTY:
        return ABSENT
    if mount.kind == "overlay":
        return Unknown(f"{point} is put together of other folders")
    found = find(mount.device, mount.options)
    if found is ABSENT:
        return Unknown(f"{point} is on {mount.device}, which is not there")
    if isinstance(found, Unknown):
        return Unknown(f"{point} is on {mount.device}: {found.why}")
    return found
