"""Trees of a guest's files in memory, as readiness reads them: what is there, what is not, and what can't be read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import BinaryIO

from warmspare.recover.readiness.answers import ABSENT, Answer, Unknown
from warmspare.recover.readiness.guest.guest_files import MAX_FILE_BYTES, GuestFiles


class Tree:
    """files: by absolute path; an `Unknown` can't be read, whether it is a file or a folder. any_case: as on FAT."""

    def __init__(self, files: Mapping[str, bytes | str | Unknown], *, any_case: bool = False) -> None:
        self._case = str.upper if any_case else str
        self._files = {self._case(path): data for path, data in files.items()}
        self._shown = list(files)
        self.asked = list[str]()

    def _got(self, path: str) -> Answer[bytes]:
        self.asked.append(path)
        for folder, data in self._files.items():
            if isinstance(data, Unknown) and (self._case(path) + "/").startswith(folder.rstrip("/") + "/"):
                return data
        data = self._files.get(self._case(path), ABSENT)
        return data.encode() if isinstance(data, str) else data

    def read(self, path: str, *, most_bytes: int = MAX_FILE_BYTES) -> Answer[bytes]:
        data = self._got(path)
        if isinstance(data, bytes) and len(data) > most_bytes:
            return Unknown(f"{path} is larger than {most_bytes >> 10} KiB")
        return data

    def head(self, path: str, count: int) -> Answer[bytes]:
        data = self._got(path)
        return data[:count] if isinstance(data, bytes) else data

    def stream(self, path: str) -> AbstractContextManager[BinaryIO]:
        data = self._got(path)
        if not isinstance(data, bytes):
            raise OSError("no such file")
        return io.BytesIO(data)

    def names(self, path: str) -> Answer[list[str]]:
        start = path.rstrip("/") + "/"
        found = dict[str, None]()
        for each in self._shown:
            if self._case(each).startswith(self._case(start)):
                name, slash, _ = each[len(start) :].partition("/")
                found[name + slash] = None
        for folder, data in self._files.items():
            if isinstance(data, Unknown) and self._case(start).startswith(folder.rstrip("/") + "/"):
                return data
        return list(found) or ABSENT


class Machines:
    """Devices of a boot loader. others: by their names in `Place.device`; what is not among them is not there."""

    def __init__(self, own: GuestFiles, others: Mapping[str, GuestFiles | Unknown] | None = None) -> None:
        self._others = {"": own, **(others or {})}

    def files(self, device: str) -> Answer[GuestFiles]:
        return self._others.get(device, ABSENT)
