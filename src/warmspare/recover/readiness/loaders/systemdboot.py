"""What systemd-boot starts by itself: its entries' order, loader.conf's default, counters; owns no entry's format.

A recovered machine has none of the old one's EFI variables, so what was chosen or saved there counts for nothing. An
entry whose kernel or program is not there is no entry: systemd-boot leaves it out.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, replace
from functools import cmp_to_key

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Unknown
from warmspare.recover.readiness.guest.entries import Entry, FilePlace
from warmspare.recover.readiness.loaders import bls, uki
from warmspare.recover.readiness.loaders import devices as looks
from warmspare.recover.readiness.loaders.devices import LoaderDevices
from warmspare.recover.readiness.loaders.started import Started
from warmspare.recover.readiness.loaders.versions import uapi_order

CONFIG = "/loader/loader.conf"
WINDOWS = "/EFI/Microsoft/Boot/bootmgfw.efi"
MAX_ENTRIES = 64
MAX_PATTERN = 256
MAX_INITRDS = 16
_COUNTED = re.compile(r"(.*)\+([0-9]{1,9})(?:-([0-9]{1,9}))?", re.DOTALL)


class _LostSystemdBoot(Exception):
    """What is started can't be told. str: why, as a clause."""


@dataclass(frozen=True, slots=True)
class _Item:
    """id: as patterns name it, with its ending and without counters. left: tries; None where they are not counted."""

    id: str
    what: bls.Snippet | uki.UkiImage
    sort_key: str
    machine_id: str
    version: str
    left: int | None
    done: int


def start(devices: LoaderDevices, extended: str = "") -> Started:
    """From the ESP, the first device, and the extended boot partition, "" where there is none. A limit that is met
    makes it Unknown; `Spent` is raised through."""
    run = _BootRun(devices)
    try:
        started = run.started(["", extended] if extended else [""])
    except _LostSystemdBoot as error:
        started = Started(Unknown(str(error)), "", FilePlace("", CONFIG))
    except Exceeded as error:
        started = Started(Unknown(str(error)), "", FilePlace("", CONFIG))
    return replace(started, looked=tuple(run.looked.items()))


class _BootRun:
    def __init__(self, devices: LoaderDevices) -> None:
        self._devices = devices
        self.looked = dict[FilePlace, str]()

    def started(self, sources: list[str]) -> Started:
        settings = self._settings()
        items = sorted((item for device in sources for item in self._items(device)), key=_KEY)
        pattern = settings.get("default", "").lower()
        waits = "its timeout is menu-force, and it waits for a key" if settings.get("timeout") == "menu-force" else ""
        left_out = list[str]()
        if pattern and not pattern.startswith("@"):
            if len(pattern) > MAX_PATTERN:
                raise Exceeded(f"the default of {CONFIG} has more than {MAX_PATTERN} characters")
            matching = [item for item in items if fnmatch.fnmatchcase(item.id, pattern)]
            if started := self._first(matching, f"default {pattern}", left_out):
                return replace(started, waits=waits)
        how = (
            f"default {pattern} names no entry, and it takes the first then" if pattern else "the first of its entries"
        )
        if pattern.startswith("@"):
            how = (
                f"default {pattern} is kept in EFI variables, which a new machine has none of: the first of its entries"
            )
        if started := self._first(items, how, left_out):
            return replace(started, waits=waits)
        missing = f" ({', '.join(left_out)})" if left_out else ""
        if isinstance(looks.first(self._devices, FilePlace("", WINDOWS)), bytes):
            why = "systemd-boot has no entry of its own, and starts Windows' boot manager"
            return Started(Unknown(why), why + missing, FilePlace("", CONFIG), program=FilePlace("", WINDOWS))
        return Started(ABSENT, f"systemd-boot has no entry{missing}", FilePlace("", CONFIG))

    def _settings(self) -> dict[str, str]:
        """Of loader.conf; the last line counts."""
        place = FilePlace("", CONFIG)
        data = looks.read(self._devices, place)
        self.looked[place] = "" if isinstance(data, bytes) else "not there" if data is ABSENT else data.why
        if isinstance(data, Unknown):
            raise _LostSystemdBoot(f"{CONFIG} can't be read: {data.why}")
        keys = bls.keys(data, CONFIG) if isinstance(data, bytes) else {}
        return {key: values[-1] for key, values in keys.items()}

    def _items(self, device: str) -> list[_Item]:
        """All entries of a file system, of either type."""
        items, folder = list[_Item](), FilePlace(device, "/loader/entries")
        for name in self._names(folder, ".conf"):
            snippet = bls.snippet(self._devices, folder, name)
            if isinstance(snippet, bls.UnreadEntry):
                raise _LostSystemdBoot(snippet.why)
            if snippet.first("architecture").lower() not in ("", "x64", "x86-64", "x86_64"):
                continue
            base, left, done = _counted(name)
            items.append(
                _Item(
                    f"{base}.conf".lower(),
                    snippet,
                    snippet.first("sort-key"),
                    snippet.first("machine-id").lower(),
                    snippet.first("version"),
                    left,
                    done,
                )
            )
        folder = FilePlace(device, "/EFI/Linux")
        for name in self._names(folder, ".efi"):
            files = self._devices.files(device)
            place = FilePlace(device, f"{folder.path}/{name}.efi")
            image = files if isinstance(files, Absent | Unknown) else uki.image(files, place)
            if isinstance(image, Unknown):
                raise _LostSystemdBoot(f"{place.path} can't be read: {image.why}")
            if isinstance(image, uki.UkiImage):
                base, left, done = _counted(name)
                items.append(_Item(f"{base}.efi".lower(), image, image.sort_key, "", image.version, left, done))
        return items

    def _names(self, folder: FilePlace, ending: str) -> list[str]:
        """Names in a folder without their ending."""
        listed = looks.listed(self._devices, folder)
        self.looked[folder] = "" if isinstance(listed, list) else "not there" if listed is ABSENT else listed.why
        if isinstance(listed, Unknown):
            raise _LostSystemdBoot(f"{folder.path} can't be read: {listed.why}")
        every = listed if isinstance(listed, list) else []
        names = [name[: -len(ending)] for name in every if name.lower().endswith(ending)]
        names = [name for name in names if not name.startswith((".", "auto-"))]
        if len(names) > MAX_ENTRIES:
            raise Exceeded(f"{folder.path} has more than {MAX_ENTRIES} entries")
        return names

    def _first(self, items: list[_Item], how: str, left_out: list[str]) -> Started | None:
        """The first that is whole. left_out: those that are not, and why."""
        for item in items:
            started = self._item(item, f"{how}: {item.id}")
            if isinstance(started, Started):
                return started
            if started not in left_out:
                left_out.append(started)
        return None

    def _item(self, item: _Item, how: str) -> Started | str:
        """What an entry starts; why it is none, as a clause."""
        config = FilePlace("", CONFIG)
        if isinstance(item.what, uki.UkiImage):
            return Started(item.what.entry(), how, config)
        snippet = item.what
        program = snippet.first("uki") or snippet.first("efi")
        file = snippet.first("linux") or program
        if not file:
            return f"{snippet.place.path} names no kernel"
        place = FilePlace(snippet.place.device, _absolute(file))
        head = looks.first(self._devices, place)
        if isinstance(head, Unknown):
            raise _LostSystemdBoot(f"{place.path} can't be read: {head.why}")
        if isinstance(head, Absent):
            return f"{snippet.place.path} is left out, for {place.path} is not there"
        options = " ".join(snippet.every("options"))
        if not snippet.first("linux"):
            return self._program(snippet, place, options, how)
        initrds = dict.fromkeys(FilePlace(place.device, _absolute(each)) for each in snippet.every("initrd") if each)
        if len(initrds) > MAX_INITRDS:
            raise Exceeded(f"{snippet.place.path} names more than {MAX_INITRDS} initramfs")
        title = snippet.first("title") or snippet.name
        entry = Entry(
            snippet.place.path, title, place, tuple(initrds), tuple(options.split()), snippet.first("version")
        )
        return Started(entry, how, config)

    def _program(self, snippet: bls.Snippet, place: FilePlace, options: str, how: str) -> Started:
        files = self._devices.files(place.device)
        image = files if isinstance(files, Absent | Unknown) else uki.image(files, place)
        if isinstance(image, uki.UkiImage):
            entry = replace(
                image.entry(options), source=snippet.place.path, title=snippet.first("title") or image.title
            )
            return Started(entry, how, FilePlace("", CONFIG))
        why = image.why if isinstance(image, Unknown) else f"it starts another program, {place.path}"
        return Started(Unknown(why), how, FilePlace("", CONFIG), program=place)


def _absolute(path: str) -> str:
    return "/" + path.replace("\\", "/").lstrip("/")


def _counted(name: str) -> tuple[str, int | None, int]:
    """A file's name without its boot counters, and these: tries left, tries done."""
    match = _COUNTED.fullmatch(name)
    return (match[1], int(match[2]), int(match[3] or 0)) if match else (name, None, 0)


def _order(one: _Item, other: _Item) -> int:
    """Which comes first. Those that have no tries left come last; those with a sort-key before those without."""

    def ascending(left: str, right: str) -> int:
        return (left > right) - (left < right)

    orders = [(one.left == 0) - (other.left == 0), (not one.sort_key) - (not other.sort_key)]
    if one.sort_key and other.sort_key:
        orders += [
            ascending(one.sort_key, other.sort_key),
            ascending(one.machine_id, other.machine_id),
            -uapi_order(one.version, other.version),
        ]
    orders.append(-uapi_order(one.id, other.id))
    if one.left is not None and other.left is not None:
        orders += [other.left - one.left, one.done - other.done]
    return next((order for order in orders if order), 0)


_KEY = cmp_to_key(_order)
