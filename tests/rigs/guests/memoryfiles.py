"""Files of a guest in memory: a dict of paths, for looks that need no disk."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES


class MemoryFiles:
    """`Files`. Folders are there as far as files are in them, or a path ends in a slash. A value that is `Unknown`
    can't be read; a folder may be so, too."""

    def __init__(self, tree: Mapping[str, bytes | str | Unknown]) -> None:
        self._tree = {path: text.encode() if isinstance(text, str) else text for path, text in tree.items()}
        self.asked: list[str] = []

    def _get(self, path: str) -> Answer[bytes]:
        self.asked.append(path)
        path = "/" + posixpath.normpath(path).lstrip("/")
        parts = path.split("/")
        for depth in range(1, len(parts)):
            above = self._tree.get("/".join(parts[:depth]) or "/")
            if isinstance(above, Unknown):
                return above
        return self._tree.get(path, ABSENT)

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        got = self._get(path)
        return Unknown("it is larger") if isinstance(got, bytes) and len(got) > most_bytes else got

    def head(self, path: str, count: int) -> Answer[bytes]:
        got = self._get(path)
        return got[:count] if isinstance(got, bytes) else got

    @contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        got = self._get(path)
        if isinstance(got, Unknown):
            raise OSError(got.why)
        if not isinstance(got, bytes):
            raise FileNotFoundError("it is not there")
        yield io.BytesIO(got)

    def names(self, path: str) -> Answer[list[str]]:
        got = self._get(path)
        if isinstance(got, Unknown):
            return got
        inside = path.rstrip("/") + "/"
        names = set()
        for each in self._tree:
            if each.startswith(inside) and each != inside:
                first, slash, _ = each[len(inside) :].partition("/")
                names.add(first + slash)
        return sorted(names) if names or inside in self._tree else ABSENT
