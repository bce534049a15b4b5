"""Requests to one bucket of an S3 server: tried again, measured, bounded in number; refuses to know what they are for.

This is the only place that tries a request again. What a failure says of another try is in s3_errors.py, how long it
goes on in patience.py, how many transfers are under way at once in congestion.py.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from warmspare.errors import StoreError
from warmspare.outside.parsing import ODD
from warmspare.patience import Again, Patience, Tries
from warmspare.store.contract import Pace, unpaced
from warmspare.store.s3.body import Body, decode_crc32c, receive
from warmspare.store.s3.congestion import CongestionWindow
from warmspare.store.s3.manner import NO_SITE, Manner, Site
from warmspare.store.s3.s3_errors import CLIENT_ERRORS, BodyError, S3Error, Sent, damaged, store_error
from warmspare.store.s3.session.aws_session import NO_ACCOUNT, AwsAccount, Session
from warmspare.store.s3.session.session_shelf import current_shelf
from warmspare.store.s3.wire import WirePace

log = logging.getLogger("warmspare.store")

CONCURRENCY = 8
SKEW_S = 240.0  # servers refuse a request that is 15 minutes off; nearer, the clocks are not to blame
QUIET_S = 2.0  # of failing, before anybody is told
TELL_EVERY_S = 10.0
# What an answer must hold to be one, and of what kind. A header whose name was damaged is simply not there, and what
# stands twice in an answer becomes a list.
_Fields = dict[str, type]
_FIELDS: dict[str, _Fields] = {
    "get_object": {"Body": object, "ContentLength": int},
    "head_object": {"ContentLength": int, "LastModified": datetime.datetime, "ETag": str},
    "put_object": {"ETag": str},
    "upload_part": {"ETag": str},
    "create_multipart_upload": {"UploadId": str},
    "complete_multipart_upload": {"ETag": str},
    "list_objects_v2": {"IsTruncated": bool},
    "list_multipart_uploads": {"Bucket": str},  # rclone names no IsTruncated
}
# The same of each entry of a listing.
_ENTRIES: dict[str, tuple[str, _Fields]] = {
    "list_objects_v2": ("Contents", {"Key": str, "Size": int, "LastModified": datetime.datetime, "ETag": str}),
    "list_multipart_uploads": ("Uploads", {"Key": str, "UploadId": str, "Initiated": datetime.datetime}),
    "delete_objects": ("Errors", {}),
}
# Where they are there at all.
_TEXTS = ("NextContinuationToken", "NextKeyMarker", "NextUploadIdMarker", "ContentRange", "Key", "Code", "Message")
OnRetry = Callable[[str, int, float], None]
ANSWER_STALLS = 10  # a server may take minutes to complete an upload, and say a blank now and then meanwhile
_T = TypeVar("_T")


class Connection:
    """One bucket and what was learnt of its server.

    concurrency: the most transfers under way at once; parts and ranges wait in `window`. on_retry: hears (message,
    tries so far, seconds until the next) of what has been failing for a while, not more often than each 10 s.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint_url: str | None,
        concurrency: int = CONCURRENCY,
        patience: Patience | None = None,
        account: AwsAccount = NO_ACCOUNT,
        site: Site = NO_SITE,
        on_retry: OnRetry | None = None,
    ) -> None:
        self.bucket = bucket
        self.base = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self.window = CongestionWindow(concurrency)
        self._pace: Pace = unpaced
        self.conditional_complete = True  # the server takes If-None-Match on CompleteMultipartUpload
        self._patience = patience or Patience()
        self._shelf = current_shelf()
        make = partial(Session, endpoint_url, account, self._patience, Manner(site), connections=concurrency)
        key = (bucket, endpoint_url, account, self._patience, site, concurrency)
        self._taken = None if self._shelf is None else self._shelf.take(key, make)
        self._session = make() if self._taken is None else self._taken.session
        self._on_retry = on_retry
        self._told_s = float("-inf")
        self._down_since: float | None = None  # when the first request failed after the last that did not
        self._answered = False  # whatever it said
        self._served = False  # it took our signature
        self._warned = False
        self._refused_path: S3Error | None = None  # the refusal of path style, until a request has succeeded
        self.given_up = False  # the last request that failed was tried for as long as our patience lasts

    @property
    def manner(self) -> Manner:
        """How requests are put to the server."""
        return self._session.manner

    @property
    def pace(self) -> Pace:
        """What is asked before each piece of a body: `unpaced`, or what keeps all that goes over the wire to the pace
        that was set."""
        return self._pace

    @pace.setter
    def pace(self, pace: Pace) -> None:
        self._pace = pace if pace is unpaced else WirePace(self._session.wire, pace).take

    @property
    def endpoint(self) -> str:
        """The server's public URL; "" before the first request."""
        return self._session.endpoint

    @property
    def amazon(self) -> bool:
        """Whether it is Amazon's own S3 that is asked."""
        return (urlsplit(self.endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))

    @property
    def sorts_listings(self) -> bool:
        """Whether listings come in byte order: Amazon's do, except those of directory buckets. SeaweedFS
        sorts by path components instead (`a/b` before `a-b`), and its StartAfter `a` skips `a/b`."""
        return self.amazon and not self.bucket.endswith("--x-s3")

    def where(self, key: str = "") -> str:
        """An object as messages name it."""
        return f"s3://{self.bucket}/{self.base}{key}"

    def where_at(self, key: str) -> str:
        """An object and its server as messages name them."""
        return f"{self.where(key)} at {self.endpoint}"

    async def call(self, operation: str, key: str = "", **parameters: Any) -> dict[str, Any]:
        """One request on the bucket, tried again, about `key` of the repository ("" for none).

        StoreError or NotFoundError for every failure.
        """
        return await self.persist(lambda: self.ask(operation, key, **parameters))

    async def call_object(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        """One request on the object of a key, tried again."""
        return await self.call(operation, key, Key=self.base + key, **parameters)

    async def persist(self, once: Callable[[], Awaitable[_T]]) -> _T:
        """What `once` returns, tried again as long as its failures and our patience allow; else its last S3Error, with
        how often it was tried before."""
        tries = Tries(self._patience)
        mended: set[str] = set()
        while True:
            epoch, client = self.window.epoch, await self._connected()
            try:
                return await once()
            except S3Error as error:
                error.retries = tries.count
                if error.congestion:
                    self.window.congested(epoch)
                pause_s = 0.0 if await self._mend(error, client, mended) else self._pause(error, tries)
                if pause_s is None:
                    self.given_up = self.given_up or error.again is Again.ALWAYS
                    raise
            await asyncio.sleep(pause_s)

    async def ask(self, operation: str, key: str = "", **parameters: Any) -> dict[str, Any]:
        """One try of a request; for `once` of persist. A body still to be read can fail later.

        Cut off when a body is not taken for `stall_s`; aiohttp itself does that to answers, and all of an answer that
        is no object's body must be there in ANSWER_STALLS of that.
        """
        client = await self._connected()
        loop, stall_s = asyncio.get_running_loop(), self._patience.stall_s
        parameters, sent = self.manner.dressed(operation, parameters)
        body = parameters.get("Body")
        try:
            async with asyncio.timeout(None) as limit:
                if isinstance(body, Body):

                    async def pace(most: int) -> int:
                        limit.reschedule(None)  # what is waited for here is no stall of the link
                        count = await self.pace(most)
                        limit.reschedule(loop.time() + stall_s)
                        return count

                    def on_sent(count: int, left: int) -> None:
                        self.window.moved(count)
                        # After the last chunk aiohttp's own limit counts, once what it holds was taken too.
                        limit.reschedule(loop.time() + (stall_s if left else 2 * stall_s))

                    limit.reschedule(loop.time() + self._patience.connect_s + stall_s)
                    body.on_sent = on_sent
                    body.pace = unpaced if self.pace is unpaced else pace
                else:
                    limit.reschedule(loop.time() + self._patience.connect_s + ANSWER_STALLS * stall_s)
                answer: dict[str, Any] = await getattr(client, operation)(Bucket=self.bucket, **parameters)
        except (*CLIENT_ERRORS, *ODD) as error:
            failure = self._failure(error, key, sent)
            if operation == "head_object" and isinstance(failure, S3Error) and failure.bodiless:
                failure = await self._explained(failure, key, parameters)
            if getattr(failure, "status", 404):
                self._answered = True
            if getattr(failure, "again", Again.NEVER) is not Again.ALWAYS:
                self._down_since = None
            raise failure from error
        self._answered = self._served = True
        self._down_since = self._refused_path = None
        self.given_up = False
        self.manner.worked(sent, self.endpoint)
        if missing := _lacks(operation, answer):
            raise self._broken(key, f"the server's answer lacks {missing}", Again.FEW)
        return answer

    async def ask_object(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        """One try of a request on the object of a key."""
        return await self.ask(operation, key, Key=self.base + key, **parameters)

    async def connect(self) -> None:
        """Make the client, for what can be known before the first request."""
        await self._connected()

    async def read_body(self, answer: dict[str, Any], key: str, most_bytes: int) -> bytes:
        """The whole body of an answer; a BodyError when it breaks off, or would have more than was asked for."""
        if not 0 <= answer["ContentLength"] <= most_bytes:
            answer["Body"].close()
            raise self._broken(key, "the server sends more than was asked for", Again.FEW)
        try:
            data = await receive(answer, self.window.moved, self._patience.stall_s)
        except CLIENT_ERRORS as error:
            raise self._broken(key, "the connection broke while reading") from error
        if len(data) != answer["ContentLength"]:
            raise self._broken(key, f"the server sent {len(data)} of {answer['ContentLength']} bytes")
        return data

    def check_echo(self, answer: dict[str, Any], sums: dict[str, str], expected: int, key: str) -> None:
        """Compare the checksum that a server says it stored with the one that was sent; BodyError where they differ.
        expected: the body's CRC32C.

        A server that names none has perhaps not checked any: that is logged once.
        """
        for name, value in sums.items():
            if name != "ChecksumCRC32C" and answer.get(name, value) != value:
                raise self._broken(key, f"damaged on the way: the server has another {name}", Again.FEW)
        stored = decode_crc32c(answer)
        if stored is None:
            if "ChecksumCRC32C" in sums and not self._warned:
                self._warned = True
                log.warning(
                    "%s does not confirm CRC32C checksums; damage on the way there shows on verifying only",
                    self.endpoint,
                )
        elif stored != expected:
            raise damaged(self.where(key), expected, stored)

    def words(self) -> str:
        """How requests are put to the server; for people."""
        said = [self.manner.words(), f"region {self._session.region}"]
        if self._session.addressing != "auto":
            said.append("bucket in the path" if self._session.addressing == "path" else "bucket in the host name")
        said.append("bodies signed" if self._session.signs_payload else "bodies not signed")
        return ", ".join(said)

    async def close(self) -> None:
        """Release the connections, or leave them to the next who asks the same, if all is well with them."""
        shelf, self._shelf = self._shelf, None
        well = self._served and self._down_since is None and not self.given_up
        if shelf is not None and self._taken is not None and well:
            await shelf.give_back(self._taken)
        else:
            await self._session.close()

    def _failure(self, error: Exception, key: str, sent: Sent) -> StoreError:
        failure = store_error(error, sent.operation.replace("_", " "), self.where(key), self.endpoint, sent)
        failure.object = self.where(key)
        return failure

    async def _explained(self, failure: S3Error, key: str, parameters: dict[str, Any]) -> StoreError:
        """The error of a HEAD, whose answers have no body: asked again for one byte, which needs the same right. Where
        that is answered otherwise, the first error."""
        client = await self._connected()
        try:
            answer = await client.get_object(Bucket=self.bucket, **parameters, Range="bytes=0-0")
            answer["Body"].close()
        except (*CLIENT_ERRORS, *ODD) as error:
            told = self._failure(error, key, failure.sent)
            if isinstance(told, S3Error) and told.status == failure.status:
                return told
        return failure

    def _broken(self, key: str, what: str, again: Again = Again.ALWAYS) -> BodyError:
        hint = "check the network and run again later"
        return BodyError(what, where=self.where_at(key), hint=hint, retryable=True, lost=True, again=again)

    async def _connected(self) -> Any:
        try:
            return await self._session.client()
        except CLIENT_ERRORS as error:
            raise store_error(error, "connect", self.where(), self.endpoint) from error

    async def _mend(self, error: S3Error, client: Any, mended: set[str]) -> bool:
        """Whether something of ours was wrong that is right now. Each of them once a request."""
        shift_s = error.server_s - self._session.now() if error.status == 403 and error.server_s is not None else 0.0
        if abs(shift_s) > SKEW_S and "clock" not in mended:
            mended.add("clock")
            self._session.clock_shift_s += shift_s
            log.info("this host's clock is %.0f s off; requests are signed with the server's", shift_s)
            return True
        if self._refused_path is not None and not error.status:  # there is no such host name
            refused, self._refused_path, self._session.addressing = self._refused_path, None, "path"
            await self._renew(client)
            raise refused
        if self.manner.learn(error, mended):
            return True
        if error.elsewhere and error.region not in ("", self._session.region) and "region" not in mended:
            mended.add("region")
            log.warning("%s: the bucket is in region %s; set it to save a round trip", self.uri, error.region)
            self._session.region = error.region
            await self._renew(client)
            return True
        if error.wants_virtual_host and self._session.addressing == "auto" and self._session.can_be_virtual:
            self._refused_path, self._session.addressing = error, "virtual"
            await self._renew(client)
            return True
        if error.wants_virtual_host and self._session.addressing == "virtual" and "host" not in mended:
            mended.add("host")  # another request has turned to it meanwhile
            return True
        if error.stale_token and "token" not in mended:
            mended.add("token")
            await self._renew(client)
            return True
        return False

    async def _renew(self, client: Any) -> None:
        try:
            await self._session.renew(client)
        except CLIENT_ERRORS as failure:
            raise store_error(failure, "connect", self.where(), self.endpoint) from failure

    def _pause(self, error: S3Error, tries: Tries) -> float | None:
        """How long to wait before the next try; None for none."""
        # Keys that worked a moment ago are not wrong: that request was damaged on its way.
        again = Again.FEW if error.refused_signature and self._served else error.again
        now = time.monotonic()
        if again is Again.ALWAYS and self._down_since is None:
            self._down_since = now
        down_s = 0.0 if self._down_since is None else now - self._down_since
        pause_s = tries.failed(again, known=self._answered, down_s=down_s)
        if pause_s is None and error.nowhere and not self._answered:
            error.retryable = False  # a wrong name; one that was right before may only be out of reach
        if pause_s is not None:
            pause_s = max(pause_s, error.wait_s)
            log.info("trying again in %.1f s: %s", pause_s, error)
            if self._on_retry and tries.failing_s >= QUIET_S and now - self._told_s >= TELL_EVERY_S:
                self._told_s = now
                self._on_retry(error.sentence, tries.count, pause_s)
        return pause_s


def _lacks(operation: str, answer: dict[str, Any]) -> str:
    """The first thing that an answer must hold and does not, "" for none."""
    name, fields = _ENTRIES.get(operation, ("", {}))
    entries = answer.get(name) or []
    if not isinstance(entries, list):
        return name
    for holder, wanted in [(answer, _FIELDS.get(operation, {})), *((one, fields) for one in entries)]:
        if not isinstance(holder, dict):
            return f"the fields of {name}"
        for field, kind in wanted.items():
            if field not in holder or not isinstance(holder[field], kind):
                return field
        for field in _TEXTS:
            if not isinstance(holder.get(field, ""), str):
                return field
    return ""
