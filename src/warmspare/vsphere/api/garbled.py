"""Answers of HTTP that are none of vCenter's: reads a body whole and bounded, and says in one clause what came instead;
keeps what a page or a fault says short, printable and free of secrets."""

from __future__ import annotations

import contextlib
import html
import http.client
import re
import socket
import threading
import zlib
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from warmspare.outside.parsing import SwellingError, demand_plain
from warmspare.outside.text import cut

ANSWER_BYTES = 32 << 20  # a hundred VMs are a few MB; what is asked about many at once is asked about each then
ANSWER_PARTS = 1_000_000
_LOOKED_AT = 1 << 16
_WORDS = 160
# Each character is looked at once, whatever stands there: a page is no vCenter's, and may be made to take minutes.
_TITLE = re.compile(r"<(title|h1)\b[^<>]*>")
_TITLES = 8  # that are looked at
_TAG = re.compile(r"<[^<>]*>")
_HTML = re.compile(rb"\s*(<!doctype html|<html|<head|<body)", re.IGNORECASE)


class GarbledError(Exception):
    """The answer to a call was lost: what came is not vCenter's answer to it. Says what came instead."""


class DamagedError(GarbledError):
    """It came whole, by its first and last words, and is not well-formed between them; or it is longer than any is. Of
    many things that were asked about one may be why."""


@contextlib.contextmanager
def within(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """In the block an answer is read, in so much time at most, however it comes: a byte now and then is none. Then the
    connection ends, and so does whatever waits for it. GarbledError."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, GarbledError):
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():  # also where what was cut off there passes for an end
        raise GarbledError(f"an answer that was not there in {seconds:.0f} s")


def demand_bounded(body: bytes) -> None:
    """DamagedError for a body that would become more than an answer ever is, once it is parsed."""
    try:
        demand_plain(body, ANSWER_PARTS)
    except SwellingError as error:
        raise DamagedError(f"an answer that is not read: {error}") from None


def clean(text: str, most: int = 300, secrets: Iterable[str] = ()) -> str:
    """One line of what somebody else wrote: no control characters, no secret, not too long."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    line = " ".join("".join(one if one.isprintable() else " " for one in text[: 64 * most]).split())
    return cut(line, most)


def whole(response: http.client.HTTPResponse) -> bytes:
    """All of an answer, unpacked. GarbledError where it breaks off, is too long, or can't be unpacked."""
    data = response.read(ANSWER_BYTES + 1)
    if len(data) > ANSWER_BYTES:
        raise DamagedError(f"an answer of more than {ANSWER_BYTES >> 20} MiB")
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
        raise DamagedError(f"an answer of more than {ANSWER_BYTES >> 20} MiB")
    if not unpacker.eof:
        raise GarbledError("a packed answer that breaks off")
    return plain


def words(body: bytes, secrets: Iterable[str] = ()) -> str:
    """What a page says, in its title or its first words; "" for nothing."""
    text = body[:_LOOKED_AT].decode("utf-8", "replace")
    if title := _title(text):
        text = title
    elif _HTML.match(body):
        return ""
    return clean(html.unescape(_TAG.sub(" ", text)), _WORDS, secrets)


def _title(text: str) -> str:
    """What stands in the first title or heading that ends; "" where none does."""
    lower = text.lower()
    if len(lower) != len(text):  # of some letters the small ones are two
        return ""
    for number, found in enumerate(_TITLE.finditer(lower)):
        end = lower.find(f"</{found[1]}", found.end()) if number < _TITLES else -1
        if end >= 0:
            return text[found.end() : end]
        if number >= _TITLES:
            break
    return ""


def instead(status: int, body: bytes, secrets: Iterable[str] = ()) -> GarbledError:
    """For a body that is no SOAP."""
    said = words(body, secrets)
    if not body.strip():
        return GarbledError(f"an empty answer (HTTP {status})")
    page = _HTML.match(body) or _title(body[:_LOOKED_AT].decode("latin-1"))
    kind = "a web page" if page else "something else"
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
