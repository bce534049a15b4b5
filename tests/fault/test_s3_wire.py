"""S3 over a bad link: every fault ends in a right object or a clear StoreError, and the next try succeeds."""

from __future__ import annotations

import asyncio
import datetime
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import crc32c
import pytest
import pytest_asyncio

from rigs.links.proxy import Flip, Proxy, Refusal
from servers import S3Place, Seaweed, make_bucket
from warmspare.errors import NotFoundError, StoreError
from warmspare.patience import Patience
from warmspare.store.contract import PART_BYTES
from warmspare.store.s3.s3_store import S3Store
from warmspare.store.s3.session import aws_session

MIB = 1 << 20
QUICK = Patience(deadline_s=15, first_s=1.5, stall_s=0.7, connect_s=0.7, pause_s=0.02, most_s=0.2)
Make = Callable[..., S3Store]


@pytest.fixture
def proxy(seaweed_place: S3Place) -> Iterator[Proxy]:
    """Between the client and SeaweedFS."""
    with Proxy(urlsplit(seaweed_place.server.endpoint_url).port or 0) as made:
        yield made


@pytest_asyncio.fixture
async def make(seaweed_place: S3Place, proxy: Proxy) -> AsyncIterator[Make]:
    """Makes stores that reach the server through the proxy; closed at the end."""
    made: list[S3Store] = []

    def build(**more: Any) -> S3Store:
        settings = {"endpoint_url": proxy.url, "patience": QUICK, **more}
        made.append(S3Store(seaweed_place.bucket, seaweed_place.prefix, **settings))
        return made[-1]

    yield build
    for store in made:
        await store.close()


@pytest.fixture
def plain(seaweed_place: S3Place, make: Make) -> S3Store:
    """Past the proxy."""
    return make(endpoint_url=seaweed_place.server.endpoint_url)


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def send(store: S3Store, key: str, data: bytes) -> None:
    """Upload in parts; what the store says of it must be right."""
    async with store.upload(key) as upload:
        for at in range(0, len(data), PART_BYTES):
            await upload.write(memoryview(data)[at : at + PART_BYTES])
    assert upload.crc32c == crc32c.crc32c(data)


async def ranges(store: S3Store, key: str, size: int, step: int = 2 * MIB) -> bytes:
    """The whole object by ranges, many at once."""
    asked = [store.get_range(key, at, min(step, size - at)) for at in range(0, size, step)]
    return b"".join(await asyncio.gather(*asked))


async def small_things(store: S3Store, name: str) -> None:
    """Everything a sync does beside packs, which must come out right whatever happens."""
    assert await store.create(f"points/{name}", b"mine") is True
    assert await store.create(f"points/{name}", b"another's") is False
    lease = await store.replace(f"lease/{name}", b"1", etag=None)
    assert lease is not None
    assert await store.replace(f"lease/{name}", b"2", etag=lease.etag) is not None
    assert await store.replace(f"lease/{name}", b"3", etag=lease.etag) is None
    assert await store.get(f"lease/{name}") == b"2"
    assert [info.key async for info in store.list(f"points/{name}")] == [f"points/{name}"]
    await store.put(f"gone/{name}", b"x")
    await store.delete([f"gone/{name}"])
    assert await store.head(f"gone/{name}") is None


async def test_a_third_of_all_connections_is_reset(make: Make, proxy: Proxy, plain: S3Store) -> None:
    proxy.faults.reset_share, proxy.faults.reset_within = 0.3, 10 * MIB
    data = noise(3 * PART_BYTES + 1000)
    for n in range(3):
        await send(make(), f"up/{n}", data)
        assert await plain.get(f"up/{n}") == data
    proxy.faults.reset_within = 3 * MIB
    assert await ranges(make(), "up/0", len(data)) == data
    proxy.faults.reset_within = 2000
    for n in range(10):  # new stores: connections that live are used again, so few are made
        await small_things(make(), str(n))
    assert proxy.counts["reset"] >= 3
    assert await plain.stale_uploads("up/") == []


async def test_slow_down_bursts(make: Make, proxy: Proxy, plain: S3Store) -> None:
    store = make()
    data = noise(4 * PART_BYTES)
    await small_things(store, "before")
    window = store._connection.window
    window.size = 8
    proxy.faults.slow_share = 1.0
    task = asyncio.create_task(send(store, "x", data))
    await asyncio.sleep(1)
    assert window.size == 1 and not task.done()  # halved, again and again
    proxy.faults.slow_share = 0.3
    await task
    await small_things(store, "after")
    assert await plain.get("x") == data
    assert proxy.counts["slowed"] > 5


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("403 Forbidden", "QuotaExceeded"),
        ("400 Bad Request", "XMinioAdminBucketQuotaExceeded"),
        ("507 Insufficient Storage", "XMinioStorageFull"),
    ],
)
async def test_a_full_bucket_is_told_at_once(make: Make, proxy: Proxy, status: str, code: str) -> None:
    store = make()
    await small_things(store, "before")
    proxy.faults.refusals.append(Refusal(b"^PUT ", status, code))
    for work in (send(store, "x", noise(2 * PART_BYTES)), store.create("y", b"1"), store.put("z", b"1")):
        with pytest.raises(StoreError, match=r"no space left|quota or cap") as caught:
            await work  # type: ignore[misc]
        assert not caught.value.retryable and "quota" in str(caught.value)
    assert proxy.counts["refused"] <= 2 + 1 + 1
    proxy.faults.refusals.clear()
    assert await store.head("x") is None and await store.stale_uploads("") == []
    await small_things(store, "after")


async def test_answers_cut_in_the_middle(make: Make, proxy: Proxy, plain: S3Store) -> None:
    store = make()
    data = noise(3 * PART_BYTES)
    await send(plain, "x", data)
    proxy.faults.cut_share = 0.4
    assert await ranges(store, "x", len(data), MIB) == data
    assert await store.get("x") == data
    assert proxy.counts["cut"] > 3
    await send(store, "y", data)
    for n in range(4):
        await small_things(store, str(n))
    assert await plain.get("y") == data


async def test_a_byte_flipped_on_the_way_up(make: Make, proxy: Proxy, plain: S3Store) -> None:
    store = make()
    data = noise(2 * PART_BYTES + 1000)
    for at in (50, 300, 700, 5000, 3 * MIB, PART_BYTES, PART_BYTES + 300):  # heads and bodies
        proxy.faults.flips.append(Flip("up", at))
        proxy.reset_all()  # offsets count from a connection's start
        await send(store, f"up/{at}", data)
        assert await plain.get(f"up/{at}") == data
    proxy.reset_all()
    proxy.faults.flips += [Flip("up", n * MIB, times=10**9) for n in range(1, 500)]
    with pytest.raises(StoreError) as caught:
        await send(store, "always", data)
    assert "other bytes than were sent" in str(caught.value) and caught.value.retryable
    assert await plain.head("always") is None and await plain.stale_uploads("") == []


@pytest.mark.filterwarnings("ignore:tzname")  # of a date that was damaged
async def test_a_byte_flipped_on_the_way_down(make: Make, proxy: Proxy, plain: S3Store) -> None:
    store = make()
    data = noise(MIB)
    await plain.put("x", data)
    for at in [*range(0, 400, 7), 5000, MIB // 2]:
        proxy.faults.flips.append(Flip("down", at))
        proxy.reset_all()
        try:
            assert await store.get("x") == data, at
        except StoreError as error:  # a status that means something else, a length that is another
            assert at < 400, error
    await small_things(store, "after")


async def test_accepts_and_never_answers(make: Make, proxy: Proxy, plain: S3Store) -> None:
    proxy.faults.mute = True
    began = time.monotonic()
    with pytest.raises(StoreError, match="did not answer in time") as caught:
        await make().put("x", b"1")
    assert caught.value.retryable and 0.7 < time.monotonic() - began < QUICK.first_s + 2.5
    store = make()
    task = asyncio.create_task(store.create("x", b"1"))
    await asyncio.sleep(0.3)
    proxy.faults.mute = False
    assert await task and await plain.get("x") == b"1"


async def test_stalls_in_the_middle(make: Make, proxy: Proxy, plain: S3Store) -> None:
    store = make()
    data = noise(3 * PART_BYTES)
    proxy.faults.up_bytes_s = proxy.faults.down_bytes_s = 16.0 * MIB
    for work in (send(store, "x", data), ranges(store, "x", len(data))):
        task = asyncio.create_task(work)  # type: ignore[arg-type]
        await asyncio.sleep(0.5)
        proxy.faults.freeze = True
        await asyncio.sleep(1.2)
        assert not task.done()
        proxy.faults.freeze = False
        got = await task
        assert got in (None, data)
    assert await plain.get("x") == data


@pytest.mark.parametrize("kind", ["refuse", "drop"])
async def test_a_blackout_shorter_than_the_deadline(make: Make, proxy: Proxy, plain: S3Store, kind: Any) -> None:
    told: list[tuple[str, int, float]] = []
    store = make(on_retry=lambda *what: told.append(what))
    data = noise(6 * PART_BYTES)
    await small_things(store, "before")
    proxy.faults.up_bytes_s = 40.0 * MIB
    task = asyncio.create_task(send(store, "x", data))
    await asyncio.sleep(0.5)
    await asyncio.to_thread(proxy.blackout, kind, for_s=2.8)
    await asyncio.sleep(2.4)
    # A refused connection is no sign of congestion; whether one that broke is seen before it depends on aiohttp.
    assert not task.done() and (store._connection.window.size == 1 or kind == "refuse")
    await task
    assert await plain.get("x") == data
    assert len(told) == 1 and "s3://" in told[0][0]  # not once a try
    await small_things(store, "after")


@pytest.mark.parametrize("kind", ["refuse", "drop"])
async def test_a_blackout_longer_than_the_deadline(make: Make, proxy: Proxy, plain: S3Store, kind: Any) -> None:
    impatient = Patience(deadline_s=0.8, stall_s=0.5, connect_s=0.5, pause_s=0.02, most_s=0.2)
    store = make(patience=impatient)
    await small_things(store, "before")
    proxy.faults.up_bytes_s = 40.0 * MIB
    data = noise(6 * PART_BYTES)
    task = asyncio.create_task(send(store, "x", data))
    await asyncio.sleep(0.4)
    await asyncio.to_thread(proxy.blackout, kind)
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        await task
    assert caught.value.retryable and caught.value.exit_code == 4
    assert "s3://tests/" in str(caught.value) and "check" in str(caught.value)
    with pytest.raises(StoreError) as caught:
        await store.head("x")  # what comes later does not wait as long again
    assert not isinstance(caught.value, NotFoundError) and time.monotonic() - began < 6
    assert await plain.head("x") is None
    await asyncio.to_thread(proxy.restore)
    for tries in range(30):  # it has little patience, whatever the server is busy with
        try:
            await send(store, "x", data)
            break
        except StoreError as error:
            assert error.retryable and tries < 29
    assert await plain.get("x") == data


@pytest.mark.slow
async def test_the_server_is_killed_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow, because SeaweedFS takes the first write a quarter of a minute after it was killed."""
    seaweed = Seaweed(tmp_path)
    try:
        seaweed.start()
        make_bucket(seaweed.server, "tests")
        for name, value in seaweed.server.environment.items():
            monkeypatch.setenv(name, value)
        patience = Patience(deadline_s=60, stall_s=5, connect_s=1, pause_s=0.05, most_s=0.5)
        store = S3Store("tests", "p", endpoint_url=seaweed.server.endpoint_url, patience=patience)
        data = noise(6 * PART_BYTES)
        await send(store, "before", data)
        task = asyncio.create_task(send(store, "x", data))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(seaweed.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(seaweed.start, wait=False)
        await task
        assert await store.get("x") == data and await store.get("before") == data
        await small_things(store, "after")
        await store.close()
    finally:
        seaweed.kill()


async def test_a_clock_that_is_off(make: Make, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    real = botocore.auth.get_current_datetime
    for off_s in (1200.0, -1200.0, 90_000.0):
        monkeypatch.setattr(aws_session, "clock", lambda off_s=off_s: time.time() + off_s)
        monkeypatch.setattr(
            botocore.auth, "get_current_datetime", lambda *a, off_s=off_s: real(*a) + datetime.timedelta(seconds=off_s)
        )
        store = make()
        await small_things(store, f"off{off_s:.0f}")
        assert abs(store._connection._session.clock_shift_s + off_s) < 5
        before = proxy.counts["requests"]
        await store.put("x", b"1")
        assert proxy.counts["requests"] == before + 1  # signed right at once
        assert await store.head("y") is None
