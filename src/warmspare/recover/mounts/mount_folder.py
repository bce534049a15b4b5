"""The folder that something is to be mounted at: what it must be; makes none, and removes none."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

from warmspare.errors import ConfigError
from warmspare.state.local_files import local_io

_WHAT = "looking at the folder to mount at"


def mountable(folder: Path) -> Path:
    """The same without links in it. ConfigError unless it is an empty folder of this user's, with nothing mounted."""
    where = str(folder)
    try:
        found = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            "there is no such folder to mount at", where=where, hint=f"make it: mkdir {shlex.quote(where)}"
        ) from None
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            with local_io(_WHAT, folder):
                raise
        raise ConfigError(
            "a mount stands there whose program has died",
            where=where,
            hint=f"take it away: fusermount3 -u {shlex.quote(where)}",
        ) from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(
            "this is no folder, so nothing can be mounted there", where=where, hint="give an empty folder"
        )
    with local_io(_WHAT, folder):
        whole = folder.resolve(strict=True)
        if whole.is_mount():
            hint = "give another folder, or unmount what is there"
            raise ConfigError("something is mounted there already", where=where, hint=hint)
        if found.st_uid != os.geteuid():
            hint = "give an empty folder of your own"
            raise ConfigError("the folder belongs to another user", where=where, hint=hint)
        with os.scandir(whole) as inside:
            if next(inside, None) is not None:
                hint = "give an empty one: what is in it would be hidden"
                raise ConfigError("the folder to mount at is not empty", where=where, hint=hint)
    return whole
