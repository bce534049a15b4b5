"""A folder of this host that files of a guest are restored into; owns that nothing outside of it is touched.

Everything is done relative to descriptors of folders, none of which was reached through a link. A file is written under
a name of ours and gets its own when all of it is on the disk, so that a run that is killed leaves no half one under it.
No device, FIFO or socket is made, no set-user-ID, set-group-ID or sticky bit, and no link that leads out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from enum import StrEnum

from warmspare.errors import FULL
from warmspare.recover.files.guest_entry import GuestEntry, UnreadGuestError, raw, unsafe

PART = ".warmspare-restoring"
HOLE_BYTES = 1 << 16  # zeros of which are left out
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}
_MODES = 0o777
_TAKEN = "something else has its name; --force replaces it"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RefusedError(Exception):
    """Something is not made. str: why, as a clause."""


class MissingTargetError(RefusedError):
    """It is not there on this host."""


class FullError(Exception):
    """The file system takes no more. str: in the system's words."""


class FileOutcome(StrEnum):
    """What became of a file."""

    WRITTEN = "written"
    THERE = "there already"  # the same bytes


class RestoredFolder:
    """fd: of the folder, its own from here on, in which nobody else restores. depth: how many folders it is below the
    one that was given. made: by this run, so that its mode and time may be set."""

    def __init__(self, fd: int, depth: int = 0, *, made: bool = False) -> None:
        self._fd, self._depth, self._made = fd, depth, made
        self._mine: set[tuple[int, int]] = set()  # what this run has restored here, by their inodes

    def lock(self) -> None:
        """Keep others from restoring into it for as long as it is open, for what is half there has one name only.
        RefusedError where somebody does."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError("another restore is at work in this folder") from None
        except OSError:  # a file system without locks
            pass

    def enter(self, name: str) -> RestoredFolder:
        """A folder in it, made where it is not there. RefusedError where something else has its name; FullError."""
        self._demand(name)
        made = True
        with _refusing():
            try:
                os.mkdir(raw(name), 0o700, dir_fd=self._fd)
            except FileExistsError:
                made = False
            fd = os.open(raw(name), _FOLDER, dir_fd=self._fd)
        folder = RestoredFolder(fd, self._depth + 1, made=made)
        try:
            if _inode(os.fstat(fd)) in self._mine:
                raise RefusedError("another folder that was restored has its name here")
            self._mine.add(_inode(os.fstat(fd)))
            folder.lock()
        except BaseException:
            os.close(fd)
            raise
        return folder

    def close(self, entry: GuestEntry | None = None) -> None:
        """Make its names durable. entry: whose mode and time it gets, if this run made it; its owner keeps all rights
        to it. RefusedError."""
        try:
            with _refusing():
                if self._made and entry is not None:
                    mode = _usual_mode(0o777) if entry.mode is None else entry.mode & _MODES
                    os.fchmod(self._fd, mode | stat.S_IRWXU)
                    _dated(self._fd, entry)
                os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def write(self, entry: GuestEntry, chunks: Iterable[bytes], *, force: bool) -> FileOutcome:
        """A file, whole, with the mode and the time that are known. RefusedError where it is not made, and why;
        UnreadGuestError where its bytes are not all there; FullError. Nothing of it is left then."""
        self._demand(entry.name)
        there = self._there(entry.name)
        if there is not None and not force:
            if stat.S_ISREG(there.st_mode) and there.st_size == entry.bytes and self._same(entry.name, chunks):
                return FileOutcome.THERE
            raise RefusedError(_TAKEN)
        with _refusing():
            self._demand_room(entry.bytes or 0)
            self._remove_part()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(PART, flags, 0o600, dir_fd=self._fd)
            try:
                try:
                    self._fill(fd, entry, chunks)
                    made = os.fstat(fd)
                finally:
                    os.close(fd)
                self._publish(entry.name, force=force)
            except BaseException:
                self._remove_part()
                raise
        self._mine.add(_inode(made))
        return FileOutcome.WRITTEN

    def link(self, entry: GuestEntry, *, force: bool) -> FileOutcome:
        """A symbolic link, where it leads to nothing outside of the folder that was given. RefusedError, FullError."""
        self._demand(entry.name)
        if why := self._leads_out(entry.target):
            raise RefusedError(why)
        if self._there(entry.name) is not None and not force:
            if self._leads(entry.name) == raw(entry.target):
                return FileOutcome.THERE
            raise RefusedError(_TAKEN)
        with _refusing():
            self._remove_part()
            os.symlink(raw(entry.target), PART, dir_fd=self._fd)
            try:
                if entry.modified_s is not None:
                    with contextlib.suppress(OverflowError, OSError):
                        os.utime(PART, (entry.modified_s,) * 2, dir_fd=self._fd, follow_symlinks=False)
                made = os.stat(PART, dir_fd=self._fd, follow_symlinks=False)
                self._publish(entry.name, force=force)
            except BaseException:
                self._remove_part()
                raise
        self._mine.add(_inode(made))
        return FileOutcome.WRITTEN

    def _leads_out(self, target: str) -> str:
        """Why a link is not made, as a clause; "" for one that stays inside, whatever links are on its way: it climbs
        only at its beginning, where it stands on folders that are none."""
        if target.startswith("/"):
            return "it leads to an absolute path"
        parts = [part for part in target.split("/") if part not in ("", ".")]
        climbs = next((place for place, part in enumerate(parts) if part != ".."), len(parts))
        if climbs > self._depth or ".." in parts[climbs:]:
            return "it may lead out of the folder that is restored into"
        return "" if target else "where it leads is not known"

    def _leads(self, name: str) -> bytes | None:
        with contextlib.suppress(OSError):
            return os.readlink(raw(name), dir_fd=self._fd)
        return None

    def _demand(self, name: str) -> None:
        if why := unsafe(name):
            raise RefusedError(why)
        if name == PART:
            raise RefusedError("its name is one that a restore uses itself")

    def _demand_room(self, size_bytes: int) -> None:
        """RefusedError of what this file system could never hold, which may well be a lie; FullError."""
        found = os.fstatvfs(self._fd)
        if size_bytes > found.f_blocks * found.f_frsize:
            raise RefusedError(f"it says that it has {size_bytes} bytes, which is more than the file system here has")
        if size_bytes > found.f_bavail * found.f_frsize:
            raise FullError(f"{size_bytes} bytes are wanted, and {found.f_bavail * found.f_frsize} are free")

    def _there(self, name: str) -> os.stat_result | None:
        """What has this name now. RefusedError where it must stay."""
        try:
            with _refusing():
                there = os.stat(raw(name), dir_fd=self._fd, follow_symlinks=False)
        except MissingTargetError:
            return None
        if stat.S_ISDIR(there.st_mode):
            raise RefusedError("a folder has its name")
        if _inode(there) in self._mine:  # one of two whose names are the same to this host's file system
            raise RefusedError("another file that was restored has its name here")
        return there

    def _same(self, name: str, chunks: Iterable[bytes]) -> bool:
        """Whether a file has these bytes. UnreadGuestError."""
        with _refusing():
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(raw(name), flags, dir_fd=self._fd), "rb") as file:
                return all(file.read(len(chunk)) == chunk for chunk in chunks) and not file.read(1)

    def _fill(self, fd: int, entry: GuestEntry, chunks: Iterable[bytes]) -> None:
        length, zeros = 0, bytes(HOLE_BYTES)
        for chunk in chunks:
            length += len(chunk)
            if entry.bytes is not None and length > entry.bytes:
                break
            for start in range(0, len(chunk), HOLE_BYTES):
                piece = memoryview(chunk)[start : start + HOLE_BYTES]
                if piece == zeros:
                    os.lseek(fd, HOLE_BYTES, os.SEEK_CUR)
                    continue
                while piece:
                    piece = piece[os.write(fd, piece) :]
        if entry.bytes is not None and length != entry.bytes:
            came = "more" if length > entry.bytes else length
            raise UnreadGuestError(f"its folder says {entry.bytes} bytes, and {came} came")
        os.ftruncate(fd, length)
        os.fchmod(fd, _usual_mode(0o666) if entry.mode is None else entry.mode & _MODES)
        _dated(fd, entry)
        os.fsync(fd)

    def _publish(self, name: str, *, force: bool) -> None:
        final = raw(name)
        if force:
            os.rename(PART, final, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            return
        try:
            os.link(PART, final, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
        except FileExistsError:  # since it was looked for
            raise RefusedError(_TAKEN) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Without links a rename would replace what came there since it was looked for a moment ago.
            with contextlib.suppress(FileNotFoundError):
                os.stat(final, dir_fd=self._fd, follow_symlinks=False)
                raise RefusedError(_TAKEN) from None
            os.rename(PART, final, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            return
        self._remove_part()

    def _remove_part(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(PART, dir_fd=self._fd)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What the file system of this host refuses, as RefusedError, or FullError where it takes nothing any more."""
    try:
        yield
    except FileNotFoundError:
        raise MissingTargetError("it is gone from this host") from None
    except OSError as error:
        if error.errno in FULL:
            raise FullError(error.strerror) from None
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise RefusedError("something that is no folder has its name") from None
        raise RefusedError(f"this host refuses it: {error.strerror}") from None


def _inode(there: os.stat_result) -> tuple[int, int]:
    return there.st_dev, there.st_ino


def _dated(fd: int, entry: GuestEntry) -> None:
    """Set the time; one that this host's file system can't hold is left out."""
    if entry.modified_s is not None:
        with contextlib.suppress(OverflowError, OSError):
            os.utime(fd, ns=(entry.modified_s * 10**9, entry.modified_s * 10**9))


def _usual_mode(most: int) -> int:
    """As this user's files get it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return most & ~mask
