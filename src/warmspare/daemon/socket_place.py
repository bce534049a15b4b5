"""Where the daemon of a state directory listens, and who is at the other end; refuses another user."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from warmspare.errors import LeaseError
from warmspare.state.local_files import STATE_DIRECTORY, local_io, locked

LOCK = "daemon.lock"
MODE = 0o600
BACKLOG = 64
_CREDENTIALS = struct.Struct("3i")  # PID, user, group: socket(7) and unix(7), SO_PEERCRED


class SocketPlace:
    """path: the socket, in a state directory."""

    def __init__(self, path: Path) -> None:
        self.path, self._folder = path, path.parent

    @contextlib.contextmanager
    def listening(self) -> Iterator[socket.socket]:
        """A socket that takes connections; nobody else's is there meanwhile. LeaseError where another daemon is at
        work; StoreError."""
        with locked(self._folder / LOCK, STATE_DIRECTORY) as alone:
            if not alone:
                raise LeaseError(
                    "a daemon of this state directory is at work already", where=str(self.path), hint="use that one"
                )
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.setblocking(False)
                with local_io(STATE_DIRECTORY, self.path):
                    ours = self._bind(listener)
                try:
                    yield listener
                finally:
                    with contextlib.suppress(OSError):
                        if _identity(self.path) == ours:  # the directory may be another one by now, and its daemon too
                            self.path.unlink()

    def _bind(self, listener: socket.socket) -> tuple[int, int]:
        """In place of what a daemon that died has left; nobody else may connect at any moment. Its identity."""
        staged = self._folder / f".{self.path.name}-{secrets.token_hex(8)}"
        with _reached(self._folder) as folder:
            listener.bind(f"{folder}/{staged.name}")
            try:
                staged.chmod(MODE)
                listener.listen(BACKLOG)
                made = _identity(staged)
                staged.replace(self.path)
                return made
            except BaseException:
                staged.unlink()
                raise

    def connected(self) -> socket.socket:
        """A connection to the daemon that listens there, which is this user's. OSError where there is none."""
        there = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            there.setblocking(False)
            with _reached(self._folder) as folder:
                there.connect(f"{folder}/{self.path.name}")  # done at once, or not: unix(7), EAGAIN
            if not is_own(there):
                raise PermissionError("another user listens there")
        except BaseException:
            there.close()
            raise
        return there


@contextlib.contextmanager
def _reached(folder: Path) -> Iterator[str]:
    """A short name of it: a socket's may have 107 bytes."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode."""
    status = path.lstat()
    return status.st_dev, status.st_ino


def is_own(connection: socket.socket) -> bool:
    """Whether the other end is a process of this user, by the kernel's word."""
    return peer(connection)[1] == os.geteuid()


def peer(connection: socket.socket) -> tuple[int, int]:
    """PID and user of the other end."""
    number, user, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return number, user
