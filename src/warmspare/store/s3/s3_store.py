"""A repository in an S3 bucket, Amazon's or a compatible server's; refuses to trust an answer it can check.

Settings come from the standard AWS environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_REGION,
AWS_ENDPOINT_URL and so on). The server must know conditional writes (If-None-Match, If-Match).
"""

from __future__ import annotations

import builtins
import email.utils
import re
import time
from collections.abc import AsyncIterator, Hashable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from warmspare.errors import NotFoundError, StoreError
from warmspare.outside.paging import EndlessError, Paging
from warmspare.patience import Patience
from warmspare.store.contract import ObjectInfo, Pace, StaleUpload
from warmspare.store.layout import check_key, check_prefix, repository_key
from warmspare.store.s3.body import body_of, crc32c_of, decode_crc32c
from warmspare.store.s3.connection import CONCURRENCY, Connection, OnRetry
from warmspare.store.s3.deletion import Deletion
from warmspare.store.s3.manner import NO_SITE, Site
from warmspare.store.s3.multipart import S3Upload, takes_damaged_part
from warmspare.store.s3.s3_errors import S3Error, damaged
from warmspare.store.s3.session.aws_session import NO_ACCOUNT, AwsAccount

_CONFLICT_TRIES = 3  # of a write that S3 answers with 409: asked to be sent again, after a look at what is there


class S3Store:
    """A `Store` (contract.py) under a prefix of a bucket. Connects on the first request."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        concurrency: int = CONCURRENCY,
        patience: Patience | None = None,
        account: AwsAccount = NO_ACCOUNT,
        site: Site = NO_SITE,
        on_retry: OnRetry | None = None,
    ) -> None:
        """bucket, prefix: valid ones (see opening.py). endpoint_url: of a compatible server. concurrency: the most
        parts and ranges under way. patience: with failing requests. account: AWS profile and region. site: what it
        demands of requests. on_retry: see Connection."""
        self._connection = Connection(
            bucket,
            prefix,
            endpoint_url=endpoint_url,
            concurrency=concurrency,
            patience=patience,
            account=account,
            site=site,
            on_retry=on_retry,
        )
        self.uri = self._connection.uri
        self._deletion = Deletion(self._connection)
        self._bucket_seen = self._bare_tags = False

    @property
    def server(self) -> str:
        """See Store.server: the endpoint's URL."""
        return self._connection.endpoint

    @property
    def pace(self) -> Pace:
        """See Paced: asked before each chunk of a body."""
        return self._connection.pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self._connection.pace = pace

    # -- reading ------------------------------------------------------------------------------------------

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        """See Store.get; compared with the object's CRC32C where the server keeps one."""
        check_key(key)

        async def once() -> bytes:
            answer = await self._connection.ask_object("get_object", key, ChecksumMode="ENABLED")
            if answer["ContentLength"] > max_bytes:
                answer["Body"].close()
                raise self._wrong(
                    key,
                    f"the object has {answer['ContentLength']} bytes where at most {max_bytes} are expected",
                )
            self._bucket_seen = True
            data = await self._connection.read_body(answer, key, max_bytes)
            stored = decode_crc32c(answer)
            if stored is not None and stored != (actual := crc32c_of(data)):
                raise damaged(self._connection.where(key), stored, actual)
            return data

        return await self._connection.persist(once)

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See Store.get_range."""
        check_key(key)
        if offset < 0 or length < 0:
            raise ValueError("offset and length must not be negative")
        if length == 0:
            return await self._empty_range(key, offset)

        async def once() -> bytes:
            asked = f"bytes={offset}-{offset + length - 1}"
            answer = await self._connection.ask_object("get_object", key, Range=asked)
            if answer["ContentLength"] > length or not answer.get("ContentRange", "").startswith(f"bytes {offset}-"):
                answer["Body"].close()
                raise self._wrong(key, f"the server did not keep to the range {asked}", "use another server")
            return await self._connection.read_body(answer, key, length)

        async with self._connection.window.slot():
            data = await self._connection.persist(once)
        if len(data) != length:
            raise self._wrong(
                key, f"the object is shorter than expected: {len(data)} of {length} bytes at offset {offset}"
            )
        return data

    async def _empty_range(self, key: str, offset: int) -> bytes:
        info = await self.head(key)
        if info is None:
            raise NotFoundError("no such object", where=self._connection.where(key), hint="check the key")
        if offset > info.bytes:
            raise self._wrong(key, f"the object is shorter than expected: it ends before offset {offset}")
        return b""

    async def head(self, key: str) -> ObjectInfo | None:
        """See Store.head."""
        try:
            answer = await self._connection.call_object("head_object", check_key(key), ChecksumMode="ENABLED")
        except NotFoundError:
            await self._need_bucket()  # a 404 to a HEAD doesn't tell a missing object from a missing bucket
            return None
        self._bucket_seen = True
        return ObjectInfo(
            key,
            int(answer["ContentLength"]),
            answer["LastModified"].timestamp(),
            str(answer["ETag"]),
            decode_crc32c(answer),
        )

    async def _need_bucket(self) -> None:
        """StoreError if the bucket is missing."""
        if not self._bucket_seen:
            await self._connection.call("list_objects_v2", Prefix=self._connection.base, MaxKeys=1)
            self._bucket_seen = True

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """See Store.list. Amazon's pages are passed on as they come; those of another server, whose order
        may be another (SeaweedFS), are gathered and sorted first, from as far on as both orders allow."""
        check_prefix(prefix)
        await self._connection.connect()
        if self._connection.sorts_listings:
            before = start_after
            async for page in self._pages(prefix, start_after):
                for info in page:
                    if info.key <= before:
                        raise self._wrong(info.key, "the server's listing is not in order", "use another server")
                    before = info.key
                    yield info
            return
        start = "" if self._connection.amazon else _start_in_any_order(prefix, start_after)
        found = [info async for page in self._pages(prefix, start) for info in page if info.key > start_after]
        found.sort(key=lambda info: info.key)
        for info in found:
            yield info

    async def _pages(self, prefix: str, start_after: str) -> AsyncIterator[builtins.list[ObjectInfo]]:
        base = self._connection.base
        more: dict[str, Any] = {"StartAfter": base + start_after} if start_after else {}
        paging = Paging()
        while True:
            answer = await self._connection.call("list_objects_v2", prefix, Prefix=base + prefix, **more)
            self._bucket_seen = True
            token = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
            self._goes_on(paging, [entry["Key"] for entry in answer.get("Contents", [])], token, prefix)
            yield [
                ObjectInfo(
                    entry["Key"].removeprefix(base),
                    int(entry["Size"]),
                    entry["LastModified"].timestamp(),
                    str(entry["ETag"]),
                )
                for entry in answer.get("Contents", [])
                if entry["Key"].startswith(base + prefix) and not entry["Key"].endswith("/")
            ]
            if not answer.get("IsTruncated"):
                return
            if not token:
                raise self._wrong(prefix, "the server cut a listing short", "use another server")
            more = {"ContinuationToken": token}

    def _goes_on(self, paging: Paging, items: builtins.list[str], token: Hashable, prefix: str) -> None:
        """StoreError where a listing does not end."""
        try:
            paging.page(items, token)
        except EndlessError as error:
            raise self._wrong(prefix, str(error), "use another server") from None

    # -- writing ------------------------------------------------------------------------------------------

    async def put(self, key: str, data: bytes) -> ObjectInfo:
        """See Store.put."""
        return await self._put(check_key(key), data)

    async def create(self, key: str, data: bytes) -> bool:
        """See Store.create."""
        check_key(key)
        for _ in range(_CONFLICT_TRIES):
            try:
                await self._put(key, data, IfNoneMatch="*")
                return True
            except S3Error as error:
                if not (error.refused_condition or error.lost):
                    raise
                there = await self._read_back(key, data, error)
                if there is not None:
                    return there
                if not error.refused_condition:
                    raise
        # SeaweedFS answers so for a key below which objects once were; False would mean that another's stands there.
        raise self._wrong(
            key,
            "the server refuses to create the object as if one were there, and there is none",
            "try another prefix, or use a server that keeps conditional writes",
        )

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        """See Store.replace. Tags are hashes of the content here: no two writes of one key may be equal."""
        check_key(key)
        for _ in range(_CONFLICT_TRIES):
            bare = self._bare_tags
            condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag.strip('"') if bare else etag}
            try:
                return await self._put(key, data, **condition)
            except NotFoundError:  # Amazon's and moto's answer to If-Match on an absent object
                await self._need_bucket()
                return None
            except S3Error as error:
                if not (error.refused_condition or error.lost):
                    raise
                if error.retries or error.lost:
                    done = await self._replaced(key, data, etag, error)
                    if done is not None:
                        return done
                if error.lost:
                    return None
                if error.code in ("PreconditionFailed", "412"):
                    if etag is None or bare or not await self._has_tag(key, etag):
                        return None
                    self._bare_tags = True  # it refused the very tag that it names: Ceph wants it without its quotes
        return None

    async def _has_tag(self, key: str, etag: str) -> bool:
        info = await self.head(key)
        return info is not None and info.etag == etag

    async def delete(self, keys: Sequence[str]) -> None:
        """See Store.delete: 1000 in a request, or in whatever way the server lets us (deletion.py)."""
        await self._deletion.delete([check_key(key) for key in keys])

    async def _replaced(self, key: str, data: bytes, etag: str | None, error: S3Error) -> ObjectInfo | None:
        """The object there if an earlier try wrote it and its answer was lost; None if another stands there.
        `error` if nothing has changed: a write whose answer was lost may still be on its way."""
        ours = await self._read_back(key, data, error)
        info = await self.head(key)
        if ours and info is not None and info.bytes == len(data) and info.crc32c in (None, crc32c_of(data)):
            return info
        if error.lost and (info.etag if info is not None else None) == etag:
            raise error
        return None

    async def _put(self, key: str, data: bytes, **condition: str) -> ObjectInfo:
        value = crc32c_of(data)

        async def once() -> dict[str, Any]:
            sums = self._connection.manner.sums(data, value)
            answer = await self._connection.ask_object("put_object", key, Body=body_of(data), **sums, **condition)
            self._connection.check_echo(answer, sums, value, key)
            return answer

        answer = await self._connection.persist(once)
        self._bucket_seen = True
        return ObjectInfo(key, len(data), _date(answer), str(answer["ETag"]), decode_crc32c(answer))

    async def _read_back(self, key: str, data: bytes, error: S3Error) -> bool | None:
        """Whether the object there is the data we sent; None if there is none, `error` if unknown."""
        try:
            return await self.get(key, max_bytes=max(len(data), 1 << 20)) == data
        except NotFoundError:
            return None
        except StoreError as failure:
            if failure.retryable:
                raise error from failure
            if isinstance(failure, S3Error):
                raise
            return False  # larger than ours

    # -- uploads ------------------------------------------------------------------------------------------

    def upload(self, key: str) -> S3Upload:
        """See Store.upload."""
        return S3Upload(self._connection, check_key(key))

    async def stale_uploads(self, prefix: str) -> builtins.list[StaleUpload]:
        """See Store.stale_uploads."""
        base = self._connection.base
        wanted = base + check_prefix(prefix)
        found: builtins.list[StaleUpload] = []
        more: dict[str, Any] = {}
        paging = Paging()
        while True:
            answer = await self._connection.call("list_multipart_uploads", prefix, Prefix=wanted, **more)
            marker = (answer.get("NextKeyMarker", ""), answer.get("NextUploadIdMarker", ""))
            names = [f"{entry['Key']} {entry['UploadId']}" for entry in answer.get("Uploads", [])]
            self._goes_on(paging, names, marker if answer.get("IsTruncated") else None, prefix)
            found += [
                StaleUpload(entry["Key"].removeprefix(base), entry["UploadId"], entry["Initiated"].timestamp())
                for entry in answer.get("Uploads", [])
                if entry["Key"].startswith(wanted)  # moto ignores the prefix
            ]
            if not answer.get("IsTruncated"):
                return found
            more = {"KeyMarker": marker[0], "UploadIdMarker": marker[1]}

    async def abort_upload(self, stale: StaleUpload) -> None:
        """See Store.abort_upload."""
        try:
            await self._connection.call_object("abort_multipart_upload", check_key(stale.key), UploadId=stale.handle)
        except NotFoundError:
            pass
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    async def takes_damage(self, key: str) -> bool | None:
        """See Store.takes_damage."""
        return await takes_damaged_part(self._connection, check_key(key))

    # -- housekeeping -------------------------------------------------------------------------------------

    def manner(self) -> str:
        """How requests are put to the server, in words; all that was learnt of it so far."""
        return self._connection.words()

    async def now(self) -> float:
        """See Store.now: the Date of an answer, to the second."""
        try:
            answer = await self._connection.call_object("head_object", repository_key())
        except StoreError as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError) or not isinstance(error, NotFoundError):
                raise
            answer = dict(cause.response)  # an absent object's answer has a date too
        return _date(answer)

    async def close(self) -> None:
        """See Store.close."""
        await self._connection.close()

    def _wrong(self, key: str, what: str, hint: str = "it is damaged; verify the repository") -> StoreError:
        return StoreError(what, where=self._connection.where(key), hint=hint)


def _date(answer: dict[str, Any]) -> float:
    """The Date header of an answer, Unix seconds; this host's clock where a server sends none."""
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return time.time()


def _start_in_any_order(prefix: str, start_after: str) -> str:
    """What a listing may begin after, so that neither byte order nor that by path components leaves out a key behind
    `start_after`; "" for the front.

    The two differ where a component ends in a key and goes on in another with one of the characters that sort before
    `/`. So it is cut before the first of them, and by one more: what begins like that is listed.
    """
    rest = start_after.removeprefix(prefix)
    if not prefix.endswith("/") or rest == start_after or "/" in rest:
        return ""
    plain = re.split("[-.]", rest, maxsplit=1)[0][:-1]
    return prefix + plain if plain else ""
