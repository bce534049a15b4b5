"""A tree of a guest's files, as those who look into it read it: one volume's, or a whole system's with its mounts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from warmspare.recover.readiness.answers import Answer, Unknown

MAX_FILE_BYTES = 1 << 20


class GuestFiles(Protocol):
    """Paths are absolute and have slashes. A limit that is met makes an answer `Unknown`; `Spent` is raised through."""

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        """A file's bytes. Unknown where it is larger than most_bytes."""

    def head(self, path: str, count: int) -> Answer[bytes]:
        """The first bytes of a file; fewer where it has fewer."""

    def stream(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A file's bytes, as they come. FileNotFoundError, at the end perhaps, where it is not there; another OSError
        where it can't be read; Exceeded at a limit."""

    def names(self, path: str) -> Answer[list[str]]:
        """What a folder holds; folders' names end in a slash."""


class UnreadFiles:
    """`GuestFiles` of what was not found, or can't be read. why: as a clause."""

    def __init__(self, why: str) -> None:
        self._unknown = Unknown(why)

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        return self._unknown

    def head(self, path: str, count: int) -> Answer[bytes]:
        return self._unknown

    def stream(self, path: str) -> AbstractContextManager[BinaryIO]:
        raise OSError(self._unknown.why)

    def names(self, path: str) -> Answer[list[str]]:
        return self._unknown
