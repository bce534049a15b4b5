"""Turns what an S3 server or the AWS client reports into errors of ours; refuses to quote servers or the
client, whose messages may carry credentials."""

from __future__ import annotations

import asyncio
import email.utils
import socket
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from warmspare.errors import NotFoundError, StoreError
from warmspare.outside.parsing import ODD
from warmspare.patience import Again
from warmspare.store.s3.meaning import (
    BUSY,
    LATER,
    NEW_BUCKET,
    PATH_STYLE,
    REDIRECT,
    REGION,
    UNSUPPORTED,
    RefusalMeaning,
    demands_md5,
    endpoint_in,
    explained,
    feature,
    meaning_of,
    named_header,
    refused_action,
    region_in,
    storage_class,
)
from warmspare.store.s3.session.staying import unreadable

CLIENT_ERRORS: Final = (
    boto.ClientError,
    boto.BotoCoreError,
    boto.HTTPClientError,
    aiohttp.ClientError,
    ResponseParserError,
    ValueError,  # of a number or a date in an answer
    asyncio.TimeoutError,
    OSError,
)
_STALE_TOKEN: Final = frozenset(("ExpiredToken", "InvalidToken", "TokenRefreshRequired"))
_UNSUPPORTED_CODES: Final = frozenset(
    (
        "NotImplemented",
        "XNotImplemented",
        "501",
        "MethodNotAllowed",
        "InvalidArgument",
        "InvalidRequest",
        "400",
        "405",
    )
)
_NOT_FOUND: Final = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"})
_ELSEWHERE: Final = (REGION, NEW_BUCKET, REDIRECT)
_WAIT_S: Final = 60.0  # the most that a server's Retry-After makes us wait at once


@dataclass(frozen=True, slots=True)
class Sent:
    """What a request had that a server may refuse. ways: see Manner (manner.py), as they were then."""

    operation: str = ""
    condition: bool = False
    checksum: bool = False
    encryption: bool = False
    ways: object = None


NOTHING: Final = Sent()


class S3Error(StoreError):
    """A StoreError that remembers what the outcome of the request may be.

    code: the server's error code, "" without an answer. status: its HTTP status, 0 without one.
    retries: how often the request had been sent before. lost: whether the server may have done what was asked all the
    same. again: what another try is worth. server_s: the server's clock as the answer has it, Unix seconds. wait_s: how
    long it asks us to wait. meaning: None without an answer. header: one of ours that it names. region: where it says
    that the bucket is. wants_md5: it demands Content-MD5. nowhere: DNS
    knows no such server. sent: what the request had.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str,
        hint: str,
        retryable: bool,
        action: str = "",
        code: str = "",
        status: int = 0,
        lost: bool = False,
        again: Again = Again.NEVER,
        server_s: float | None = None,
    ) -> None:
        super().__init__(what, where=where, hint=hint, retryable=retryable, action=action)
        self.code, self.status, self.lost, self.again, self.server_s = code, status, lost, again, server_s
        self.retries = 0
        self.wait_s = 0.0
        self.meaning: RefusalMeaning | None = None
        self.header = self.region = ""
        self.wants_md5 = self.nowhere = False
        self.sent = NOTHING

    @property
    def congestion(self) -> bool:
        """Whether too much under way explains it."""
        return self.again is Again.ALWAYS and (self.lost or self.status in (400, 429, 503))

    @property
    def stale_token(self) -> bool:
        """Whether the session token is to blame. An answer to a HEAD has no code."""
        return self.code in _STALE_TOKEN or self.code == "400"

    @property
    def refused_signature(self) -> bool:
        """Whether the request was not the one that was signed: a wrong key, or a byte that was changed on the way."""
        return self.code == "SignatureDoesNotMatch"

    @property
    def refused_condition(self) -> bool:
        """Whether the condition of the write did not hold."""
        return self.code in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")

    @property
    def unsupported(self) -> bool:
        """Whether the server may not know a parameter of the request."""
        return self.status in (400, 405, 501) and (
            self.code in _UNSUPPORTED_CODES or self.meaning is UNSUPPORTED or bool(self.header)
        )

    @property
    def elsewhere(self) -> bool:
        """Whether the bucket is in another region, as the server says or, to a HEAD, may mean."""
        return self.meaning in _ELSEWHERE or (self.code == "400" and self.sent.operation == "head_object")

    @property
    def wants_virtual_host(self) -> bool:
        """Whether the server takes no bucket in the path."""
        return self.meaning is PATH_STYLE

    @property
    def bodiless(self) -> bool:
        """Whether a refusal came without a body, as to a HEAD, so that only the status is known of it."""
        return self.status in (400, 403, 405, 409, 501, *range(300, 400)) and self.code in ("", str(self.status))


class BodyError(S3Error):
    """The body of an answer broke off or arrived damaged; asking again may help."""


def public_url(url: str) -> str:
    """A server's URL without anything that may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def store_error(error: Exception, operation: str, where: str, endpoint: str, sent: Sent = NOTHING) -> StoreError:
    """The error for a failed request. where: the object. endpoint: the server's public URL, or ""."""
    server = f"{where} at {endpoint}" if endpoint else where
    if swelling := unreadable(error):
        return _not_understood(f"the server's answer is not read: {swelling}", server)
    if isinstance(error, boto.ClientError):
        return _answered(error, operation, server, sent)
    if isinstance(error, boto.CredentialRetrievalError):
        return _unsent(
            "the AWS credentials could not be fetched",
            "check where they come from and run again",
            server,
            retryable=True,
        )
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return _unsent("no AWS credentials were found", "set AWS_ACCESS_KEY_ID and its secret, or AWS_PROFILE", server)
    if isinstance(error, boto.TokenRetrievalError | boto.SSOError):
        return _unsent("the AWS login has expired", "log in again", server)
    if isinstance(error, boto.ProfileNotFound):
        return _unsent("the AWS profile does not exist", "correct its name, or AWS_PROFILE", server)
    if isinstance(error, boto.SSLError):
        return _unsent("the server's certificate was not accepted", "check it, or set AWS_CA_BUNDLE", server)
    if isinstance(error, boto.ProxyConnectionError):
        return _unsent("the proxy can't be reached", "check HTTPS_PROXY and NO_PROXY", server, retryable=True)
    if isinstance(error, boto.EndpointConnectionError):
        why = _why_unreachable(error)
        if why is None:
            return _unanswered("the connection broke", server)
        failure = _unsent(why, "check the endpoint URL, DNS and the network", server, retryable=True)
        failure.nowhere = _is_nowhere(error)
        return failure
    if isinstance(error, ResponseParserError | ValueError):
        return _not_understood("the server's answer can't be understood", server)
    if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError | asyncio.TimeoutError):
        return _unanswered("the server did not answer in time", server)
    if isinstance(
        error,
        boto.HTTPClientError | boto.ConnectionError | boto.IncompleteReadError | aiohttp.ClientError | OSError,
    ):
        return _unanswered("the connection broke", server)
    if isinstance(error, ODD) and not isinstance(error, boto.BotoCoreError):
        return _not_understood("the server's answer can't be understood", server)
    return _unsent(f"the AWS client refused to {operation} ({type(error).__name__})", "check the AWS settings", server)


def damaged(where: str, expected: int, actual: int) -> BodyError:
    """The error for an object whose CRC32C is not what it must be."""
    return BodyError(
        f"damaged on the way: CRC32C {actual:08x} instead of {expected:08x}",
        where=where,
        hint="check the network path and run again",
        retryable=True,
        again=Again.FEW,
    )


def _answered(error: boto.ClientError, operation: str, server: str, sent: Sent) -> StoreError:
    details: dict[str, object] = error.response.get("Error", {})
    meta = error.response.get("ResponseMetadata", {})
    headers: dict[str, str] = meta.get("HTTPHeaders", {})
    code, text = str(details.get("Code", "")), str(details.get("Message", ""))
    status = int(meta.get("HTTPStatusCode", 0))
    if code in _NOT_FOUND or (status == 404 and not code):
        return NotFoundError("no such object", where=server, hint="check the repository's URI and the name asked for")
    meaning = meaning_of(code, status, text)
    region = region_in(details, headers)
    told = _told(meaning, operation, code, status, text, sent, region=region, host=endpoint_in(details))
    failure = S3Error(
        told.what + storage_class(code, details),
        where=server,
        hint=told.hint,
        retryable=told.retryable,
        action=refused_action(sent.operation, text),
        code=code,
        status=status,
        lost=status >= 500 and status != 501 and told.again is not Again.NEVER,
        again=told.again,
        server_s=_date(headers.get("date", "")),
    )
    failure.meaning, failure.region, failure.sent = meaning, region, sent
    failure.denied = meaning.refusal
    failure.header, failure.wants_md5 = named_header(text), demands_md5(code, text)
    failure.wait_s = _wait(headers.get("retry-after", ""))
    return failure


def _told(
    meaning: RefusalMeaning, operation: str, code: str, status: int, text: str, sent: Sent, *, region: str, host: str
) -> RefusalMeaning:
    """The meaning with what is known of this request."""
    if meaning.refusal:
        return explained(meaning, sent.operation, text)
    if meaning is UNSUPPORTED or (status == 400 and meaning.what == ""):
        what = feature(
            sent.operation, text, condition=sent.condition, checksum=sent.checksum, encryption=sent.encryption
        )
        if meaning is UNSUPPORTED and what:
            return replace(meaning, what=f"the server does not support {what}", hint=_HINTS.get(what[:4], meaning.hint))
        if header := named_header(text):
            what = f"the server refused to {operation} because of {header}"
            return replace(meaning, what=f"{what} ({status} {_plain(code)})", hint="set what it takes (docs/s3.md)")
    if meaning in _ELSEWHERE and (region or host):
        there = f"region {region}" if region else f"endpoint {host}"
        setting = f"set AWS_REGION, or the region, to {region}" if region else "set the endpoint URL to it"
        return replace(meaning, what=f"{meaning.what}: {there}", hint=setting)
    if meaning.what == "" or meaning is BUSY:
        what = meaning.what or f"the server refused to {operation}"
        return replace(meaning, what=f"{what} ({status} {_plain(code)})")
    return meaning


_HINTS: Final = {  # by how the feature begins
    "chec": 'set checksum = "md5" or "none" (docs/s3.md)',
    "encr": "leave out encryption, or use a server that has it",
    "dele": "use a server that can",
    "list": "use a server that can",
}


def _wait(text: str) -> float:
    return min(float(text), _WAIT_S) if text.isdigit() and len(text) < 6 else 0.0


def _unsent(what: str, hint: str, where: str, *, retryable: bool = False) -> S3Error:
    again = Again.ALWAYS if retryable else Again.NEVER
    return S3Error(what, where=where, hint=hint, retryable=retryable, again=again)


def _unanswered(what: str, where: str) -> S3Error:
    hint = "check the network and " + LATER
    return S3Error(what, where=where, hint=hint, retryable=True, lost=True, again=Again.ALWAYS)


def _not_understood(what: str, where: str) -> S3Error:
    hint = "check the network path and " + LATER
    return S3Error(what, where=where, hint=hint, retryable=True, lost=True, again=Again.FEW)


def _date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None


def _why_unreachable(error: boto.EndpointConnectionError) -> str | None:
    """None if the connection may have stood already (the client reports a reset in the same way)."""
    cause = error.kwargs.get("error")
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return "the server's name can't be resolved"
    inner = getattr(cause, "os_error", cause)
    if isinstance(inner, ConnectionRefusedError):
        return "the server refused the connection"
    return "the server can't be reached" if isinstance(cause, aiohttp.ClientConnectorError) else None


def _is_nowhere(error: boto.EndpointConnectionError) -> bool:
    """Whether DNS answers that there is no such name, and not that it can't tell now."""
    cause = getattr(error.kwargs.get("error"), "os_error", None)
    return isinstance(cause, socket.gaierror) and cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA)


def _plain(code: str) -> str:
    """An error code fit to be shown: a server may put anything there."""
    return "".join(c for c in code[:40] if c.isalnum()) or "without a code"
