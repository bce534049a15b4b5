"""Objects below a restore point, brought to a local file and verified; owns the check before any use."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from warmspare.errors import FormatError, IntegrityError, NotFoundError, StoreError
from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import Disk, ObjectRef, RestorePoint
from warmspare.repository.chain import Repository
from warmspare.state.local_files import local_io
from warmspare.threads import in_thread

_T = TypeVar("_T")
FETCH_BYTES = 4 << 20
HINT = "restore it from a copy of the repository, or sync again from the source to a new repository"


class Sized(Protocol):
    """What a manifest or a restore point states of an object below it."""

    @property
    def key(self) -> str: ...

    @property
    def bytes(self) -> int: ...


class LocalObject:
    """A verified copy of an object in an unlinked temporary file, from its byte `start` on."""

    def __init__(self, fd: int, total_bytes: int, where: str, start: int = 0) -> None:
        self.fd, self.total_bytes, self.where, self._start = fd, total_bytes, where, start

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, min(length, max(0, self.total_bytes - offset)), self._start + offset)


class ObjectShelf:
    """Verified copies of any number of objects, one behind the other in a single unlinked file of `scratch`: for those
    who need many at once, and may not have a file open for each. Close it when none of them is read any more."""

    def __init__(self, repository: Repository, scratch: Path) -> None:
        self._repository, self._scratch = repository, scratch
        self._fd, self._end = _unlinked(scratch), 0

    def close(self) -> None:
        os.close(self._fd)

    async def fetch(self, ref: ObjectRef, what: str) -> LocalObject:
        """The object that `ref` states, as `fetched` gives it; valid until the shelf is closed. One at a time."""
        copy = await _verified(self._repository, ref, self._fd, self._end, self._scratch, what)
        self._end += ref.bytes
        return copy


async def read_range(repository: Repository, ref: Sized, offset: int, length: int, what: str) -> bytes:
    """Exactly `length` bytes of an object whose key and whole length `ref` states.

    IntegrityError if the object is missing or has another length; StoreError if it can't be read just now.
    """
    try:
        return await repository.store.get_range(ref.key, offset, length)
    except NotFoundError:
        raise IntegrityError(f"{what} is missing", where=repository.where(ref.key), hint=HINT) from None
    except StoreError:
        # A range that the object does not have is answered in many ways; its length decides.
        await demand_length(repository, ref, what)
        raise


async def read_sound(read: Callable[[], Awaitable[bytes]], decode: Callable[[bytes], Awaitable[_T]]) -> _T:
    """What `read` brings of a pack, as `decode` makes it of that. What does not decode is read once more.

    Ranges carry no checksum of the store's: it may have been damaged on the way only. FormatError the second time.
    """
    try:
        return await decode(await read())
    except FormatError:
        return await decode(await read())


async def demand_length(repository: Repository, ref: Sized, what: str) -> None:
    """IntegrityError unless the object is there with the length that `ref` states."""
    info = await repository.store.head(ref.key)
    where = repository.where(ref.key)
    if info is None:
        raise IntegrityError(f"{what} is missing", where=where, hint=HINT)
    if info.bytes != ref.bytes:
        raise IntegrityError(f"{what} has {info.bytes} bytes and not {ref.bytes}", where=where, hint=HINT)


@asynccontextmanager
async def fetched(repository: Repository, ref: ObjectRef, scratch: Path, what: str) -> AsyncIterator[LocalObject]:
    """The object that `ref` states, downloaded to `scratch` and checked by length and SHA-256.

    what: "the manifest of disk 0", for messages. IntegrityError if it is missing or other bytes.
    """
    fd = _unlinked(scratch)
    try:
        yield await _verified(repository, ref, fd, 0, scratch, what)
    finally:
        os.close(fd)


def _unlinked(scratch: Path) -> int:
    with local_io("temporary space", scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(dir=scratch, prefix=".fetched-")
        Path(name).unlink()
    return fd


async def _verified(
    repository: Repository, ref: ObjectRef, fd: int, start: int, scratch: Path, what: str
) -> LocalObject:
    where = repository.where(ref.key)
    found = await _fetch(repository, ref, fd, start, scratch, what)
    if found != ref.sha256:
        # As in `read_sound`: it may have been damaged on the way only.
        found = await _fetch(repository, ref, fd, start, scratch, what)
    await demand_length(repository, ref, what)
    if found != ref.sha256:
        raise IntegrityError(
            f"{what} is damaged: its SHA-256 is {found[:16]}… and not {ref.sha256[:16]}…", where=where, hint=HINT
        )
    return LocalObject(fd, ref.bytes, where, start)


async def _fetch(repository: Repository, ref: ObjectRef, fd: int, start: int, scratch: Path, what: str) -> str:
    """All of an object to a file, from its byte `start` on; the hex SHA-256 of what came."""
    summed = hashlib.sha256()
    for at in range(0, ref.bytes, FETCH_BYTES):
        data = await read_range(repository, ref, at, min(FETCH_BYTES, ref.bytes - at), what)
        with local_io("temporary space", scratch):
            await in_thread(_take, fd, data, start + at, summed)
    return summed.hexdigest()


def _take(fd: int, data: bytes, offset: int, summed: hashlib._Hash) -> None:
    summed.update(data)
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


@asynccontextmanager
async def manifest_of(
    repository: Repository, record: RestorePoint, disk: Disk, scratch: Path
) -> AsyncIterator[ManifestReader]:
    """The manifest of one disk of a restore point, verified and held against its record."""
    async with fetched(repository, disk.manifest, scratch, manifest_name(record, disk)) as copy:
        yield read_manifest(copy, record, disk)


def manifest_name(record: RestorePoint, disk: Disk) -> str:
    """What a manifest is called in messages."""
    return f"the manifest of disk {disk.id} in restore point {record.sequence}"


def read_manifest(copy: LocalObject, record: RestorePoint, disk: Disk) -> ManifestReader:
    """A fetched manifest, held against its record."""
    reader = ManifestReader(copy.read_at, copy.total_bytes, copy.where)
    head = reader.header
    if (head.disk_id, head.capacity_bytes) != (disk.id, disk.capacity_bytes) or head.run != record.run:
        raise IntegrityError(
            f"{manifest_name(record, disk)} is that of another disk or point",
            where=copy.where,
            hint=HINT,
        )
    return reader
