"""What a machine says on its serial port and what that means: that it is up, or never will be; owns the list of signs.

Signs of failure are texts after which a machine does not come up by itself, each as firmware, boot loader, kernel or
initramfs print it. A boot that shows none of them is judged at the time limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LOGIN = "login:"  # what getty prints, of every distribution


@dataclass(frozen=True, slots=True)
class Sign:
    """text: as it is printed. meaning: what a person is told."""

    text: bytes
    meaning: str


_NO_ROOT = "the kernel's root device does not appear: a wrong root=, or no driver for the disk"
FAILURES = (
    Sign(b"No bootable device.", "the firmware finds nothing to boot: no disk has boot code"),
    Sign(b"BdsDxe: No bootable option or device was found", "the firmware finds nothing to boot"),
    Sign(b"UEFI Interactive Shell", "the firmware finds no boot loader and ends in its own shell"),
    Sign(b"grub rescue>", "the boot loader GRUB does not find its files"),
    Sign(b"Gave up waiting for root", _NO_ROOT),
    Sign(b"(initramfs)", "the start ended in the shell of the initramfs"),
    Sign(b"dracut-initqueue timeout", _NO_ROOT),
    Sign(b"Entering emergency mode", "the start ended in emergency mode"),
    Sign(b"You are in emergency mode", "the start ended in emergency mode"),
    Sign(b"VFS: Unable to mount root fs", "the kernel can't mount its root file system"),
    Sign(b"Kernel panic - not syncing", "the kernel panicked"),
)
_LINES_BYTES = 1024
_LONGEST = max(len(sign.text) for sign in FAILURES)
# Terminal control: what stands between the letters of a text that a boot loader draws.
_CONTROL = re.compile(rb"\x1b\[[0-9;=?]*[A-Za-z]|[\x00-\x08\x0e-\x1f\x7f]")
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-9;=?]{0,32})?$")


class Watch:
    """Reads along: whether the wanted text, or a sign of failure, has come. Holds a few lines of what was said."""

    def __init__(self, wanted: str | None) -> None:
        """wanted: a text on one line, as it is printed; letters count as they are. None: nothing is."""
        self._wanted = None if wanted is None else wanted.encode(errors="surrogateescape")
        self._tail = self._said = self._unfinished = b""
        self.seen = False
        self.failure: Sign | None = None

    @property
    def line(self) -> str:
        """The last line that says something."""
        lines = [line.strip() for line in self._said.decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")[:120]

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        data = self._unfinished + data
        cut = _UNFINISHED.search(data)
        self._unfinished = cut[0] if cut else b""
        text = self._tail + _CONTROL.sub(b"", data[: cut.start() if cut else None])
        self.seen = self.seen or (self._wanted is not None and self._wanted in text)
        if self.failure is None:
            found = [(text.find(sign.text), sign) for sign in FAILURES if sign.text in text]
            self.failure = min(found, key=lambda each: each[0])[1] if found else None
        self._said = (self._said + text[len(self._tail) :])[-_LINES_BYTES:]
        self._tail = text[-max(_LONGEST, len(self._wanted or b"")) :]
