"""Restores files and folders of a guest into a folder of this host; owns what of them is restored, and what is said.

Contents, sizes, times and modes as far as the reader gives them. A link is made as a link where it leads to nothing
outside, and never followed. Devices, FIFOs and sockets are not made. What is not restored is said of each file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from warmspare.recover.disks.confined import Spent
from warmspare.recover.files.file_lines import FileLine, FullLine, LeftLine, NoteLine, RestoredLine, TotalLine
from warmspare.recover.files.guest_entry import EntryKind, GuestEntry, UnreadGuestError, joined, sayable, unsafe
from warmspare.recover.files.guest_tree import GuestPaths, GuestTree
from warmspare.recover.files.restored_folder import FileOutcome, FullError, RefusedError, RestoredFolder

MOST_DEPTH = 100
MOST_COMPARED = 300_000  # names of a folder that are compared without their case
MOST_FOLDERS = 100_000  # of a folder
MOST_FILES = 20_000_000
SMALL_BYTES, SMALL_FILES = 64 << 10, 64  # of files that are read together
_SPECIAL_BITS = {0o4000: "set-user-ID", 0o2000: "set-group-ID", 0o1000: "sticky"}


@dataclass(frozen=True, slots=True)
class RestoringWish:
    """force: existing files are replaced."""

    paths: Sequence[str]
    force: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where something is restored: into a folder, that is called so."""

    folder: RestoredFolder
    called: str
    depth: int


class FileRestoring:
    """Restores once. target: what they are restored into, as `home` is called. tell: is given the lines."""

    def __init__(
        self,
        paths: GuestPaths,
        wish: RestoringWish,
        target: RestoredFolder,
        home: str,
        tell: Callable[[FileLine], None],
    ) -> None:
        self._paths, self._wish, self._tell = paths, wish, tell
        self._top = _Place(target, home, 0)
        self._files = self._folders = self._links = self._bytes = self._there = 0
        self._at = ""

    def run(self) -> None:
        names: set[str] = set()
        try:
            for text in self._wish.paths:
                self._at = text
                try:
                    tree, path, head = self._paths.parsed(text)
                    path, entry = tree.entry(path)
                    name = entry.name or _root_name(head)
                    if name in names:
                        raise RefusedError("another path is restored under its name: restore it into another folder")
                    names.add(name)
                    self._any(tree, path, head, replace(entry, name=name), self._top)
                except (UnreadGuestError, RefusedError) as error:
                    self._left(text, str(error))
            self._top.folder.close()
        except FullError as error:
            self._tell(FullLine(sayable(self._at), str(error)))
            return
        except RefusedError as error:
            self._left(self._top.called, f"what was restored may not be durable: {error}")
        self._tell(TotalLine(self._files, self._folders, self._bytes, self._links, self._there))

    def _any(self, tree: GuestTree, path: str, head: str, entry: GuestEntry, into: _Place) -> None:
        """One of any kind. FullError."""
        self._at = shown = head + path
        if self._files + self._links + self._folders >= MOST_FILES:
            raise Spent(f"there are more than {MOST_FILES} files, and the work ends here")
        match entry.kind:
            case EntryKind.FOLDER if into.depth >= MOST_DEPTH:
                self._left(shown, f"it is more than {MOST_DEPTH} folders deep")
            case EntryKind.FOLDER:
                self._folder(tree, path, head, entry, into)
            case EntryKind.FILE:
                self._file(tree, path, shown, entry, into)
            case EntryKind.LINK:
                self._link(shown, entry, into)
            case _:
                why = unsafe(entry.name)
                usual = "it is a device, a FIFO or a socket, or can't be opened by what reads it here"
                self._left(shown, why or usual, failed=bool(why))

    def _folder(self, tree: GuestTree, path: str, head: str, entry: GuestEntry, into: _Place) -> None:
        shown = head + path
        try:
            mine = into.folder.enter(entry.name)
        except RefusedError as error:
            self._left(shown, str(error))
            return
        self._folders += 1
        here = _Place(mine, joined(into.called, entry.name), into.depth + 1)
        try:
            for name, one in self._within(tree, path, head, here):
                self._any(tree, name, head, one, here)
        finally:
            try:
                mine.close(entry)
            except RefusedError as error:
                self._left(shown, f"its mode and time can't be set: {error}")
        self._special(shown, entry)

    def _within(self, tree: GuestTree, path: str, head: str, here: _Place) -> list[tuple[str, GuestEntry]]:
        """Restore what a folder holds but its folders; these."""
        inner: list[tuple[str, GuestEntry]] = []
        small: list[GuestEntry] = []
        alike = _Alike()
        try:
            for one in tree.entries(path):
                name = joined(path, one.name)
                if alike.met(one.name):
                    note = "its name differs from another's in case or spelling only"
                    self._tell(NoteLine(sayable(head + name), note))
                if _is_small(one):
                    small.append(one)
                    if len(small) == SMALL_FILES:
                        self._small(tree, path, head, small, here)
                elif one.kind is not EntryKind.FOLDER:
                    self._any(tree, name, head, one, here)
                elif len(inner) < MOST_FOLDERS:
                    inner.append((name, one))
                else:
                    self._left(head + name, f"its folder holds more than {MOST_FOLDERS} folders")
            self._small(tree, path, head, small, here)
        except UnreadGuestError as error:
            self._small(tree, path, head, small, here)
            self._left(head + path, str(error))
        return inner

    def _small(self, tree: GuestTree, path: str, head: str, files: list[GuestEntry], here: _Place) -> None:
        """Restore small files of a folder, and empty the list of them."""
        if len(files) > 1:
            tree.ahead(path, files)
        for one in files:
            self._any(tree, joined(path, one.name), head, one, here)
        files.clear()

    def _file(self, tree: GuestTree, path: str, shown: str, entry: GuestEntry, into: _Place) -> None:
        try:
            outcome = into.folder.write(entry, tree.chunks(path), force=self._wish.force)
        except (UnreadGuestError, RefusedError) as error:
            self._left(shown, str(error))
            return
        self._files += 1
        self._restored(shown, entry, into, outcome)
        self._special(shown, entry)

    def _link(self, shown: str, entry: GuestEntry, into: _Place) -> None:
        try:
            outcome = into.folder.link(entry, force=self._wish.force)
        except RefusedError as error:
            leads = f" to {sayable(entry.target)}" if entry.target else ""
            self._left(shown, f"it is a symbolic link{leads}: {error}", failed=False)
            return
        self._links += 1
        self._restored(shown, entry, into, outcome)

    def _restored(self, shown: str, entry: GuestEntry, into: _Place, outcome: FileOutcome) -> None:
        there = outcome is FileOutcome.THERE
        self._there += there
        self._bytes += entry.bytes or 0
        to = joined(into.called, entry.name)
        self._tell(RestoredLine(sayable(shown), sayable(to), entry.bytes or 0, there, sayable(entry.target)))

    def _special(self, shown: str, entry: GuestEntry) -> None:
        bits = [name for bit, name in _SPECIAL_BITS.items() if (entry.mode or 0) & bit]
        if bits:
            self._tell(NoteLine(sayable(shown), f"it is restored without its {' and '.join(bits)} bit"))

    def _left(self, shown: str, why: str, failed: bool = True) -> None:
        self._tell(LeftLine(sayable(shown), why, failed))


def _is_small(entry: GuestEntry) -> bool:
    return entry.kind is EntryKind.FILE and (entry.bytes or 0) <= SMALL_BYTES and not unsafe(entry.name)


class _Alike:
    """Names of a folder, compared as a file system that ignores case would."""

    def __init__(self) -> None:
        self._met: set[int] = set()

    def met(self, name: str) -> bool:
        """Whether one like it came before."""
        key = hash(unicodedata.normalize("NFC", name).casefold())
        if key in self._met:
            return True
        if len(self._met) < MOST_COMPARED:
            self._met.add(key)
        return False


def _root_name(head: str) -> str:
    """What the folder of a whole volume, or of a whole system, is called here."""
    return head.rstrip(":").replace("/", "-").replace("=", "-") or "root"
