"""The directory that a repository is in; owns how it is told that it is not the one it was, and refuses to go on there.

What is mounted at a path may go away while a run uses it, and what is then below the mount point is no repository: its
objects seem to be lost, and what is written there nobody will find.
"""

# ruff: noqa: PTH116, PTH208

from __future__ import annotations

import os
import stat

from warmspare.errors import StoreError


class Root:
    """path: absolute. Everything here blocks and raises OSErrors where nothing else is said."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None  # device and inode
        self._away = False  # as the last look found it

    def check(self) -> bool:
        """Whether the directory is there; one that never was is an empty repository. StoreError if something else
        stands there than a directory, or than the one that was there before."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            if self._seen is not None:
                raise self._gone("is gone") from None
            return False
        except NotADirectoryError:
            raise self._no_directory() from None
        if not stat.S_ISDIR(there.st_mode):
            raise self._no_directory()
        found = there.st_dev, there.st_ino
        if self._seen is None:
            self._seen = found
        elif self._seen[0] != found[0]:
            raise self._gone("is of another file system than before")
        # Another inode alone says nothing: some file systems (overlayfs) give a directory a new one now and then.
        elif self._seen != found and (self._away or not os.listdir(self.path)):
            raise self._gone("is another one than before")
        self._away = False
        return True

    def _no_directory(self) -> StoreError:
        return StoreError(
            "the repository's path, or a part of it, is not a directory",
            where=self.path,
            hint="give the path of a directory",
        )

    def _gone(self, what: str) -> StoreError:
        self._away = True
        return StoreError(
            f"the repository's directory {what}",
            where=self.path,
            hint="mount what belongs there, then run again",
            retryable=True,
        )
