"""Folders and files of one volume by GRUB's readers: names, sizes and times; tells neither modes nor links.

GRUB follows a link where it opens one, so that a link to a file looks like that file; a link to a folder, or out of the
volume, can't be opened, and neither can a device. No folder is entered but one that its own entry calls so.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Sequence

from warmspare.recover.disks import programs
from warmspare.recover.disks.programs import Exceeded
from warmspare.recover.files.guest_entry import EntryKind, GuestEntry, MissingGuestError, UnreadGuestError, unsafe
from warmspare.recover.readiness.readers.grub import Grub

CHUNK_BYTES = 1 << 20
MOST_LINE_BYTES = 1 << 16
MOST_COMPARED = 50_000  # names of a folder that are held against those that can be opened
# Of blkid's types: Linux's own, in whose folders every kind of file may be, and which of them hold `.`.
LINUX = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"})
NTFS = "ntfs"
_LINKING = LINUX | {NTFS}
_OWN = "$AttrDef $BadClus $Bitmap $Boot $Extend $LogFile $MFT $MFTMirr $Secure $UpCase $Volume"  # NTFS's, in its top
_LISTING_ITSELF = frozenset({"ext2", "ext3", "ext4", "xfs"})
_DATED = re.compile(rb"(DIR|[0-9]{1,20}) +([0-9]{14}) (.*)", re.DOTALL)
_PLAIN = re.compile(rb"(DIR|[0-9]{1,20}) *(.*)", re.DOTALL)


class GrubReader:
    """`VolumeReader`. device: GRUB's name of the volume. kind: as blkid calls what it holds."""

    def __init__(self, grub: Grub, device: str, kind: str) -> None:
        self._grub, self._device, self._kind = grub, device, kind

    @property
    def name(self) -> str:
        return self._grub.version

    @property
    def any_case(self) -> bool:
        return self._kind not in LINUX

    @property
    def untold(self) -> str:
        """What it does not tell, or do, as a clause; "" where there is nothing more to tell."""
        if self._kind == NTFS:
            return "tells neither modes nor links, and gives of files that Windows encrypted (EFS) the encrypted bytes"
        if self._kind in LINUX:
            return "tells neither modes nor links, and does not replay a journal: what was written last may be missing"
        return ""

    def entries(self, path: str) -> Iterator[GuestEntry]:
        own = frozenset(_OWN.split(" ") if self._kind == NTFS and path == "/" else ())
        yield from (entry for entry in self._entries(path) if entry.name not in own)

    def _entries(self, path: str) -> Iterator[GuestEntry]:
        opened: set[str] | None = set()
        ended = itself = False
        held: GuestEntry | None = None
        for line in self._lines(path):
            if line == b"\n":
                ended = True
                continue
            entry = _entry(line.removesuffix(b"\n"))
            if ended:  # what ended it was the end of a name
                ended, entry = False, None
            if entry is None:  # a line end in a name
                held = _longer(held, line)
                continue
            if held is not None and held.name not in (".", ".."):
                yield held
            held = entry
            itself = itself or entry.name == "."
            if opened is not None:
                opened.update(entry.name.split(" "))
                opened = opened if len(opened) < MOST_COMPARED else None
        if held is not None and held.name not in (".", ".."):
            yield held
        if not ended or (self._kind in _LISTING_ITSELF and not itself):
            self._refuse(path)
        if opened is not None and self._kind in _LINKING:
            yield from self._closed(path, opened)

    def ahead(self, folder: str, files: Sequence[GuestEntry]) -> None:
        """Each is read alone."""

    def chunks(self, path: str) -> Iterator[bytes]:
        try:
            with self._grub.stream(self._place(path)) as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
        except Exceeded as error:
            raise UnreadGuestError(error.what) from None
        except OSError:
            raise UnreadGuestError(f"{self.name} can't read it to its end") from None

    def _lines(self, path: str) -> Iterator[bytes]:
        try:
            with self._grub.listed(self._place(path).rstrip("/") + "/") as file:
                while line := file.readline(MOST_LINE_BYTES):
                    yield line
        except Exceeded as error:
            raise UnreadGuestError(error.what) from None
        except OSError:
            self._refuse(path)

    def _closed(self, path: str, opened: set[str]) -> Iterator[GuestEntry]:
        """What the folder names and can't be opened. Names stand there with spaces between them."""
        done = self._run("ls", "--", "-a", self._place(path).rstrip("/") + "/")
        for word in done.output.decode("utf-8", "surrogateescape").split():
            name = word.rstrip("/")
            if name not in opened and not unsafe(name):
                yield GuestEntry(name, EntryKind.OTHER)

    def _refuse(self, path: str) -> None:
        """Say why a folder could not be listed."""
        done = self._run("ls", "--", "-a", self._place(path).rstrip("/") + "/")
        said = done.complaint.partition("error: ")[2].splitlines()
        if said and said[0].startswith("file `"):
            raise MissingGuestError("it is not there")
        if said and "not a directory" in said[0]:
            raise UnreadGuestError("it is no folder")
        raise UnreadGuestError(f"{self.name} can't read its folder to its end, or it is none")

    def _run(self, *command: str) -> programs.Done:
        try:
            return self._grub.run(*command)
        except Exceeded as error:
            raise UnreadGuestError(error.what) from None

    def _place(self, path: str) -> str:
        for part in path.strip("/").split("/"):
            if part and (why := unsafe(part)):
                raise UnreadGuestError(why)
        return f"({self._device}){path if path.startswith('/') else '/' + path}"


def _entry(line: bytes) -> GuestEntry | None:
    """What a line says; None where it is none of a list's."""
    dated = _DATED.fullmatch(line)
    plain = None if dated else _PLAIN.fullmatch(line)
    if dated is None and plain is None:
        return None
    size, name = (dated[1], dated[3]) if dated else (plain[1], plain[2])  # type: ignore[index]
    folder = size == b"DIR"
    text = name.decode("utf-8", "surrogateescape")
    return GuestEntry(
        text.removesuffix("/") if folder else text,
        EntryKind.FOLDER if folder else EntryKind.FILE,
        None if folder else int(size),
        _seconds(dated[2].decode()) if dated else None,
    )


def _longer(entry: GuestEntry | None, line: bytes) -> GuestEntry | None:
    """An entry whose name goes on in another line; nobody makes such a file, so what it is called need not be exact."""
    if entry is None:
        return None
    more = line[:MOST_LINE_BYTES].decode("utf-8", "surrogateescape").rstrip("\n")
    return GuestEntry(f"{entry.name}\n{more}"[:4096], entry.kind, entry.bytes, entry.modified_s)


def _seconds(digits: str) -> int | None:
    """Unix seconds of 20261201120313."""
    parts = [int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, 14, 2))]
    try:
        return calendar.timegm((*parts, 0, 0, 0))
    except (ValueError, OverflowError):
        return None
