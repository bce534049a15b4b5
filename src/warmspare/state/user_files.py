"""Files that are written where the user said; owns that only a file which this program wrote there is ever replaced.

The user's directory holds the user's files. A page is known by its first bytes, an exported disk by a note on it.
What is written goes to a file of a new name first, and takes the other's place when it is whole and durable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

from warmspare.errors import ConfigError
from warmspare.outside.regular_files import kind_of, open_file, open_regular
from warmspare.state.local_files import local_io, mode_of, pwrite_all, sync_directory

OURS = "user.warmspare.output"  # an extended attribute
OTHERS = "a file that this program did not write"


def demand_replaceable(path: Path, mark: bytes, what: str) -> None:
    """ConfigError if something stands at `path` that this program did not write: it begins otherwise than with `mark`,
    or is no file. StoreError."""
    with local_io(what, path):
        there = mode_of(path)
        if not there:
            return
        if stat.S_ISREG(there):
            with open_file(path) as file:
                if file.read(len(mark)) == mark:
                    return
    raise _not_ours(OTHERS if stat.S_ISREG(there) else kind_of(there), path)


def replace_output(path: Path, data: bytes, mark: bytes, what: str) -> None:
    """Write a whole file, durably: in the place of one that `demand_replaceable` takes, or of none. data: begins with
    `mark`. ConfigError, StoreError; then what stood there stands still."""
    demand_replaceable(path, mark, what)
    staged = path.with_name(f".warmspare-{secrets.token_hex(8)}")
    with local_io(what, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            try:
                pwrite_all(fd, data, 0)
                os.fsync(fd)
            finally:
                os.close(fd)
            try:
                os.link(staged, path)  # never over another's that came meanwhile
            except OSError:
                demand_replaceable(path, mark, what)  # it was there, or the file system has no links
                staged.replace(path)
            sync_directory(path.parent)
        finally:
            with contextlib.suppress(OSError):
                staged.unlink()


def mark_ours(fd: int) -> None:
    """Note on an open file that this program wrote it, where its file system keeps such notes."""
    with contextlib.suppress(OSError):
        os.setxattr(fd, OURS, b"1")


def keeps_notes(directory: Path) -> bool:
    """Whether the file system of a directory that is there keeps such notes."""
    try:
        os.getxattr(directory, OURS)
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


def demand_ours(path: Path, what: str) -> None:
    """ConfigError unless nothing stands at `path`, or a file with that note. StoreError."""
    with local_io(what, path):
        there = mode_of(path)
        if not there:
            return
        if stat.S_ISREG(there):
            fd = open_regular(path)
            try:
                os.getxattr(fd, OURS)
                return
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                    raise
            finally:
                os.close(fd)
    raise _not_ours(OTHERS if stat.S_ISREG(there) else kind_of(there), path)


def _not_ours(kind: str, path: Path) -> ConfigError:
    return ConfigError(
        f"{kind} stands where this is to be written", where=str(path), hint="move it away, or give another place"
    )
