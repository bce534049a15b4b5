"""Words of the kernel's command line that end a start before anybody can log in; owns which these are.

Dracut's, which waits for all that it is told to bring up (dracut.cmdline(7)): rd.lvm.lv=, rd.lvm.vg=, rd.luks.uuid=,
rd.md.uuid=, their older spellings, and boot= for fips=1. systemd's and the kernel's own: kernel-command-line(7),
systemd(1), modprobe(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.devices.blocks import Device, DeviceKind, mapped
from warmspare.recover.readiness.devices.names import Bond, Names
from warmspare.recover.readiness.guest.guest_disks import GuestDisks

_LVM = ("rd.lvm.lv=", "rd.lvm.vg=", "rd_LVM_LV=", "rd_LVM_VG=")
_LUKS = ("rd.luks.uuid=", "rd_LUKS_UUID=")
_MD = ("rd.md.uuid=", "rd_MD_UUID=")
# Where one of these stands, dracut brings up none of the sort.
_OFF = {_LVM: {"rd.lvm=0", "rd_NO_LVM"}, _LUKS: {"rd.luks=0", "rd_NO_LUKS"}, _MD: {"rd.md=0", "rd_NO_MD"}}
_BLACKLISTS = ("module_blacklist", "modprobe.blacklist", "rd.driver.blacklist")
_SHELLS = re.compile(
    r"init=/(?:usr/)?bin/(?:ba|da|z|k)?sh|rd\.break(?:=.*)?|break(?:=.*)?|emergency|-b|rescue|single|[sS1]"
    r"|(?:rd\.)?systemd\.unit=(?:rescue|emergency)(?:\.target)?"
)


def shells(arguments: Sequence[str]) -> list[str]:
    """The words with which a start ends in a shell at the console, by choice."""
    words = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return [word for word in words if _SHELLS.fullmatch(word)]


def blacklist(arguments: Sequence[str], module: str) -> str:
    """The word that keeps a module from being loaded, "" where none does."""
    for word in arguments:
        name, _, value = word.partition("=")
        if name in _BLACKLISTS and module in value.split(","):
            return word
    return ""


def awaited(
    machine: GuestDisks, names: Names, arguments: Sequence[str], root: str
) -> Iterator[tuple[str, str | Unknown]]:
    """What dracut waits for and does not come up: the word, and why. root: what root= names, which is judged itself."""
    for word in dict.fromkeys(arguments):
        for heads, off in _OFF.items():
            if not word.startswith(heads) or off & {*arguments}:
                continue
            value = word.partition("=")[2].strip('"')
            if not value or (heads is _LVM and root in _paths(value)):
                continue
            target = _lvm(machine, names, value) if heads is _LVM else _luks(machine, names, value)
            if heads is _MD:
                target = names.lookup(f"/dev/disk/by-id/md-uuid-{value}").target
            if why := _why(target):
                yield word, why
    if "fips=1" in arguments:  # dracut proves the kernel with what stands in /boot, before the root is the root
        for word in arguments:
            if not word.startswith("boot="):
                continue
            meaning = names.root(word.removeprefix("boot="))
            moved = meaning.bond in (Bond.MACHINE, Bond.ORDER) and meaning.target is ABSENT
            if why := "it is a device name, which is another on NVMe" if moved else _why(meaning.target):
                yield word, why


def _paths(value: str) -> tuple[str, ...]:
    group, _, name = value.partition("/")
    return f"/dev/{value}", f"/dev/mapper/{mapped(group, name)}"


def _lvm(machine: GuestDisks, names: Names, value: str) -> Answer[Device]:
    """A volume; of a group any that comes up, for its folder is what dracut looks for."""
    if "/" in value:
        return names.lookup(f"/dev/{value}").target
    inside = [one for one in machine.devices if one.kind is DeviceKind.LOGICAL and one.group == value]
    found = next((one for one in inside if not one.lacks), inside[0] if inside else None)
    return found or names.lookup(f"/dev/{value}/any").target


def _luks(machine: GuestDisks, names: Names, value: str) -> Answer[Device]:
    """By the whole UUID or a part of it, dashes apart."""
    uuid = value.removeprefix("luks-")
    wanted = uuid.replace("-", "")
    for one in machine.devices:
        held = one.contents
        if held and held.kind == "crypto_LUKS" and wanted in held.uuid.replace("-", ""):
            return one
    return names.lookup(f"UUID={uuid}").target


def _why(target: Answer[Device]) -> str | Unknown:
    if isinstance(target, Absent):
        return "it is on none of these disks"
    if isinstance(target, Unknown):
        return target
    if isinstance(target.lacks, Unknown):
        return target.lacks
    return f"{target.place}: {target.lacks}" if target.lacks else ""
