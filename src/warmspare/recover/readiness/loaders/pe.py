"""EFI programs (PE/COFF) as files: their sections, read piece by piece; refuses what is no such program."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.readiness.answers import ABSENT, Absent, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import GuestFiles

HEAD_BYTES = 1 << 13  # more than the headers of any that is known
MAX_SECTIONS = 96
MAX_SECTION_BYTES = 1 << 20  # of one that is read whole
MACHINE_X64 = 0x8664
_PIECE_BYTES = 1 << 16
_PROFILE = ".profile"


@dataclass(frozen=True, slots=True)
class Section:
    """offset, bytes: in the file; what is only in memory is not counted."""

    name: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Program:
    """machine: of the COFF header."""

    machine: int
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section | None:
        """Of several profiles' of a unified kernel image the first's, which starts by default; what that has none of is
        the base's, which stands before all profiles."""
        names = [each.name for each in self.sections]
        begin = names.index(_PROFILE) if _PROFILE in names else len(names)
        end = names.index(_PROFILE, begin + 1) if _PROFILE in names[begin + 1 :] else len(names)
        order = (*self.sections[begin:end], *self.sections[:begin])
        return next((each for each in order if each.name == name), None)


def program(head: bytes) -> Program | None:
    """What the first bytes of a file say; None where it is no EFI program."""
    if len(head) < 0x40 or head[:2] != b"MZ":
        return None
    (at,) = struct.unpack_from("<I", head, 0x3C)
    if at > len(head) - 24 or head[at : at + 4] != b"PE\0\0":
        return None
    machine, count = struct.unpack_from("<HH", head, at + 4)
    (optional_bytes,) = struct.unpack_from("<H", head, at + 20)
    table = at + 24 + optional_bytes
    if count > MAX_SECTIONS or table + 40 * count > len(head):
        return None
    sections = list[Section]()
    for number in range(count):
        name, virtual, _, raw, offset = struct.unpack_from("<8sIIII", head, table + 40 * number)
        text = name.rstrip(b"\0").decode("ascii", "replace")
        sections.append(Section(text, offset, min(virtual, raw) if virtual else raw))
    return Program(machine, tuple(sections))


def program_of(files: GuestFiles, path: str) -> Answer[Program]:
    """A file's. ABSENT where there is no such file, or it is no EFI program."""
    head = files.head(path, HEAD_BYTES)
    if isinstance(head, Absent | Unknown):
        return head
    return program(head) or ABSENT


def section_bytes(
    files: GuestFiles, path: str, section: Section, *, most_bytes: int = MAX_SECTION_BYTES
) -> Answer[bytes]:
    """A section whole. Unknown where it is larger, or the file ends before it does."""
    if section.bytes > most_bytes:
        return Unknown(f"the section {section.name} of {path} is larger than {most_bytes >> 10} KiB")
    try:
        with section_stream(files, path, section) as stream:
            data = stream.read(section.bytes)
    except Exceeded as error:
        return Unknown(str(error))
    except OSError as error:
        return Unknown(f"{path} can't be read: {error}")
    return data if len(data) == section.bytes else Unknown(f"{path} ends within its section {section.name}")


@contextmanager
def section_stream(files: GuestFiles, path: str, section: Section) -> Iterator[BinaryIO]:
    """A section's bytes, as they come. OSError as of `GuestFiles.stream`."""
    with files.stream(path) as stream:
        left = section.offset
        while left:
            piece = stream.read(min(left, _PIECE_BYTES))
            if not piece:
                raise OSError(f"{path} ends before its section {section.name}")
            left -= len(piece)
        yield _StreamPart(stream, section.bytes)  # type: ignore[misc]


class _StreamPart:
    """The next bytes of a stream, as one of its own."""

    def __init__(self, stream: BinaryIO, count: int) -> None:
        self._stream, self._left = stream, count

    def read(self, count: int = -1) -> bytes:
        data = part(self._stream, self._left if count < 0 else min(count, self._left))
        self._left -= len(data)
        return data


def part(stream: BinaryIO, count: int) -> bytes:
    """The next bytes; fewer only where the stream ends."""
    data = bytearray()
    while len(data) < count and (piece := stream.read(min(count - len(data), _PIECE_BYTES))):
        data += piece
    return bytes(data)
