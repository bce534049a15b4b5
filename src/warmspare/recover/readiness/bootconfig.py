"""What a Linux system's own files say of its start: the boot loader's default entry, and /etc/fstab; refuses to judge.

Read as people write them: GRUB's grub.cfg, the Boot Loader Specification's entries, SYSLINUX; fstab(5). What would
grow beyond what any system has, by variables or by number, is refused with Exceeded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from warmspare.recover.disks.programs import Exceeded

MAX_ARGUMENTS = 1 << 16  # characters; Linux itself takes 2048
MAX_INITRDS = 16
MAX_LINES = 10_000  # of an fstab

_LINUX = re.compile(r"^\s*(?:linux(?:16|efi)?|kernel)\s+(\S+)(.*)$", re.IGNORECASE)
_APPEND = re.compile(r"^\s*append\s+(.*)$", re.IGNORECASE)
_INITRD = re.compile(r"^\s*(?:initrd(?:16|efi)?)\s+(.*)$", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


@dataclass(frozen=True, slots=True)
class Entry:
    """How a kernel is started. source: the file that says so. kernel, initrds: paths on the file system it is on."""

    source: str
    kernel: str
    initrds: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def root(self) -> str | None:
        """The kernel's root=; the last counts, as it does for the kernel."""
        found = [word.removeprefix("root=") for word in self.arguments if word.startswith("root=")]
        return found[-1].strip('"') if found else None

    @property
    def serial(self) -> bool:
        """Whether the serial port is one of its consoles."""
        return any(word.startswith("console=ttyS") for word in self.arguments)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of fstab. line: its number, from 1."""

    line: int
    device: str
    point: str
    kind: str
    options: tuple[str, ...]

    @property
    def needed(self) -> bool:
        """Whether the start fails without it. systemd waits for a swap, and goes on without it."""
        return not {"nofail", "noauto"} & {*self.options} and self.kind != "swap"

    @property
    def unused(self) -> bool:
        return "noauto" in self.options or (self.point == "none" and self.kind != "swap")


def first_entry(text: str, source: str, variables: Mapping[str, str] | None = None) -> Entry | None:
    """The first entry of a grub.cfg or a SYSLINUX configuration; None if it starts no kernel itself.

    variables: of grubenv, for what the command line takes from there.
    """
    kernel, initrds, arguments = "", "", list[str]()
    for line in text.splitlines():
        if match := _LINUX.match(line):
            if kernel:
                break
            kernel, arguments = match[1], [match[2]]
        elif kernel and (match := _INITRD.match(line)) and not initrds:
            initrds = match[1]
        elif match := _APPEND.match(line):
            arguments.append(match[1])
        elif kernel and re.match(r"^\s*(?:\}|label\s)", line, re.IGNORECASE):
            break
    return _entry(source, kernel, initrds, " ".join(arguments), variables or {}) if kernel else None


def specified_entry(text: str, source: str, variables: Mapping[str, str] | None = None) -> Entry | None:
    """An entry of the Boot Loader Specification (`loader/entries/*.conf`)."""
    found: dict[str, list[str]] = {"linux": [], "initrd": [], "options": []}
    for line in text.splitlines():
        key, _, value = line.strip().partition(" ")
        if key in found:
            found[key].append(value.strip())
    kernel, initrds, arguments = (" ".join(values).strip() for values in found.values())
    return _entry(source, kernel, initrds, arguments, variables or {}) if kernel else None


def _entry(source: str, kernel: str, initrds: str, arguments: str, variables: Mapping[str, str]) -> Entry:
    words = _filled(arguments, variables, source).split()
    given = _filled(initrds, variables, source).replace(",", " ").split()
    given += [word.removeprefix("initrd=") for word in words if word.startswith("initrd=")]
    once = tuple(dict.fromkeys(given))
    if len(once) > MAX_INITRDS:
        raise Exceeded(f"{source} names {len(once)} initramfs, and {MAX_INITRDS} are the most that are looked at")
    return Entry(source, kernel, once, tuple(words))


def _filled(text: str, variables: Mapping[str, str], source: str) -> str:
    """A text with its variables filled in, as far as a line may grow."""
    pieces, length, end = list[str](), 0, 0
    for match in _VARIABLE.finditer(text):
        pieces += [text[end : match.start()], variables.get(match[1], "")]
        length += len(pieces[-2]) + len(pieces[-1])
        end = match.end()
        if length > MAX_ARGUMENTS:
            break
    if length + len(text) - end > MAX_ARGUMENTS:
        raise Exceeded(f"the kernel's command line in {source} has more than {MAX_ARGUMENTS} characters")
    return "".join([*pieces, text[end:]])


def grub_environment(data: bytes) -> dict[str, str]:
    """The variables of a grubenv."""
    lines = data.decode(errors="replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def mounts(text: str) -> Iterator[Mount]:
    """The lines of an fstab that mean something. Exceeded after MAX_LINES of these."""
    count = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(maxsplit=6)
        if len(words) < 3 or words[0].startswith("#"):
            continue
        count += 1
        if count > MAX_LINES:
            raise Exceeded(f"/etc/fstab has more than {MAX_LINES} lines; what follows line {number - 1} is not judged")
        plain = [re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word) for word in words[:4]]
        options = tuple(plain[3].split(",")) if len(plain) > 3 else ("defaults",)
        yield Mount(number, plain[0].replace('"', ""), plain[1], plain[2], options)
