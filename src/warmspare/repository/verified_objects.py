"""Objects below a restore point, brought to a local file and verified; owns the check before any use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from warmspare.errors import FormatError, IntegrityError, NotFoundError, StoreError
from warmspare.format.manifest import ManifestReader
from warmspare.format.restore_point import ObjectRef
from warmspare.repository.chain import Repository
from warmspare.repository.history.step import StepManifest
from warmspare.side_by_side import side_by_side
from warmspare.state.local_files import local_io, nameless_file, pwrite_all
from warmspare.threads import in_thread

_T = TypeVar("_T")
FETCH_BYTES = 4 << 20
SMALL_BYTES = 256 << 10  # an object that is fetched whole, with others beside it
AT_ONCE = 16
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
        self._fd, self._end = nameless_file(scratch), 0

    def close(self) -> None:
        os.close(self._fd)

    async def fetch(self, ref: ObjectRef, what: str) -> LocalObject:
        """The object that `ref` states, as `fetched` gives it; valid until the shelf is closed. One at a time."""
        copy = await _verified(self._repository, ref, self._fd, self._end, self._scratch, what)
        self._end += ref.bytes
        return copy

    async def fetch_all(self, refs: Sequence[tuple[ObjectRef, str]]) -> list[LocalObject]:
        """Each of them with what it is called, in that order; small ones side by side."""
        copies: list[LocalObject] = []
        for at in range(0, len(refs), AT_ONCE):
            some = refs[at : at + AT_ONCE]
            small = [one for one in some if one[0].bytes <= SMALL_BYTES]
            data = iter(await side_by_side(lambda one: verified_bytes(self._repository, *one), small, AT_ONCE))
            for ref, what in some:
                copies.append(self._keep(ref, next(data)) if ref.bytes <= SMALL_BYTES else await self.fetch(ref, what))
        return copies

    def _keep(self, ref: ObjectRef, data: bytes) -> LocalObject:
        with local_io("temporary space", self._scratch):
            pwrite_all(self._fd, data, self._end)
        copy = LocalObject(self._fd, ref.bytes, self._repository.where(ref.key), self._end)
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
    fd = nameless_file(scratch)
    try:
        yield await _verified(repository, ref, fd, 0, scratch, what)
    finally:
        os.close(fd)


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
    pwrite_all(fd, data, offset)


async def verified_bytes(repository: Repository, ref: ObjectRef, what: str) -> bytes:
    """All of a small object. IntegrityError if it is missing or other bytes; StoreError."""
    for _ in range(2):  # as in `read_sound`: it may have been damaged on the way only
        try:
            data = await repository.store.get(ref.key, max_bytes=ref.bytes)
        except NotFoundError:
            raise IntegrityError(f"{what} is missing", where=repository.where(ref.key), hint=HINT) from None
        except StoreError:  # it may be longer than stated
            await demand_length(repository, ref, what)
            raise
        if (found := hashlib.sha256(data).hexdigest()) == ref.sha256:
            return data
    raise IntegrityError(
        f"{what} is damaged: its SHA-256 is {found[:16]}… and not {ref.sha256[:16]}…",
        where=repository.where(ref.key),
        hint=HINT,
    )


@asynccontextmanager
async def manifest_of(repository: Repository, manifest: StepManifest, scratch: Path) -> AsyncIterator[ManifestReader]:
    """The manifest of a step, verified and held against what states it."""
    async with fetched(repository, manifest.ref, scratch, manifest.name) as copy:
        yield read_manifest(copy, manifest)


def read_manifest(copy: LocalObject, manifest: StepManifest) -> ManifestReader:
    """A fetched manifest, held against what states it."""
    reader = ManifestReader(copy.read_at, copy.total_bytes, copy.where)
    head, disk = reader.header, manifest.disk
    stated = (disk.id, disk.capacity_bytes, manifest.run, manifest.folded)
    if (head.disk_id, head.capacity_bytes, head.run, head.folded) != stated:
        raise IntegrityError(f"{manifest.name} is that of another disk or point", where=copy.where, hint=HINT)
    return reader
