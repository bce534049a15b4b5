"""GRUB's commands that decide what is started; any other has no effect on that, and what it finds is a doubt."""

from __future__ import annotations

import re

from warmspare.recover.readiness.answers import ABSENT, Absent, Unknown
from warmspare.recover.readiness.loaders.grub.grub_machine import Given, GrubMachine, Lost, Run, named
from warmspare.recover.readiness.loaders.grub.language.conditions import holds
from warmspare.recover.readiness.loaders.grub.language.grub_values import Doubt, Truth, Value, environment
from warmspare.recover.readiness.loaders.grub.language.script import NoScript
from warmspare.recover.readiness.loaders.grub.loading import LOADING
from warmspare.recover.readiness.loaders.grub.menu_entries import blscfg, menuentry
from warmspare.recover.readiness.loaders.grub.state import State

_HINT = re.compile(r"-h|--hint(?:-(?:bios|efi|baremetal|ieee1275|arc))?")
_SEARCHED = {
    "-u": "uuid",
    "--fs-uuid": "uuid",
    "-l": "label",
    "--label": "label",
    "--fs-label": "label",
    "-f": "file",
    "--file": "file",
    "-p": "partuuid",
    "--part-uuid": "partuuid",
}
_NAMED = {"search.fs_uuid": "uuid", "search.fs_label": "label", "search.file": "file", "search.part_uuid": "partuuid"}
_GIVES = re.compile(r"(?:--set|-s|-d|-u)(?:=(?:[0-9]+:)?([A-Za-z_][A-Za-z0-9_]*))?")
_VARIABLE = re.compile(r"(?:[0-9]+:)?([A-Za-z_][A-Za-z0-9_]*)")


def _set(machine: GrubMachine, state: State, given: Given) -> Truth:
    for word in given.words[1:]:
        if isinstance(word, Doubt):
            _set_doubt(state, word)
            continue
        name, equals, value = word.partition("=")
        if equals:
            state.set(name, value)
    return True


def _set_doubt(state: State, word: Doubt) -> None:
    """An assignment of which not all is known. Nothing can be said any more where the name is not."""
    parts = [each.partition("=") for each in word.among]
    names = {name for name, equals, _ in parts if equals}
    if len(names) == 1 and all(equals for _, equals, _ in parts):
        state.set(names.pop(), Doubt(word.why, frozenset(value for _, _, value in parts)))
    elif word.among != {""}:
        raise Lost(word.why)


def _unset(machine: GrubMachine, state: State, given: Given) -> Truth:
    for word in given.words[1:]:
        if isinstance(word, str):
            state.set(word, "")
    return True


def _export(machine: GrubMachine, state: State, given: Given) -> Truth:
    for word in given.words[1:]:
        if isinstance(word, str):
            name, equals, value = word.partition("=")
            state.exported.add(name)
            if equals:
                state.set(name, value)
    return True


def _test(machine: GrubMachine, state: State, given: Given) -> Truth:
    words = given.words[1:]
    if given.words[0] == "[":
        if not words or words[-1] != "]":
            return False
        words = words[:-1]
    return holds(words, lambda kind, file: machine.exists(state, kind, file))


def _load_env(machine: GrubMachine, state: State, given: Given) -> Truth:
    """Of the environment block; a part of it where variables are named."""
    file: Value = ""
    wanted, words = list[str](), iter(given.words[1:])
    for word in words:
        if word in ("-f", "--file"):
            file = next(words, "")
        elif isinstance(word, Doubt):
            file = word
        elif word.startswith("--file="):
            file = word[7:]
        elif not word.startswith("-"):
            wanted.append(word)
    if file == "":
        prefix = state.get("prefix")
        file = prefix if isinstance(prefix, Doubt) else f"{prefix}/grubenv"
    data = machine.read(state, file)
    if isinstance(data, Absent):
        return False
    if isinstance(data, Unknown):
        doubt = Doubt(f"GRUB's environment block can't be read: {data.why}")
        for name in wanted or ("saved_entry", "next_entry", "default"):
            state.set(name, doubt)
        if not wanted:
            state.missing = doubt
        return doubt
    for name, value in environment(data).items():
        if (not wanted or name in wanted) and name not in machine.left_out:
            state.set(name, value)
            machine.environment[name] = value
    return True


def _search(machine: GrubMachine, state: State, given: Given) -> Truth:
    kind, variable, words = "file", "", iter(given.words[1:])
    wanted: Value | None = None
    named = False  # the word before was --set, which takes a name where there is one more word to search for
    for word in words:
        before, named = named, word in ("--set", "-s")
        if isinstance(word, Doubt):
            wanted = wanted or word
        elif _HINT.fullmatch(word):
            next(words, "")
        elif word in _SEARCHED:
            kind = _SEARCHED[word]
        elif word in ("--set", "-s"):
            variable = "root"
        elif word.startswith("--set="):
            variable = word[6:]
        elif before and not word.startswith("-"):
            variable = word
        elif not word.startswith("-"):
            wanted = word if wanted is None else wanted
    if wanted is None and variable and "--set" in given.words:
        wanted, variable = variable, "root"
    return _found(machine, state, kind, wanted, variable)


def _search_named(machine: GrubMachine, state: State, given: Given) -> Truth:
    name = given.words[0]
    words = [word for word in given.words[1:] if isinstance(word, Doubt) or not word.startswith("-")]
    variable = words[1] if len(words) > 1 else "root"
    if isinstance(variable, Doubt):
        raise Lost(variable.why)
    return _found(machine, state, _NAMED[str(name)], words[0] if words else None, variable)


def _found(machine: GrubMachine, state: State, kind: str, wanted: Value | None, variable: str) -> Truth:
    """The device that is searched for. Where it is not there, the variable stays as it is."""
    if wanted is None:
        return False
    if isinstance(wanted, Doubt):
        state.set(variable or "root", Doubt(wanted.why))
        return Doubt(wanted.why)
    device = f"{kind}:{wanted}"
    machine.bounds.look()
    files = machine.devices.files(device)
    if files is ABSENT:
        machine.unfound.append(device)
        return False
    if variable:
        state.set(variable, device)
    return Doubt(files.why) if isinstance(files, Unknown) else True


def _source(machine: GrubMachine, state: State, given: Given) -> Truth:
    """Another file's commands in this context. One that is not there has no effect."""
    file = given.words[1] if len(given.words) > 1 else ""
    data = machine.read(state, file)
    if isinstance(data, Absent):
        return False
    if isinstance(data, Unknown):
        raise Lost(f"GRUB reads on in {_said(file)}, and that can't be read: {data.why}")
    try:
        machine.file(state, data.decode(errors="replace"), _said(file).rpartition(")")[2])
    except NoScript as error:
        raise Lost(f"{_said(file)} is no script of GRUB's: {error}") from None
    return state.status


def _said(value: Value) -> str:
    return value[:200] if isinstance(value, str) else "another file"


def _configfile(machine: GrubMachine, state: State, given: Given) -> Truth:
    machine.configure(state, given.words[1] if len(given.words) > 1 else "")
    return False


def _normal(machine: GrubMachine, state: State, given: Given) -> Truth:
    if len(given.words) > 1:
        return _configfile(machine, state, given)
    prefix = state.get("prefix")
    machine.configure(state, prefix if isinstance(prefix, Doubt) else f"{prefix}/grub.cfg")
    return False


def _probe(machine: GrubMachine, state: State, given: Given) -> Truth:
    """What a file system is called, where that is how it was found."""
    words = [word for word in given.words if isinstance(word, str)]
    device = next((named(word.strip("()")) for word in words[1:] if word.startswith(("(", "uuid:"))), "")
    if device.startswith("uuid:") and {"-u", "--fs-uuid"} & {*words}:
        for at, word in enumerate(words):
            name = words[at + 1 : at + 2] if word in ("--set", "-s") else [word.partition("=")[2]]
            if word.startswith(("--set", "-s")) and name:
                state.set(name[0], device.removeprefix("uuid:"))
                return True
    return _other(machine, state, given)


def _other(machine: GrubMachine, state: State, given: Given) -> Truth:
    """A command that is not looked at: its result, and the variables that it is given to set, are a doubt."""
    doubt = Doubt(f"it depends on what GRUB's command {_said(given.words[0])[:40]!r} finds when it runs")
    words = given.words[1:]
    for at, word in enumerate(words):
        if not isinstance(word, str):
            continue
        gives = _GIVES.fullmatch(word) or re.fullmatch(r"--set=[0-9]+", word)
        following = words[at + 1] if at + 1 < len(words) else ""
        name = gives[1] if gives and gives.lastindex else None
        if name is None and gives and isinstance(following, str) and (match := _VARIABLE.fullmatch(following)):
            name = match[1]
        if name:
            state.set(name, doubt)
    if given.words[0] == "read" and words and isinstance(words[-1], str):
        state.set(words[-1], doubt)
    return doubt


def _hwmatch(machine: GrubMachine, state: State, given: Given) -> Truth:
    doubt = Doubt("it depends on the graphics card that GRUB finds")
    state.set("match", doubt)
    return doubt


def _setparams(machine: GrubMachine, state: State, given: Given) -> Truth:
    state.parameters = (state.parameters[:1] or ("",)) + tuple(given.words[1:])
    return True


def _shift(machine: GrubMachine, state: State, given: Given) -> Truth:
    state.parameters = state.parameters[:1] + state.parameters[2:]
    return True


def _eval(machine: GrubMachine, state: State, given: Given) -> Truth:
    """Its words as commands."""
    words = given.words[1:]
    if doubt := next((word for word in words if isinstance(word, Doubt)), None):
        raise Lost(doubt.why)
    try:
        machine.file(state, " ".join(str(word) for word in words), given.source.rpartition(" line ")[0] or given.source)
    except NoScript as error:
        raise Lost(f"what eval is given in {given.source} is no script of GRUB's: {error}") from None
    return state.status


def _count(machine: GrubMachine, state: State, given: Given) -> Truth:
    """`increment` and `decrement`, of Red Hat's and Fedora's: a number one up or down."""
    name = given.words[1] if len(given.words) > 1 else ""
    if isinstance(name, Doubt):
        raise Lost(name.why)
    value = state.get(name)
    number = value if isinstance(value, Doubt) else re.fullmatch(r"[-+]?[0-9]{1,18}", value)
    if number is None:
        return False
    if isinstance(number, Doubt):
        state.set(name, Doubt(number.why))
        return Doubt(number.why)
    state.set(name, str(int(number[0]) + (1 if given.words[0] == "increment" else -1)))
    return True


def _true(machine: GrubMachine, state: State, given: Given) -> Truth:
    return True


def _false(machine: GrubMachine, state: State, given: Given) -> Truth:
    """Nobody holds a key (`keystatus`), nor interrupts."""
    return False


COMMANDS: dict[str, Run] = {
    "set": _set,
    "unset": _unset,
    "export": _export,
    "[": _test,
    "test": _test,
    "load_env": _load_env,
    "search": _search,
    **dict.fromkeys(_NAMED, _search_named),
    "source": _source,
    ".": _source,
    "configfile": _configfile,
    "normal": _normal,
    "probe": _probe,
    "hwmatch": _hwmatch,
    "setparams": _setparams,
    "shift": _shift,
    "eval": _eval,
    "increment": _count,
    "decrement": _count,
    "menuentry": menuentry,
    "submenu": menuentry,
    "hiddenentry": menuentry,
    "blscfg": blscfg,
    "bls_import": blscfg,
    **LOADING,
    "": _other,
    **dict.fromkeys(
        (
            "true",
            "echo",
            "insmod",
            "save_env",
            "sleep",
            "terminal_output",
            "terminal_input",
            "serial",
            "set_background_image",
            "background_color",
            "play",
            "clear",
            "btrfs-mount-subvol",
        ),
        _true,
    ),
    **dict.fromkeys(("false", "keystatus"), _false),
}
