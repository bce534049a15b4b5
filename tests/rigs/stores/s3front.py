"""An S3 server that demands what sites demand: passes requests on to a real one, and answers some as others do."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. headers: names in lower case. query: of its parameters the first value each."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def is_part(self) -> bool:
        return "partNumber" in self.query

    @property
    def begins(self) -> bool:
        """Whether it makes an object, or an upload that will be one."""
        put = self.method == "PUT" and not self.is_part
        return put or (self.method == "POST" and "uploads" in self.query)

    @property
    def writes(self) -> bool:
        """Whether there is an object once the server has said yes."""
        put = self.method == "PUT" and not self.is_part
        return put or (self.method == "POST" and "uploadId" in self.query)

    @property
    def deletes_many(self) -> bool:
        return self.method == "POST" and "delete" in self.query

    @property
    def region(self) -> str:
        found = re.search(r"Credential=[^/]+/\d+/([^/]+)/s3", self.headers.get("authorization", ""))
        return found[1] if found else ""

    @property
    def checksums(self) -> list[str]:
        return [name for name in self.headers if name.startswith(("x-amz-checksum-", "x-amz-sdk-checksum")) and name]


@dataclass(frozen=True, slots=True)
class Refused:
    """What is answered. extra: more elements of the error. body: instead of S3's own form."""

    status: int
    code: str
    message: str = "no"
    extra: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    def answer(self, method: str) -> bytes:
        if method == "HEAD":
            return b""
        if self.body is not None:
            return self.body
        text = f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message>{self.extra}</Error>"
        return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()


Rule = Callable[[Asked], Refused | None]


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none of ours."""


class Front:
    """rules: asked in their order; the first that has an answer gives it. requests: all that came. changed: what an
    answer's headers are made of those of the server. written: paths of objects that the server took. withheld: headers
    that the server does not get to see, where it holds no signature against them. in_turn: it gets one request at a
    time: moto's conditions hold only then."""

    def __init__(self, backend: str) -> None:
        self.rules: list[Rule] = []
        self.requests: list[Asked] = []
        self.written: list[str] = []
        self.changed: Callable[[str, str], str] = lambda name, value: value
        self.withheld: tuple[str, ...] = ()
        self.in_turn = False
        self._turn = threading.Lock()
        self._backend = urlsplit(backend)
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                front._serve(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, method: str, part: str = "") -> int:
        return sum(asked.method == method and part in asked.path for asked in self.requests)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", 0)))
        parts = urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        asked = Asked(handler.command, headers.get("host", ""), parts.path, query, headers, body)
        self.requests.append(asked)
        refused = next((refused for rule in self.rules if (refused := rule(asked))), None)
        if refused is not None:
            data = refused.answer(asked.method)
            self._send(handler, refused.status, {"Content-Type": "application/xml", **refused.headers}, data, len(data))
            return
        with self._turn if self.in_turn else nullcontext():
            self._pass_on(handler, asked, body)

    def _pass_on(self, handler: BaseHTTPRequestHandler, asked: Asked, body: bytes) -> None:
        connection = http.client.HTTPConnection(self._backend.hostname or "", self._backend.port, timeout=60)
        try:
            connection.putrequest(asked.method, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() != "connection" and not name.lower().startswith(self.withheld or ("\0",)):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            got = connection.getresponse()
            data = got.read()
            if asked.writes and got.status == 200:
                self.written.append(asked.path)
            kept = {n: self.changed(n.lower(), v) for n, v in got.getheaders() if n.lower() not in _HOP}
            length = int(got.getheader("Content-Length") or 0) if asked.method == "HEAD" else len(data)
            kept["Date"] = got.getheader("Date") or ""
            self._send(handler, got.status, kept, data, length)
        finally:
            connection.close()

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes, length: int
    ) -> None:
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(data)
        handler.wfile.flush()


@contextmanager
def fronting(backend: str) -> Iterator[Front]:
    """A front before the server at that URL."""
    front = Front(backend)
    try:
        yield front
    finally:
        front.close()


# -- rules ------------------------------------------------------------------------------------------------------------


def no_checksums(status: int) -> Rule:
    """400 as of Backblaze B2, 501 as of Cloudflare R2, to every header of theirs."""

    def rule(asked: Asked) -> Refused | None:
        if not asked.checksums:
            return None
        if status == 501:
            return Refused(501, "NotImplemented", f"Header '{asked.checksums[0]}' with value 'x' not implemented")
        return Refused(400, "InvalidArgument", f"Unsupported header '{asked.checksums[0]}' received for this API call.")

    return rule


def unnamed_501(asked: Asked) -> Refused | None:
    """A checksum is not implemented, and the answer does not say that it is that."""
    said = "A header you provided implies functionality that is not implemented"
    return Refused(501, "NotImplemented", said) if asked.checksums and asked.method != "GET" else None


def no_whole_checksums(asked: Asked) -> Refused | None:
    named = "x-amz-checksum-type" in asked.headers
    return Refused(400, "InvalidArgument", "unsupported header x-amz-checksum-type") if named else None


def checked_md5(asked: Asked) -> Refused | None:
    """Content-MD5 must be right where there is one."""
    given = asked.headers.get("content-md5")
    if given is None or given == base64.b64encode(hashlib.md5(asked.body).digest()).decode():
        return None
    return Refused(400, "BadDigest")


def encryption_demanded(kind: str, key: str | None = None) -> Rule:
    def rule(asked: Asked) -> Refused | None:
        said = asked.headers.get("x-amz-server-side-encryption")
        named = asked.headers.get("x-amz-server-side-encryption-aws-kms-key-id")
        if asked.begins and (said != kind or named != key):
            told = "User is not authorized to perform: s3:PutObject with an explicit deny in a resource-based policy"
            return Refused(403, "AccessDenied", told)
        if asked.is_part and said:
            return Refused(400, "InvalidArgument", "x-amz-server-side-encryption header is not supported here")
        return None

    return rule


def requester_pays(asked: Asked) -> Refused | None:
    return None if asked.headers.get("x-amz-request-payer") == "requester" else Refused(403, "AccessDenied")


def signed_bodies(asked: Asked) -> Refused | None:
    return Refused(403, "AccessDenied") if "UNSIGNED" in asked.headers.get("x-amz-content-sha256", "") else None


def of_region(region: str) -> Rule:
    def rule(asked: Asked) -> Refused | None:
        if asked.region in ("", region):
            return None
        told = f"the region '{asked.region}' is wrong; expecting '{region}'"
        return Refused(400, "AuthorizationHeaderMalformed", told, f"<Region>{region}</Region>")

    return rule


def locked_bucket(asked: Asked) -> Refused | None:
    """A bucket with object lock wants a checksum of what it locks."""
    if asked.method != "PUT" or asked.checksums or "content-md5" in asked.headers:
        return None
    said = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
    return Refused(400, "InvalidRequest", said)


def md5_to_delete(asked: Asked) -> Refused | None:
    lacks = asked.deletes_many and "content-md5" not in asked.headers
    return Refused(400, "MissingContentMD5", "Missing required header: Content-Md5.") if lacks else None


def no_multi_delete(asked: Asked) -> Refused | None:
    return Refused(501, "NotImplemented", "not implemented") if asked.deletes_many else None


def times(count: int, rule: Rule) -> Rule:
    """A rule that holds for so many answers of it."""
    left = [count]

    def limited(asked: Asked) -> Refused | None:
        refused = rule(asked) if left[0] else None
        left[0] -= refused is not None
        return refused

    return limited


def to(method: str, part: str, refused: Refused) -> Rule:
    """That answer to each such request."""
    return lambda asked: refused if asked.method == method and part in asked.path else None
