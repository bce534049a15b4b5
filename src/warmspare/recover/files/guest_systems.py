"""The systems on a VM's disks, whose paths people know: Linux's `/` and Windows' `C:`; refuses to choose among several.

A Linux is a volume with an /etc/fstab; a Windows an NTFS with Windows/System32. Which other letters there are only its
registry says, which nobody reads here.
"""

from __future__ import annotations

from functools import cached_property

from warmspare.recover.files.grub_reader import NTFS
from warmspare.recover.files.guest_entry import UnreadGuestError
from warmspare.recover.files.guest_volumes import GuestVolumes
from warmspare.recover.readiness.devices.blocks import Device
from warmspare.recover.readiness.guest import system
from warmspare.recover.readiness.guest.system import FoundSystem, System

WINDOWS = "C:"
_NAME_THE_VOLUME = "name the volume, as VOLUME:/path; `warmspare files ls` without a path lists them"


class GuestSystems:
    """Of these volumes."""

    def __init__(self, volumes: GuestVolumes) -> None:
        self._volumes = volumes

    @cached_property
    def _linux(self) -> FoundSystem:
        return system.every(self._volumes.machine)

    @cached_property
    def _windows(self) -> list[Device]:
        machine = self._volumes.machine
        found = []
        for device in machine.readable():
            if device.contents is not None and device.contents.kind == NTFS:
                top = machine.within(device, "").names("/")
                name = next((one for one in top if one.casefold() == "windows/"), "") if isinstance(top, list) else ""
                inside = machine.within(device, "").names(f"/{name.rstrip('/')}") if name else None
                if isinstance(inside, list) and any(one.casefold() == "system32/" for one in inside):
                    found.append(device)
        return found

    def root(self) -> System | Device:
        """What `/` means: the Linux, or where there is only a Windows, that. UnreadGuestError where it is not sure."""
        found = self._linux
        if not found.systems and self._windows:
            return self.windows()
        if not found.systems:
            raise UnreadGuestError(f"there is no system whose root is known: {_NAME_THE_VOLUME}")
        roots = [self._volumes.called(one.device) for one in found.systems]
        if len(roots) > 1:
            raise UnreadGuestError(f"there are several systems, on {', '.join(roots)}: {_NAME_THE_VOLUME}")
        if found.unread:
            device, why = found.unread[0]
            other = f"{self._volumes.called(device)} may hold another and can't be read ({why})"
            raise UnreadGuestError(f"there is a system on {roots[0]}, and {other}: {_NAME_THE_VOLUME}")
        return found.systems[0]

    def windows(self) -> Device:
        """What `C:` means. UnreadGuestError where that is not sure."""
        if len(self._windows) != 1:
            names = ", ".join(self._volumes.called(one) for one in self._windows)
            there = f"there are several Windows, on {names}" if names else "there is no Windows"
            raise UnreadGuestError(f"{there}: {_NAME_THE_VOLUME}")
        return self._windows[0]

    def at_root(self, device: Device) -> str:
        """`/` of the one Linux's root, `C:` of the one Windows', "" of any other volume."""
        if len(self._linux.systems) == 1 and self._linux.systems[0].device.grub == device.grub:
            return "/"
        return WINDOWS if len(self._windows) == 1 and self._windows[0].grub == device.grub else ""
