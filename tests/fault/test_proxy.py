"""The fault proxy itself: each fault is what it says, and nothing else happens."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from rigs.links.proxy import Flip, Proxy

MIB = 1 << 20


class Echo:
    """Answers each HTTP request with its own body; anything else is sent back as it comes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while data := self._receive(sock):
                if data.startswith((b"PUT ", b"HEAD ")):
                    head, _, body = data.partition(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    while len(body) < length:
                        body += self._receive(sock)
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
                    data = b"" if head.startswith(b"HEAD ") else body
                sock.sendall(data)

    def _receive(self, sock: socket.socket) -> bytes:
        data = sock.recv(1 << 16)
        self.received += len(data)
        return data


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as made:
        yield made


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """What comes back until as much came as was sent, or the connection ended."""
    sender = threading.Thread(target=lambda: _send(sock, data))
    sender.start()
    got = b""
    while len(got) < len(data) and (piece := sock.recv(1 << 16)):
        got += piece
    sender.join()
    return got


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)


def put(sock: socket.socket, body: bytes, method: bytes = b"PUT") -> bytes:
    sock.sendall(method + b" /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    got = sock.recv(1 << 16)
    head, _, rest = got.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while method != b"HEAD" and len(rest) < length and (piece := sock.recv(1 << 16)):
        rest += piece
    return head.split(b"\r\n")[0] + b"|" + rest


def test_passes_all_on_and_counts(proxy: Proxy, echo: Echo) -> None:
    data = bytes(range(256)) * 4096
    with connect(proxy) as sock:
        assert exchange(sock, data) == data
        assert put(sock, b"hello") == b"HTTP/1.1 200 OK|hello"
        assert put(sock, b"hello", b"HEAD") == b"HTTP/1.1 200 OK|"
        assert put(sock, b"again" * 50_000) == b"HTTP/1.1 200 OK|" + b"again" * 50_000
    assert proxy.counts["connections"] == 1 and proxy.counts["requests"] >= 3
    assert proxy.counts["up_bytes"] == echo.received > len(data)


def test_latency_is_each_way(proxy: Proxy) -> None:
    with connect(proxy) as sock:
        for latency_s in (0.0, 0.1, 0.02):
            proxy.faults.latency_s = latency_s
            began = time.monotonic()
            assert exchange(sock, b"x") == b"x"
            assert 2 * latency_s <= time.monotonic() - began < 2 * latency_s + 0.08


@pytest.mark.parametrize("way", ["up", "down"])
def test_bandwidth_is_shared_and_steady(proxy: Proxy, way: str) -> None:
    setattr(proxy.faults, f"{way}_bytes_s", 1.0 * MIB)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        threads = []
        for _ in range(3):
            sock = stack.enter_context(connect(proxy))
            threads.append(threading.Thread(target=exchange, args=(sock, bytes(300 << 10))))
            threads[-1].start()
        for thread in threads:
            thread.join()
    assert 0.8 < time.monotonic() - began < 1.2  # 900 KiB at 1 MiB/s
    setattr(proxy.faults, f"{way}_bytes_s", None)


def test_resets_after_so_many_bytes(proxy: Proxy) -> None:
    proxy.faults.reset_after = 100_000
    with connect(proxy) as sock, contextlib.suppress(ConnectionResetError):
        while len(exchange(sock, bytes(1000))) == 1000:  # the sending thread may have taken the error
            pass
    assert proxy.counts["reset"] == 1
    assert proxy.counts["up_bytes"] + proxy.counts["down_bytes"] <= 100_000


def test_resets_a_share_of_connections(proxy: Proxy) -> None:
    proxy.faults.reset_share, proxy.faults.reset_within = 0.3, 10_000
    broken = 0
    for _ in range(100):
        with connect(proxy) as sock:
            try:
                broken += len(exchange(sock, bytes(6000))) < 6000
            except OSError:
                broken += 1
    assert 15 < broken < 45 and broken == proxy.counts["reset"]


def test_stalls(proxy: Proxy) -> None:
    proxy.faults.mute = True
    with connect(proxy) as sock:
        sock.sendall(b"x")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        proxy.faults.mute = False  # for new ones only
        with pytest.raises(TimeoutError):
            sock.recv(1)
    with connect(proxy) as sock:
        assert exchange(sock, b"x") == b"x"
        proxy.faults.freeze = True
        sock.sendall(b"y")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        proxy.faults.freeze = False
        assert sock.recv(1) == b"y"


def test_truncates_and_cuts(proxy: Proxy) -> None:
    proxy.faults.truncate = 1000
    with connect(proxy) as sock:
        assert exchange(sock, bytes(500)) == bytes(500)
        assert exchange(sock, bytes(5000)) == bytes(500) and sock.recv(1) == b""  # ended, not reset
    proxy.faults.truncate = None
    proxy.faults.cut_share, proxy.faults.cut_least = 1.0, 1000
    with connect(proxy) as sock:
        assert put(sock, bytes(999)) == b"HTTP/1.1 200 OK|" + bytes(999)
        assert put(sock, bytes(100_000)) == b"HTTP/1.1 200 OK|" + bytes(50_000)
    assert proxy.counts["cut"] == 1


@pytest.mark.parametrize("way", ["up", "down"])
def test_flips_a_bit_of_one_byte(proxy: Proxy, way: str) -> None:
    proxy.faults.flips.append(Flip(way, 70_000))  # type: ignore[arg-type]
    data = bytes(100_000)
    with connect(proxy) as sock:
        got = exchange(sock, data)
        assert [n for n in range(len(data)) if got[n] != data[n]] == [70_000]
        assert exchange(sock, data) == data
    with connect(proxy) as sock:
        assert exchange(sock, data) == data


def test_answers_slow_down_itself(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as sock:
        assert put(sock, b"1") == b"HTTP/1.1 200 OK|1"
        before = echo.received
        proxy.faults.slow_share = 1.0
        said = put(sock, bytes(300_000))
        assert said.startswith(b"HTTP/1.1 503 Slow Down|<?xml") and b"<Code>SlowDown</Code>" in said
        assert put(sock, b"1", b"HEAD") == b"HTTP/1.1 503 Slow Down|"
        assert echo.received == before
        proxy.faults.slow_share = 0.0
        assert put(sock, b"2") == b"HTTP/1.1 200 OK|2"
    assert proxy.counts["slowed"] == 2


def test_blackouts(proxy: Proxy) -> None:
    sock = connect(proxy)
    assert exchange(sock, b"x") == b"x"
    proxy.blackout("refuse")
    with pytest.raises(OSError):
        if not sock.recv(1):
            raise OSError("closed")
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.restore()
    with connect(proxy) as sock:
        assert exchange(sock, b"x") == b"x"
        proxy.blackout("drop", for_s=0.3)
        sock.sendall(b"y")
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        time.sleep(0.4)
    with connect(proxy) as sock:
        assert exchange(sock, b"x") == b"x"
    assert [note for _, note in proxy.events if note != "muted"] == [
        "blackout refuse",
        "restored",
        "blackout drop",
        "restored",
    ]
