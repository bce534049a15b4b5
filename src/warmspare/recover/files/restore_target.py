"""The folder that files of a guest are restored into, as it is opened; owns what is refused of it before anything is
read."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from warmspare.errors import ConfigError, LeaseError
from warmspare.state.local_files import local_io

_WHAT = "opening the folder to restore into"


@contextlib.contextmanager
def restore_target(folder: Path) -> Iterator[int]:
    """Its descriptor; the folder is made where it is not there, in one that is. Nobody else restores into it meanwhile.

    ConfigError where something else is there, or nothing to make it in; LeaseError where another run restores into it;
    StoreError.
    """
    where = str(folder)
    with local_io(_WHAT, folder):
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            hint = "make the folder that it is to be in, or give another --to"
            raise ConfigError("there is no folder to make it in", where=where, hint=hint) from None
        except NotADirectoryError:
            raise ConfigError("it is no folder", where=where, hint="give a folder as --to") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "wait for it, or give another --to"
            raise LeaseError("another run restores into this folder", where=where, hint=hint) from None
        except OSError:  # a file system without locks
            pass
        yield fd
    finally:
        os.close(fd)
