"""Durable file operations below a directory store; refuses to overwrite unless told to, and raw OSErrors.

Everything here blocks and runs on the store's threads.
"""

# ruff: noqa: PTH102, PTH106, PTH116, PTH120

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from typing import Final

from warmspare.errors import FULL, NoRoomError, NotFoundError, StoreError
from warmspare.outside.regular_files import FOLDER, NotRegularError, demand_folders, kind_of, open_regular
from warmspare.store.layout import holds_objects, names_object

LOCK_WAIT_S = 10.0  # the lock is held for milliseconds; longer means that its holder hangs
_PART_NAME = re.compile(r"[A-Za-z0-9_.=-]+")
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})

_READ_ONLY: Final = ("the file system is read-only", "remount it read-write or choose another place", False)
_DENIED: Final = ("permission denied", "let this user read and write it, or run as its owner", False)
_FULL: Final = ("no space is left", "free some or raise the quota, then run again", False)
_NO_DIRECTORY: Final = ("a part of the path is not a directory", "choose another place or remove it", False)
_LONG: Final = (
    "the file system takes no name as long as this",
    "choose a file system that takes 255 bytes",
    False,
)
_HARDWARE: Final = ("the medium reported an input/output error", "check the disk and the system log", False)
_STALE: Final = ("the file server lost or timed out on the file", "check the mount and run again", True)
_OPEN_FILES: Final = ("too many files are open", "raise the limit of open files (ulimit -n)", True)
_GONE: Final = ("a directory of the path is missing", "create it, or mount what belongs there", False)
_OTHER_DEVICE: Final = (
    "the repository spans several file systems",
    "keep all of its directories in one, with no mount or link to another inside",
    False,
)
_MEANING: Final = {
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "the file is too large for the file system or the limit",
        "raise the limit of file sizes",
        False,
    ),
    errno.ENOTDIR: _NO_DIRECTORY,
    errno.EISDIR: ("a directory stands where an object belongs", "choose another place or remove it", False),
    errno.ENOENT: _GONE,
    errno.ENAMETOOLONG: _LONG,
    errno.EIO: _HARDWARE,
    errno.ESTALE: _STALE,
    errno.ETIMEDOUT: _STALE,
    errno.EMFILE: _OPEN_FILES,
    errno.ENFILE: _OPEN_FILES,
    errno.EXDEV: _OTHER_DEVICE,
}


def store_error(error: OSError, doing: str, path: str) -> StoreError:
    """The StoreError for a failed file operation: `doing` is a clause such as "cannot write the object"."""
    if isinstance(error, NotRegularError):
        return StoreError(f"{doing}: {error.strerror}", where=error.filename, hint=error.hint)
    meaning, hint, retryable = _MEANING.get(
        error.errno or 0, (os.strerror(error.errno) if error.errno else "it failed", "check the path", False)
    )
    kind = NoRoomError if error.errno in FULL else StoreError
    return kind(f"{doing}: {meaning}", where=path, hint=hint, retryable=retryable)


@contextlib.contextmanager
def naming(doing: str, path: str) -> Iterator[None]:
    """Turns an OSError of the block into a StoreError that names the path; leaves ours alone."""
    try:
        yield
    except OSError as error:
        raise store_error(error, doing, path) from error


def not_found(path: str) -> NotFoundError:
    """The error for an object that is not there."""
    return NotFoundError("no such object", where=path, hint="check the repository's path and the name asked for")


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. Some network file systems refuse; there the server decides."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(fd)


def make_directories(root: str, path: str, *, durable: bool) -> None:
    """Make `root` (whose parent must exist: it may be an unmounted mount point) and what lies below it, down
    to `path`. durable: sync the parent of each directory that was made here."""
    missing = []
    at = path
    while not _is_folder(at, root):
        missing.append(at)
        if at == root:
            break
        at = os.path.dirname(at)
    above = os.path.dirname(at)
    while at not in missing and len(above) >= len(root):  # what is there already leads nowhere else
        _is_folder(above, root)
        above = os.path.dirname(above)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700 if directory == root else 0o777)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(directory).st_mode):  # FileNotFoundError: pruned by another
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory) from None
            continue
        if durable:
            sync_directory(os.path.dirname(directory))


def _is_folder(path: str, root: str) -> bool:
    """Whether a directory stands there. NotRegularError for a link, below the root: what is written must not go
    where it leads."""
    try:
        mode = (os.stat if path == root else os.lstat)(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISLNK(mode):
        raise NotRegularError(kind_of(mode), path, "a directory")
    return stat.S_ISDIR(mode)


def prune(root: str, path: str) -> None:
    """Remove `path` and its parents below `root` as far as they are empty; others may make them anew."""
    while path.startswith(root + "/"):
        try:
            os.rmdir(path)
        except OSError:
            return
        path = os.path.dirname(path)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of the bytes at the file's position."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def link_new(staged: str, target: str) -> bool:
    """Give the staged file its name unless that is taken; False if it is. `staged` may remain beside it.

    A network file server may have carried out a link whose answer was lost: the same inode means ours.
    """
    try:
        os.link(staged, target)
    except FileExistsError:
        return os.path.samestat(os.stat(staged), os.stat(target, follow_symlinks=False))
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_new(staged, target)
    return True


def _rename_new(staged: str, target: str) -> bool:
    """renameat2 with RENAME_NOREPLACE, for file systems without hard links; False if the name is taken."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    code = errno.ENOSYS
    if rename is not None:
        old, new = os.fsencode(staged), os.fsencode(target)
        if rename(_AT_FDCWD, old, _AT_FDCWD, new, ctypes.c_uint(_RENAME_NOREPLACE)) == 0:
            return True
        code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise StoreError(
            "the file system has neither hard links nor a rename that never replaces",
            where=target,
            hint="keep the repository on ext4, XFS, Btrfs, ZFS or NFS",
        )
    raise OSError(code, os.strerror(code), target)


@contextlib.contextmanager
def locked(path: str, *, needed: bool = True) -> Iterator[None]:
    """Holds an exclusive lock on a file that exists for nothing else; over NFS it excludes other hosts too.

    StoreError (retryable) when another holds it for LOCK_WAIT_S. Where the file system has no locks: StoreError, or
    none is held where it is not needed.
    """
    fd = open_regular(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        pause_s = 0.001
        while True:
            try:
                # flock and not lockf: POSIX locks don't exclude threads, and end when any descriptor closes
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreError(
                        f"another process held the repository's lock for {LOCK_WAIT_S:g} s",
                        where=path,
                        hint="see whether it hangs (fuser names it), then run again",
                        retryable=True,
                    ) from None
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.05)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                if needed:
                    raise StoreError(
                        "the file system has no locks (flock)",
                        where=path,
                        hint="mount it so that it has, or keep the repository on ext4, XFS, Btrfs, ZFS or NFS",
                    ) from error
                break
        yield
    finally:
        os.close(fd)


def walk_keys(top: str, prefix: str, start_after: str = "", *, objects: bool = True) -> Iterator[tuple[str, str]]:
    """Keys below the directory `top` and their paths, in the order of whole keys: `a-b` sorts before `a/b`.

    Names that can't be a part of a key are passed over, and what is neither file nor directory, links too: they may
    lead anywhere, and round in circles. A missing directory is empty. StoreError for such a thing in an object's place.
    objects: files have whole keys here; in the area of uploads a key is a directory. Nothing is looked at before the
    first key is asked for: whoever makes the walk may be on the event loop.
    """
    whole_parts = prefix.rpartition("/")[0]
    at = f"{top}/{whole_parts}" if whole_parts else top
    with naming("cannot list the directory", at):
        demand_folders(top, at)
    yield from _walk_below(at, f"{whole_parts}/" if whole_parts else "", prefix, start_after, objects)


def _is_folder_of(entry: os.DirEntry[str], above: str, objects: bool) -> bool | None:
    """Whether it is a directory, or else a file; None if it is neither, or gone. NotRegularError for what stands where
    an object of a repository belongs, or a folder of them."""
    key = above + entry.name
    if entry.is_dir(follow_symlinks=False):
        if objects and names_object(key):
            raise NotRegularError(FOLDER, entry.path, "an object")
        return True
    if entry.is_file(follow_symlinks=False):
        return False
    try:
        kind = kind_of(entry.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None
    if names_object(key) or holds_objects(key):
        raise NotRegularError(kind, entry.path, "an object" if names_object(key) else FOLDER)
    return None


def _walk_below(path: str, above: str, prefix: str, start_after: str, objects: bool) -> Iterator[tuple[str, str]]:
    with naming("cannot list the directory", path):
        try:
            with os.scandir(path) as entries:
                names = sorted(
                    entry.name + "/" if is_folder else entry.name
                    for entry in entries
                    if _PART_NAME.fullmatch(entry.name)
                    and (is_folder := _is_folder_of(entry, above, objects)) is not None
                )
        except (FileNotFoundError, NotADirectoryError):
            return
    for name in names:
        key = above + name
        if not name.endswith("/"):
            if key.startswith(prefix) and key > start_after:
                yield key, f"{path}/{name}"
        elif (key.startswith(prefix) or prefix.startswith(key)) and (key > start_after or start_after.startswith(key)):
            yield from _walk_below(f"{path}/{name[:-1]}", key, prefix, start_after, objects)
