"""What goes over the wire beside bodies is paid for before the next piece: once, wholly, and by nobody else."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator

import pytest

from warmspare.store.s3 import wire as wire_module
from warmspare.store.s3.wire import ESTIMATE, USER_BYTES, Wire, WirePace

CHUNK = 256 << 10


class Told(Wire):
    """A wire that says what a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.told: tuple[int, int] | None = (0, 0)

    def sent(self) -> tuple[int, int] | None:
        return self.told


class Taken:
    """A pace that gives at most `piece` at once and counts."""

    def __init__(self, piece: int = 10_000) -> None:
        self.piece, self.bytes = piece, 0

    async def take(self, most: int) -> int:
        count = min(most, self.piece)
        self.bytes += count
        return count


async def test_every_byte_of_the_wire_is_taken_once() -> None:
    rng = random.Random(1)
    wire, taken = Told(), Taken()
    pace = WirePace(wire, taken.take)
    bodies = sent = 0
    for _ in range(2000):
        bodies += (count := await pace.take(rng.choice([1, 5000, CHUNK])))
        assert 1 <= count <= CHUNK
        sent += count + rng.choice([0, 66, 600, 1500, 40_000])  # headers, heads, something sent again
        wire.told = sent, 0
    await pace.take(1)
    assert sent <= taken.bytes <= sent + taken.piece
    assert bodies < sent


async def test_what_waits_in_buffers_is_no_credit_and_no_debt() -> None:
    wire, taken = Told(), Taken(CHUNK)
    pace = WirePace(wire, taken.take)
    for _ in range(8):  # the link takes nothing for a while
        await pace.take(CHUNK)
        wire.told = 0, CHUNK * 8 + USER_BYTES
    assert taken.bytes == 8 * CHUNK
    wire.told = 8 * CHUNK + 1000, 0  # then all of it
    await pace.take(1)
    assert taken.bytes == 8 * CHUNK + 1000 + 1


async def test_what_a_broken_connection_swallowed_pays_for_nothing_else() -> None:
    wire, taken = Told(), Taken()
    pace = WirePace(wire, taken.take)
    for _ in range(100):
        await pace.take(taken.piece)
    wire.told = 0, 0  # none of the megabyte was sent, and none ever will be
    await pace.take(taken.piece)
    before = taken.bytes
    wire.told = 500_000, 0  # all of it beside bodies
    await pace.take(taken.piece)
    assert taken.bytes - before >= 500_000 - 2 * taken.piece


async def test_parts_side_by_side_pay_once() -> None:
    wire, taken = Told(), Taken(1000)

    async def take(most: int) -> int:
        await asyncio.sleep(0)
        return await taken.take(most)

    pace = WirePace(wire, take)
    wire.told = 50_000, 0
    got = await asyncio.gather(*(pace.take(1000) for _ in range(8)))
    assert taken.bytes == 50_000 + sum(got)


async def test_a_kernel_that_does_not_count(monkeypatch: pytest.MonkeyPatch, server: tuple[str, int]) -> None:
    monkeypatch.setattr(wire_module, "_INFO_BYTES", 1024)  # as if TCP_INFO were shorter than what is looked for
    wire, taken = Wire(), Taken()
    with wire.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", server)) as sock:
        await asyncio.get_running_loop().sock_connect(sock, server)
        assert wire.sent() is None
        pace = WirePace(wire, taken.take)
        bodies = 0
        for _ in range(100):
            bodies += await pace.take(CHUNK)
        assert abs(taken.bytes / bodies - (1 + ESTIMATE)) < 0.002


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """The address of someone who listens and takes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


async def test_sockets_are_counted_and_closed_ones_stay_counted(server: tuple[str, int]) -> None:
    wire, loop = Wire(), asyncio.get_running_loop()
    total = 0
    for number in range(3):
        sock = wire.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", server))
        await loop.sock_connect(sock, server)
        await loop.sock_sendall(sock, bytes(10_000 * (number + 1)))
        total += 10_000 * (number + 1)
        async with asyncio.timeout(30):
            while (told := wire.sent()) is None or told[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert total + 3 * 54 * (number + 1) <= told[0] <= total + 66 * 10 * (number + 1) and told[1] == 0
        sock.close()
        assert wire.sent() == told
    wire.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", server)).close()
    assert wire.sent() == told


async def test_what_the_kernel_holds_back_is_waiting(server: tuple[str, int]) -> None:
    wire, loop = Wire(), asyncio.get_running_loop()
    with wire.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", server)) as sock:
        await loop.sock_connect(sock, server)
        task = asyncio.create_task(loop.sock_sendall(sock, bytes(32 << 20)))  # nobody reads
        async with asyncio.timeout(30):
            while (told := wire.sent()) is None or not told[0] or told[1] <= USER_BYTES:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        task.cancel()
