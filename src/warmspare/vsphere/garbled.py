"""Answers of HTTP that are none of vCenter's: reads a body whole and bounded, and says in one clause what came instead;
keeps what a page or a fault says short, printable and free of secrets."""

from __future__ import annotations

import html
import http.client
import re
import zlib
from collections.abc import Iterable
from urllib.parse import urlsplit

ANSWER_BYTES = 256 << 20  # a hundred VMs are a few MB
_LOOKED_AT = 1 << 16
_WORDS = 160
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_HTML = re.compile(rb"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)


class GarbledError(Exception):
    """The answer to a call was lost: what came is not vCenter's answer to it. Says what came instead."""


class DamagedError(GarbledError):
    """It came whole, by its first and last words, and is not well-formed between them."""


def clean(text: str, most: int = 300, secrets: Iterable[str] = ()) -> str:
    """One line of what somebody else wrote: no control characters, no secret, not too long."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    line = " ".join("".join(one if one.isprintable() else " " for one in text[: 64 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def whole(response: http.client.HTTPResponse) -> bytes:
    """All of an answer, unpacked. GarbledError where it breaks off, is too long, or can't be unpacked."""
    data = response.read(ANSWER_BYTES + 1)
    if len(data) > ANSWER_BYTES:
        raise GarbledError(f"an answer of more than {ANSWER_BYTES >> 20} MiB")
    if response.length:
        raise GarbledError(f"an answer that breaks off after {len(data)} of {len(data) + response.length} bytes")
    encoding = (response.getheader("Content-Encoding") or "identity").strip().lower()
    if encoding in ("identity", ""):
        return data
    try:
        if encoding == "gzip":
            return _unpacked(data, 16 + zlib.MAX_WBITS)
        if encoding == "deflate":
            raw = len(data) < 2 or data[0] & 0xF != 8 or int.from_bytes(data[:2]) % 31  # without zlib's own head
            return _unpacked(data, -zlib.MAX_WBITS if raw else zlib.MAX_WBITS)
    except zlib.error:
        pass
    raise GarbledError(f"an answer that can't be unpacked ({clean(encoding, 40)})")


def _unpacked(data: bytes, bits: int) -> bytes:
    unpacker = zlib.decompressobj(bits)
    plain = unpacker.decompress(data, ANSWER_BYTES)
    if unpacker.unconsumed_tail:
        raise GarbledError(f"an answer of more than {ANSWER_BYTES >> 20} MiB")
    if not unpacker.eof:
        raise GarbledError("a packed answer that breaks off")
    return plain


def words(body: bytes, secrets: Iterable[str] = ()) -> str:
    """What a page says, in its title or its first words; "" for nothing."""
    text = body[:_LOOKED_AT].decode("utf-8", "replace")
    if title := _TITLE.search(text):
        text = title[2]
    elif _HTML.match(body):
        return ""
    return clean(html.unescape(_TAG.sub(" ", text)), _WORDS, secrets)


def instead(status: int, body: bytes, secrets: Iterable[str] = ()) -> GarbledError:
    """For a body that is no SOAP."""
    said = words(body, secrets)
    if not body.strip():
        return GarbledError(f"an empty answer (HTTP {status})")
    kind = "a web page" if _HTML.match(body) or _TITLE.search(body[:_LOOKED_AT].decode("latin-1")) else "something else"
    return GarbledError(f"{kind} instead of an answer (HTTP {status}){f', which says {said!r}' if said else ''}")


def refused(response: http.client.HTTPResponse, body: bytes, secrets: Iterable[str] = ()) -> http.client.HTTPException:
    """For a status that no answer has: it, where it sends the caller on to, and what its page says."""
    text = f"{response.status} {clean(response.reason or '', 60)}".rstrip()
    if 300 <= response.status < 400 and (to := response.getheader("Location")):
        return http.client.HTTPException(f"{text}, sent on to {_place(to, secrets)}")
    said = words(body, secrets)
    plain = f"{response.status} {response.reason}"
    return http.client.HTTPException(f"{text}: {said}" if said and said not in (plain, response.reason) else text)


def _place(url: str, secrets: Iterable[str]) -> str:
    """An address without what may be secret in it."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    except ValueError:
        return "an address that is none"
    return clean(f"{parts.scheme}://{host}{parts.path}" if host else parts.path, 120, secrets)
