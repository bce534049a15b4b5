"""A case of the matrix: a machine, sound or with one flaw, and the verdict that is right; judges no machine itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from systems.machine import Fs, Machine

Make = Callable[[], Machine]
Hurt = Callable[[Machine], None]


@dataclass(frozen=True, slots=True)
class Said:
    """A finding that must be there. place, found: what must stand in its place (or its disk) and in what was found."""

    kind: str
    place: str = ""
    found: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """hurt: the flaw; None where the machine is sound, as far as can be told. said: what stops, warns or notes must be,
    and no other may stop or warn, but the kinds in `also`. quick: one of those that the usual suite has. drill: whether
    a drill of the same disks comes up; None where the tests' kernel can't show it. firmware: "" where nobody tells."""

    name: str
    make: Make
    hurt: Hurt | None = None
    said: tuple[Said, ...] = ()
    also: frozenset[str] = frozenset()
    quick: bool = False
    drill: bool | None = None
    needs: tuple[str, ...] = field(default=())

    def machine(self, *, alive: bool = False) -> Machine:
        machine = self.make()
        machine.alive = alive
        if self.hurt:
            self.hurt(machine)
        return machine


def sound(
    name: str, make: Make, *said: Said, also: Iterable[str] = (), quick: bool = False, drill: bool | None = None
) -> Case:
    return Case(f"{name}, sound", make, None, said, frozenset(also), quick, drill)


def flawed(
    name: str, make: Make, hurt: Hurt, *said: Said, also: Iterable[str] = (), quick: bool = False,
    drill: bool | None = None,
) -> Case:  # fmt: skip
    """The flaw's words are its function's name."""
    assert said, name
    words = hurt.__name__.strip("_").replace("_", " ")
    return Case(f"{name}, {words}", make, hurt, said, frozenset(also), quick, drill)


def uid(text: str) -> str:
    """A UUID for what the text names."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


def short_uid(text: str) -> str:
    """A FAT's serial number."""
    number = uid(text).upper()
    return f"{number[:4]}-{number[4:8]}"


def fstab(machine: Machine, *lines: str) -> None:
    machine.put("/etc/fstab", "# <file system> <mount point> <type> <options> <dump> <pass>\n" + "\n".join(lines) + "\n")


def release(machine: Machine, identity: str, version: str, like: str = "") -> None:
    text = f'NAME="{identity}"\nID="{identity}"\nVERSION_ID="{version}"\nPRETTY_NAME="{identity} {version}"\n'
    machine.put("/etc/os-release", text + (f'ID_LIKE="{like}"\n' if like else ""))


def add(machine: Machine, line: str) -> None:
    """A line at fstab's end."""
    machine.put("/etc/fstab", machine.text("/etc/fstab") + line + "\n")


def esp(name: str, point: str = "/boot/efi") -> Fs:
    return Fs("vfat", uuid=short_uid(name + " esp"), label="ESP", mounts={point: ""})
