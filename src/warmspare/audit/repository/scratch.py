"""Scratch space of an audit: sparse files below one directory, and how much they take; owns no meaning.

What lies here is a cache of one audit. Files without a name go with the process; those with one serve an audit that
goes on after it was interrupted.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from warmspare.errors import StoreError
from warmspare.state.local_files import local_io
from warmspare.state.page_file import PageFile

WHAT = "the scratch space"
SPARES = 4


class StaleScratchError(StoreError):
    """Scratch space does not hold what was written to it; an audit that was resumed begins anew."""


class Scratch:
    """Files below a directory, made if absent. Close it, or use it as a context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.peak_bytes = 0
        self._files: set[PageFile] = set()
        self._spare: list[PageFile] = []  # nameless, and empty: an audit needs one for each manifest of a chain
        with local_io(WHAT, directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        for file in list(self._files):
            self.drop(file)
        while self._spare:
            self._spare.pop().close()

    def file(self, name: str = "", *, left: bool = False) -> PageFile:
        """The file with that name, or one without. left: one that is there already; StaleScratchError if it is not."""
        if not name and self._spare:
            file = self._spare.pop()
            self._files.add(file)
            return file
        path = self.directory / (name or f".{secrets.token_hex(8)}")
        if left and not path.exists():
            raise StaleScratchError("a working file of an interrupted audit is gone", where=str(path))
        file = PageFile(path, WHAT, nameless=not name)
        self._files.add(file)
        return file

    def drop(self, file: PageFile) -> None:
        """Done with it."""
        self.measure()
        if file in self._files and file.nameless and len(self._spare) < SPARES:
            file.empty()
            self._spare.append(file)
        else:
            file.close()
        self._files.discard(file)

    def measure(self) -> None:
        """Look at how much is allocated now, for peak_bytes."""
        self.peak_bytes = max(self.peak_bytes, sum(file.allocated_bytes for file in self._files))
