"""What GRUB starts by itself, from its core image on; refuses to guess where it can't follow."""

from __future__ import annotations

from dataclasses import dataclass, replace

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.guest.entries import Entry, FilePlace
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.loaders import devices as looks
from warmspare.recover.readiness.loaders.devices import LoaderDevices
from warmspare.recover.readiness.loaders.grub.commands import COMMANDS
from warmspare.recover.readiness.loaders.grub.grub_machine import Booted, Ended, GrubMachine, LeftGrub, Lost
from warmspare.recover.readiness.loaders.grub.language.grub_values import Doubt, Value, environment
from warmspare.recover.readiness.loaders.grub.language.script import NoScript
from warmspare.recover.readiness.loaders.grub.memdisk import Memdisk
from warmspare.recover.readiness.loaders.grub.menu import chosen
from warmspare.recover.readiness.loaders.grub.state import OWN, Loaded, MenuEntry, State
from warmspare.recover.readiness.loaders.started import Started

MAX_FILES = 8  # configurations that lead from one to the next
MAX_MENUS = 8  # in each other
MAX_FALLBACKS = 4
_IMAGE = "the commands in GRUB's image"
_MEMDISK = "memdisk"
_VENDORS = ("/EFI/debian", "/EFI/ubuntu")
# Their images look for the prefix on the ESP, then for an installation medium, and at last beside themselves.
_BOOTSTRAP = """if [ -z "$prefix" -o ! -e "$prefix" ]; then
  if ! search --file --set=root /.disk/info; then search --file --set=root /.disk/mini-info; fi
  set prefix=($root)/boot/grub
fi
for file in $prefix/x86_64-efi/grub.cfg $prefix/grub.cfg $cmdpath/grub.cfg; do
  if [ -e $file ]; then source $file; break; fi
done
"""
_FEATURES = (
    "feature_200_final",
    "feature_all_video_module",
    "feature_chainloader_bpb",
    "feature_default_font_path",
    "feature_menuentry_id",
    "feature_menuentry_options",
    "feature_nativedisk_cmd",
    "feature_ntldr",
    "feature_platform_search_hint",
    "feature_timeout_style",
)
_PLATFORMS = {"efi": "x86_64-efi", "pc": "i386-pc"}
_ROOT_WORDS = ("root=", "resume=", "init=", "rd.", "ostree=", "console=", "rootflags=", "rootfstype=")


@dataclass(frozen=True, slots=True)
class Core:
    """Where GRUB begins. prefix: as its core image has it (`/EFI/debian`, `(lvm/vg-root)/boot/grub`, `(,gpt2)/grub2`).
    config: the commands in the image. platform: "efi" or "pc". folder: the image's own on the ESP, absolute.
    folder_first: it looks for grub.cfg there before it looks at its prefix, as Red Hat's does. memdisk: what it
    carries. normal: the module that reads configurations is in the image."""

    prefix: str
    config: str = ""
    platform: str = "efi"
    folder: str = ""
    folder_first: bool = False
    memdisk: Memdisk | None = None
    normal: bool = True


def by_config(devices: LoaderDevices, path: str, *, platform: str = "efi") -> Started:
    """From a grub.cfg on the first device, where it is known that GRUB reads that one."""
    folder, _, name = path.rpartition("/")
    core = Core(f"({OWN}){folder}", platform=platform)
    return start(devices, core if name == "grub.cfg" else replace(core, config=f"configfile ({OWN}){path}"))


def start(devices: LoaderDevices, core: Core) -> Started:
    """From GRUB's own image. A limit that is met makes it Unknown; `Spent` is raised through."""
    devices = _Reached(devices, core)
    first = _GrubRun(devices, core, frozenset())
    started = first.started()
    if first.machine.environment.get("next_entry"):
        started = replace(started, later=_GrubRun(devices, core, frozenset({"next_entry"})).started().entry)
    return started


class _Reached:
    """The devices, and the disk in memory that the image carries."""

    def __init__(self, devices: LoaderDevices, core: Core) -> None:
        self._devices, self._core = devices, core

    def files(self, device: str) -> Answer[GuestFiles]:
        if device != f"grub:{_MEMDISK}":
            return self._devices.files(device)
        memdisk = self._core.memdisk
        if memdisk and not memdisk.readable and self._core.prefix in _VENDORS:
            return _Bootstrap()
        return memdisk or ABSENT


class _Bootstrap(Memdisk):
    """The disk in memory of Debian's and Ubuntu's signed images where it can't be read: what it does is known."""

    def __init__(self) -> None:
        self._files, self.readable = {"/grub.cfg": _BOOTSTRAP.encode()}, True


class _Ended(Ended):
    def __init__(self, started: Started) -> None:
        super().__init__()
        self.started = started


class _GrubRun:
    def __init__(self, devices: LoaderDevices, core: Core, left_out: frozenset[str]) -> None:
        self.machine = GrubMachine(devices, COMMANDS, self._configure, left_out)
        self._core, self._depth = core, 0
        self._config: FilePlace | None = None
        self._without = list[str]()  # configurations that have no menu, and why

    def started(self) -> Started:
        try:
            started = self._started()
        except _Ended as end:
            started = end.started
        except Lost as error:
            started = Started(Unknown(str(error)), "", self._config)
        except NoScript as error:
            where = self._config.path if self._config else _IMAGE
            started = Started(Unknown(f"{where} is no script of GRUB's: {error}"), "", self._config)
        except Exceeded as error:
            started = Started(Unknown(str(error)), "", self._config)
        looked, unfound = tuple(self.machine.looked.items()), tuple(dict.fromkeys(self.machine.unfound))
        return replace(started, looked=looked, unfound=unfound)

    def _started(self) -> Started:
        state = self._first()
        if self._core.config:
            self._run(state, self._core.config, _IMAGE)
        if gone := self._without_normal(state):
            return Started(ABSENT, f"GRUB ends in its rescue shell: {gone} is not there", self._config)
        if self._core.folder_first and self._core.folder:
            self._configure(state, f"({OWN}){self._core.folder}/grub.cfg")
        prefix = state.get("prefix")
        self._configure(state, prefix if isinstance(prefix, Doubt) else f"{prefix}/grub.cfg")
        without = ", and ".join(dict.fromkeys(self._without))
        beside = FilePlace("", f"{self._core.folder}/grub.cfg")
        if self._core.folder and beside not in self.machine.looked:
            self.machine.bounds.look()
            if looks.first(self.machine.devices, beside) is not ABSENT:
                why = (
                    f"{without}; GRUB of some vendors reads {beside.path} beside itself then, others end in their shell"
                )
                return Started(Unknown(why), why, self._config)
        return Started(ABSENT, f"GRUB ends in its shell: {without}", self._config)

    def _without_normal(self, state: State) -> str:
        """The module without which GRUB reads no configuration, where it is certain that it is not there; else ""."""
        prefix = state.get("prefix")
        # SUSE's have them in a subvolume of their own; other images carry them on a disk in memory.
        elsewhere = "btrfs-mount-subvol" in self._core.config or self._core.memdisk is not None
        if self._core.normal or elsewhere or isinstance(prefix, Doubt):
            return ""
        place = self.machine.place(state, f"{prefix}/{_PLATFORMS[self._core.platform]}/normal.mod")
        if isinstance(place, Unknown):
            return ""
        self.machine.bounds.look()
        if looks.first(self.machine.devices, place) is not ABSENT:
            return ""
        # An empty folder is one that something is mounted on.
        beside = looks.listed(self.machine.devices, FilePlace(place.device, place.path.rpartition("/")[0]))
        return "" if beside == [] or isinstance(beside, Unknown) else place.path

    def _first(self) -> State:
        core, prefix = self._core, self._core.prefix
        if not prefix.startswith("("):
            prefix = f"({OWN}){prefix}"
        if prefix.endswith(")"):  # a device alone: the folder is the image's
            prefix += core.folder
        state = State(
            {
                "prefix": prefix,
                "root": prefix[1:].partition(")")[0],
                "grub_platform": core.platform,
                "grub_cpu": "x86_64" if core.platform == "efi" else "i386",
                **dict.fromkeys(_FEATURES, "y"),
            }
        )
        if core.folder:
            state.set("cmdpath", f"({OWN}){core.folder}")
            state.set("fw_path", f"({OWN}){core.folder}")
        state.exported |= set(state.variables)
        return state

    def _configure(self, state: State, file: Value) -> None:
        """Have a configuration's menu count. Returns where it has none, or is not there."""
        place, data = self.machine.place(state, file), self.machine.read(state, file)
        where = place.path if isinstance(place, FilePlace) else "GRUB's configuration"
        if isinstance(data, Unknown):
            raise Lost(f"{where} can't be read: {data.why}")
        if isinstance(data, Absent):
            self._without.append(f"{where} is not there")
            return
        assert isinstance(place, FilePlace)
        self._depth += 1
        if self._depth > MAX_FILES:
            raise Exceeded(f"more than {MAX_FILES} configurations of GRUB lead from one to the next")
        self._config = place
        inner = state.inner()
        for name, value in (("config_file", file), ("config_directory", str(file).rpartition("/")[0])):
            inner.set(name, value)
            inner.exported.add(name)
        self._run(inner, data.decode(errors="replace"), place.path)
        self._depth -= 1
        self._without.append(f"{where} has no menu")

    def _run(self, state: State, text: str, name: str) -> None:
        """Run a file's commands; what comes of them is raised. Returns where that is nothing."""
        try:
            self.machine.file(state, text, name)
        except Booted:
            raise _Ended(self._ended(state.loaded, "", f"{name} starts it by itself")) from None
        except LeftGrub as end:
            raise _Ended(Started(ABSENT, str(end), self._config)) from None
        if state.menu:
            raise _Ended(self._menu(state))

    def _menu(self, state: State) -> Started:
        read = [place for place, why in self.machine.looked.items() if not why]
        self._config = self._config or (read[-1] if read else None)
        default, unread = state.get("default"), ""
        if default == "" and not self.machine.environment:
            default, unread = self._saved(state), " (of grubenv, which the menu itself does not load)"
        started = self._entered(state, default, "", 0)
        if unread and default != "":
            started = replace(started, how=started.how + unread)
        return replace(started, waits=self._waits(state) or started.waits, fallbacks=self._fallbacks(state))

    def _saved(self, state: State) -> Value:
        """What grubenv keeps as the default where the menu takes that and no command loads it: who set it meant it to
        count, and some images load it before they read any configuration."""
        prefix = state.get("prefix")
        if "default" not in state.variables or isinstance(prefix, Doubt):
            return ""
        data = self.machine.read(state, f"{prefix}/grubenv")
        return environment(data).get("saved_entry", "") if isinstance(data, bytes) else ""

    def _waits(self, state: State) -> str:
        timeout = state.get("timeout")
        if timeout == "" or (isinstance(timeout, str) and timeout.lstrip().startswith("-")):
            return "its menu has no timeout and waits for a key"
        return ""

    def _fallbacks(self, state: State) -> tuple[Answer[Entry], ...]:
        """What else GRUB tries, by number or name."""
        value = state.get("fallback")
        values = value.split()[:MAX_FALLBACKS] if isinstance(value, str) else []
        return tuple(self._entered(state, each, "", 0).entry for each in values)

    def _entered(self, state: State, default: Value, above: str, depth: int) -> Started:
        """What a menu's choice starts. above: the titles of the submenus that lead here."""
        if depth > MAX_MENUS:
            raise Exceeded(f"more than {MAX_MENUS} menus of GRUB are in each other")
        choice = chosen(state.menu, "0" if default == "" else default)
        if isinstance(choice, Doubt):
            return Started(Unknown(choice.why), "", self._config)
        entry, how = choice.entry, choice.how
        title = f"{above}>{entry.title}" if above else entry.title
        inside = state.inner() if entry.submenu else state.copy()
        inside.menu, inside.parameters, inside.loaded = [], ("", *entry.parameters), Loaded()
        inside.set("chosen", title)
        inside.set("default", choice.rest)
        try:
            self.machine.block(inside, entry.block, entry.source)
        except Booted:
            pass
        except LeftGrub as end:
            return Started(ABSENT, f"{how}: {title!r}; {end}", self._config)
        except NoScript as error:
            unread = Unknown(f"{entry.source} is no script of GRUB's: {error}")
            return Started(unread, f"{how}: {title!r}", self._config)
        if entry.submenu and inside.menu:
            inner = self._entered(inside, choice.rest, title, depth + 1)
            started = replace(inner, how=f"{how}; {inner.how}" if inner.how else how)
        else:
            started = self._ended(inside.loaded, title, how, entry)
        return replace(started, waits=self._asked(state, entry) or started.waits)

    def _asked(self, state: State, entry: MenuEntry) -> str:
        users = state.get("superusers")
        if entry.asks and isinstance(users, str) and users.strip():
            return f"the entry {entry.title[:80]!r} asks for a name and a password"
        return ""

    def _ended(self, loaded: Loaded, title: str, how: str, entry: MenuEntry | None = None) -> Started:
        said = f"{how}: {title!r}" if title else how
        if loaded.doubt:
            return Started(Unknown(loaded.doubt), said, self._config)
        if loaded.kernel is None:
            why = loaded.nothing or "it loads no kernel"
            nothing = Unknown(f"{title!r}: {why}") if loaded.nothing else ABSENT
            return Started(nothing, f"{said}; {why}", self._config, program=loaded.program)
        words = list[str]()
        for argument in loaded.arguments:
            if isinstance(argument, str):
                words.append(argument)
            elif not argument.among or any(each.startswith(_ROOT_WORDS) for each in argument.among):
                why = f"the kernel's command line in {loaded.source} is not wholly known: {argument.why}"
                return Started(Unknown(why), said, self._config)
        source, version = (entry.source, entry.version) if entry and entry.specified else (loaded.source, "")
        return Started(Entry(source, title, loaded.kernel, loaded.initrds, tuple(words), version), said, self._config)
