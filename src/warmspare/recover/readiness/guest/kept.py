"""Files of which what was read is kept for the run, as far as it is small: links of the chain ask the same again."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO

from warmspare.recover.readiness.answers import Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES, GuestFiles

_MOST_FILES = 256
_MOST_BYTES = 1 << 16


class KeptFiles:
    """`GuestFiles` of others."""

    def __init__(self, files: GuestFiles) -> None:
        self._files = files
        self._heads: dict[str, tuple[int, Answer[bytes]]] = {}  # up to how many bytes it was asked for

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        asked, known = self._heads.get(path, (0, b""))
        if not isinstance(known, bytes):
            return known
        if len(known) < asked and len(known) <= most_bytes:  # all of it
            return known
        answer = self._files.read(path, most_bytes=most_bytes)
        if not isinstance(answer, Unknown):  # which may be for its size alone
            self._keep(path, len(answer) + 1 if isinstance(answer, bytes) else 1, answer)
        return answer

    def head(self, path: str, count: int) -> Answer[bytes]:
        asked, known = self._heads.get(path, (0, b""))
        if asked and not isinstance(known, bytes):
            return known
        if isinstance(known, bytes) and asked and (len(known) >= count or len(known) < asked):
            return known[:count]
        answer = self._files.head(path, count)
        self._keep(path, count, answer)
        return answer

    def stream(self, path: str) -> AbstractContextManager[BinaryIO]:
        return self._files.stream(path)

    def names(self, path: str) -> Answer[list[str]]:
        return self._files.names(path)

    def _keep(self, path: str, asked: int, answer: Answer[bytes]) -> None:
        small = not isinstance(answer, bytes) or len(answer) <= _MOST_BYTES
        if small and (path in self._heads or len(self._heads) < _MOST_FILES):
            self._heads[path] = asked, answer
