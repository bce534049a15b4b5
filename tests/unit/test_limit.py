"""Rates: never more than they say, all of it where there is demand, in even shares, and nothing held by the dead."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmspare.errors import StoreError
from warmspare.state import bucket as bucket_module
from warmspare.state.bucket import BURST_S, SharedBucket
from warmspare.store.around.counting import CountingStore
from warmspare.store.around.limiter import LEAST_BYTES, PIECE_S, LimitedStore, Limiter, limited
from warmspare.store.contract import PART_BYTES, Paced, paced
from warmspare.store.directory.directory_store import DirectoryStore

MIB = 1 << 20
Sent = list[tuple[float, int]]


class World:
    """A clock that moves only when everybody sleeps. late: added to the sleeps in turn."""

    def __init__(self, late: list[float] | None = None) -> None:
        self.now = 1000.0
        self._late = itertools.cycle(late or [0.0])
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds + next(self._late), next(self._count), future))
        await future

    def run(self, work: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
        """Run the work for so long by this clock."""

        async def main() -> None:
            task = asyncio.create_task(work())
            until = self.now + seconds
            while not task.done():
                for _ in range(20):
                    await asyncio.sleep(0)
                if task.done() or not self._sleepers or self._sleepers[0][0] > until:
                    break
                self.now, _, future = heapq.heappop(self._sleepers)
                if not future.done():
                    future.set_result(None)
            self.now = max(self.now, until) if not task.done() else self.now
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

        asyncio.run(main())


def limiter(world: World, bucket: SharedBucket, rate: Callable[[], float | None]) -> Limiter:
    return Limiter(bucket, rate, clock=world.clock, sleep=world.sleep)


async def send(one: Limiter, world: World, sent: Sent, most: int = 8 * MIB) -> None:
    while True:
        count = await one.take(most)
        assert 1 <= count <= most
        sent.append((world.now, count))


def worst_excess(sent: Sent, rate: float) -> float:
    """By how many bytes the sent ones exceed rate x time over the worst stretch of time."""
    worst = at = 0.0
    last = sent[0][0] if sent else 0.0
    for moment, count in sent:
        at = max(0.0, at - (moment - last) * rate) + count
        worst, last = max(worst, at), moment
    return worst


@given(
    rate=st.floats(8_000, 200e6),
    most=st.lists(st.integers(1, 10 * MIB), min_size=1, max_size=20),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=20),
    late=st.lists(st.floats(0, 0.3), min_size=1, max_size=5),
    senders=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_never_more_than_the_rate_and_a_burst(
    tmp_path_factory: pytest.TempPathFactory,
    rate: float,
    most: list[int],
    pauses: list[float],
    late: list[float],
    senders: int,
) -> None:
    world, sent = World(late), Sent()
    path = tmp_path_factory.mktemp("b") / "bucket"
    with SharedBucket(path, clock=world.clock) as bucket:

        async def sender(number: int) -> None:
            one = limiter(world, bucket, lambda: rate)
            for size, pause in zip(itertools.cycle(most), pauses * 20, strict=False):
                count = await one.take(size)
                assert 1 <= count <= size
                sent.append((world.now, count))
                if count % (number + 2) == 0:
                    await world.sleep(pause)

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number in range(senders):
                    tasks.create_task(sender(number))

        world.run(work, 60)
    # Who wakes late sends late, which the clock of the link can't see: pieces then meet.
    allowed = BURST_S + senders * (PIECE_S + max(late)) + senders * LEAST_BYTES / rate
    assert worst_excess(sorted(sent), rate) <= rate * allowed * 1.001 + senders
    if max(late) == 0 and rate * PIECE_S > LEAST_BYTES:
        assert worst_excess(sorted(sent), rate) <= rate * (BURST_S + PIECE_S) * 1.001 + senders


@pytest.mark.parametrize("late", [[0.0], [0.004, 0.0, 0.03, 0.0], [0.09]])
@pytest.mark.parametrize("rate", [8_000.0, 625_000.0, 125e6])
def test_all_of_the_rate_where_there_is_demand(tmp_path: Path, rate: float, late: list[float]) -> None:
    world, sent = World(late), Sent()
    with SharedBucket(tmp_path / "bucket", clock=world.clock) as bucket:
        world.run(lambda: send(limiter(world, bucket, lambda: rate), world, sent, 256 << 10), 20)
    assert abs(sum(count for _, count in sent) / 20 / rate - 1) < 0.02


def test_senders_of_one_process_have_even_shares_however_many_parts_they_have(tmp_path: Path) -> None:
    world = World()
    totals: list[Sent] = [[], [], []]
    with SharedBucket(tmp_path / "bucket", clock=world.clock) as bucket:

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                for sent, parts in zip(totals, (1, 4, 16), strict=True):
                    one = limiter(world, bucket, lambda: 1e6)
                    for _ in range(parts):
                        tasks.create_task(send(one, world, sent))

        world.run(work, 5)
    sums = [sum(count for _, count in sent) for sent in totals]
    assert all(abs(total / sum(sums) * 3 - 1) < 0.1 for total in sums), sums


def test_different_rates_share_time(tmp_path: Path) -> None:
    """Neither exceeds its share of its own limit, so the faster one's limit is never exceeded by both."""
    world = World()
    slow, fast = Sent(), Sent()
    with SharedBucket(tmp_path / "bucket", clock=world.clock) as bucket:

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(send(limiter(world, bucket, lambda: 1e6), world, slow))
                tasks.create_task(send(limiter(world, bucket, lambda: 4e6), world, fast))

        world.run(work, 10)
    assert abs(sum(c for _, c in slow) / 5e6 - 1) < 0.05 and abs(sum(c for _, c in fast) / 20e6 - 1) < 0.05


def test_the_rate_is_asked_all_the_time(tmp_path: Path) -> None:
    world, sent = World(), Sent()

    def rate() -> float | None:
        return 1e6 if world.now < 1010 else 4e6 if world.now < 1020 else None

    with SharedBucket(tmp_path / "bucket", clock=world.clock) as bucket:

        async def work() -> None:
            one = limiter(world, bucket, rate)
            while world.now < 1020:
                sent.append((world.now, await one.take(8 * MIB)))
            assert await one.take(8 * MIB) == 8 * MIB

        world.run(work, 30)
    before = sum(count for moment, count in sent if moment < 1010)
    after = sum(count for moment, count in sent if 1010 <= moment < 1020)
    assert abs(before / 1e7 - 1) < 0.03 and abs(after / 4e7 - 1) < 0.02


def test_a_cancel_costs_one_piece(tmp_path: Path) -> None:
    world, sent = World(), Sent()
    with SharedBucket(tmp_path / "bucket", clock=world.clock) as bucket:

        async def work() -> None:
            one = limiter(world, bucket, lambda: 1e6)
            for _ in range(5):
                task = asyncio.create_task(one.take(8 * MIB))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
            await send(one, world, sent)

        world.run(work, 10)
    assert sum(count for _, count in sent) >= 1e7 - 5 * 1e6 * PIECE_S - 1e6 * PIECE_S


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\0", struct.pack("<d", 1e9), struct.pack("<d", -5), struct.pack("<d", float("nan")), b"x" * 99],
)
def test_what_stands_in_the_file_stops_nobody(tmp_path: Path, content: bytes) -> None:
    """Left from before a reboot, torn, or nonsense."""
    (tmp_path / "bucket").write_bytes(content)
    world, sent = World(), Sent()
    with SharedBucket(tmp_path / "bucket", clock=world.clock) as bucket:
        world.run(lambda: send(limiter(world, bucket, lambda: 1e6), world, sent), 5)
    assert abs(sum(count for _, count in sent) / 5e6 - 1) < 0.04


def test_a_bucket_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        SharedBucket(tmp_path / "file" / "bucket")
    assert str(tmp_path / "file" / "bucket") in str(caught.value)


# several processes

SENDER = """
import asyncio, sys, time
from pathlib import Path
from warmspare.state.bucket import SharedBucket
from warmspare.store.around.limiter import Limiter

async def main():
    with SharedBucket(Path(sys.argv[1])) as bucket:
        one, total = Limiter(bucket, lambda: float(sys.argv[2])), 0
        await one.take(1)
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        while time.monotonic() < began + float(sys.argv[3]):
            total += await one.take(8 << 20)
        print(total, time.monotonic() - began, flush=True)

asyncio.run(main())
"""


def spawn(path: Path, rate: float, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SENDER, str(path), str(rate), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start(*children: subprocess.Popen[str]) -> None:
    for child in children:
        assert child.stdout and child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()


def result(child: subprocess.Popen[str]) -> tuple[int, float]:
    out, _ = child.communicate(timeout=60)
    total, seconds = out.split()
    return int(total), float(seconds)


@pytest.mark.program
def test_two_processes_have_even_shares(tmp_path: Path) -> None:
    rate, seconds = 2e6, 4.0
    children = [spawn(tmp_path / "bucket", rate, seconds) for _ in range(2)]
    start(*children)
    (one, one_s), (other, other_s) = map(result, children)
    assert abs(one / one_s / (rate / 2) - 1) < 0.2 and abs(other / other_s / (rate / 2) - 1) < 0.2, (one, other)
    assert (one + other) / max(one_s, other_s) < rate * (1 + 0.15 / seconds + 0.02)


@pytest.mark.program
def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    rate, seconds = 2e6, 3.0
    children = [spawn(tmp_path / "bucket", rate, 60) for _ in range(3)]
    survivor = spawn(tmp_path / "bucket", rate, seconds)
    start(*children)
    time.sleep(0.3)
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    start(survivor)
    total, took = result(survivor)
    assert total / took > rate * 0.9


HOLDER = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.program
def test_killed_or_stopped_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stops there forever makes the others go on without it; a killed one they never notice."""
    path = tmp_path / "bucket"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    world = World()
    alone, after = Sent(), Sent()
    with SharedBucket(path, clock=world.clock) as bucket:
        one = limiter(world, bucket, lambda: 1e6)
        world.run(lambda: send(one, world, alone), 11)
        assert abs(sum(count for _, count in alone) / 1e7 - 1) < 0.05
        holder.kill()
        holder.communicate()
        world.run(lambda: send(limiter(world, bucket, lambda: 1e6), world, after), 10)
    assert abs(sum(count for _, count in after) / 1e7 - 1) < 0.05


# stores


async def test_a_directory_is_paced_inside_a_part(tmp_path: Path) -> None:
    asked: list[int] = []

    async def pace(most: int) -> int:
        asked.append(most)
        return min(most, 3 * MIB)

    store = limited(DirectoryStore(str(tmp_path / "r")), pace)
    assert isinstance(store, DirectoryStore) and isinstance(store, Paced)
    data = os.urandom(PART_BYTES + 5)
    async with store.upload("x") as upload:
        await upload.write(data[:PART_BYTES])
        await upload.write(data[PART_BYTES:])
    assert asked == [8 * MIB, 5 * MIB, 2 * MIB, 5]
    assert await store.get("x") == data
    asked.clear()
    await store.put("p", b"1234")
    assert await store.create("c", b"12")
    assert await store.replace("r", b"123", etag=None)
    await store.create("empty", b"")
    assert asked == [4, 2, 3]
    await store.close()


async def test_any_other_store_is_paced_from_outside(tmp_path: Path) -> None:
    """Whatever it does, it goes through; the bodies wait."""
    allowed = 0

    async def pace(most: int) -> int:
        nonlocal allowed
        count = min(most, MIB)
        allowed += count
        return count

    inner = CountingStore(DirectoryStore(str(tmp_path / "r")), lambda size: check(size))

    def check(size: int) -> None:
        assert inner.sent_bytes <= allowed

    store = limited(inner, pace)
    assert isinstance(store, LimitedStore)
    data = os.urandom(PART_BYTES + 5)
    async with store.upload("a/x") as upload:
        await upload.write(data[:PART_BYTES])
        await upload.write(data[PART_BYTES:])
    assert upload.bytes == len(data)
    await store.put("a/p", b"1234")
    assert await store.create("a/c", b"12") and not await store.create("a/c", b"13")
    info = await store.replace("a/r", b"123", etag=None)
    assert info and info == await store.head("a/r")
    assert allowed == inner.sent_bytes == len(data) + 4 + 2 + 2 + 3
    assert await store.get_range("a/x", 1, 2) == data[1:3]
    assert [i.key async for i in store.list("a/", start_after="a/c")] == ["a/p", "a/r", "a/x"]
    await store.delete(["a/x"])
    assert await store.stale_uploads("") == [] and await store.now() > 0
    await paced(pace, 0)
    await store.close()


def test_the_file_of_the_bucket_is_small(tmp_path: Path) -> None:
    with SharedBucket(tmp_path / "deep" / "bucket") as bucket:
        assert bucket.reserve(0.01) is not None and bucket.reserve_alone(0.01) > 0
    assert (tmp_path / "deep" / "bucket").stat().st_size == 8 and bucket_module.FARTHEST_S > 1
