"""What a repository's safety rests on, tried on the store itself; refuses to believe an answer that a second look does
not bear out.

Objects of its own, below `probes/<token>/`, which are removed. It tells what the store keeps and what it doesn't; what
follows of that is for others (repository/trust.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from warmspare.debts import owe
from warmspare.errors import NotFoundError, StoreError
from warmspare.store import layout
from warmspare.store.contract import ObjectInfo, Store

RACERS = 4  # that want one key at the same time
AGAIN = 4  # times that what must be refused is asked for one by one: a server may keep a promise only sometimes
NOISE_BYTES = 128
REMOVE_S = 5.0  # for removing the probes after a cancel
CLOCKS_APART_S = 30.0  # of the store itself; a lease lives twice as long
OLD_S = 86400.0  # probes that are so much older than ours were left by somebody who died

_T = TypeVar("_T")


class Promise(StrEnum):
    """create: a key is given once. replace: only who knows the object as it is replaces it. read, list: what was
    written is there at once. ranges: a range is that range. checksums: a part that came damaged is refused. uploads:
    what was begun can be listed and aborted. clock: objects bear the time that answers do. delete: what is not wanted
    can be removed."""

    CREATE = "create"
    REPLACE = "replace"
    READ = "read"
    LIST = "list"
    RANGES = "ranges"
    CHECKSUMS = "checksums"
    UPLOADS = "uploads"
    CLOCK = "clock"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Tried:
    """One promise. kept: None where nothing can be said: there is nothing of the kind, or what comes before it failed.
    found: a clause for people. error: what it was refused with, where the store did not even let us try."""

    promise: Promise
    kept: bool | None
    found: str
    error: StoreError | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """All promises, in the order of `Promise`. ignores_creates: conditions of creates are taken and not kept, but it
    can be written to."""

    tried: tuple[Tried, ...]
    ignores_creates: bool

    def of(self, promise: Promise) -> Tried:
        return next(one for one in self.tried if one.promise is promise)

    @property
    def broken(self) -> list[Tried]:
        """What is not kept, or was refused."""
        return [one for one in self.tried if one.kept is False]


class _Broken(Exception):
    """A promise was not kept. promise: None for the one that is being tried."""

    def __init__(self, found: str, promise: Promise | None = None) -> None:
        super().__init__(found)
        self.found, self.promise = found, promise


async def examine(store: Store, *, token: str = "", left: str = "") -> Examined:
    """Try all of them, and remove what was written for it. token: of this trial, 32 hex digits, drawn if not given.
    left: of one that died, whose objects are removed too. StoreError only for what may pass (`retryable`)."""
    probe = _Probe(store, token or new_token(), left)
    owed = owe(f"what was written to {store.uri} to try it", REMOVE_S, probe.give_up)
    try:
        await probe.run()
        await probe.attempt(Promise.DELETE, probe.remove)
    except BaseException:
        await owed.settle()
        raise
    owed.drop()
    return probe.examined()


def new_token() -> str:
    """Of a trial."""
    return secrets.token_hex(16)


class _Probe:
    """One trial."""

    def __init__(self, store: Store, token: str, left: str) -> None:
        self._store, self._token = store, token
        self._left = layout.probe_prefix(left) if left else ""
        self._prefix = layout.probe_prefix(self._token)
        self._tried: dict[Promise, Tried] = {}
        self._there: dict[str, bytes] = {}  # by key, what must stand there
        self._ignored = False

    def examined(self) -> Examined:
        unknown = [Tried(one, None, "not tried") for one in Promise if one not in self._tried]
        whole = self._tried | {one.promise: one for one in unknown}
        return Examined(tuple(whole[one] for one in Promise), self._ignored)

    async def run(self) -> None:
        if await self._listed_before():
            await self.attempt(Promise.CREATE, self._create)
        if self._there:
            await self.attempt(Promise.REPLACE, self._replace)
            await self.attempt(Promise.READ, self._read)
            await self.attempt(Promise.RANGES, self._ranges)
            await self.attempt(Promise.LIST, self._list)
            await self.attempt(Promise.CHECKSUMS, self._checksums)
            await self.attempt(Promise.UPLOADS, self._uploads)
            await self.attempt(Promise.CLOCK, self._clock)

    async def attempt(self, promise: Promise, call: Callable[[], Awaitable[str | None]]) -> None:
        """Note what comes of it. The call returns a clause, None where there is nothing to be kept."""
        try:
            found = await call()
            tried = Tried(promise, None if found is None else True, found or "there is nothing of the kind")
        except _Broken as broken:
            promise = broken.promise or promise
            tried = Tried(promise, False, broken.found)
        except NotFoundError:
            promise = Promise.READ
            tried = Tried(promise, False, "an object that was just written is not there to be read")
        except StoreError as error:
            if error.retryable:
                raise
            tried = Tried(promise, False, error.what, error)
        before = self._tried.get(promise)
        if before is None or before.kept is not False:
            self._tried[promise] = tried

    async def _listed_before(self) -> bool:
        """Look where nothing is: a cache that keeps such answers gives itself away later."""
        count = len(self._tried)
        await self.attempt(Promise.LIST, self._nothing)
        if self._tried.get(Promise.LIST) is None or self._tried[Promise.LIST].kept:
            self._tried.pop(Promise.LIST, None)
        await self.attempt(Promise.READ, self._absent)
        if self._tried[Promise.READ].kept:
            self._tried.pop(Promise.READ)
        return len(self._tried) == count

    async def _nothing(self) -> str:
        async for info in self._store.list(self._prefix):
            raise _Broken(f"it lists {info.key}, which nobody wrote")
        return ""

    async def _absent(self) -> str:
        if await self._store.head(self._key("create")) is not None:
            raise _Broken("it tells of an object that nobody wrote")
        return ""

    # -- the promises, one by one ------------------------------------------------------------------------------

    async def _create(self) -> str:
        key, first = self._key("create"), _noise()
        if not await self._store.create(key, first):
            raise _Broken("it refuses to create an object where none is")
        self._there[key] = first
        taken = [await self._store.create(key, _noise()) for _ in range(AGAIN)]
        if any(taken):
            self._ignored, self._there[key] = True, await self._store.get(key)
            raise _Broken(f"{sum(taken)} times of {AGAIN} it created an object where one is (If-None-Match)")
        if await self._store.get(key) != first:
            self._ignored, self._there[key] = True, await self._store.get(key)
            raise _Broken("it refused to create an object where one is, and yet that changed")
        key, offers = self._key("race"), [_noise() for _ in range(RACERS)]
        won = await _together([self._store.create(key, one) for one in offers])
        self._there[key] = await self._store.get(key)
        winners = [one for one, ours in zip(offers, won, strict=True) if ours]
        if len(winners) != 1:
            self._ignored = len(winners) > 1
            raise _Broken(f"{len(winners)} of {RACERS} creates of one key at the same time succeeded")
        if self._there[key] != winners[0]:
            self._ignored = True
            raise _Broken("of several creates of one key at the same time it kept another than the one that succeeded")
        return "a key is given once, also to several at the same time"

    async def _replace(self) -> str:
        key = self._key("replace")
        first = await self._swap(key, None)
        if first is None:
            raise _Broken("it refuses to create an object where none is")
        if await self._swap(key, None) is not None:
            raise _Broken("it replaced an object that was not to be there (If-None-Match)")
        second = await self._swap(key, first.etag)
        if second is None:
            raise _Broken("it refuses to replace an object whose tag is the right one (If-Match)")
        if second.etag == first.etag:
            raise _Broken("an object's tag stays when its content changes")
        taken = [await self._swap(key, first.etag) is not None for _ in range(AGAIN)]
        if any(taken):
            raise _Broken(f"{sum(taken)} times of {AGAIN} it replaced an object that had another tag (If-Match)")
        await self._same(key)
        offers = [_noise() for _ in range(RACERS)]
        won = await _together([self._store.replace(key, one, etag=second.etag) for one in offers])
        winners = [one for one, info in zip(offers, won, strict=True) if info is not None]
        if len(winners) != 1:
            self._there[key] = await self._store.get(key)
            raise _Broken(f"{len(winners)} of {RACERS} replacements of one object at the same time succeeded")
        self._there[key] = winners[0]
        await self._same(key)
        return "an object is replaced only by who knows it as it is"

    async def _swap(self, key: str, etag: str | None) -> ObjectInfo | None:
        data = _noise()
        info = await self._store.replace(key, data, etag=etag)
        if info is not None:
            self._there[key] = data
        return info

    async def _read(self) -> str:
        for key in self._there:
            await self._same(key)
        return "what was written is read at once"

    async def _same(self, key: str) -> None:
        """What was written last is what is read now."""
        wanted = self._there[key]
        try:
            data, info = await self._store.get(key), await self._store.head(key)
        except NotFoundError:
            raise _Broken("an object that was just written is not there to be read", Promise.READ) from None
        if data != wanted:
            raise _Broken("an object that was just written is read with another content", Promise.READ)
        if info is None or info.bytes != len(wanted):
            raise _Broken("an object that was just written is not there as it was written", Promise.READ)

    async def _ranges(self) -> str:
        key = self._key("create")
        data = self._there[key]
        for offset, length in ((0, 16), (len(data) // 2, 20), (len(data) - 16, 16)):
            if await self._store.get_range(key, offset, length) != data[offset : offset + length]:
                raise _Broken(f"it gives other bytes for the range of {length} from {offset} on")
        return "a range is that range"

    async def _list(self) -> str:
        sizes = {key: len(data) for key, data in self._there.items()}
        listed = {info.key: info.bytes async for info in self._store.list(self._prefix)}
        if missing := sizes.keys() - listed.keys():
            raise _Broken(f"a listing lacks {len(missing)} of {len(sizes)} objects that were just written")
        if listed != sizes:
            raise _Broken("a listing is not of what was just written")
        return "what was written is listed at once"

    async def _checksums(self) -> str | None:
        taken = await self._store.takes_damage(self._key("damage"))
        if taken:
            raise _Broken("it takes a part whose checksum is wrong")
        return None if taken is None else "a part that comes damaged is refused"

    async def _uploads(self) -> str | None:
        found = await self._store.stale_uploads(self._prefix)
        if not found:
            checked = self._tried[Promise.CHECKSUMS]
            if checked.kept is not None and checked.error is None:
                raise _Broken("it does not list an upload that was just begun")
            return None
        for one in found:
            await self._store.abort_upload(one)
        if await self._store.stale_uploads(self._prefix):
            raise _Broken("an upload that was aborted is listed still")
        return "what was begun can be listed and aborted"

    async def _clock(self) -> str | None:
        info = await self._store.head(self._key("race"))
        apart_s = abs(await self._store.now() - info.modified_s) if info is not None else 0.0
        if apart_s > CLOCKS_APART_S:
            raise _Broken(f"the time of its answers and that of its objects are {apart_s:.0f} s apart")
        return "its answers and its objects have one clock"

    # -- clearing up -------------------------------------------------------------------------------------------

    async def remove(self) -> str | None:
        """Remove our objects, one alone and the others together, and what others left a day ago or more."""
        keys = list(self._there)
        if not keys:
            return None
        listed = [info async for info in self._store.list(layout.probes_prefix())]
        newest_s = max((info.modified_s for info in listed if info.key.startswith(self._prefix)), default=0.0)
        old = [info.key for info in listed if info.modified_s < newest_s - OLD_S or self._is_left(info.key)]
        await self._store.delete(keys[:1])
        await self._store.delete([*keys[1:], *old])
        left = [info.key async for info in self._store.list(self._prefix)]
        if left:
            raise _Broken(f"{len(left)} of {len(keys)} objects are listed still after they were deleted")
        return "what is not wanted can be removed"

    def _is_left(self, key: str) -> bool:
        return bool(self._left) and key.startswith(self._left)

    async def give_up(self) -> StoreError | None:
        """After an error or a cancel; a failure, which is returned, leaves small objects for the next trial but one."""
        try:
            for one in await self._store.stale_uploads(self._prefix):
                await self._store.abort_upload(one)
            await self._store.delete([self._key(name) for name in ("create", "race", "replace")])
        except StoreError as error:
            return error
        return None

    def _key(self, name: str) -> str:
        return layout.probe_key(self._token, name)


def _noise() -> bytes:
    """No two contents are the same: equal ones would pass for one's own."""
    return secrets.token_bytes(NOISE_BYTES)


async def _together(calls: Sequence[Coroutine[object, object, _T]]) -> list[_T]:
    """All at the same time; the first error alone."""
    try:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(call) for call in calls]
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return [task.result() for task in made]
