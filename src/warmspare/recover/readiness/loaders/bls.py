"""Entries of the Boot Loader Specification, as files; owns their format, and not which of them is the default."""

from __future__ import annotations

import re
from dataclasses import dataclass

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import Absent, Answer, Unknown
from warmspare.recover.readiness.guest.entries import FilePlace
from warmspare.recover.readiness.loaders import devices as looks
from warmspare.recover.readiness.loaders.devices import LoaderDevices

MAX_ENTRIES = 64  # of a folder, whose contents are read
MAX_BYTES = 1 << 16  # of one
MAX_KEYS = 200
_LINE = re.compile(r"[ \t]*([A-Za-z0-9_-]+)[ \t]+([^\n]*)")


@dataclass(frozen=True, slots=True)
class Snippet:
    """One entry's file. name: without .conf. keys: in order, with all that is said of each."""

    place: FilePlace
    name: str
    keys: dict[str, tuple[str, ...]]

    def first(self, key: str) -> str:
        return self.keys.get(key, ("",))[0]

    def every(self, key: str) -> tuple[str, ...]:
        return self.keys.get(key, ())


@dataclass(frozen=True, slots=True)
class UnreadEntry:
    """An entry's file that can't be read. name: without .conf."""

    name: str
    why: str


def names(devices: LoaderDevices, folder: FilePlace) -> Answer[list[str]]:
    """The entries of a folder, without .conf, as the folder has them."""
    listed = looks.listed(devices, folder)
    if isinstance(listed, Absent | Unknown):
        return listed
    return [name[:-5] for name in listed if name.lower().endswith(".conf") and not name.startswith(".")]


def snippet(devices: LoaderDevices, folder: FilePlace, name: str) -> Snippet | UnreadEntry:
    """One of them. One that is gone meanwhile can't be read either."""
    place = FilePlace(folder.device, f"{folder.path.rstrip('/')}/{name}.conf")
    files = devices.files(place.device)
    data = files if isinstance(files, Absent | Unknown) else files.read(place.path, most_bytes=MAX_BYTES)
    if isinstance(data, bytes):
        return Snippet(place, name, keys(data, place.path))
    return UnreadEntry(name, data.why if isinstance(data, Unknown) else f"{place.path} is listed, and can't be read")


def keys(data: bytes, path: str) -> dict[str, tuple[str, ...]]:
    """A file's keys. Exceeded where there are more than any has."""
    found, count = dict[str, list[str]](), 0
    for line in data.decode(errors="replace").replace("\r", "").split("\n"):
        if match := _LINE.match(line):
            count += 1
            if count > MAX_KEYS:
                raise Exceeded(f"{path} has more than {MAX_KEYS} lines")
            found.setdefault(match[1], []).append(match[2].strip(" \t"))
    return {key: tuple(values) for key, values in found.items()}
