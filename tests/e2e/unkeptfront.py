"""A front before an S3 server that looks at no signatures, on loopback: answers as servers do that break a promise.

`rules` may change at any time:
    ignore-if-none-match, ignore-if-match   the condition is dropped (a server that does not know it says nothing)
    conditions-501                          501 to any write with a condition
    always-412                              412 to any write with a condition
    if-match-412                            412 to any write with If-Match
    refused-200                             200 where the server refuses a write with 412
    bare-tags, weak-tags                    an ETag without its quotes; as a weak one
    one-tag                                 the same ETag for all
    stale-heads                             the first answer to a HEAD of a key again and again
    date-off                                an answer's date is an hour ahead
    deny-delete, deny-probes                403 to deletions; to writes below probes/
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>'
_UNKNOWN = b'<?xml version="1.0"?><Error><Code>NotImplemented</Code><Message>no</Message></Error>'
_FAILED = b'<?xml version="1.0"?><Error><Code>PreconditionFailed</Code><Message>no</Message></Error>'


class Front:
    """url: where it listens. asked: method and path of every request so far."""

    def __init__(self, backend: str) -> None:
        self.rules: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self._heads: dict[str, tuple[int, list[tuple[str, str]], bytes]] = {}
        front, where = self, urlsplit(backend)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                status, headers, body = front.respond(self, where.hostname or "", where.port or 0)
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                if not any(name.lower() == "content-length" for name, _ in headers):
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def respond(
        self, request: BaseHTTPRequestHandler, host: str, port: int
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        rules, method, path = self.rules, request.command, request.path
        self.asked.append((method, path))
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in request.headers.items()}
        conditional = "if-none-match" in headers or "if-match" in headers
        writes = method in ("PUT", "POST")
        if "deny-probes" in rules and writes and "/probes/" in path:
            return 403, [], _DENIED
        if "deny-delete" in rules and (method == "DELETE" or (method == "POST" and path.endswith("?delete"))):
            return 403, [], _DENIED
        if writes and conditional and "conditions-501" in rules:
            return 501, [], _UNKNOWN
        if writes and ((conditional and "always-412" in rules) or ("if-match" in headers and "if-match-412" in rules)):
            return 412, [], _FAILED
        if writes and "ignore-if-none-match" in rules:
            headers.pop("if-none-match", None)
        if writes and "ignore-if-match" in rules:
            headers.pop("if-match", None)
        if method == "HEAD" and "stale-heads" in rules and path in self._heads:
            return self._heads[path]
        connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            given = answer.status, self._changed(answer.getheaders()), answer.read()
        finally:
            connection.close()
        if given[0] == 412 and writes and "refused-200" in rules:
            return 200, [("ETag", '"0"')], b""
        if method == "HEAD":
            self._heads.setdefault(path, given)
        return given

    def _changed(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        hop = ("connection", "transfer-encoding")
        kept = {name.lower(): value for name, value in headers if name.lower() not in hop}
        if "etag" in kept:
            tag = kept["etag"].strip('"')
            tag = "0" if "one-tag" in self.rules else tag
            weak = f'W/"{tag}"' if "weak-tags" in self.rules else f'"{tag}"'
            kept["etag"] = tag if "bare-tags" in self.rules else weak
        if "date-off" in self.rules:
            kept["date"] = email.utils.formatdate(time.time() + 3600, usegmt=True)
        return list(kept.items())


@contextlib.contextmanager
def fronting(backend: str) -> Iterator[Front]:
    """A front before the server at that URL."""
    front = Front(backend)
    thread = threading.Thread(target=front.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield front
    finally:
        front.server.shutdown()
        front.server.server_close()
        thread.join()
