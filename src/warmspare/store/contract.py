"""The contract of a repository's object store; refuses to know what the objects mean.

Two implementations: `directory_store.py` and `s3_store.py`, held to the same conformance suite (tests/conformance).
Keys are relative, of the characters `A-Za-z0-9-_.=/`, without empty, `.` or `..` parts, at most 700 bytes.
Objects are immutable except those written with `replace` (leases). Reads after a write see it.
Every failure surfaces as `StoreError` (or its `NotFoundError`), never as an error of a client library, and
never carries credentials.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

PART_BYTES = 8 << 20  # the size of every part of an upload but the last; S3 demands at least 5 MiB

Pace = Callable[[int], Awaitable[int]]  # given how many bytes could go, waits; how many may go now, at least one


async def unpaced(most: int) -> int:
    """The pace where there is no limit: all may go."""
    return most


async def paced(pace: Pace, count: int) -> None:
    """Wait until `count` bytes may have gone."""
    while count > 0:
        count -= await pace(count)


@runtime_checkable
class Paced(Protocol):
    """A store that can be slowed down inside a body; an ability that not every store has (see limiter.py).

    pace: to be awaited before each piece of a body is sent, on each try of it, and no more to be sent than it
    returns: `count = await self.pace(min(CHUNK, left))`. `unpaced` until someone sets another. What a sender waits
    here is no stall of the link.
    """

    pace: Pace


@runtime_checkable
class Mannered(Protocol):
    """A store whose requests can be put in several ways (S3): an ability that not every store has."""

    def manner(self) -> str:
        """How requests are put to the server, in words; with all that was learnt of it so far."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says of an object: size, its own clock's modification time (Unix seconds), a tag that
    changes with every write, and the full-object CRC32C where the store keeps one."""

    key: str
    bytes: int
    modified_s: float
    etag: str
    crc32c: int | None = None


@dataclass(frozen=True, slots=True)
class StaleUpload:
    """An upload that was begun and never completed: its key, the store's handle for it, when it began."""

    key: str
    handle: str
    began_s: float


class Upload(Protocol):
    """One object on its way up, in parts. Used as `async with store.upload(key) as upload`.

    Leaving the block normally completes the object (created only if absent; fsynced in a directory);
    leaving it by an exception or a cancel aborts the upload, and nothing becomes visible.
    """

    async def write(self, part: bytes | bytearray | memoryview) -> None:
        """Hand over one part: exactly PART_BYTES, except the last. Returns when the part may be sent (at
        most `concurrency` parts of the store are under way); the buffer is the upload's from then on."""

    @property
    def crc32c(self) -> int:
        """Full-object CRC32C; complete once the block was left."""

    @property
    def bytes(self) -> int:
        """Bytes handed over so far."""


class Store(Protocol):
    """Objects under one prefix."""

    uri: str  # as the user gave it, without credentials; for messages

    @property
    def server(self) -> str:
        """Who answers: a server's URL, a file system; for what is known of it. "" before it was asked anything."""

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        """A whole small object. NotFoundError if absent, StoreError if larger than max_bytes."""

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`. NotFoundError if absent, StoreError if it is shorter."""

    async def head(self, key: str) -> ObjectInfo | None:
        """What the store says of the object; None if absent."""

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """Write a whole small object that no one else writes (its key is unique to this run)."""

    async def create(self, key: str, data: bytes) -> bool:
        """Create only if absent. True: the object now there is ours (also when the answer to our own earlier
        try was lost: it is read back and identical). False: another's object stands there."""

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        """Compare and swap: write if the object's tag is `etag` (None: if absent). None if it is not."""

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects whose key starts with `prefix` and sorts after `start_after`, in key order (ASCII)."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; absent ones are fine. All are tried; StoreError of one that stays."""

    def upload(self, key: str) -> AbstractAsyncContextManager[Upload]:
        """Begin an object of unknown length; see Upload."""

    async def stale_uploads(self, prefix: str) -> builtins.list[StaleUpload]:
        """Uploads under `prefix` that are neither completed nor aborted."""

    async def abort_upload(self, stale: StaleUpload) -> None:
        """Abort one of them; fine if it is gone."""

    async def takes_damage(self, key: str) -> bool | None:
        """Whether a part of an upload of this key is taken whose checksum is that of other bytes; None where none is
        sent. The upload stays behind, unfinished."""

    async def now(self) -> float:
        """The store's own clock, Unix seconds (for leases: no two hosts' clocks agree)."""

    async def close(self) -> None:
        """Release connections; the store is unusable afterwards."""
