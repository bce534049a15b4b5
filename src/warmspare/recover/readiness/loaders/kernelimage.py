"""Linux's kernel images for x86: whether a file is one, and the version that it states itself; unpacks nothing."""

from __future__ import annotations

import struct

from warmspare.recover.readiness.answers import Absent, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import GuestFiles

HEAD_BYTES = 1 << 16  # the version stands in the setup, of at most 64 sectors
_SIGNATURE_AT, _PROTOCOL_AT, _VERSION_AT, _BASE = 0x202, 0x206, 0x20E, 0x200
_GZIP = b"\x1f\x8b"
# What a loader may unpack, or start as an EFI program.
_OTHERS = (_GZIP, b"MZ", b"\xfd7zXZ\0", b"\x89LZO", b"\x28\xb5\x2f\xfd", b"\x5d\0\0")


class NoKernel(Unknown):
    """Certainly none that a loader starts."""


def is_image(head: bytes) -> bool:
    """Whether this begins a bzImage or zImage."""
    return head[_SIGNATURE_AT : _SIGNATURE_AT + 4] == b"HdrS" and head[0x1FE:0x200] == b"\x55\xaa"


def stated_version(head: bytes) -> str | None:
    """As `uname -r` would say it; None where the image states none."""
    if not is_image(head) or len(head) < _VERSION_AT + 2:
        return None
    protocol, pointer = struct.unpack_from("<H", head, _PROTOCOL_AT)[0], struct.unpack_from("<H", head, _VERSION_AT)[0]
    if protocol < 0x200 or not pointer:
        return None
    text = head[_BASE + pointer : _BASE + pointer + 256].split(b"\0", 1)[0]
    word = text.split(b" ", 1)[0].decode("ascii", "replace")
    return word if word and word.isprintable() else None


def version_of(files: GuestFiles, path: str) -> Answer[str]:
    """What the kernel of this file states. ABSENT where there is no such file; Unknown where it is no kernel of Linux's
    that states one, and why."""
    head = files.head(path, HEAD_BYTES)
    if isinstance(head, Absent | Unknown):
        return head
    version = stated_version(head)
    if version:
        return version
    if head.startswith(_GZIP):
        return Unknown(f"{path} is compressed as a whole, which x86 does not start")
    if is_image(head):
        return Unknown(f"{path} is a kernel that states no version")
    other = head.startswith(_OTHERS) or head[0x1FE:0x200] == b"\x55\xaa"
    return (Unknown if other else NoKernel)(f"{path} is no kernel of Linux's")
