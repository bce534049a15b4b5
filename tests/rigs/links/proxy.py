"""A TCP proxy that misbehaves as a test tells it to, while it runs; refuses to talk to anything but its
target.

    with Proxy(port) as proxy:
        proxy.faults.latency_s = 0.04          # each way
        proxy.faults.up_bytes_s = 250_000      # a link that all connections share
        ...

It knows just enough of HTTP/1.1 to answer a request in the server's place and to cut an answer in its middle. It runs
on a thread of its own, so that tests may block; every number in `faults` is read when it is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rigs.links.netns import enter
from servers import free_port

Way = Literal["up", "down"]
CHUNK_BYTES = 32 << 10
QUEUE_BYTES = 2 << 20  # that a connection may have on a link with latency, each way
SOCKET_BYTES = 128 << 10  # so that the kernel does not hide the link from the sender
POLL_S = 0.01
SETTLE_S = 60.0
EVENTS = 1000  # kept; all are counted
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_START = re.compile(rb"HTTP/1\.|[A-Z]+ /")
_ERROR = b'<?xml version="1.0"?><Error><Code>%s</Code><Message>As the test wants.</Message></Error>'


@dataclass(slots=True)
class Flip:
    """Inverts a bit of byte `at` of a connection's stream, of the next `times` connections that come so far."""

    way: Way
    at: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Requests in whose head this pattern is found are answered with this status ("403 Forbidden") and error code."""

    pattern: bytes
    status: str
    code: str


_SLOW_DOWN = Refusal(b"", "503 Slow Down", "SlowDown")


@dataclass(slots=True)
class Faults:
    """What is wrong with the link. All may change at any time; shares are between 0 and 1.

    latency_s: added each way. up_bytes_s, down_bytes_s: a token bucket for all connections together.
    reset_share: of connections; each is reset after a random number of bytes up to reset_within, both ways counted.
    reset_after: every connection is reset after so many bytes. mute: new connections are accepted and never served.
    freeze: nothing moves. truncate: every connection ends, politely, after so many bytes downwards.
    slow_share: of requests answered with 503 SlowDown. cut_share: of answers of at least cut_least bytes that end in
    their middle. flips: bytes to damage. refusals: of requests, the first that fits.
    """

    latency_s: float = 0.0
    up_bytes_s: float | None = None
    down_bytes_s: float | None = None
    reset_share: float = 0.0
    reset_within: int = 4 << 20
    reset_after: int | None = None
    mute: bool = False
    freeze: bool = False
    truncate: int | None = None
    slow_share: float = 0.0
    cut_share: float = 0.0
    cut_least: int = 2
    flips: list[Flip] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


class _Bucket:
    """Bytes a second, first come, first served; at most 20 ms of them at once."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._free_at = 0.0

    async def take(self, count: int, rate: Callable[[], float | None]) -> None:
        async with self._turn:
            now = time.monotonic()
            if (bytes_s := rate()) is None:
                return
            self._free_at = max(self._free_at, now - 0.02) + count / bytes_s
            if self._free_at > now:
                await asyncio.sleep(self._free_at - now)


class _Frames:
    """Follows the messages of one direction: heads, and bodies of a Content-Length. All else, chunked bodies too,
    passes as it comes."""

    def __init__(self) -> None:
        self._seen = b""
        self.left = 0  # bytes of the body that are still to come

    def split(self, data: bytes) -> tuple[bytes, bytes | None, bytes]:
        """(bytes of the message before, a head that is complete now, the rest)."""
        if self.left:
            body, rest = data[: self.left], data[self.left :]
            self.left -= len(body)
            return body, None, rest
        self._seen += data
        if (len(self._seen) >= len(b"DELETE /") and not _START.match(self._seen)) or not self._seen[:1].isupper():
            other, self._seen = self._seen, b""
            return other, None, b""
        end = self._seen.find(b"\r\n\r\n")
        if end < 0:
            return b"", None, b""
        head, rest = self._seen[: end + 4], self._seen[end + 4 :]
        self._seen = b""
        found = _LENGTH.search(head)
        self.left = int(found[1]) if found else 0
        return b"", head, rest


class _Reset(Exception):
    """The connection is to be reset."""


class _Pair:
    """One connection of a client and the one to the target that belongs to it."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.moved: dict[Way, int] = {"up": 0, "down": 0}
        faults = proxy.faults
        self.resets_at = faults.reset_after
        if proxy.random.random() < faults.reset_share:
            self.resets_at = proxy.random.randrange(1, faults.reset_within)
        self.is_head = False  # the answer to come has no body, whatever it says
        self.cut_left: int | None = None  # of an answer that is to end in its middle

    async def run(self) -> None:
        if self.proxy.faults.mute:
            self.proxy.note("muted")
            await self.reader.read()  # until the client gives up
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.target)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump("up", self.reader, writer))
                tasks.create_task(self._pump("down", reader, self.writer))
        finally:
            reset(writer)

    async def _pump(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read, pass the link's bucket, wait the link's latency, write; until one side ends."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUE_BYTES // CHUNK_BYTES)
        frames = _Frames()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver(way, queue, writer))
            ended = False
            while not ended and (data := await reader.read(CHUNK_BYTES)):
                while self.proxy.faults.freeze:  # noqa: ASYNC110 (set from other threads)
                    await asyncio.sleep(POLL_S)
                if way == "up":
                    out = await self._requests(frames, data)
                else:
                    out, ended = self._answers(frames, data)
                if not out:
                    continue
                await self.proxy.buckets[way].take(len(out), lambda: getattr(self.proxy.faults, f"{way}_bytes_s"))
                await queue.put((time.monotonic() + self.proxy.faults.latency_s, out))
            await queue.put((time.monotonic() + self.proxy.faults.latency_s, b""))
        if way == "down":
            raise EOFError

    async def _deliver(self, way: Way, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not data:
                if way == "up" and writer.can_write_eof():
                    writer.write_eof()
                return
            await self._write(way, self._flipped(way, data), writer)

    async def _write(self, way: Way, data: bytes, writer: asyncio.StreamWriter) -> None:
        before = sum(self.moved.values())
        if self.resets_at is not None and before + len(data) >= self.resets_at:
            writer.write(data[: max(0, self.resets_at - before)])
            self.proxy.note("reset")
            raise _Reset
        limit = self.proxy.faults.truncate
        ends = way == "down" and limit is not None and self.moved["down"] + len(data) > limit
        if limit is not None and ends:
            data = data[: max(0, limit - self.moved["down"])]
        self.moved[way] += len(data)
        self.proxy.counts[f"{way}_bytes"] += len(data)
        writer.write(data)
        await writer.drain()
        if ends:
            self.proxy.note("truncated")
            raise EOFError

    def _flipped(self, way: Way, data: bytes) -> bytes:
        start = self.moved[way]
        for flip in self.proxy.faults.flips:
            if flip.way == way and flip.times > 0 and start <= flip.at < start + len(data):
                flip.times -= 1
                self.proxy.note(f"flipped {way} {flip.at}")
                changed = bytearray(data)
                changed[flip.at - start] ^= 0x04
                data = bytes(changed)
        return data

    async def _requests(self, frames: _Frames, data: bytes) -> bytes:
        """What of it goes on to the target; requests that are answered here do not."""
        out = b""
        while data:
            body, head, data = frames.split(data)
            out += body
            if head is None:
                continue
            self.proxy.counts["requests"] += 1
            self.is_head = head.startswith(b"HEAD ")
            refusal = next((one for one in self.proxy.faults.refusals if re.search(one.pattern, head)), None)
            if refusal is None and self.proxy.random.random() < self.proxy.faults.slow_share:
                refusal = _SLOW_DOWN
            if refusal is None:
                out += head
            else:
                self.proxy.note("slowed down" if refusal is _SLOW_DOWN else f"refused {refusal.code}")
                data = await self._refuse(refusal, frames, data, is_head=self.is_head)
        return out

    async def _refuse(self, refusal: Refusal, frames: _Frames, data: bytes, *, is_head: bool) -> bytes:
        """Take the body, answer for the server; what came after the body."""
        while frames.left:
            if not data:
                data = await self.reader.read(CHUNK_BYTES)
                if not data:
                    raise EOFError
                await self.proxy.buckets["up"].take(len(data), lambda: self.proxy.faults.up_bytes_s)
            _, _, data = frames.split(data)
        body = _ERROR % refusal.code.encode()
        await asyncio.sleep(self.proxy.faults.latency_s)
        head = f"HTTP/1.1 {refusal.status}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.writer.write(head + (b"" if is_head else body))
        await self.writer.drain()
        return data

    def _answers(self, frames: _Frames, data: bytes) -> tuple[bytes, bool]:
        """What of it goes on to the client, and whether the answer is cut here."""
        out = b""
        faults = self.proxy.faults
        while data:
            body, head, data = frames.split(data)
            if self.cut_left is not None:
                out += body[: self.cut_left]
                self.cut_left -= len(body)
                if self.cut_left <= 0:
                    return out, True
                continue
            out += body + (head or b"")
            if head is None:
                continue
            if self.is_head:
                frames.left = 0
            elif frames.left >= faults.cut_least and self.proxy.random.random() < faults.cut_share:
                self.proxy.note("cut")
                self.cut_left = frames.left // 2
        return out, False


class Proxy:
    """Listens on `port` (a free one) and passes on to 127.0.0.1:`target`. seed: of everything random. listen: the
    address it listens on. netns: the network namespace that all of it happens in, see netns.py.

    counts: connections, requests, up_bytes, down_bytes and every note by its first word. events: (seconds, note).
    """

    def __init__(self, target: int, *, seed: int = 1, listen: str = "127.0.0.1", netns: Path | None = None) -> None:
        self.target, self.faults, self.listen, self._netns = target, Faults(), listen, netns
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.events: list[tuple[float, str]] = []
        self.port = free_port()  # and kept while nothing listens there
        self._began = time.monotonic()
        self._pairs: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self.listen}:{self.port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def note(self, text: str) -> None:
        """Count something that was done, and keep it with its time."""
        self.counts[text.split()[0]] += 1
        if len(self.events) < EVENTS:
            self.events.append((time.monotonic() - self._began, text))

    def blackout(self, kind: Literal["refuse", "drop"], for_s: float | None = None) -> None:
        """refuse: connections break and none can be made. drop: nothing moves, new connections are never answered.
        Until `restore`, or for some seconds."""
        self.note(f"blackout {kind}")
        self._call(self._refuse() if kind == "refuse" else self._freeze(True))
        if for_s is not None:
            self._loop.call_soon_threadsafe(self._loop.call_later, for_s, self._restore_soon)

    def restore(self) -> None:
        """End a blackout. What was frozen is reset: its peers have long given it up."""
        self._call(self._restore())

    def settle(self) -> None:
        """Return once the connections of clients that ended are over on the other side too: nothing of theirs is left
        on its way. Every client must have ended, or this fails."""

        async def over() -> None:
            while self._pairs:  # noqa: ASYNC110 (one look at the end of a test)
                await asyncio.sleep(POLL_S)

        self._call(asyncio.wait_for(over(), SETTLE_S), SETTLE_S + 10)

    def reset_all(self) -> None:
        """Reset every connection."""
        self._call(self._abort())

    # on the proxy's thread

    def _run(self) -> None:
        if self._netns is not None:
            enter(self._netns)
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.buckets: dict[Way, _Bucket] = {"up": _Bucket(), "down": _Bucket()}
        self._chores: list[asyncio.Task[None]] = []
        await self._listen()
        self._ready.set()
        await self._stop.wait()
        await self._refuse()

    async def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        listener.bind((self.listen, self.port))
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=CHUNK_BYTES, backlog=128)
        self.port = listener.getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        self.counts["connections"] += 1
        polite = False
        try:
            await _Pair(self, reader, writer).run()
        except* EOFError:
            polite = True
        except* (_Reset, OSError, asyncio.CancelledError):
            pass
        finally:
            self._pairs.discard(task)
            writer.close() if polite else reset(writer)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
        self._server = None
        await self._abort()

    async def _freeze(self, frozen: bool) -> None:
        self.faults.freeze = self.faults.mute = frozen

    async def _restore(self) -> None:
        if self._server is None:
            await self._listen()
        if self.faults.freeze:
            await self._freeze(False)
            await self._abort()
        self.note("restored")

    async def _abort(self) -> None:
        pairs = list(self._pairs)
        for task in pairs:
            task.cancel()
        await asyncio.gather(*pairs, return_exceptions=True)

    def _restore_soon(self) -> None:
        self._chores.append(self._loop.create_task(self._restore()))

    def _call(self, work: Coroutine[Any, Any, None], within_s: float = 10) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST, as a middlebox does that has forgotten it."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
