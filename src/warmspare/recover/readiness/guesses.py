"""Configurations of boot loaders on the disks, where the way to one is not known; refuses to choose of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from warmspare.recover.readiness.answers import Absent, Unknown
from warmspare.recover.readiness.devices.blocks import Device, DeviceKind
from warmspare.recover.readiness.guest.guest_disks import GuestDisks
from warmspare.recover.readiness.guest.guest_files import GuestFiles
from warmspare.recover.readiness.loaders import syslinux, systemdboot
from warmspare.recover.readiness.loaders.grub.start import Core, by_config, start
from warmspare.recover.readiness.loaders.started import Started
from warmspare.recover.readiness.reach import Reach

_GRUB = ("/boot/grub2", "/boot/grub", "/grub2", "/grub")
_SYSLINUX = ("extlinux/", "syslinux/", "extlinux.conf", "syslinux.cfg")


@dataclass(frozen=True, slots=True)
class Guess:
    """device, path: where a configuration is. start: what comes of following it."""

    device: Device
    path: str
    reach: Reach
    start: Callable[[], Started]


def on(machine: GuestDisks, disk: int) -> list[Guess]:
    """Those that a loader on this disk would read: on its partitions, and on what is made of several disks."""
    found: list[Guess] = []
    for device in machine.readable():
        if device.disk == disk or device.kind not in (DeviceKind.PARTITION, DeviceKind.DISK):
            found += _on_volume(machine, device)
    return found


def _on_volume(machine: GuestDisks, device: Device) -> Iterator[Guess]:
    """Of a volume one at most: the newest place, where an old one is left beside it."""
    reach = Reach(machine, device)
    files = reach.files_of(device)
    if isinstance(files, Absent | Unknown):
        return
    for prefix in _prefixes(machine, device):
        if guess := _at(machine, device, reach, files, prefix):
            yield guess
            return


def _at(machine: GuestDisks, device: Device, reach: Reach, files: GuestFiles, prefix: str) -> Guess | None:
    top, boot = _names(files, prefix or "/"), set[str]()
    if "boot/" in top or "boot" in top:
        boot = _names(files, f"{prefix}/boot")
    platform = "efi" if machine.firmware == "uefi" else "pc"
    for folder in _GRUB:
        above, _, name = folder.rpartition("/")
        if not {name, f"{name}/"} & (boot if above else top):
            continue
        path = f"{prefix}{folder}/grub.cfg"
        if isinstance(files.head(path, 1), bytes | Unknown):
            return Guess(device, path, reach, partial(by_config, reach, path, platform=platform))
    for above, names in (("/boot", boot), ("", top)):
        entries = _names(files, f"{prefix}{above}/loader/entries") if "loader/" in names else set()
        if any(name.endswith(".conf") for name in entries):
            return _specified(machine, device, reach, prefix + above, boot if above else top, platform)
    if set(_SYSLINUX) & (top | boot):
        place = syslinux.found(reach)
        if not isinstance(place, Absent | Unknown):
            return Guess(device, place.path, reach, lambda: syslinux.by_config(reach, place.path))
    return None


def _specified(
    machine: GuestDisks, device: Device, reach: Reach, above: str, names: set[str], platform: str
) -> Guess | None:
    """Entries of the Boot Loader Specification without a menu of GRUB's: systemd-boot's on the ESP, else GRUB's."""
    path = f"{above}/loader/entries"
    held = device.contents
    if held and held.kind == "vfat" and machine.firmware == "uefi":
        return Guess(device, path, reach, lambda: systemdboot.start(reach))
    folder = f"{above}/grub2" if "grub2/" in names else f"{above}/grub"
    core = Core(folder, f"load_env -f {folder}/grubenv\nset blsdir={path}\nblscfg\n", platform)
    return Guess(device, path, reach, lambda: start(reach, core))


def _prefixes(machine: GuestDisks, device: Device) -> list[str]:
    if not machine.is_btrfs(device):
        return [""]
    root = machine.root(device, ())
    return [""] if isinstance(root, Absent | Unknown) else list(dict.fromkeys(("", root[1].prefix)))


def _names(files: GuestFiles, path: str) -> set[str]:
    names = files.names(path)
    return {*names} if isinstance(names, list) else set()
