"""One object on its way up to S3 in parts; refuses to complete it when a part failed or the key is taken."""

from __future__ import annotations

import asyncio
import builtins
import logging
from types import TracebackType
from typing import Any, Self

from warmspare.debts import Owed, owe
from warmspare.errors import StoreError
from warmspare.store.contract import PART_BYTES
from warmspare.store.s3.body import body_of, crc32c_of, decode_crc32c, join_crc32c
from warmspare.store.s3.connection import Connection
from warmspare.store.s3.s3_errors import S3Error, damaged
from warmspare.threads import finish

log = logging.getLogger("warmspare.store")

Buffer = bytes | bytearray | memoryview
GRACE_S = 8.0  # after a cancel, for the requests that begin or complete a multipart upload
ABORT_S = 5.0  # for the one that aborts it; what is not aborted the next run removes
GIVEN_UP_S = 2.0  # for each of them, where the server has just been given up
_PARTS = 10_000  # S3 takes no more


class S3Upload:
    """An `Upload` (contract.py). One part goes up by PutObject, more by a multipart upload.

    A TaskGroup owns the parts under way; the first that fails cancels the others and the block.
    """

    def __init__(self, connection: Connection, key: str) -> None:
        self._connection, self._key = connection, key
        self._group = asyncio.TaskGroup()
        self._held: tuple[Buffer, int] | None = None
        self._upload_id: str | None = None
        self._parts: dict[int, dict[str, Any]] = {}
        self._number = self._crc32c = self._bytes = 0
        self._ended = False
        self._kinds: dict[str, str] = {}
        self._failure: BaseException | None = None
        self._owed: Owed[BaseException | None] | None = None
        self._stays: BaseException | None = None  # why it could not be aborted

    @property
    def crc32c(self) -> int:
        """CRC32C of the bytes handed over so far; of the object once the block was left."""
        return self._crc32c

    @property
    def bytes(self) -> int:
        """Bytes handed over so far."""
        return self._bytes

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def write(self, part: Buffer) -> None:
        """See Upload.write. ValueError for a part after a short one, or a longer one than PART_BYTES."""
        length = memoryview(part).nbytes
        if self._ended or length > PART_BYTES:
            raise ValueError(f"a part of {length} bytes: only the last may be shorter than {PART_BYTES}")
        if self._failure is not None:
            raise self._failure
        self._ended = length < PART_BYTES
        if length == 0:
            return
        if self._number + 1 >= _PARTS:
            raise ValueError(f"more than {_PARTS} parts")
        value = crc32c_of(part)
        self._bytes += length
        self._crc32c = join_crc32c(self._crc32c, value, length)
        if self._upload_id is None and self._held is None:
            self._held = part, value  # it may be the only one
            return
        if self._held is not None:
            self._owed = owe(f"the upload of {self._key}", ABORT_S, self._abort)
            await finish(self._begin(), grace_s=self._within(GRACE_S))
            first, self._held = self._held, None
            await self._start(*first)
        await self._start(part, value)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._leave(kind, error, trace)
        finally:
            if self._owed is not None:
                self._owed.drop(stays=self._stays is not None)

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        try:
            try:
                await self._group.__aexit__(kind, error, trace)
            except BaseExceptionGroup as failures:
                if error is None or error not in failures.exceptions:  # else the block's own error goes on
                    raise (self._failure or failures.exceptions[0]) from None
            if error is None:
                # once asked for, completing is not cut short: its outcome would be unknown
                work = self._put() if self._upload_id is None else self._complete(self._upload_id)
                await finish(work, grace_s=self._within(GRACE_S))
        except BaseException:
            await self._abort()
            raise
        if error is not None:
            await self._abort()

    async def _begin(self) -> None:
        kinds: dict[str, str] = {}

        async def once() -> dict[str, Any]:
            nonlocal kinds
            kinds = self._connection.manner.upload_kinds()
            return await self._connection.ask_object("create_multipart_upload", self._key, **kinds)

        answer = await self._connection.persist(once)
        self._kinds = kinds
        self._upload_id = str(answer["UploadId"])

    async def _start(self, part: Buffer, value: int) -> None:
        """Send a part with its CRC32C as soon as the store has room for one more under way."""
        await self._connection.window.acquire()
        if self._failure is not None:
            self._connection.window.release()
            raise self._failure
        self._number += 1
        task = self._group.create_task(self._send(self._number, part, value))
        task.add_done_callback(lambda _: self._connection.window.release())  # also if it never ran

    async def _send(self, number: int, part: Buffer, value: int) -> None:
        sums: dict[str, str] = {}

        async def once() -> dict[str, Any]:
            nonlocal sums
            sums = self._connection.manner.sums(part, value)
            answer = await self._connection.ask_object(
                "upload_part", self._key, UploadId=self._upload_id, PartNumber=number, Body=body_of(part), **sums
            )
            self._connection.check_echo(answer, sums, value, self._key)
            return answer

        try:
            answer = await self._connection.persist(once)
        except Exception as error:
            self._failure = self._failure or error
            raise
        self._parts[number] = {"PartNumber": number, "ETag": answer["ETag"], **sums}

    async def _put(self) -> None:
        data = self._held[0] if self._held is not None else b""

        async def once() -> None:
            sums = self._connection.manner.sums(data, self._crc32c)
            answer = await self._connection.ask_object(
                "put_object", self._key, Body=body_of(data), IfNoneMatch="*", **sums
            )
            self._connection.check_echo(answer, sums, self._crc32c, self._key)

        try:
            async with self._connection.window.slot():
                await self._connection.persist(once)
        except S3Error as error:
            await self._accept_if_ours(error)

    async def _complete(self, upload_id: str) -> None:
        """Complete it where nothing stands. Amazon sees to that; of other servers some take the condition and ignore
        it, so they are asked first what stands there. An object that comes in between may still be overwritten: only
        the keys rule that out, each of which is of one run."""
        if not self._connection.amazon and await self._there() is not None:
            await self._accept_there(None)
            await self._abort()
            return
        try:
            answer = await self._ask_to_complete(upload_id)
        except S3Error as error:
            await self._accept_if_ours(error)
            await self._abort()  # an equal object stood there before: this upload is still open
            return
        if decode_crc32c(answer) is None:
            answer = await self._connection.call_object("head_object", self._key, ChecksumMode="ENABLED")
            if answer["ContentLength"] != self._bytes:
                raise _taken(self._connection.where_at(self._key))
        stored = decode_crc32c(answer)
        if stored is not None and stored != self._crc32c:
            raise damaged(self._connection.where(self._key), self._crc32c, stored)

    async def _ask_to_complete(self, upload_id: str) -> dict[str, Any]:
        if self._connection.conditional_complete:
            try:
                return await self._connection.persist(lambda: self._complete_once(upload_id, IfNoneMatch="*"))
            except S3Error as error:
                if not error.unsupported:
                    raise
                log.warning("%s refuses a condition on completing uploads; going on without", error.where)
                self._connection.conditional_complete = False
        return await self._connection.persist(lambda: self._complete_once(upload_id))

    async def _complete_once(self, upload_id: str, **condition: str) -> dict[str, Any]:
        parts = [part for _, part in sorted(self._parts.items())]
        said = self._connection.manner.completing(self._kinds, parts, self._crc32c, self._bytes)
        return await self._connection.ask_object(
            "complete_multipart_upload", self._key, UploadId=upload_id, **said, **condition
        )

    async def _accept_if_ours(self, error: S3Error) -> None:
        """After an unknown outcome: fine if the object there is the one we sent, else the error."""
        if not (error.refused_condition or error.lost or error.code == "NoSuchUpload"):
            raise error
        await self._accept_there(error)

    async def _there(self) -> dict[str, Any] | None:
        """What the server says of the object under this key; None if there is none."""
        try:
            return await self._connection.call_object("head_object", self._key, ChecksumMode="ENABLED")
        except StoreError as error:
            if error.kind != "not-found":
                raise
            return None

    async def _accept_there(self, error: S3Error | None) -> None:
        """Fine if the object there is the one we sent. error: after which it is looked at."""
        try:
            there = await self._there()
        except StoreError as unknown:
            raise error or unknown from None
        if there is None:
            raise error or _taken(self._connection.where_at(self._key))  # others create and delete it
        stored = decode_crc32c(there)
        if there["ContentLength"] == self._bytes and stored is None:
            stored = await self._read_back()
        if there["ContentLength"] != self._bytes or stored != self._crc32c:
            raise _taken(error.where if error else self._connection.where_at(self._key)) from error

    async def _read_back(self) -> int:
        """CRC32C of the object as it stands there, for servers that keep none."""
        value = at = 0
        while at < self._bytes:
            end = min(at + PART_BYTES, self._bytes)
            asked = f"bytes={at}-{end - 1}"

            async def once(asked: str = asked) -> builtins.bytes:
                answer = await self._connection.ask_object("get_object", self._key, Range=asked)
                return await self._connection.read_body(answer, self._key, PART_BYTES)

            value = crc32c_of(await self._connection.persist(once), value)
            at = end
        return value

    async def _abort(self) -> BaseException | None:
        """Forget the upload. A failure, which is returned, leaves a stale upload and hides no other error."""
        upload_id, self._upload_id, self._held = self._upload_id, None, None
        if upload_id is None:
            return self._stays

        async def ask() -> None:
            async with asyncio.timeout(self._within(ABORT_S)):
                await self._connection.call_object("abort_multipart_upload", self._key, UploadId=upload_id)

        try:
            await finish(ask())
        except (StoreError, TimeoutError) as error:
            if getattr(error, "kind", "") != "not-found" and getattr(error, "code", "") != "NoSuchUpload":
                log.info("an upload was not aborted and stays behind: %s", error)
                self._stays = error
        return self._stays

    def _within(self, seconds: float) -> float:
        return min(seconds, GIVEN_UP_S) if self._connection.given_up else seconds


def _taken(where: str) -> StoreError:
    return StoreError(
        "another object stands under the key of an upload",
        where=where,
        hint="it is not of this run; run again",
    )


async def takes_damaged_part(connection: Connection, key: str) -> bool | None:
    """Whether the server takes a part whose checksum is that of other bytes; None where none is sent. The upload stays
    behind, unfinished."""

    async def begin() -> dict[str, Any]:
        return await connection.ask_object("create_multipart_upload", key, **connection.manner.upload_kinds())

    upload_id = (await connection.persist(begin))["UploadId"]
    sent, others = b"what is sent", b"and is not it"

    async def once() -> bool | None:
        sums = connection.manner.sums(others, crc32c_of(others))
        if not sums:
            return None
        try:
            await connection.ask_object(
                "upload_part", key, UploadId=upload_id, PartNumber=1, Body=body_of(sent), **sums
            )
        except S3Error as error:
            if error.status != 400 or error.refused_signature:
                raise
            return False
        return True

    return await connection.persist(once)
