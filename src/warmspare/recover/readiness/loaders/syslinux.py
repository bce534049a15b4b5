"""What SYSLINUX, EXTLINUX and ISOLINUX start by themselves, by their configuration; refuses images and modules.

As their own documentation has it: DEFAULT is a label, or a kernel; with a menu (UI, or DEFAULT of a module) the label
with MENU DEFAULT counts, then DEFAULT's, then the first. ONTIMEOUT takes its place where the wait ends.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Unknown
from warmspare.recover.readiness.guest.entries import Entry, FilePlace
from warmspare.recover.readiness.loaders import devices as looks
from warmspare.recover.readiness.loaders.devices import LoaderDevices
from warmspare.recover.readiness.loaders.started import Started

MAX_FILES = 16
MAX_LINES = 20_000
MAX_LABELS = 1000
MAX_INITRDS = 16
_FOLDERS = ("/boot/extlinux", "/extlinux", "/boot/syslinux", "/syslinux", "/boot", "")
_NAMES = ("extlinux.conf", "syslinux.cfg")
_KERNELS = {"kernel", "linux"}
_OTHERS = {
    "boot": "a boot sector",
    "bss": "a boot sector",
    "pxe": "a PXE loader",
    "fdimage": "a floppy's image",
    "comboot": "a COMBOOT program",
    "com32": "a module",
}
_ENDINGS = {
    ".bin": "a boot sector",
    ".bs": "a boot sector",
    ".bss": "a boot sector",
    ".0": "a PXE loader",
    ".img": "a floppy's image",
    ".cbt": "a COMBOOT program",
    ".com": "a COMBOOT program",
    ".c32": "a module",
}


class _LostSyslinux(Exception):
    """What is started can't be told. str: why, as a clause."""


@dataclass(slots=True)
class _Label:
    """append: None where the general one holds. depth: of the menus that it is in. what: the kind of kernel."""

    name: str
    source: str
    depth: int
    title: str = ""
    what: str = "kernel"
    kernel: str = ""
    append: str | None = None
    initrd: str = ""
    chosen: bool = False


@dataclass(slots=True)
class _Config:
    """ui, default, on_timeout: commands. append: general. waits: by PROMPT and TIMEOUT."""

    labels: list[_Label] = field(default_factory=list)
    ui: str = ""
    default: str = ""
    on_timeout: str = ""
    append: str = ""
    timeout: int = 0
    prompt: bool = False


def found(devices: LoaderDevices, folder: str = "") -> FilePlace | Absent | Unknown:
    """The configuration on the first device. folder: where it is installed, if that is known; it looks there first."""
    for each in dict.fromkeys((folder.rstrip("/"), *_FOLDERS)) if folder else _FOLDERS:
        for name in _NAMES:
            place = FilePlace("", f"{each}/{name}")
            head = looks.first(devices, place)
            if isinstance(head, Unknown):
                return head
            if isinstance(head, bytes):
                return place
    return ABSENT


def by_config(devices: LoaderDevices, path: str) -> Started:
    """From a configuration on the first device. A limit that is met makes it Unknown."""
    run = _SyslinuxRun(devices)
    try:
        started = run.started(FilePlace("", path))
    except _LostSyslinux as error:
        started = Started(Unknown(str(error)), "")
    except Exceeded as error:
        started = Started(Unknown(str(error)), "")
    config = next(iter(run.looked), None)
    return replace(started, config=started.config or config, looked=tuple(run.looked.items()))


class _SyslinuxRun:
    def __init__(self, devices: LoaderDevices) -> None:
        self._devices, self._lines, self._files = devices, 0, 0
        self.looked = dict[FilePlace, str]()

    def started(self, place: FilePlace, depth: int = 0) -> Started:
        config = _Config()
        if not self._read(place, config):
            return Started(ABSENT, f"{place.path} is not there")
        return self._chosen(config, place, depth)

    def _read(self, place: FilePlace, config: _Config) -> bool:
        """Take in a file; whether it is there."""
        self._files += 1
        if self._files > MAX_FILES:
            raise Exceeded(f"SYSLINUX's configuration has more than {MAX_FILES} files")
        data = looks.read(self._devices, place)
        if isinstance(data, Unknown):
            self.looked[place] = data.why
            raise _LostSyslinux(f"{place.path} can't be read: {data.why}")
        if isinstance(data, Absent):
            self.looked[place] = "not there"
            return False
        self.looked[place] = ""
        depth, help_text = 0, False
        for number, line in enumerate(data.decode(errors="replace").split("\n"), 1):
            self._lines += 1
            if self._lines > MAX_LINES:
                raise Exceeded(f"SYSLINUX's configuration has more than {MAX_LINES} lines")
            keyword, _, rest = line.strip().replace("\t", " ").partition(" ")
            keyword, rest = keyword.lower(), rest.strip()
            if keyword == "menu":
                second, _, rest = rest.partition(" ")
                keyword, rest = f"menu {second.lower()}", rest.strip()
            if help_text or keyword == "text":
                help_text = keyword != "endtext"
            elif keyword in ("include", "menu include"):
                self._read(self._at(place, rest.split(" ")[0]), config)
            elif keyword in ("menu begin", "menu end"):
                depth = max(depth + (1 if keyword == "menu begin" else -1), 0)
            elif keyword == "label":
                if len(config.labels) >= MAX_LABELS:
                    raise Exceeded(f"SYSLINUX's configuration has more than {MAX_LABELS} labels")
                config.labels.append(_Label(rest, f"{place.path} line {number}", depth))
            else:
                _take(config, keyword, rest)
        return True

    def _chosen(self, config: _Config, place: FilePlace, depth: int) -> Started:
        menu = bool(config.ui) or config.default.split(" ")[0].lower().endswith(".c32")
        shown = [label for label in config.labels if not label.depth]
        how, command = f"DEFAULT {config.default[:200]}", config.default
        if menu:
            marked = next((label for label in shown if label.chosen), None)
            named = next((label for label in config.labels if label.name == config.default), None)
            first = marked or named or (shown[0] if shown else None)
            if first is None:
                return Started(ABSENT, f"{place.path} has a menu without entries")
            command = first.name
            how = "MENU DEFAULT" if marked else f"DEFAULT {first.name}" if named else "the first of its menu"
        waits = ""
        if (menu or config.prompt) and not config.timeout:
            waits = "it waits for a key, for it has no TIMEOUT"
        elif (menu or config.prompt) and config.on_timeout:
            command, how = config.on_timeout, f"ONTIMEOUT {config.on_timeout[:200]}"
        if not command:
            return Started(
                ABSENT, f"{place.path} has no DEFAULT, and it waits for a command", waits="it has no DEFAULT"
            )
        return replace(self._command(config, command, how, place, depth), waits=waits)

    def _command(self, config: _Config, command: str, how: str, place: FilePlace, depth: int) -> Started:
        """What a command starts: a label with more arguments, or a kernel."""
        name, _, more = command.partition(" ")
        label = next((each for each in config.labels if each.name == name), None)
        if label is None:
            label = next((each for each in config.labels if each.name == command), None)
            more = "" if label else more
        if label is None:
            label = _Label(name, f"{place.path}, {how}", 0, kernel=name)
        title, said = label.title or label.name, f"{how}: {label.name[:200]!r}"
        file, _, arguments = label.kernel.partition(" ")
        if label.what == "config":
            if depth + 1 >= MAX_FILES:
                raise Exceeded(f"more than {MAX_FILES} configurations of SYSLINUX lead from one to the next")
            inner = self.started(self._at(place, file), depth + 1)
            return replace(inner, how=f"{said}; {inner.how}")
        if label.what == "localboot":
            return Started(ABSENT, f"{said}: LOCALBOOT leaves the start to the next device")
        if not file:
            return Started(ABSENT, f"{said} names no kernel")
        other = _OTHERS.get(label.what)
        if label.what == "kernel" and other is None:
            other = next((what for end, what in _ENDINGS.items() if file.lower().endswith(end)), None)
        if other:
            return Started(Unknown(f"it starts {other}, {file}, which is not looked into"), said)
        append = config.append if label.append is None else label.append
        words = f"{arguments} {'initrd=' + label.initrd if label.initrd else ''} {append} {more}".split()
        named = [word.removeprefix("initrd=") for word in words if word.startswith("initrd=")]
        initrds = dict.fromkeys(self._at(place, each) for each in named[-1].split(",") if each) if named else {}
        if len(initrds) > MAX_INITRDS:
            raise Exceeded(f"{label.source} names more than {MAX_INITRDS} initramfs")
        kernel = self._at(place, file)
        return Started(Entry(label.source, title, kernel, tuple(initrds), tuple(words)), said, place)

    def _at(self, config: FilePlace, path: str) -> FilePlace:
        """A file as a configuration names it: from its own folder on, unless it is absolute."""
        if path.startswith(("/", "\\")):
            return FilePlace(config.device, posixpath.normpath("/" + path.replace("\\", "/").lstrip("/")))
        folder = posixpath.dirname(config.path)
        return FilePlace(config.device, posixpath.normpath(posixpath.join(folder, path)))


def _take(config: _Config, keyword: str, rest: str) -> None:
    """A line that is neither about files nor about menus."""
    label = config.labels[-1] if config.labels else None
    match keyword:
        case "default":
            config.default = rest
        case "ui":
            config.ui = rest
        case "ontimeout":
            config.on_timeout = rest
        case "timeout":
            config.timeout = int(rest) if rest.isascii() and rest.isdigit() and len(rest) < 10 else 0
        case "prompt":
            config.prompt = rest not in ("", "0")
        case "append" if label is None:
            config.append = "" if rest == "-" else rest
        case _ if label is not None:
            _label(label, keyword, rest)


def _label(label: _Label, keyword: str, rest: str) -> None:
    match keyword:
        case "append":
            label.append = "" if rest == "-" else rest
        case "initrd":
            label.initrd = rest
        case "menu default":
            label.chosen = True
        case "menu label":
            label.title = rest.replace("^", "")
        case "localboot" | "config":
            label.what, label.kernel = keyword, rest
        case _ if keyword in _KERNELS or keyword in _OTHERS:
            label.what, label.kernel = keyword, rest
