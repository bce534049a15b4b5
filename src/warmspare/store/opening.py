"""Turns a repository's URI into its store; refuses what is no URI of one, and credentials inside it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from warmspare.errors import ConfigError
from warmspare.store.base import Store
from warmspare.store.directory import DirectoryStore

_FORMS = "give s3://BUCKET/PREFIX, file:///PATH or a path"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_.=-]+(?:/[A-Za-z0-9_.=-]+)*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=/)")
CONCURRENCY = 8
_FILE_THREADS = 4  # of a directory: more of them only get in each other's way
PREFIX_BYTES = 300  # with a key of 700 bytes it stays below S3's 1024


def open_store(
    uri: str, *, endpoint_url: str | None = None, concurrency: int = CONCURRENCY, profile: str | None = None,
    region: str | None = None, on_retry: Callable[[str, int, float], None] | None = None,
) -> Store:  # fmt: skip
    """The store that a URI names; nothing is read, written or connected to yet.

    uri: `s3://bucket/prefix`, `file:///absolute/path` or a path.
    endpoint_url: of an S3-compatible server (S3 only); without it the standard AWS settings decide.
    concurrency: how many transfers may be under way at once, each with a buffer of up to 8 MiB; S3 adapts below that.
    profile, region: of AWS, where the environment is not to decide (S3 only).
    on_retry: hears (message, tries so far, seconds until the next) of what has been failing for a while (S3 only).
    ConfigError for anything else.
    """
    if concurrency < 1:
        raise ConfigError("the store's concurrency must be at least 1", where=str(concurrency))
    if not uri or "\0" in uri:
        raise ConfigError("the repository's URI is empty or not text", hint=_FORMS)
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return _directory(os.path.abspath(uri), uri, concurrency)  # noqa: PTH100 (no I/O, lexical)
    if scheme[0] == "s3:" and uri.startswith("s3://"):
        bucket, prefix = _split_s3(uri)
        from warmspare.store.s3 import S3Store  # here: a run on a directory must not pay for the AWS client
        from warmspare.store.s3_session import Account

        return S3Store(
            bucket, prefix, endpoint_url=endpoint_url, concurrency=concurrency, account=Account(profile, region),
            on_retry=on_retry,
        )  # fmt: skip
    if scheme[0] == "file:":
        return _open_file(uri, concurrency)
    raise ConfigError("the repository's URI has an unknown scheme", where=scheme[0] + "//", hint=_FORMS)


def same_place(left: tuple[str, str | None], right: tuple[str, str | None]) -> bool:
    """Whether two valid URIs, each with its endpoint URL, name one place; symbolic links are followed."""
    return _place(*left) == _place(*right)


def _place(uri: str, endpoint_url: str | None) -> tuple[str, str]:
    if uri.startswith("s3://"):
        return uri.rstrip("/"), (endpoint_url or "").rstrip("/")
    return os.path.realpath(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri), ""


def _open_file(uri: str, concurrency: int) -> Store:
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise ConfigError("a file URI needs an absolute path", where=uri, hint="write file:///PATH")
    if parts.query or parts.fragment:
        raise ConfigError("a file URI takes no ? or #", where=uri, hint="write them as %3F and %23")
    return _directory(os.path.normpath(path), uri, concurrency)


def _directory(path: str, uri: str, concurrency: int) -> Store:
    return DirectoryStore(path, uri=uri, concurrency=min(concurrency, _FILE_THREADS))


def _split_s3(uri: str) -> tuple[str, str]:
    """(bucket, prefix)."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if "@" in bucket or ":" in bucket:  # not quoted: what stands before an @ may be a secret
        raise ConfigError(
            "an S3 URI must hold a bucket and nothing else before the first slash",
            hint="give credentials by the AWS environment and the server by its endpoint URL",
        )
    if not bucket:
        raise ConfigError("the S3 URI names no bucket", where=uri, hint="write s3://BUCKET/PREFIX")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ConfigError(
            "not a valid bucket name",
            where=bucket[:80],
            hint="it has 3 to 63 lower-case letters, digits, dots and hyphens",
        )
    prefix = prefix.strip("/")
    bad = prefix and not _PREFIX.fullmatch(prefix)
    if bad or len(prefix) > PREFIX_BYTES or any(part in (".", "..") for part in prefix.split("/")):
        raise ConfigError(
            "not a valid prefix in an S3 URI",
            where=prefix[:80],
            hint=f"use at most {PREFIX_BYTES} of A-Z a-z 0-9 - _ . = and single slashes",
        )
    return bucket, prefix
