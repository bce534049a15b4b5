"""Turns a repository's URI into its store; refuses what is no URI of one, and credentials inside it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from warmspare.errors import ConfigError
from warmspare.outside.text import is_unicode
from warmspare.store.contract import Store

if TYPE_CHECKING:
    from warmspare.store.s3.manner import Site

_FORMS = "give s3://BUCKET/PREFIX, file:///PATH or a path"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Made before 2018 in us-east-1, or on servers that follow those rules.
_LEGACY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{1,253}[A-Za-z0-9_]")
_TENANT = re.compile(r"[A-Za-z0-9_]{1,64}:[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")  # of Ceph: another tenant's bucket
_ACCESS_KEY = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}")
_ACCESS_POINT = re.compile(
    r"arn:aws(?:-[a-z-]{1,20})?:s3:[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}:[0-9]{12}:accesspoint/[a-z0-9][a-z0-9-]{1,48}[a-z0-9]"
)
_ZONAL = ("--x-s3", "--xa-s3")
_PREFIX = re.compile(r"[A-Za-z0-9_.=-]+(?:/[A-Za-z0-9_.=-]+)*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=/)")
CONCURRENCY = 8
_FILE_THREADS = 4  # of a directory: more of them only get in each other's way
PREFIX_BYTES = 300  # with a key of 700 bytes it stays below S3's 1024


def open_store(
    uri: str,
    *,
    endpoint_url: str | None = None,
    concurrency: int = CONCURRENCY,
    profile: str | None = None,
    region: str | None = None,
    site: Site | None = None,
    on_retry: Callable[[str, int, float], None] | None = None,
) -> Store:
    """The store that a URI names; nothing is read, written or connected to yet.

    uri: `s3://bucket/prefix`, `file:///absolute/path` or a path.
    endpoint_url: of an S3-compatible server (S3 only); without it the standard AWS settings decide.
    concurrency: how many transfers may be under way at once, each with a buffer of up to 8 MiB; S3 adapts below that.
    profile, region: of AWS, where the environment is not to decide (S3 only).
    site: what its site demands of requests, see manner.py (S3 only).
    on_retry: hears (message, tries so far, seconds until the next) of what has been failing for a while (S3 only).
    ConfigError for anything else.
    """
    if concurrency < 1:
        raise ConfigError("the store's concurrency must be at least 1", where=str(concurrency))
    if not uri or "\0" in uri:
        raise ConfigError("the repository's URI is empty or not text", hint=_FORMS)
    scheme = _SCHEME.match(uri)
    if scheme is None:
        if ":" in uri.partition("/")[0]:  # not quoted: what stands after the colon may be a secret
            raise ConfigError(
                "what stands before the first slash has a colon, as a bucket or another host has elsewhere",
                hint=f"{_FORMS}; ./NAME:REST is a folder of such a name",
            )
        return _directory(os.path.abspath(uri), uri, concurrency)  # noqa: PTH100 (no I/O, lexical)
    if scheme[0] == "s3:" and uri.startswith("s3://"):
        bucket, prefix = _split_s3(uri)
        from warmspare.store.s3.manner import NO_SITE
        from warmspare.store.s3.s3_store import S3Store  # here: a run on a directory must not pay for the AWS client
        from warmspare.store.s3.session.aws_session import AwsAccount

        return S3Store(
            bucket,
            prefix,
            endpoint_url=endpoint_url,
            concurrency=concurrency,
            account=AwsAccount(profile, region),
            site=site or NO_SITE,
            on_retry=on_retry,
        )
    if scheme[0] == "file:":
        return _open_file(uri, concurrency)
    raise ConfigError("the repository's URI has an unknown scheme", where=scheme[0] + "//", hint=_FORMS)


def has_scheme(uri: str) -> bool:
    """Whether it is more than a path."""
    return _SCHEME.match(uri) is not None


def same_place(left: tuple[str, str | None], right: tuple[str, str | None]) -> bool:
    """Whether two valid URIs, each with its endpoint URL, name one place; symbolic links are followed."""
    return _place(*left) == _place(*right)


def _place(uri: str, endpoint_url: str | None) -> tuple[str, str]:
    if uri.startswith("s3://"):
        return uri.rstrip("/"), (endpoint_url or "").rstrip("/")
    return os.path.realpath(_unquoted(urlsplit(uri).path) if uri.startswith("file:") else uri), ""


def _unquoted(path: str) -> str:
    """Names of files are bytes, which need not be UTF-8."""
    return unquote(path, errors="surrogateescape")


def _open_file(uri: str, concurrency: int) -> Store:
    parts = urlsplit(uri)
    path = _unquoted(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise ConfigError("a file URI needs an absolute path", where=uri, hint="write file:///PATH")
    if parts.query or parts.fragment:
        raise ConfigError("a file URI takes no ? or #", where=uri, hint="write them as %3F and %23")
    return _directory(os.path.normpath(path), uri, concurrency)


def _directory(path: str, uri: str, concurrency: int) -> Store:
    """uri: what the store is called, in records too, which hold Unicode; a path that is none has a URI of ASCII."""
    if not is_unicode(uri):
        uri = "file://" + quote(os.fsencode(path))
    from warmspare.store.directory.directory_store import DirectoryStore  # here: neither must one in S3 for the others

    return DirectoryStore(path, uri=uri, concurrency=min(concurrency, _FILE_THREADS))


def _split_s3(uri: str) -> tuple[str, str]:
    """(bucket, prefix). bucket: a name, Ceph's TENANT:NAME, or the ARN of an access point."""
    rest = uri.removeprefix("s3://")
    if rest.startswith("arn:"):
        bucket, prefix = _split_arn(rest)
        return bucket, _checked_prefix(prefix)
    bucket, _, prefix = rest.partition("/")
    tenant = _TENANT.fullmatch(bucket) and not _ACCESS_KEY.match(bucket)
    if "@" in bucket or (":" in bucket and not tenant):  # not quoted: what stands before an @ may be a secret
        raise ConfigError(
            "an S3 URI must hold a bucket and nothing else before the first slash",
            hint="give credentials by the AWS environment and the server by its endpoint URL",
        )
    if not bucket:
        raise ConfigError("the S3 URI names no bucket", where=uri, hint="write s3://BUCKET/PREFIX")
    if bucket.endswith(_ZONAL):
        raise ConfigError(
            "a directory bucket (S3 Express) keeps its objects in one zone, and does not list them in order",
            where=bucket[:80],
            hint="use a general purpose bucket",
        )
    if not (tenant or _BUCKET.fullmatch(bucket) or _LEGACY.fullmatch(bucket)) or ".." in bucket:
        raise ConfigError(
            "not a valid bucket name",
            where=bucket[:80],
            hint="it has 3 to 63 lower-case letters, digits, dots and hyphens; old ones may have capitals and _",
        )
    return bucket, _checked_prefix(prefix)


def _split_arn(rest: str) -> tuple[str, str]:
    """(ARN of an access point, prefix)."""
    kind, _, below = rest.partition("/")
    name, _, prefix = below.partition("/")
    arn = f"{kind}/{name}"
    if _ACCESS_POINT.fullmatch(arn):
        return arn, prefix
    if re.fullmatch(r"arn:aws[a-z-]*:s3::[0-9]{12}:accesspoint", kind):
        raise ConfigError(
            "a multi-region access point wants signatures (SigV4A) that this program does not have",
            where=arn[:120],
            hint="give the bucket, or an access point of one region: replicas of a bucket lag behind each other",
        )
    if re.match(r"arn:aws[a-z-]*:(s3-object-lambda|s3-outposts|s3express):", kind):
        raise ConfigError(
            "this kind of access point does not keep objects as they are written, or has no conditional writes",
            where=arn[:120],
            hint="give the bucket, or an S3 access point of one region",
        )
    raise ConfigError(
        "this is no ARN of an S3 access point",
        where=arn[:120],
        hint="write s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/PREFIX",
    )


def _checked_prefix(prefix: str) -> str:
    prefix = prefix.strip("/")
    bad = prefix and not _PREFIX.fullmatch(prefix)
    if bad or len(prefix) > PREFIX_BYTES or any(part in (".", "..") for part in prefix.split("/")):
        raise ConfigError(
            "not a valid prefix in an S3 URI",
            where=prefix[:80],
            hint=f"use at most {PREFIX_BYTES} of A-Z a-z 0-9 - _ . = and single slashes",
        )
    return prefix
