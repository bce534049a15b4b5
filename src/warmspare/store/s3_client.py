"""One connection pool to one bucket of an S3 server; refuses to sign away integrity: every body carries its
CRC32C, and over plain HTTP to another host the signature covers it too."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import crc32c as crc
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import handlers

from warmspare.errors import ConfigError
from warmspare.store.s3_errors import CLIENT_ERRORS, BodyError, damaged, public_url, store_error

log = logging.getLogger("warmspare.store")

CONNECT_S = 10.0
READ_S = 60.0
ATTEMPTS = 5  # of a request, by botocore's standard mode: exponential waits with jitter, 20 s at most
BODY_ATTEMPTS = 3
BODY_PAUSE_S = 0.2  # before the second; four times as long before each further one
_CHUNK_BYTES = 256 << 10
_LOOPBACK = ("localhost", "127.", "::1")
_TALKATIVE = ("botocore", "aiobotocore", "aiohttp")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Account:
    """Which AWS settings to use where it is not the environment's choice: a profile's name, a region."""

    profile: str | None = None
    region: str | None = None


NO_ACCOUNT = Account()


class Body:
    """The bytes of a request, sent without copies: botocore sees a file, aiohttp an asynchronous iterable."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data).cast("B")
        self._at = 0

    def __len__(self) -> int:
        return self._view.nbytes

    def read(self, count: int = -1) -> bytes:
        """Read on, for a signature over the payload."""
        end = self._view.nbytes if count is None or count < 0 else self._at + count
        chunk = self._view[self._at : end]
        self._at += chunk.nbytes
        return bytes(chunk)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position; botocore does before it sends the request again."""
        self._at = offset + (0, self._at, self._view.nbytes)[whence]
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for at in range(0, self._view.nbytes, _CHUNK_BYTES):
            yield self._view[at : at + _CHUNK_BYTES]


def body_of(data: bytes | bytearray | memoryview) -> Body | bytes:
    """What to hand to the client as a body."""
    return Body(data) if memoryview(data).nbytes else b""


def encode_crc32c(value: int) -> str:
    """As S3 writes a CRC32C: base64 of four bytes, big-endian."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def decode_crc32c(answer: dict[str, Any]) -> int | None:
    """The full-object CRC32C in a server's answer; None if there is none (composite ones end in `-N`)."""
    text = answer.get("ChecksumCRC32C")
    if not text or answer.get("ChecksumType") == "COMPOSITE" or "-" in text:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(raw, "big") if len(raw) == 4 else None


class Connection:
    """A lazily made client, the limit of parts under way, and what was learnt of the server."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint_url: str | None,
        concurrency: int,
        attempts: int = ATTEMPTS,
        account: Account = NO_ACCOUNT,
    ) -> None:
        self.bucket = bucket
        self.base = f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self.parts = asyncio.Semaphore(concurrency)
        self.whole_checksums = True  # the server takes ChecksumType FULL_OBJECT
        self.conditional_complete = True  # the server takes If-None-Match on CompleteMultipartUpload
        self.endpoint = ""
        self._endpoint_url, self._concurrency, self._attempts = endpoint_url, concurrency, attempts
        self._account = account
        self._client: Any = None
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._warned = False
        if endpoint_url is not None:
            parts = urlsplit(endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise ConfigError(
                    "the endpoint URL must be http:// or https:// and a host, without credentials",
                    hint="give credentials by the AWS environment",
                )

    @property
    def sorts_listings(self) -> bool:
        """Whether listings come in byte order: Amazon's do, except those of directory buckets. SeaweedFS
        sorts by path components instead (`a/b` before `a-b`), and its StartAfter `a` skips `a/b`."""
        host = urlsplit(self.endpoint).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn")) and not self.bucket.endswith("--x-s3")

    def where(self, key: str = "") -> str:
        """An object as messages name it."""
        return f"s3://{self.bucket}/{self.base}{key}"

    def where_at(self, key: str) -> str:
        """An object and its server as messages name them."""
        return f"{self.where(key)} at {self.endpoint}"

    async def call(self, operation: str, key: str = "", **parameters: Any) -> dict[str, Any]:
        """One request (with botocore's retries) on the bucket, about `key` of the repository ("" for none).

        StoreError or NotFoundError for every failure; a body still to be read can fail later.
        """
        try:
            client = await self._connected()
            answer: dict[str, Any] = await getattr(client, operation)(Bucket=self.bucket, **parameters)
        except CLIENT_ERRORS as error:
            raise store_error(error, operation.replace("_", " "), self.where(key), self.endpoint) from error
        return answer

    async def call_object(self, operation: str, key: str, **parameters: Any) -> dict[str, Any]:
        """One request on the object of a key."""
        return await self.call(operation, key, Key=self.base + key, **parameters)

    async def connect(self) -> None:
        """Make the client, for what can be known before the first request."""
        try:
            await self._connected()
        except CLIENT_ERRORS as error:
            raise store_error(error, "connect", self.where(), self.endpoint) from error

    async def read_body(self, answer: dict[str, Any], key: str) -> bytes:
        """The whole body of an answer; a StoreError (retryable) when it breaks off."""
        try:
            async with answer["Body"] as stream:
                data: bytes = await stream.read()
        except CLIENT_ERRORS as error:
            raise self._broken(key, "the connection broke while reading") from error
        if len(data) != answer["ContentLength"]:
            raise self._broken(key, f"the server sent {len(data)} of {answer['ContentLength']} bytes")
        return data

    def _broken(self, key: str, what: str) -> BodyError:
        return BodyError(
            what, where=self.where_at(key), hint="check the network and run again later", retryable=True
        )

    async def with_body_retries(self, once: Callable[[], Awaitable[_T]]) -> _T:
        """botocore retries requests until the head of an answer is there; this, broken bodies."""
        for attempt in range(BODY_ATTEMPTS - 1):
            try:
                return await once()
            except BodyError as error:
                log.info("reading again: %s", error)
            await asyncio.sleep(BODY_PAUSE_S * 4**attempt)
        return await once()

    def check_echo(self, answer: dict[str, Any], expected: int, key: str) -> None:
        """Compare the CRC32C that a server says it stored with ours; StoreError where they differ.

        A server that names none has perhaps not checked any: that is logged once.
        """
        stored = decode_crc32c(answer)
        if stored is None:
            if not self._warned:
                self._warned = True
                log.warning(
                    "%s does not confirm CRC32C checksums; damage on the way there shows on verifying only",
                    self.endpoint,
                )
        elif stored != expected:
            raise damaged(self.where(key), expected, stored)

    async def close(self) -> None:
        """Release the connections."""
        await self._open.aclose()
        self._client = None

    async def _connected(self) -> Any:
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    self._client = await self._connect()
        return self._client

    async def _connect(self) -> Any:
        for name in _TALKATIVE:  # their debug output holds session tokens and signatures
            logger = logging.getLogger(name)
            if logger.level < logging.WARNING:
                logger.setLevel(logging.WARNING)
        client = await self._make_client(sign_payload=False)
        parts = urlsplit(client.meta.endpoint_url)
        if parts.scheme == "http" and not (parts.hostname or "").startswith(_LOOPBACK):
            await self._open.aclose()
            client = await self._make_client(sign_payload=True)
        self.endpoint = public_url(client.meta.endpoint_url)
        # without it: no round trip before each part, and no wait for a server that never sends a 100
        client.meta.events.unregister("before-call.s3", handlers.add_expect_header)
        return client

    async def _make_client(self, *, sign_payload: bool) -> Any:
        config = AioConfig(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=self._concurrency + 16,
            retries={"mode": "standard", "total_max_attempts": self._attempts},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "payload_signing_enabled": sign_payload,
                **({"addressing_style": "path"} if self._endpoint_url else {}),
            },
        )
        try:
            session = AioSession(profile=self._account.profile)
            region = self._account.region
            made = session.create_client("s3", endpoint_url=self._endpoint_url, config=config, region_name=region)
            return await self._open.enter_async_context(made)
        except ValueError as error:
            raise ConfigError(
                "the endpoint URL or the region is not valid", hint="check AWS_ENDPOINT_URL and AWS_REGION"
            ) from error


def crc32c_of(data: bytes | bytearray | memoryview, before: int = 0) -> int:
    """CRC32C of the bytes, going on from that of the ones before them."""
    return int(crc.crc32c(data, before))
