"""What a reader tells of a file of a guest, as values; owns no reader, and what may be said of a guest's names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MOST_NAME_BYTES = 255


class EntryKind(StrEnum):
    """OTHER: a device, a socket, a FIFO; with a reader that tells no links also one that it can't follow, or what else
    it can't open."""

    FOLDER = "folder"
    FILE = "file"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class GuestEntry:
    """name: as the guest has it, what is no UTF-8 in it as halves of characters. bytes: of a file. modified_s: Unix
    seconds. mode: all bits but the kind's; None where the reader tells none. target: of a link."""

    name: str
    kind: EntryKind
    bytes: int | None = None
    modified_s: int | None = None
    mode: int | None = None
    target: str = ""


class UnreadGuestError(Exception):
    """Something of a guest could not be read. str: why, as a clause."""


class MissingGuestError(UnreadGuestError):
    """It is not there."""


def unsafe(name: str) -> str:
    """Why a name is not made on this host, as a clause; "" where nothing is against it."""
    if name in ("", ".", ".."):
        return "it has no name that a file can have"
    if "/" in name:
        return "its name holds a slash"
    if _CONTROL.search(name):
        return "its name holds a line end or another control character"
    if len(raw(name)) > MOST_NAME_BYTES:
        return f"its name has more than {MOST_NAME_BYTES} bytes"
    return ""


def raw(name: str) -> bytes:
    """A name as the guest has it, whatever this host's locale is."""
    return name.encode("utf-8", "surrogateescape")


def sayable(text: str) -> str:
    """A guest's text as any encoding can say it: what is no UTF-8 as `\\xff`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def joined(folder: str, name: str) -> str:
    """A path in a folder's."""
    return f"{folder.rstrip('/')}/{name}"
