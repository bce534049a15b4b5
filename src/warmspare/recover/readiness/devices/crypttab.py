"""What /etc/crypttab and the kernel's command line have opened in a start, line by line; refuses to know what is there.

crypttab(5), systemd-cryptsetup-generator(8), dracut.cmdline(7). cryptsetup.target is only wanted: without a line's
device the start waits and goes on, and what fails then is the mount that names what was to be opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.devices.mounts import Effect, unescaped

MAX_LINES = 10_000


class Key(StrEnum):
    """Where the key comes from. PASSPHRASE: somebody types it, unless the LUKS header has a token that opens it. FILE:
    of this system. RANDOM: made anew, for swap. TPM: the machine's, which does not travel. TOKEN: somebody plugs it in.
    SCRIPT: Debian's keyscript."""

    PASSPHRASE = "passphrase"  # noqa: S105
    FILE = "file"
    RANDOM = "random"
    TPM = "tpm"
    TOKEN = "token"  # noqa: S105
    SCRIPT = "script"


@dataclass(frozen=True, slots=True)
class Opening:
    """A line of crypttab. line: its number, from 1. name: what device mapper is to call it. key_file: a path, or ""."""

    line: int
    name: str
    device: str
    key_file: str
    options: tuple[str, ...]

    @property
    def key(self) -> Key:
        names = {one.partition("=")[0] for one in self.options}
        if self.key_file in ("/dev/urandom", "/dev/random", "/dev/hw_random"):
            return Key.RANDOM
        if "tpm2-device" in names:
            return Key.TPM
        if {"fido2-device", "pkcs11-uri"} & names:
            return Key.TOKEN
        if "keyscript" in names:
            return Key.SCRIPT
        return Key.FILE if self.key_file else Key.PASSPHRASE

    @property
    def effect(self) -> Effect:
        """What systemd does without its device."""
        if "noauto" in self.options:
            return Effect.UNUSED
        return Effect.GOES_ON if "nofail" in self.options else Effect.WAITS


def openings(text: str) -> Iterator[Opening]:
    """The lines of a crypttab that mean something. Exceeded after MAX_LINES of these."""
    count = 0
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split(maxsplit=4)
        if len(words) < 2 or words[0].startswith("#"):
            continue
        count += 1
        if count > MAX_LINES:
            raise Exceeded(f"/etc/crypttab has more than {MAX_LINES} lines, and line {number} and on are not judged")
        plain = [unescaped(word) for word in words[:4]] + ["", ""]
        key_file = "" if plain[2] in ("none", "-") else plain[2]
        options = tuple(plain[3].split(",")) if plain[3] else ()
        yield Opening(number, plain[0], plain[1].replace('"', ""), key_file, options)


_LUKS_NAME = re.compile(r"(?:rd\.)?luks\.name=([0-9A-Fa-f-]{1,64})=([^\s/]{1,128})")
_LUKS_UUID = re.compile(r"(?:rd\.)?luks\.uuid=(?:luks-)?([0-9A-Fa-f-]{1,64})")
_CRYPTDEVICE = re.compile(r"cryptdevice=([^\s:]{1,512}):([^\s:/]{1,128})(?::.*)?")


def mapped(opening: Iterable[Opening], arguments: Iterable[str]) -> dict[str, str]:
    """The device that each of device mapper's names opens. arguments: of the kernel, which the initramfs reads."""
    found = {one.name: one.device for one in opening}
    for word in arguments:
        if match := _LUKS_NAME.fullmatch(word):
            found.setdefault(match[2], f"UUID={match[1]}")
        elif match := _LUKS_UUID.fullmatch(word):
            found.setdefault(f"luks-{match[1]}", f"UUID={match[1]}")
        elif match := _CRYPTDEVICE.fullmatch(word):
            found.setdefault(match[2], match[1])
    return found
