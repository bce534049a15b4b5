"""Small notes that all processes of a host share, each named by a salted hash and used under a lock of its own.

It owns files and locks, and does not know what a note says. A note's name may hold a secret: what is on the disk is a
scrypt hash of it with a salt that only this user can read. A note that was torn by a crash is for its reader to see.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from pathlib import Path

from warmspare.outside.regular_files import demand_folders, open_file, open_regular
from warmspare.state.local_files import STATE_DIRECTORY, local_io, pwrite_all

NOTE_BYTES = 4096
SALT_BYTES = 32
KEPT_S = 7 * 86400.0  # a note that nobody wrote for so long is removed when another is begun


class Note:
    """One note. `take` it before it is read or written, and `release` it; the kernel releases what a dead process
    held."""

    def __init__(self, path: Path) -> None:
        self._path, self._fd = path, -1

    def take(self) -> bool:
        """Without waiting; whether it was free. StoreError if the file can't be used."""
        with local_io(STATE_DIRECTORY, self._path):
            fd = open_regular(self._path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return False
            except BaseException:
                os.close(fd)
                raise
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self) -> bytes:
        """What it says, b"" for nothing yet; not locked, so it may be read while another process writes."""
        with (
            local_io(STATE_DIRECTORY, self._path),
            contextlib.suppress(FileNotFoundError),
            open_file(self._path) as file,
        ):
            return file.read(NOTE_BYTES)
        return b""

    def write(self, text: bytes) -> None:
        """Also where another process has it and is stuck. Not synced: what a crash of the host loses costs one more
        login."""
        with local_io(STATE_DIRECTORY, self._path):
            fd = open_regular(self._path, os.O_WRONLY | os.O_CREAT)
            try:
                pwrite_all(fd, text, 0)
                os.ftruncate(fd, len(text))
            finally:
                os.close(fd)


class Notes:
    """The notes in a directory, which is made for the first of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def of(self, name: bytes) -> Note:
        """The note of that name. It takes some 10 ms, which is what guessing a name from its file costs too.
        StoreError."""
        with local_io(STATE_DIRECTORY, self._directory):
            demand_folders(self._directory.parent, self._directory)
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            salt = self._salt()
            digest = hashlib.scrypt(name, salt=salt, n=1 << 12, r=8, p=1, dklen=16).hex()
            path = self._directory / digest
            if not path.exists():
                self._forget_old()
        return Note(path)

    def _salt(self) -> bytes:
        fd = open_regular(self._directory / "salt", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # held for microseconds
            salt = os.pread(fd, SALT_BYTES, 0)
            if len(salt) < SALT_BYTES:
                salt = os.urandom(SALT_BYTES)
                pwrite_all(fd, salt, 0)
            return salt
        finally:
            os.close(fd)

    def _forget_old(self) -> None:
        for path in self._directory.iterdir():
            with contextlib.suppress(OSError):
                if path.name != "salt" and time.time() - path.stat().st_mtime > KEPT_S:
                    path.unlink()
