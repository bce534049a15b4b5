"""Removing objects in whatever way an S3 server lets us: many in a request, the same with Content-MD5, one by one;
refuses to let one object that can't be removed keep the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final

from botocore.exceptions import ClientError

from warmspare.errors import NotFoundError, StoreError
from warmspare.patience import Again
from warmspare.store.s3.connection import Connection
from warmspare.store.s3.s3_errors import S3Error, Sent, store_error

_BATCH: Final = 1000  # S3's limit
_AT_ONCE: Final = 8  # one by one
_REFUSALS: Final = 8  # one by one: where so many are refused and none is removed, the rest is not tried
_NAMED: Final = 3
_GONE: Final = ("NoSuchKey", "NoSuchVersion")


class DeletionWay(IntEnum):
    """From the cheapest on. A server that refuses one is asked in the next, and from then on."""

    MANY = 0
    MANY_WITH_MD5 = 1
    ONE_BY_ONE = 2


class Deletion:
    """Of the objects of one connection. way: the one that the server takes, as far as it is known."""

    def __init__(self, connection: Connection) -> None:
        self.way = DeletionWay.MANY
        self._connection = connection

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; absent ones are fine. One StoreError for all that could not be: the action, how many, the
        first of them. The others are gone all the same."""
        failures: list[tuple[str, S3Error]] = []
        for at in range(0, len(keys), _BATCH):
            failures += await self._batch(keys[at : at + _BATCH])
        if failures:
            raise _together(failures, len(keys), self._connection)

    async def _batch(self, keys: Sequence[str]) -> list[tuple[str, S3Error]]:
        before = self.way
        while self.way is not DeletionWay.ONE_BY_ONE:
            way = self.way
            self._connection.manner.md5_deletes = way is DeletionWay.MANY_WITH_MD5
            try:
                return await self._many(keys)
            except S3Error as error:
                # It may be the kind of request that is refused: what is refused of each object is no error here.
                if not (error.unsupported or error.wants_md5 or error.status in (403, 405, 411, 501)):
                    raise
                if self.way is way:
                    self.way = DeletionWay(way + 1)
        failures = await self._each(keys)
        if failures and len(failures) == len(keys):
            self.way = before  # so it was not the way
        return failures

    async def _many(self, keys: Sequence[str]) -> list[tuple[str, S3Error]]:
        base, left = self._connection.base, list(keys)
        refused: list[tuple[str, S3Error]] = []

        async def once() -> None:
            answer = await self._connection.ask(
                "delete_objects",
                left[0],
                Delete={"Objects": [{"Key": base + key} for key in left], "Quiet": True},
            )
            again: list[tuple[str, S3Error]] = []
            for entry in answer.get("Errors", []):
                if entry.get("Code") in _GONE:
                    continue
                key = str(entry.get("Key", "")).removeprefix(base)
                error = self._error(entry, key)
                if isinstance(error, S3Error):
                    (again if error.again is Again.ALWAYS else refused).append((key, error))
            if again:
                left[:] = [key for key, _ in again]
                raise again[0][1]

        await self._connection.persist(once)
        return refused

    async def _each(self, keys: Sequence[str]) -> list[tuple[str, S3Error]]:
        failures: list[tuple[str, S3Error]] = []
        removed = 0
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(key: str) -> None:
            nonlocal removed
            async with room:
                if failures and not removed and len(failures) >= _REFUSALS:
                    failures.append((key, failures[0][1]))
                    return
                try:
                    await self._connection.call_object("delete_object", key)
                    removed += 1
                except NotFoundError:
                    removed += 1
                except S3Error as error:
                    if error.again is Again.ALWAYS:
                        raise
                    failures.append((key, error))

        try:
            async with asyncio.TaskGroup() as group:
                for key in keys:
                    group.create_task(one(key))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return failures

    def _error(self, entry: dict[str, Any], key: str) -> StoreError:
        """One object's refusal. Its status is not told; what its code means is known without it."""
        said = {"Code": entry.get("Code", ""), "Message": entry.get("Message", "")}
        response: Any = {"Error": said, "ResponseMetadata": {}}
        where, at = self._connection.where(key), self._connection.endpoint
        return store_error(ClientError(response, "DeleteObjects"), "delete objects", where, at, Sent("delete_objects"))


def _together(failures: list[tuple[str, S3Error]], count: int, connection: Connection) -> S3Error:
    first = failures[0][1]
    if count == 1:
        return first
    names = ", ".join(connection.where(key) for key, _ in failures[:_NAMED])
    more = f" and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
    error = S3Error(
        f"{len(failures)} of {count} objects could not be removed: {first.what}",
        where=f"{names}{more} at {connection.endpoint}",
        hint=first.hint,
        retryable=first.retryable,
        action=first.action or "s3:DeleteObject",
        code=first.code,
        status=first.status,
        again=first.again,
    )
    error.meaning, error.sent, error.denied = first.meaning, first.sent, first.denied
    return error
