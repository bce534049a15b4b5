"""What stands between warmspare and the fake vCenter for tests: passes calls on, and puts other answers in their place.

A rule says which calls it is about, how often, and what becomes of the true answer (`Answer` to `Answer`): it may be
another one altogether, or a piece of it changed. vCenter has done the call then, as when an answer is lost on its way.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fakesite import Site

_METHOD = re.compile(rb"Body[^>]*>\s*<(?:\w+:)?(\w+)")
PAGE = b"<!DOCTYPE html>\n<html><head><title>Bad Gateway\x1b[31m &amp; more</title></head><body>no</body></html>"


@dataclass(frozen=True)
class Answer:
    """status, headers as (name, value), body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


Change = Callable[[Answer], Answer]


@dataclass
class Rule:
    """calls: a pattern for the method's name, or for the path of what is no SOAP. holds: what the request must hold.
    used: how often it acted; left: how often it still may, -1 without end."""

    calls: str
    change: Change
    holds: bytes = b""
    left: int = -1
    used: int = field(default=0)


@dataclass
class Front:
    """Make it with `front`. port: at the site's own address, with its certificate."""

    port: int
    rules: list[Rule] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def rule(self, calls: str, change: Change, *, holds: bytes = b"", times: int = -1) -> Rule:
        made = Rule(calls, change, holds, times)
        with self.lock:
            self.rules.append(made)
        return made

    def clear(self) -> None:
        with self.lock:
            self.rules.clear()

    def changed(self, call: str, request: bytes, answer: Answer) -> Answer:
        with self.lock:
            self.seen.append(call)
            acting = []
            for rule in self.rules:
                if rule.left and re.fullmatch(rule.calls, call) and rule.holds in request:
                    rule.used, rule.left = rule.used + 1, rule.left - 1
                    acting.append(rule)
        for rule in acting:
            answer = rule.change(answer)
        return answer


def page(status: int = 200, body: bytes = PAGE, kind: str = "text/html") -> Change:
    """A page of somebody else's."""
    return lambda _: Answer(status, (("Content-Type", kind), ("Set-Cookie", "vmware_soap_session=theirs")), body)


def bare(status: int, **headers: str) -> Change:
    """A status with headers, and nothing else."""
    return lambda _: Answer(status, tuple(headers.items()), b"")


def swapped(old: str, new: str, count: int = 0) -> Change:
    """A pattern of the body replaced. It must be there, or the test shows nothing."""

    def change(answer: Answer) -> Answer:
        body, times = re.subn(old.encode(), new.encode(), answer.body, count=count, flags=re.DOTALL)
        assert times, f"{old} is not in {answer.body!r}"
        return replace(answer, body=body)

    return change


def soap(inner: str, status: int = 200) -> Change:
    """Another answer of vCenter's own form."""
    return lambda _: Answer(status, (("Content-Type", "text/xml"),), envelope(inner))


def envelope(inner: str) -> bytes:
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
    )
    return f"{head}{inner}</soapenv:Body></soapenv:Envelope>".encode()


@contextlib.contextmanager
def front(site: Site) -> Iterator[Front]:
    """One before a site."""
    server = ThreadingHTTPServer((site.host, 0), BaseHTTPRequestHandler)
    made = Front(server.server_port)
    server.RequestHandlerClass = _handler(site, made)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.certificate.certificate, site.certificate.key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(site: Site, made: Front) -> type[BaseHTTPRequestHandler]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(site.certificate.certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def pass_on(self) -> None:
            request = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = _METHOD.search(request)
            headers = {name: value for name, value in self.headers.items() if name != "Accept-Encoding"}
            connection = http.client.HTTPSConnection(site.host, site.port, context=context, timeout=30)
            try:
                connection.request(self.command, self.path, request, headers)
                got = connection.getresponse()
                kept = tuple((n, v) for n, v in got.getheaders() if n not in ("Content-Length", "Transfer-Encoding"))
                answer = Answer(got.status, kept, got.read())
            finally:
                connection.close()
            call = found[1].decode() if found else f"{self.command} {self.path}"
            answer = made.changed(call, request, answer)
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name.replace("_", "-"), value)
            if not any(name == "Content-Length" for name, _ in answer.headers):
                self.send_header("Content-Length", str(len(answer.body)))
            else:
                self.close_connection = True
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_DELETE = pass_on

        def log_message(self, *_: object) -> None:
            pass

    return Handler
