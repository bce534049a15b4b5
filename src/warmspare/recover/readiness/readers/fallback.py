"""Files of a volume by two readers: GRUB's, and where that reads nothing of the volume, Linux's; owns who is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from warmspare.recover.readiness.answers import Answer, T, Unknown
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES, GuestFiles
from warmspare.recover.readiness.readers.appliance.appliance_files import ApplianceFiles
from warmspare.recover.readiness.readers.grubfiles import GrubFiles


class Fallback:
    """`GuestFiles`. second: gives the other reader's, when it is needed, for starting that costs seconds; None
    where there is no other."""

    def __init__(self, first: GrubFiles, second: Callable[[], ApplianceFiles] | None, prefix: str = "") -> None:
        self._first = first.within(prefix)
        self._whole, self._second, self._prefix = first, second, prefix

    def within(self, prefix: str) -> Fallback:
        return Fallback(self._whole, self._second, prefix)

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        return self._better(
            self._first.read(path, most_bytes=most_bytes), lambda files: files.read(path, most_bytes=most_bytes)
        )

    def head(self, path: str, count: int) -> Answer[bytes]:
        return self._better(self._first.head(path, count), lambda files: files.head(path, count))

    def names(self, path: str) -> Answer[list[str]]:
        return self._better(self._first.names(path), lambda files: files.names(path))

    @contextmanager
    def stream(self, path: str) -> Iterator[BinaryIO]:
        files: GuestFiles = self._first
        if self._second and not self._first.reads:
            self._first.head(path, 1)
        if self._second and self._first.refused:
            files = self._second().within(self._prefix)
        with files.stream(path) as file:
            yield file

    def _better(self, answer: Answer[T], ask: Callable[[GuestFiles], Answer[T]]) -> Answer[T]:
        if not isinstance(answer, Unknown) or not self._first.refused or self._second is None:
            return answer
        other = ask(self._second().within(self._prefix))
        return Unknown(f"{answer.why}; {other.why}") if isinstance(other, Unknown) else other
