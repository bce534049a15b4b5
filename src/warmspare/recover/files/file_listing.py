"""Lists what a path of a guest is, or what its folder holds; owns how far that goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from warmspare.recover.disks.confined import Spent
from warmspare.recover.files.file_lines import EntryLine, FileLine, LeftLine, TotalLine
from warmspare.recover.files.guest_entry import EntryKind, GuestEntry, UnreadGuestError, joined, raw, sayable, unsafe
from warmspare.recover.files.guest_tree import GuestPaths, GuestTree

MOST_DEPTH = 100
MOST_FOLDERS = 100_000  # that wait to be listed
MOST_FILES = 20_000_000
MOST_SORTED = 50_000  # of a folder


@dataclass(frozen=True, slots=True)
class ListingWish:
    """recursive: with all that is below."""

    paths: Sequence[str]
    recursive: bool


class FileListing:
    """Lists once. tell: is given the lines."""

    def __init__(self, paths: GuestPaths, wish: ListingWish, tell: Callable[[FileLine], None]) -> None:
        self._paths, self._wish, self._tell = paths, wish, tell
        self._files = self._folders = self._bytes = 0

    def run(self) -> None:
        for text in self._wish.paths:
            try:
                tree, path, head = self._paths.parsed(text)
                path, entry = tree.entry(path)
            except UnreadGuestError as error:
                self._left(text, str(error))
                continue
            if entry.kind is EntryKind.FOLDER:
                self._below(tree, path, head)
            else:
                self._one(head + path, entry)
        self._tell(TotalLine(self._files, self._folders, self._bytes))

    def _below(self, tree: GuestTree, path: str, head: str) -> None:
        waiting = [(path, 0)]
        while waiting:
            folder, depth = waiting.pop()
            inner: list[str] = []
            try:
                for entry in _sorted(tree.entries(folder)):
                    place = joined(folder, entry.name)
                    if self._files + self._folders >= MOST_FILES:
                        raise Spent(f"there are more than {MOST_FILES} files, and the list ends here")
                    self._one(head + place, entry)
                    if self._wish.recursive and entry.kind is EntryKind.FOLDER and not unsafe(entry.name):
                        inner.append(place)
            except UnreadGuestError as error:
                self._left(head + folder, str(error))
            if inner and (depth >= MOST_DEPTH or len(waiting) + len(inner) > MOST_FOLDERS):
                self._left(head + folder, f"its {len(inner)} folders are too many, or too deep, to be listed")
            else:
                waiting += [(place, depth + 1) for place in reversed(inner)]

    def _one(self, shown: str, entry: GuestEntry) -> None:
        folder = entry.kind is EntryKind.FOLDER
        self._folders += folder
        self._files += not folder
        self._bytes += entry.bytes or 0
        self._tell(
            EntryLine(sayable(shown), entry.kind, entry.bytes, entry.modified_s, entry.mode, sayable(entry.target))
        )

    def _left(self, shown: str, why: str) -> None:
        self._tell(LeftLine(sayable(shown), why, True))


def _sorted(entries: Iterator[GuestEntry]) -> Iterator[GuestEntry]:
    """By name, where there are not too many; what came before an error comes all the same."""
    first: list[GuestEntry] = []
    failed: UnreadGuestError | None = None
    try:
        first += itertools.islice(entries, MOST_SORTED)
    except UnreadGuestError as error:
        failed = error
    yield from sorted(first, key=lambda entry: raw(entry.name))
    if failed is not None:
        raise failed
    yield from entries
