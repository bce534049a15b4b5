"""The window of transfers: on simulated links, fairness, cancels. And the patience with failing requests."""

from __future__ import annotations

import asyncio
import random

import crc32c
import pytest

from warmspare.patience import Again, Patience, Tries
from warmspare.store.s3.body import Body, join_crc32c
from warmspare.store.s3.congestion import REST_ROUNDS, CongestionWindow

MIB = 1 << 20
PART = 8 * MIB


class Link:
    """A link of `rate` bytes a second on which one transfer alone gets at most `each`; time is simulated."""

    def __init__(self, window: CongestionWindow, rate: float, each: float, noise: float = 0.0) -> None:
        self.window, self.rate, self.each, self.noise = window, rate, each, noise
        self.random = random.Random(1)
        self.now = 0.0
        self.sizes: list[int] = []

    def run(self, seconds: float, *, wanted: int = 10**6) -> None:
        """Saturated by `wanted` transfers, or as many as the window lets in."""
        until, step = self.now + seconds, 0.1
        while self.now < until:
            busy = min(wanted, self.window.size)
            self.window._busy = busy
            self.now += step
            total = min(self.rate, busy * self.each) * step * (1 + self.noise * self.random.uniform(-1, 1))
            for _ in range(busy):
                self.window.moved(int(total / busy))
            self.sizes.append(self.window.size)


def made(most: int, rate: float, each: float, noise: float = 0.0) -> tuple[CongestionWindow, Link]:
    clock = [lambda: 0.0]
    window = CongestionWindow(most, lambda: clock[0]())
    link = Link(window, rate, each, noise)
    clock[0] = lambda: link.now
    return window, link


def test_a_long_fat_link_gets_all_that_memory_allows() -> None:
    window, link = made(16, rate=125 * MIB, each=5 * MIB)
    link.run(60)
    assert window.size == 16 and max(link.sizes) == 16


@pytest.mark.parametrize("mbit", [5, 20, 100])
def test_a_thin_link_keeps_to_few(mbit: float) -> None:
    rate = mbit * 1e6 / 8
    window, link = made(16, rate=rate, each=rate, noise=0.05)
    link.run(600)
    assert window.size in (2, 3) and max(link.sizes) <= 4
    assert sum(size == 3 for size in link.sizes) < 0.3 * len(link.sizes)  # it looks now and then


def test_it_stops_where_more_brings_nothing() -> None:
    window, link = made(32, rate=50 * MIB, each=10 * MIB, noise=0.03)
    link.run(30)
    assert 4 <= window.size <= 7
    link.rate = 200 * MIB  # the others have gone home
    link.run(REST_ROUNDS + 60)
    assert window.size > 12


def test_congestion_halves_once_for_all_that_were_under_way() -> None:
    window, link = made(16, rate=125 * MIB, each=5 * MIB)
    link.run(60)
    epoch = window.epoch
    for _ in range(16):
        window.congested(epoch)
    assert window.size == 8 and window.epoch == epoch + 1
    for expected in (4, 2, 1, 1):
        window.congested(window.epoch)
        assert window.size == expected
    link.run(60)
    assert window.size == 16


def test_it_does_not_grow_while_the_source_is_slower() -> None:
    window, link = made(16, rate=125 * MIB, each=5 * MIB)
    link.run(60, wanted=1)
    assert window.size == 2


def test_never_below_one_nor_above_the_most() -> None:
    window, link = made(1, rate=MIB, each=MIB)
    window.congested(0)
    link.run(30)
    assert window.size == 1
    with pytest.raises(ValueError):
        CongestionWindow(0)


async def test_slots_are_given_in_order_and_come_back() -> None:
    window = CongestionWindow(2)
    order: list[int] = []
    now = most = 0

    async def one(number: int) -> None:
        nonlocal now, most
        async with window.slot():
            order.append(number)
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1

    await asyncio.gather(*map(one, range(10)))
    assert order == list(range(10)) and most == 2
    await window.acquire()
    await window.acquire()
    waiting = [asyncio.create_task(window.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    window.release()  # goes to the second: the first is cancelled
    waiting[1].cancel()  # in the moment that it was given room
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    await asyncio.wait_for(waiting[2], 1)
    window.release()
    window.release()
    for _ in range(2):
        await asyncio.wait_for(window.acquire(), 1)


async def test_growth_lets_waiters_in() -> None:
    window = CongestionWindow(4)
    await window.acquire()
    await window.acquire()
    third = asyncio.create_task(window.acquire())
    await asyncio.sleep(0)
    assert not third.done()
    window._resize(3, before=None, rest=0)
    await asyncio.wait_for(third, 1)


# -- patience -------------------------------------------------------------------------------------------------------


def tries(patience: Patience) -> tuple[Tries, list[float]]:
    now = [100.0]
    return Tries(patience, lambda: now[0]), now


def test_waits_double_are_spread_and_end_at_the_deadline() -> None:
    one, now = tries(Patience(deadline_s=60, pause_s=1, most_s=8))
    waits = []
    while (pause_s := one.failed(Again.ALWAYS, known=True)) is not None:
        waits.append(pause_s)
        now[0] += pause_s
    for wait, most in zip(waits, [1, 2, 4, 8, 8, 8], strict=False):
        assert most / 2 <= wait <= most
    assert 60 - 8 <= now[0] - 100 <= 60 and one.count == len(waits) + 1
    assert len({round(wait, 6) for wait in waits[3:]}) > 3


def test_what_a_failure_says_of_another_try() -> None:
    one, now = tries(Patience())
    assert one.failed(Again.NEVER, known=True) is None
    one, now = tries(Patience(few=3))
    assert [one.failed(Again.FEW, known=True) is None for _ in range(3)] == [False, False, True]
    one, now = tries(Patience(deadline_s=600, first_s=5))
    assert one.failed(Again.ALWAYS, known=False) is not None
    now[0] += 6
    assert one.failed(Again.ALWAYS, known=True) is not None
    assert one.failed(Again.ALWAYS, known=False) is None  # perhaps a wrong address
    one, now = tries(Patience(deadline_s=600))
    assert one.failed(Again.ALWAYS, known=True, down_s=601) is None  # the store has been away for that long


# -- bodies ---------------------------------------------------------------------------------------------------------


def test_checksums_of_parts_make_that_of_the_whole() -> None:
    rng = random.Random(2)
    for sizes in [(0,), (1,), (0, 5), (5, 0), (100, 8 * MIB, 8 * MIB, 12345), (1, 1, 1)]:
        parts = [rng.randbytes(size) for size in sizes]
        whole = 0
        for part in parts:
            whole = join_crc32c(whole, crc32c.crc32c(part), len(part))
        assert whole == crc32c.crc32c(b"".join(parts))


async def test_a_body_keeps_to_the_pace() -> None:
    body = Body(bytes(range(250)))
    sent: list[tuple[int, int]] = []

    async def pace(most: int) -> int:
        return min(most, 100)

    body.pace, body.on_sent = pace, lambda count, left: sent.append((count, left))
    assert [bytes(piece) for piece in [chunk async for chunk in body]] == [
        bytes(range(100)),
        bytes(range(100, 200)),
        bytes(range(200, 250)),
    ]
    assert sent == [(100, 150), (100, 50), (50, 0)]
