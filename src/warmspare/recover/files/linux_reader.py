"""Folders and files of one volume by Linux in the throw-away machine: kinds, modes, times, and where links lead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from warmspare.recover.files.guest_entry import (
    EntryKind,
    GuestEntry,
    MissingGuestError,
    UnreadGuestError,
    joined,
    unsafe,
)
from warmspare.recover.readiness.answers import Unknown
from warmspare.recover.readiness.readers.appliance import agent
from warmspare.recover.readiness.readers.appliance.appliance_files import MAX_PATH, Appliance
from warmspare.recover.readiness.readers.appliance.appliance_machine import Said

PIECE_BYTES = 1 << 20  # of a list
BLOCK_BYTES = 8 << 20  # of a file: to ask for each costs programs that have to be started
MOST_LINKS = 4096  # of a folder whose targets are told
_LINE = re.compile(rb"([0-9a-f]{1,8}) ([0-9]{1,20}) (-?[0-9]{1,20}) \./(.+)")
_KINDS = {0o040000: EntryKind.FOLDER, 0o100000: EntryKind.FILE, 0o120000: EntryKind.LINK}


class LinuxReader:
    """`VolumeReader`. device, kind, others: as `Appliance.files` has them."""

    any_case = False

    def __init__(self, appliance: Appliance, device: str, kind: str | None, others: Sequence[str]) -> None:
        self._appliance, self._device, self._kind, self._others = appliance, device, kind, tuple(others)
        self._ahead: dict[str, bytes] = {}

    def opens(self) -> str:
        """Why it can't read the volume, "" where it can."""
        number = self._appliance.mounted(self._device, self._kind, self._others)
        return number.why if isinstance(number, Unknown) else ""

    def entries(self, path: str) -> Iterator[GuestEntry]:
        said = self._asked("folder", path=path)
        odd, _, complaint = said.text.partition(" ")
        rest, piece, links = b"", 0, 0
        while True:
            data = self._asked("piece", str(piece), most_bytes=PIECE_BYTES).data
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                entry = _entry(line)
                if entry is None:
                    continue
                if entry.kind is EntryKind.LINK and links < MOST_LINKS:
                    links += 1
                    entry = self._with_target(path, entry)
                yield entry
            if len(data) < PIECE_BYTES:
                break
            piece += 1
        for _ in range(int(odd) if odd.isdigit() and len(odd) < 7 else 0):
            yield GuestEntry("\n", EntryKind.OTHER)
        if complaint.strip():
            raise UnreadGuestError(f"not all of its folder can be read: {complaint.strip()[:200]}")

    def ahead(self, folder: str, files: Sequence[GuestEntry]) -> None:
        """Small files of a folder that are read next: one question for all, for each costs programs to be started. What
        can't be read so is read alone."""
        sizes = [entry.bytes or 0 for entry in files]
        names = [entry.name for entry in files]
        try:
            data = self._asked("files", str(len(files)), path=folder, more=names, most_bytes=sum(sizes)).data
        except UnreadGuestError:
            data = b""
        self._ahead, start = {}, 0
        if len(data) == sum(sizes):
            for entry, size in zip(files, sizes, strict=True):
                self._ahead[joined(folder, entry.name)] = data[start : start + size]
                start += size

    def chunks(self, path: str) -> Iterator[bytes]:
        if (data := self._ahead.pop(path, None)) is not None:
            yield data
            return
        block = came = 0
        while True:
            said = self._asked("read", str(BLOCK_BYTES), str(block), path=path, most_bytes=BLOCK_BYTES)
            came += len(said.data)
            if said.data:
                yield said.data
            if len(said.data) < BLOCK_BYTES:
                break
            block += 1
        if said.text != str(came):  # as the file's length is told beside the bytes
            raise UnreadGuestError("Linux can't read it to its end")

    def _with_target(self, path: str, entry: GuestEntry) -> GuestEntry:
        try:
            said = self._asked("link", path=f"{path.rstrip('/')}/{entry.name}", most_bytes=MAX_PATH)
        except UnreadGuestError:
            return entry
        target = said.data.decode("utf-8", "surrogateescape")
        return GuestEntry(entry.name, entry.kind, entry.bytes, entry.modified_s, entry.mode, target)

    def _asked(self, verb: str, *words: str, path: str = "/", more: Sequence[str] = (), most_bytes: int = 0) -> Said:
        """more: lines behind the path. UnreadGuestError, MissingGuestError."""
        for part in path.strip("/").split("/"):
            if part and (why := unsafe(part)):
                raise UnreadGuestError(why)
        if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH:
            raise UnreadGuestError(f"its path has more than {MAX_PATH} bytes")
        number = self._appliance.mounted(self._device, self._kind, self._others)
        if isinstance(number, Unknown):
            raise UnreadGuestError(number.why)
        said = self._appliance.ask(verb, str(number), *words, path="\n".join([path, *more]), most_bytes=most_bytes)
        if isinstance(said, Unknown):
            raise UnreadGuestError(said.why)
        match said.word:
            case agent.FOUND:
                return said
            case agent.MISSING:
                raise MissingGuestError("it is not there")
            case agent.OTHER:
                raise UnreadGuestError("it is no folder" if verb == "folder" else "it is no plain file")
            case agent.LINK:
                raise UnreadGuestError("a link on the way leads out of the volume, or to nothing")
        raise UnreadGuestError(f"Linux can't read it: {' '.join(said.text.split())[:200]}")


def _entry(line: bytes) -> GuestEntry | None:
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    mode = int(found[1], 16)
    kind = _KINDS.get(mode & 0o170000, EntryKind.OTHER)
    size = int(found[2]) if kind is EntryKind.FILE else None
    name = found[4].decode("utf-8", "surrogateescape")
    return GuestEntry(name, kind, size, int(found[3]), mode & 0o7777)
