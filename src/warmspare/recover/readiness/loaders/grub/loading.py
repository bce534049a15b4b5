"""GRUB's commands that load and start: kernels, initramfs, other loaders; and those that end it."""

from __future__ import annotations

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.guest.entries import FilePlace
from warmspare.recover.readiness.loaders.grub.grub_machine import Booted, Given, GrubMachine, LeftGrub, Run
from warmspare.recover.readiness.loaders.grub.language.grub_values import Doubt, Truth
from warmspare.recover.readiness.loaders.grub.state import Loaded, State

MAX_INITRDS = 16


def _linux(machine: GrubMachine, state: State, given: Given) -> Truth:
    if len(given.words) < 2:
        return False
    place = machine.place(state, given.words[1])
    if isinstance(place, Unknown):
        state.loaded = Loaded(source=given.source, doubt=f"the kernel's place is not known: {place.why}")
    else:
        state.loaded = Loaded(place, tuple(given.words[2:]), source=given.source)
    return Doubt("it depends on whether the kernel can be loaded")


def _initrd(machine: GrubMachine, state: State, given: Given) -> Truth:
    """All that one command names; a second one takes the first one's place."""
    if state.loaded.kernel is None:
        return False
    places = list[FilePlace]()
    for word in given.words[1:]:
        if isinstance(word, str):
            word = word.removeprefix("newc:").partition(":")[2] if word.startswith("newc:") else word
        place = machine.place(state, word)
        if isinstance(place, Unknown):
            state.loaded = Loaded(source=state.loaded.source, doubt=f"an initramfs' place is not known: {place.why}")
            return Doubt(place.why)
        places.append(place)
        if len(places) > MAX_INITRDS:
            raise Exceeded(f"{given.source} names more than {MAX_INITRDS} initramfs")
    now = state.loaded
    state.loaded = Loaded(now.kernel, now.arguments, tuple(dict.fromkeys(places)), source=now.source)
    return Doubt("it depends on whether the initramfs can be loaded")


def _chainloader(machine: GrubMachine, state: State, given: Given) -> Truth:
    words = [word for word in given.words[1:] if isinstance(word, Doubt) or not word.startswith("-")]
    place = machine.place(state, words[0]) if words else Unknown("chainloader names none")
    state.loaded = Loaded(
        program=None if isinstance(place, Unknown) else place,
        source=given.source,
        nothing="it starts another loader" + ("" if isinstance(place, Unknown) else f", {place.path}"),
    )
    return Doubt("it depends on whether that can be loaded")


def _foreign(machine: GrubMachine, state: State, given: Given) -> Truth:
    """What is started is no Linux, or not by itself."""
    names = {"multiboot": "a multiboot kernel", "multiboot2": "a multiboot kernel", "xen_hypervisor": "Xen"}
    what = names.get(str(given.words[0]), f"a system by GRUB's command {given.words[0]}")
    first = given.words[1] if len(given.words) > 1 else ""
    if isinstance(first, str) and "xen" in first.lower():
        what = "Xen"
    path = f" ({first[:200]})" if isinstance(first, str) and first else ""
    state.loaded = Loaded(source=given.source, nothing=f"it starts {what}{path}, which is not looked into")
    return True


def _boot(machine: GrubMachine, state: State, given: Given) -> Truth:
    if state.loaded == Loaded():
        return False
    raise Booted


def _left(machine: GrubMachine, state: State, given: Given) -> Truth:
    if "--is-supported" in given.words:
        return Doubt("it depends on whether the firmware has settings that can be asked for")
    raise LeftGrub(f"GRUB's command {given.words[0]} ends it")


LOADING: dict[str, Run] = {
    **dict.fromkeys(("linux", "linux16", "linuxefi"), _linux),
    **dict.fromkeys(("initrd", "initrd16", "initrdefi"), _initrd),
    "chainloader": _chainloader,
    "boot": _boot,
    **dict.fromkeys(
        (
            "multiboot",
            "multiboot2",
            "xen_hypervisor",
            "kfreebsd",
            "kopenbsd",
            "knetbsd",
            "ntldr",
            "freedos",
            "plan9",
            "legacy_kernel",
            "legacy_configfile",
            "legacy_source",
            "xnu_kernel64",
            "extract_legacy_entries_configfile",
        ),
        _foreign,
    ),
    **dict.fromkeys(("exit", "normal_exit", "halt", "reboot", "fwsetup", "poweroff"), _left),
}
