"""A case of the matrix: a machine, sound or with one flaw, and the verdict that is right; judges no machine itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from systems.machine import Fs, Machine
from warmspare.recover.readiness.boot_findings import BootFinding

Make = Callable[[], Machine]
Hurt = Callable[[Machine], None]


@dataclass(frozen=True, slots=True)
class Said:
    """A finding that must be there. kind: or several, with a bar between. place, found: what must stand in its disk or
    place, and in what was found."""

    kind: str
    place: str = ""
    found: str = ""

    def meets(self, finding: BootFinding) -> bool:
        where = f"{finding.disk} {finding.place} {finding.found}"
        return finding.kind in self.kind.split("|") and self.place in where and self.found in finding.found


@dataclass(frozen=True, slots=True)
class Case:
    """hurt: the flaw; None where the machine is sound, as far as can be told. said: what stops, warns or notes must be,
    and no other may stop or warn, but the kinds in `also`. quick: one of those that the usual suite has. drill: whether
    a drill of the same disks comes up; None where the kernel of the tests can't show it."""

    name: str
    make: Make
    hurt: Hurt | None = None
    said: tuple[Said, ...] = ()
    also: frozenset[str] = frozenset()
    quick: bool = False
    drill: bool | None = None

    def disagreements(self, findings: Sequence[BootFinding]) -> list[str]:
        """What was said in place of the right verdict."""
        out = [f"is not said: {each}" for each in self.said if not any(map(each.meets, findings))]
        for finding in findings:
            right = finding.severity == "note" or finding.kind in self.also or any(e.meets(finding) for e in self.said)
            if not right:
                out.append(
                    f"is said: {finding.severity} {finding.kind}, {finding.disk} {finding.place}: {finding.found}"
                )
        return out

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
    name: str,
    make: Make,
    hurt: Hurt,
    *said: Said,
    also: Iterable[str] = (),
    quick: bool = False,
    drill: bool | None = None,
) -> Case:
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
    machine.put(
        "/etc/fstab", "# <file system> <mount point> <type> <options> <dump> <pass>\n" + "\n".join(lines) + "\n"
    )


def release(machine: Machine, identity: str, version: str, like: str = "") -> None:
    text = f'NAME="{identity}"\nID="{identity}"\nVERSION_ID="{version}"\nPRETTY_NAME="{identity} {version}"\n'
    machine.put("/etc/os-release", text + (f'ID_LIKE="{like}"\n' if like else ""))


def add(machine: Machine, line: str) -> None:
    """A line at fstab's end."""
    machine.put("/etc/fstab", machine.text("/etc/fstab") + line + "\n")


def esp(name: str, point: str = "/boot/efi") -> Fs:
    return Fs("vfat", uuid=short_uid(name + " esp"), label="ESP", mounts={point: ""})
