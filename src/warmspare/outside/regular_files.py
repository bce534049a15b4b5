"""Opens what must be a regular file; refuses everything else that can stand under a name, without waiting for it.

A FIFO would block whoever opens it, a device would act, a symbolic link leads out of the place that the name is in. So
the kernel is told not to wait and not to follow, and what was opened is looked at, not what the name had meant before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

FOLDER = "a directory"
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, FOLDER),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# What the kernel answers where the name is a link, a FIFO that nobody reads, a socket or a device without a driver, a
# directory that was to be written.
_TELLING = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR})
_FOLDER = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class NotRegularError(OSError):
    """Something else than a regular file stands there. strerror: what, as a clause. filename: its path. hint: what to
    do about it, where this program keeps its own files."""

    hint = "it is not this program's: remove it, and see who put it there"

    def __init__(self, kind: str, path: str, place: str = "a file") -> None:
        super().__init__(errno.EINVAL, f"{kind} stands where {place} belongs", path)
        self.is_folder = kind == FOLDER


def kind_of(mode: int) -> str:
    """What a st_mode that is not of a regular file is of, in words."""
    return next((name for test, name in _KINDS if test(mode)), "something else")


def open_regular(
    path: str | os.PathLike[str],
    flags: int = os.O_RDONLY,
    mode: int = 0o600,
    *,
    follow: bool = False,
    dir_fd: int | None = None,
    called: str = "",
) -> int:
    """A descriptor of a regular file. flags: of open(2). follow: the user named the path, so a link is what they mean.
    called: the whole path, where `path` is a name in `dir_fd`. NotRegularError for anything else; other OSErrors as
    they come. Nothing is cut (O_TRUNC) before that is known."""
    name, asked = os.fspath(path), flags & ~os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(name, asked if follow else asked | os.O_NOFOLLOW, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _TELLING:
            raise
        there = stat.S_IFREG
        with contextlib.suppress(OSError):
            there = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
        if not stat.S_ISREG(there):
            raise NotRegularError(kind_of(there), called or name) from error
        raise
    try:
        there = os.fstat(fd).st_mode
        if not stat.S_ISREG(there):
            raise NotRegularError(kind_of(there), called or name)
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_disk(path: str | os.PathLike[str], flags: int, *, device: bool, follow: bool = False) -> int:
    """The file of a disk, or the block device that holds one. NotRegularError for anything else."""
    if not device:
        return open_regular(path, flags, follow=follow)
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    there = os.fstat(fd).st_mode
    if not stat.S_ISBLK(there):
        os.close(fd)
        raise NotRegularError("a file" if stat.S_ISREG(there) else kind_of(there), os.fspath(path), "a block device")
    return fd


def open_below(root: str, relative: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """The same below a directory, with no link on the way there: `relative` can't lead out. ValueError for `..`."""
    with _folder(root, relative) as (fd, name):
        return open_regular(name, flags, mode, dir_fd=fd, called=f"{root}/{relative}")


def stat_below(root: str, relative: str) -> os.stat_result:
    """What stands there, without opening it; a link at the end is told as one."""
    with _folder(root, relative) as (fd, name):
        return os.stat(name, dir_fd=fd, follow_symlinks=False)


@contextlib.contextmanager
def _folder(root: str, relative: str) -> Iterator[tuple[int, str]]:
    """The folder that holds `relative`, open, and the last name of it."""
    *folders, name = relative.split("/")
    if ".." in folders or name in ("", ".", ".."):
        raise ValueError(f"not a path below a directory: {relative!r}")
    at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, folder in enumerate(folders, 1):
            below = os.open(folder, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
            there = os.fstat(at).st_mode
            if not stat.S_ISDIR(there):
                where = f"{root}/{'/'.join(folders[:number])}"
                if stat.S_ISREG(there):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), where)
                raise NotRegularError(kind_of(there), where, "a directory")
        yield at, name
    finally:
        os.close(at)


def open_file(path: str | os.PathLike[str], *, follow: bool = False) -> BufferedReader:
    """A regular file to be read."""
    return open(open_regular(path, follow=follow), "rb")


def read_regular(path: str | os.PathLike[str], most_bytes: int, *, follow: bool = False) -> bytes:
    """What a regular file holds; OSError (EFBIG) where that is more than `most_bytes`."""
    with open_file(path, follow=follow) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"the file holds more than the {most_bytes} bytes that it may", os.fspath(path))
    return data


def demand_folders(root: str | Path, below: str | Path) -> None:
    """NotRegularError if there is a link on the way from `root`, where the user said, down to `below`, or anything else
    that is neither folder nor file."""
    at = Path(root)
    for part in Path(below).relative_to(at).parts:
        at = at / part
        try:
            there = os.lstat(at).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISREG(there):
            return  # whoever needs a folder there says so
        if not stat.S_ISDIR(there):
            raise NotRegularError(kind_of(there), str(at), FOLDER)
