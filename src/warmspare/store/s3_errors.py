"""Turns what an S3 server or the AWS client reports into errors of ours; refuses to quote servers or the
client, whose messages may carry credentials."""

from __future__ import annotations

import asyncio
import email.utils
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from warmspare.errors import NotFoundError, StoreError
from warmspare.store.patience import Again

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
_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile"
_AGAIN = "run again later"
_TOKEN = ("the session token is expired or invalid", "get new temporary credentials", False)
_REGION = ("the bucket is in another region", "set AWS_REGION to the bucket's region", False)
_DENIED = ("access denied", "check the keys and allow them this action on the bucket", False)
_BUSY = ("the server is overloaded or failing", _AGAIN, True)
_DAMAGED = ("the server received other bytes than were sent", "check the network path and run again", True)
_FULL = ("the server has no space left", "free some or raise the quota", False)
_UNSUPPORTED = ("the server does not support the request", "use a server with S3's conditional writes", False)

# error code of the server: what, hint, retryable
_CODES: Final = {
    "NoSuchBucket": ("the bucket does not exist", "create it or correct the URI", False),
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "Forbidden": _DENIED,
    "InvalidAccessKeyId": ("the server does not know the access key", _KEYS, False),
    "SignatureDoesNotMatch": ("the server refused the signature: the secret key is wrong", _KEYS, False),
    "401": ("the server refused the credentials", _KEYS, False),
    "ExpiredToken": _TOKEN,
    "InvalidToken": _TOKEN,
    "TokenRefreshRequired": _TOKEN,
    "RequestTimeTooSkewed": ("this host's clock differs too much from the server's", "set the clock", False),
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "SlowDown": ("the server asks for fewer requests", "lower the concurrency or " + _AGAIN, True),
    "RequestTimeout": ("the server waited too long for our bytes", "check the network and " + _AGAIN, True),
    "BadDigest": _DAMAGED,
    "InvalidDigest": _DAMAGED,
    "XAmzContentChecksumMismatch": _DAMAGED,
    "XAmzContentSHA256Mismatch": _DAMAGED,
    "QuotaExceeded": _FULL,
    "InsufficientStorage": _FULL,
    "XMinioStorageFull": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
    "507": _FULL,
    "NoSuchUpload": ("the upload was ended by someone else", "run again", True),
    "InvalidObjectState": (
        "the object is archived",
        "restore it to a storage class with instant access",
        False,
    ),
    "NotImplemented": _UNSUPPORTED,
    "XNotImplemented": _UNSUPPORTED,
    "501": _UNSUPPORTED,
    "MethodNotAllowed": _UNSUPPORTED,
    "PreconditionFailed": ("the object was changed by someone else", "run again", True),
    "ConditionalRequestConflict": ("someone else wrote the object at the same moment", "run again", True),
    "InvalidRange": ("the object is shorter than expected", "it is damaged; verify the repository", False),
    "IncompleteBody": ("the server received fewer bytes than were sent", "check the network and " + _AGAIN, True),
    "MalformedXML": _DAMAGED,
    "OperationAborted": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "Throttling": _BUSY,
    "ThrottlingException": _BUSY,
}
# What another try of the same request is worth; what is not here is decided by the status.
_AGAIN_CODES: Final = {
    "RequestTimeout": Again.ALWAYS,
    "IncompleteBody": Again.ALWAYS,
    "OperationAborted": Again.ALWAYS,
    "RequestLimitExceeded": Again.ALWAYS,
    "Throttling": Again.ALWAYS,
    "ThrottlingException": Again.ALWAYS,
    "BadDigest": Again.FEW,
    "InvalidDigest": Again.FEW,
    "XAmzContentChecksumMismatch": Again.FEW,
    "XAmzContentSHA256Mismatch": Again.FEW,
    "MalformedXML": Again.FEW,
    "QuotaExceeded": Again.NEVER,
    "InsufficientStorage": Again.NEVER,
    "XMinioStorageFull": Again.NEVER,
    "XMinioAdminBucketQuotaExceeded": Again.NEVER,
    "507": Again.NEVER,
    "NotImplemented": Again.NEVER,
    "XNotImplemented": Again.NEVER,
    "501": Again.NEVER,
}
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
    )
)
_NOT_FOUND: Final = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"})


class S3Error(StoreError):
    """A StoreError that remembers what the outcome of the request may be.

    code: the server's error code, "" without an answer. status: its HTTP status, 0 without one.
    retries: how often the request had been sent before. lost: whether the server may have done what was asked all the
    same. again: what another try is worth. server_s: the server's clock as the answer has it, Unix seconds.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str,
        hint: str,
        retryable: bool,
        code: str = "",
        status: int = 0,
        lost: bool = False,
        again: Again = Again.NEVER,
        server_s: float | None = None,
    ) -> None:
        super().__init__(what, where=where, hint=hint, retryable=retryable)
        self.code, self.status, self.lost, self.again, self.server_s = code, status, lost, again, server_s
        self.retries = 0

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
        return self.status in (400, 405, 501) and self.code in _UNSUPPORTED_CODES


class BodyError(S3Error):
    """The body of an answer broke off or arrived damaged; asking again may help."""


def public_url(url: str) -> str:
    """A server's URL without anything that may be secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def store_error(error: Exception, operation: str, where: str, endpoint: str) -> StoreError:
    """The error for a failed request. where: the object. endpoint: the server's public URL, or ""."""
    server = f"{where} at {endpoint}" if endpoint else where
    if isinstance(error, boto.ClientError):
        return _answered(error, operation, where, server)
    if isinstance(error, boto.CredentialRetrievalError):
        return _unsent(
            "the AWS credentials could not be fetched", "check where they come from and run again", server,
            retryable=True,
        )  # fmt: skip
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return _unsent(
            "no AWS credentials were found", "set AWS_ACCESS_KEY_ID and its secret, or AWS_PROFILE", server
        )
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
        return _unsent(why, "check the endpoint URL, DNS and the network", server, retryable=True)
    if isinstance(error, ResponseParserError | ValueError):
        return S3Error(
            "the server's answer can't be understood", where=server, hint="check the network path and " + _AGAIN,
            retryable=True, lost=True, again=Again.FEW,
        )  # fmt: skip
    if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError | asyncio.TimeoutError):
        return _unanswered("the server did not answer in time", server)
    if isinstance(
        error,
        boto.HTTPClientError
        | boto.ConnectionError
        | boto.IncompleteReadError
        | aiohttp.ClientError
        | OSError,
    ):
        return _unanswered("the connection broke", server)
    return _unsent(
        f"the AWS client refused to {operation} ({type(error).__name__})", "check the AWS settings", server
    )


def damaged(where: str, expected: int, actual: int) -> BodyError:
    """The error for an object whose CRC32C is not what it must be."""
    return BodyError(
        f"damaged on the way: CRC32C {actual:08x} instead of {expected:08x}",
        where=where,
        hint="check the network path and run again",
        retryable=True,
        again=Again.FEW,
    )


def _answered(error: boto.ClientError, operation: str, where: str, server: str) -> StoreError:
    details = error.response.get("Error", {})
    meta = error.response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), int(meta.get("HTTPStatusCode", 0))
    if code in _NOT_FOUND:
        return NotFoundError(
            "no such object", where=server, hint="check the repository's URI and the name asked for"
        )
    known = _CODES.get(code) or (_BUSY if status >= 500 or status == 429 else None)
    what, hint, retryable = known or (f"the server refused to {operation}", "see the server's log", False)
    if known is None or known is _BUSY:
        what += f" ({status} {_plain(code)})"
    return S3Error(
        what,
        where=server,
        hint=hint,
        retryable=retryable,
        code=code,
        status=status,
        lost=status >= 500 and status != 501,
        again=_AGAIN_CODES.get(code, Again.ALWAYS if status >= 500 or status == 429 else Again.NEVER),
        server_s=_date(meta.get("HTTPHeaders", {}).get("date", "")),
    )


def _unsent(what: str, hint: str, where: str, *, retryable: bool = False) -> S3Error:
    again = Again.ALWAYS if retryable else Again.NEVER
    return S3Error(what, where=where, hint=hint, retryable=retryable, again=again)


def _unanswered(what: str, where: str) -> S3Error:
    hint = "check the network and " + _AGAIN
    return S3Error(what, where=where, hint=hint, retryable=True, lost=True, again=Again.ALWAYS)


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


def _plain(code: str) -> str:
    """An error code fit to be shown: a server may put anything there."""
    return "".join(c for c in code[:40] if c.isalnum()) or "without a code"
