"""The menu's entries: GRUB's own, and those that blscfg makes of the Boot Loader Specification's files."""

from __future__ import annotations

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.guest.entries import FilePlace
from warmspare.recover.readiness.loaders import bls
from warmspare.recover.readiness.loaders.grub.grub_machine import Given, GrubMachine, named
from warmspare.recover.readiness.loaders.grub.language.grub_values import Doubt, Truth, Value
from warmspare.recover.readiness.loaders.grub.language.nodes import Block
from warmspare.recover.readiness.loaders.grub.state import MenuEntry, MenuGap, State
from warmspare.recover.readiness.loaders.versions import package_key

_WITH_VALUE = ("--class", "--users", "--hotkey", "--id", "--source", "-c", "-u", "-h", "-i", "-s")


def menuentry(machine: GrubMachine, state: State, given: Given) -> Truth:
    """menuentry, submenu, hiddenentry."""
    identity: Value | None = None
    unrestricted, users, rest = False, False, list[Value]()
    words = iter(given.words[1:])
    for word in words:
        option, equals, value = ("", "", "") if isinstance(word, Doubt) else word.partition("=")
        if option in _WITH_VALUE:
            argument: Value = value if equals else next(words, "")
            if option in ("--id", "-i"):
                identity = argument
            users = users or option in ("--users", "-u")
        elif word == "--unrestricted":
            unrestricted = True
        elif word != "--" and not (isinstance(word, str) and word.startswith("--")):
            rest.append(word)
    title: Value = rest[0] if rest else ""
    identity = title if identity is None else identity
    if given.block is None or not rest:
        return False
    if isinstance(title, Doubt) or isinstance(identity, Doubt):
        why = title.why if isinstance(title, Doubt) else identity.why if isinstance(identity, Doubt) else ""
        state.add(MenuGap(f"the name of the menu's entry in {given.source} is not known: {why}", None))
        return True
    asks = users or not unrestricted
    state.add(MenuEntry(title, identity, given.source, given.block, tuple(rest), given.words[0] == "submenu", asks))
    return True


def blscfg(machine: GrubMachine, state: State, given: Given) -> Truth:
    """The entries of the folder, the greatest name first; or one of them; or but the default, or all others."""
    wanted = given.words[1] if len(given.words) > 1 else ""
    if isinstance(wanted, Doubt):
        state.add(MenuGap(wanted.why, None))
        return Doubt(wanted.why)
    folder, every = _folder(machine, state, wanted)
    if every is ABSENT:
        return True
    if isinstance(every, Unknown):
        where = f"the entries in {folder.path}" if isinstance(folder, FilePlace) else "the entries for blscfg"
        state.add(MenuGap(f"{where} can't be read: {every.why}", None))
        return Doubt(every.why)
    assert isinstance(folder, FilePlace)
    ordered = sorted(every, key=package_key, reverse=True)
    for number, name in enumerate(ordered):
        if number == bls.MAX_ENTRIES:
            state.add(MenuGap(f"{folder.path} has more than {bls.MAX_ENTRIES} entries", None))
            break
        machine.bounds.look()
        entry = bls.snippet(machine.devices, folder, name)
        if isinstance(entry, bls.UnreadEntry):
            state.add(MenuGap(entry.why, None))
        elif _is_wanted(entry, number, wanted, state):
            _add(entry, state)
    return True


def _folder(machine: GrubMachine, state: State, wanted: str) -> tuple[FilePlace | Unknown, Answer[list[str]]]:
    """Where the entries are, and their names. blsdir is on `boot` by the BIOS, else on `root`."""
    platform, boot = state.get("grub_platform"), state.get("boot")
    device = boot if boot != "" and platform != "efi" else state.get("root")
    folders: list[Value] = [state.get("blsdir") or "/loader/entries", "/boot/loader/entries"]
    if wanted.startswith("("):
        device, _, path = wanted[1:].partition(")")
        folders = [path]
    every: Answer[list[str]] = ABSENT
    place: FilePlace | Unknown = Unknown("blscfg has no folder")
    for folder in folders:
        if isinstance(device, Doubt) or isinstance(folder, Doubt):
            why = device.why if isinstance(device, Doubt) else folder.why if isinstance(folder, Doubt) else ""
            return Unknown(why), Unknown(why)
        place = FilePlace(named(device), folder.rstrip("/"))
        machine.bounds.look()
        every = bls.names(machine.devices, place)
        machine.looked[place] = "not there" if every is ABSENT else every.why if isinstance(every, Unknown) else ""
        if every is not ABSENT:
            break
    return place, every


def _is_wanted(entry: bls.Snippet, number: int, wanted: str, state: State) -> bool:
    if wanted in ("", "non-default", "default") or wanted.startswith("("):
        default = state.get("default")
        named_so = isinstance(default, str) and default in (entry.name, entry.first("title"), str(number))
        return named_so if wanted == "default" else not named_so if wanted == "non-default" else True
    return wanted in (entry.name, entry.name + ".conf")


def _add(entry: bls.Snippet, state: State) -> None:
    """An entry as commands, as blscfg makes them itself."""
    kernel, program = entry.first("linux"), entry.first("efi")
    options = " ".join(entry.every("options")) or "$default_kernelopts"
    initrds = list(entry.every("initrd"))
    early = state.get("early_initrd")
    if isinstance(early, str) and early:
        folder = (initrds[0] if initrds else kernel).rpartition("/")[0]
        initrds = [f"{folder}/{name}" for name in early.split()] + initrds
    lines = [f"linux {kernel} {options}", f"initrd {' '.join(initrds)}" if initrds else ""]
    if not kernel:
        if not program:
            return
        lines = [f"chainloader {program} {' '.join(entry.every('options'))}"]
    users = entry.first("grub_users")
    asks = bool(users if not users.startswith("$") else state.get(users.strip("${}")))
    title = entry.first("title") or kernel or program
    block = Block("\n".join(lines), 1)
    state.add(
        MenuEntry(
            title,
            entry.name,
            entry.place.path,
            block,
            (title,),
            asks=asks,
            specified=True,
            version=entry.first("version"),
        )
    )
