"""Two network namespaces joined by a veth pair whose ends are shaped: a link that is measured at its wire; refuses to
touch any namespace, device or address but those it makes.

    with Link() as link:
        link.shape(up="20mbit", down="20mbit")
        with link.sender.popen("warmspare", "sync", ...) as process: ...
        link.up_bytes          # what went through, Ethernet headers included

`server` and `sender` are the two ends. netem is not in every kernel, so delay comes from a proxy in the server's
namespace: Proxy(port, listen=link.server.address, netns=link.server.path).
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)
_T = TypeVar("_T")


def why_not() -> str:
    """Why namespaces can't be made here; "" if they can."""
    for program in ("ip", "tc"):
        if _find(program) is None:
            return f"the command {program} is missing: install iproute2"
    name = f"ws{os.getpid()}-try"
    made = subprocess.run([_find("ip") or "ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces can't be made here: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


def enter(path: Path) -> None:
    """Move the calling thread, and the sockets it makes from now on, into a namespace. There is no way back."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(fd, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"can't enter the namespace {path}")
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class End:
    """One end of the link. device: its veth."""

    name: str
    device: str
    address: str

    @property
    def path(self) -> Path:
        return Path("/var/run/netns") / self.name

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command is to be started with, to run in here."""
        return (_find("ip") or "ip", "netns", "exec", self.name)

    def popen(self, *command: object, **more: Any) -> subprocess.Popen[bytes]:
        """A process in here."""
        return subprocess.Popen([*self.prefix, *map(str, command)], **more)

    def call(self, work: Callable[[], _T]) -> _T:
        """What `work` returns in a thread that is in here."""
        done: list[_T] = []
        failed: list[BaseException] = []

        def inside() -> None:
            try:
                enter(self.path)
                done.append(work())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    @property
    def sent_bytes(self) -> int:
        """What the device has sent so far, headers included."""
        return int(self._link()["stats64"]["tx"]["bytes"])

    def _link(self) -> dict[str, Any]:
        out = subprocess.run(
            [_find("ip") or "ip", "-n", self.name, "-s", "-j", "link", "show", "dev", self.device],
            check=True,
            capture_output=True,
        )
        found: dict[str, Any] = json.loads(out.stdout)[0]
        return found


class Link:
    """The namespaces exist while the context lasts, and are gone after it, whatever happened."""

    def __init__(self) -> None:
        number = next(_numbers)
        stem = f"ws{os.getpid()}-{number}"
        device = f"ws{os.getpid() % 100000}n{number}"[:13]
        # 192.0.2.0/24 is for examples; the addresses exist in these namespaces only.
        self.sender = End(f"{stem}-sender", f"{device}s", "192.0.2.1")
        self.server = End(f"{stem}-server", f"{device}r", "192.0.2.2")

    def __enter__(self) -> Link:
        try:
            for end in (self.sender, self.server):
                _ip("netns", "add", end.name)
            here, there = self.sender, self.server
            _ip(
                "link",
                "add",
                here.device,
                "netns",
                here.name,
                "type",
                "veth",
                "peer",
                "name",
                there.device,
                "netns",
                there.name,
            )
            for end in (here, there):
                _ip("-n", end.name, "addr", "add", f"{end.address}/24", "dev", end.device)
                _ip("-n", end.name, "link", "set", "lo", "up")
                # One segment a packet: a counter of aggregates would miss most headers, and bursts would be 64 KiB.
                _ip("-n", end.name, "link", "set", end.device, "up", "gso_max_segs", "1")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was made; the devices go with their namespaces."""
        for end in (self.sender, self.server):
            if end.path.exists():
                _ip("netns", "del", end.name)

    def shape(self, *, up: str | None = None, down: str | None = None, queue: str = "100ms") -> None:
        """Give each direction a token bucket (tc-tbf): "20mbit", or None for none. Can be changed at any time.

        queue: for how long a packet may wait in it before it is dropped, as in a home router.
        """
        for end, rate in ((self.sender, up), (self.server, down)):
            tc = [_find("tc") or "tc", "-n", end.name, "qdisc"]
            subprocess.run([*tc, "del", "dev", end.device, "root"], capture_output=True)
            if rate is not None:
                shaper = ["tbf", "rate", rate, "burst", "16kb", "latency", queue]
                subprocess.run([*tc, "add", "dev", end.device, "root", *shaper], check=True, capture_output=True)

    @property
    def up_bytes(self) -> int:
        """From the sender to the server so far."""
        return self.sender.sent_bytes

    @property
    def down_bytes(self) -> int:
        """From the server to the sender so far."""
        return self.server.sent_bytes


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _ip(*arguments: str) -> None:
    done = subprocess.run([_find("ip") or "ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
