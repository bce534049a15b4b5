"""What the confined process says of a guest's files, a line each, as values; owns nothing else.

Text of a guest stands in these as any encoding can say it, and is bounded by what its reader gives.
"""

from __future__ import annotations

import msgspec


class VolumeLine(msgspec.Struct, tag="volume", frozen=True):
    """A volume. filesystem: as blkid calls it, "" where that is not known. system: what stands before the paths of the
    system that it is the root of, `/` or `C:`, "" where it is none's. bytes: None where that is not known. why: why its
    files can't be read, as a clause, "" where they can as far as is known."""

    name: str
    disk: str
    place: str
    system: str
    filesystem: str
    label: str
    uuid: str
    bytes: int | None
    why: str


class EntryLine(msgspec.Struct, tag="entry", frozen=True):
    """A file that is listed."""

    path: str
    kind: str
    bytes: int | None
    modified_s: int | None
    mode: int | None
    target: str


class RestoredLine(msgspec.Struct, tag="restored", frozen=True):
    """A file, or a link (`target`), that is whole in its place. there: it was there already."""

    path: str
    to: str
    bytes: int
    there: bool
    target: str = ""


class LeftLine(msgspec.Struct, tag="left", frozen=True):
    """What was not restored, or not listed. failed: it should have been."""

    path: str
    why: str
    failed: bool


class NoteLine(msgspec.Struct, tag="note", frozen=True):
    """Something that should be known. path: of what; "" of all of it."""

    path: str
    text: str


class FullLine(msgspec.Struct, tag="full", frozen=True):
    """The file system of this host took no more, and the work ended."""

    path: str
    why: str


class StoppedLine(msgspec.Struct, tag="stopped", frozen=True):
    """A limit was met, and the work ended there."""

    why: str


class TotalLine(msgspec.Struct, tag="total", frozen=True):
    """The work came to its end. there: of the files, those that were there already."""

    files: int
    folders: int
    bytes: int
    links: int = 0
    there: int = 0


FileLine = VolumeLine | EntryLine | RestoredLine | LeftLine | NoteLine | FullLine | StoppedLine | TotalLine
LINES = msgspec.json.Decoder(FileLine)
