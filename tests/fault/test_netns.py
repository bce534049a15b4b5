"""The shaped link between two namespaces: what its rates are, what it counts, and that nothing stays behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rigs.links import netns
from rigs.links.netns import Link
from rigs.links.proxy import Proxy
from rigs.stores import discard

_SEND = """
import socket, sys, time
began = time.monotonic()
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    size = int(sys.argv[3])
    sock.sendall(b"PUT /x HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
    for _ in range(size // 10000):
        sock.sendall(bytes(10000))
    assert sock.recv(100).startswith(b"HTTP/1.1 200")
print(time.monotonic() - began)
"""


@pytest.fixture
def link() -> Iterator[Link]:
    """A link, or a skip that says why there is none."""
    if reason := netns.why_not():
        pytest.skip(reason)
    with Link() as made:
        yield made


def spaces() -> set[str]:
    return {path.name for path in Path("/var/run/netns").glob("ws*")} if Path("/var/run/netns").exists() else set()


def send(link: Link, address: str, port: int, size: int) -> float:
    """Seconds that an upload took."""
    with link.sender.popen(sys.executable, "-c", _SEND, address, port, size, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(timeout=60)
    return float(out)


def test_rates_and_counters(link: Link) -> None:
    with discard.running(prefix=link.server.prefix, host=link.server.address) as url:
        port = int(url.rsplit(":", 1)[1])
        assert send(link, link.server.address, port, 1_000_000) < 2  # unshaped
        for rate, size in (("10mbit", 3_000_000), ("20mbit", 6_000_000)):
            link.shape(up=rate, down=rate)
            before = link.up_bytes
            took = send(link, link.server.address, port, size)
            moved = link.up_bytes - before
            assert size * 1.03 < moved < size * 1.1  # headers of 1500-byte packets, and some sent twice
            assert 0.85 < moved * 8 / took / (int(rate[:2]) * 1e6) < 1.05
        assert 0 < link.down_bytes < 1_000_000


def test_a_proxy_in_the_servers_namespace_adds_the_delay(link: Link) -> None:
    with discard.running(prefix=link.server.prefix) as url:
        target = int(url.rsplit(":", 1)[1])
        with Proxy(target, listen=link.server.address, netns=link.server.path) as proxy:
            quick = min(send(link, link.server.address, proxy.port, 10_000) for _ in range(3))
            proxy.faults.latency_s = 0.2
            slow = min(send(link, link.server.address, proxy.port, 10_000) for _ in range(3))
            assert 0.35 < slow - quick < 0.7
            assert proxy.counts["up_bytes"] > 20_000


def test_nothing_stays_behind() -> None:
    if reason := netns.why_not():
        pytest.skip(reason)
    before = spaces()
    with Link() as first, Link() as second:
        assert len(spaces() - before) == 4
        assert first.sender.call(lambda: Path("/proc/thread-self/net/dev").read_text()).count(":") == 2
        assert second.sender.name != first.sender.name
    with pytest.raises(RuntimeError, match="on purpose"), Link():
        raise RuntimeError("on purpose")
    assert spaces() == before
    link = Link()
    link.server = netns.End(link.server.name, "a name too long for a device", "192.0.2.2")
    with pytest.raises(RuntimeError, match="ip link add"), link:
        pass
    assert spaces() == before
    with pytest.raises((FileNotFoundError, subprocess.CalledProcessError)):
        link.server.call(lambda: None)
