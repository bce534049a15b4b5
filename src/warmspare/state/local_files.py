"""Durable small files and locks; owns how a local record is written so that a crash leaves the old or the new.

Every OSError leaves here as a StoreError that names the path (docs/operations.md, exit code 4).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import xxhash

from warmspare.errors import FULL, NoRoomError, StoreError
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import LOCAL, Housekeeping
from warmspare.observe.kinds.repository_events import StateUnreadable
from warmspare.outside import records
from warmspare.outside.records import UnfitError
from warmspare.outside.regular_files import NotRegularError, kind_of, open_file, open_regular, read_regular

STATE_DIRECTORY = "the state directory"  # in the words of `local_io`
COPY_BYTES = 1 << 20
RECORD_BYTES = 32 << 20
RECORD_VALUES = 2_000_000
_TRASH = "trash-"
T = TypeVar("T")


@contextlib.contextmanager
def local_io(what: str, path: str | Path) -> Iterator[None]:
    """Turn an OSError inside into one sentence about `path`; `what` is for example STATE_DIRECTORY."""
    try:
        yield
    except OSError as error:
        raise io_error(error, what, path) from error


def io_error(error: OSError, what: str, path: str | Path) -> StoreError:
    if isinstance(error, NotRegularError):
        return StoreError(f"{what} failed: {error.strerror}", where=error.filename, hint=error.hint)
    hint = {
        errno.ENOSPC: "free some space and run the command again, it goes on from here",
        errno.EDQUOT: "raise the quota and run the command again, it goes on from here",
        errno.EROFS: "mount it writable or choose another place",
        errno.EACCES: "give this user the right to it or choose another place",
        errno.EPERM: "give this user the right to it or choose another place",
        errno.ENOTDIR: "a part of the path is a file, choose another place",
        errno.EFBIG: "the file system can't hold a file this large, choose another",
    }.get(error.errno or 0, "look at the medium and the kernel log, then run the command again")
    reason = error.strerror or str(error)
    kind = NoRoomError if error.errno in FULL else StoreError
    return kind(f"{what} failed: {reason}", where=str(path), hint=hint, retryable=True)


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def out_of_the_way(path: Path, what: str) -> None:
    """Remove a directory, if it is there. What can't be removed gets another name beside it, for `sweep`: its content
    must not be met again under this one. StoreError where that fails too."""
    with local_io(what, path):
        there = mode_of(path)
    if not there:
        return
    try:
        shutil.rmtree(path) if stat.S_ISDIR(there) else path.unlink()
    except OSError:
        with local_io(what, path):
            number = max((int(name) for name in _trash(path.parent)), default=0) + 1
            path.rename(path.with_name(f"{_TRASH}{number:06d}"))


def make_void(path: Path, what: str) -> None:
    """Remove a record, or at least all that it says: a later run must not go on from it. StoreError."""
    with local_io(what, path):
        try:
            path.unlink(missing_ok=True)
        except OSError:
            os.close(open_regular(path, os.O_WRONLY | os.O_TRUNC))


def sweep(directory: Path, housekeeping: Housekeeping) -> None:
    """Remove what could not be removed before."""
    for number in _trash(directory):
        path = directory / f"{_TRASH}{number}"
        with housekeeping.trying(LOCAL, path):
            shutil.rmtree(path) if stat.S_ISDIR(mode_of(path)) else path.unlink()


def _trash(directory: Path) -> list[str]:
    """The numbers of what was put out of the way there."""
    return sorted(path.name.removeprefix(_TRASH) for path in directory.glob(f"{_TRASH}[0-9]*"))


def write_atomic(path: Path, data: bytes, what: str) -> None:
    """Replace a small file durably: whoever reads it sees the old content or the new, after a crash too."""
    with local_io(what, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(path.name + ".new")
        with contextlib.suppress(FileNotFoundError):
            staged.unlink()  # of a run that died; a link goes, and nothing is written where it leads
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            pwrite_all(fd, data, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        if (there := mode_of(path)) and not stat.S_ISREG(there):
            staged.unlink()
            raise NotRegularError(kind_of(there), str(path))
        staged.replace(path)
        sync_directory(path.parent)


def mode_of(path: Path) -> int:
    """The st_mode of what stands there, a link for itself; 0 for nothing. OSError."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def nameless_file(folder: Path, what: str = "temporary space") -> int:
    """A descriptor of a new file in `folder`, which is made if absent, that goes when it is closed. StoreError."""
    with local_io(what, folder):
        folder.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(dir=folder)
        Path(name).unlink()
    return fd


def pwrite_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """pwrite that does not stop half-way; OSError as it comes."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def copy_sparse(source: Path, target: Path, what: str, *, begun: Callable[[int], None] = lambda fd: None) -> None:
    """Copy a file to a new one, its holes as holes. Not synced: for files that tell by themselves whether they are
    whole. begun: called with the new one's descriptor."""
    with local_io(what, target), open_file(source, follow=True) as old, target.open("xb") as new:
        begun(new.fileno())
        end = os.fstat(old.fileno()).st_size
        new.truncate(end)
        at = 0
        while at < end:
            try:
                start = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # no data beyond
                    raise
                return
            at = os.lseek(old.fileno(), start, os.SEEK_HOLE)
            while start < at:
                data = os.pread(old.fileno(), min(at - start, COPY_BYTES), start)
                pwrite_all(new.fileno(), data, start)
                start += len(data) or at - start  # the file was cut meanwhile


def write_record(path: Path, record: msgspec.Struct, what: str) -> None:
    """A JSON record with its checksum on the first line, so that damage never passes for state."""
    write_atomic(path, encode_record(record), what)


def encode_record(record: msgspec.Struct) -> bytes:
    """What such a file holds."""
    body = records.encode_exact(record)
    return b"%016x\n%s\n" % (xxhash.xxh3_64_intdigest(body), body)


def parse_record(data: bytes, kind: type[T]) -> T:
    """What `write_record` wrote, within bounds. UnfitError."""
    digest, _, body = data.partition(b"\n")
    body = body.removesuffix(b"\n")
    if digest != b"%016x" % xxhash.xxh3_64_intdigest(body):
        raise UnfitError("it does not have its checksum")
    return records.decode(body, kind, RECORD_VALUES, paths=True)


def load_record(path: Path, kind: type[T], what: str) -> T | None:
    """The record; None if there is none. UnfitError if it can't be read; StoreError."""
    with local_io(what, path):
        try:
            data = read_regular(path, RECORD_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise UnfitError("it is larger than a record ever is") from None
    return parse_record(data, kind)


def read_record(path: Path, kind: type[T], what: str, events: Events) -> T | None:
    """The same, where the run goes on without one that can't be read: that is told, and it is as good as lost."""
    try:
        return load_record(path, kind, what)
    except UnfitError as error:
        events.emit_once(StateUnreadable(path=str(path), message=str(error)))
        return None


def _open_lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return open_regular(path, os.O_RDWR | os.O_CREAT)


def _open_to_read(path: Path) -> int:
    """The same, but -1 where there is no such file and the file system is read-only."""
    try:
        return _open_lock(path)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        try:
            return open_regular(path)
        except FileNotFoundError:
            if error.errno == errno.EROFS:
                return -1
            raise error from None


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # NFS, of a file that is open for reading


@contextlib.contextmanager
def locked(path: Path, what: str, *, reading: bool = False) -> Iterator[bool]:
    """Hold an advisory lock on `path` (made if absent); yields False if another process holds it.

    The kernel drops the lock with the process, however that ends. reading: for who writes nothing there. Where nothing
    can be written at all the lock is taken on the file as it is; if there is none, nobody took one before that medium
    became read-only, and nobody can.
    """
    with local_io(what, path):
        fd = _open_to_read(path) if reading else _open_lock(path)
    if fd < 0:
        yield True
        return
    try:
        try:
            _lock(fd)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise io_error(error, what, path) from error
            yield False
            return
        yield True
    finally:
        os.close(fd)
