"""The contract of store/contract.py, against every implementation and server."""

# ruff: noqa: ASYNC220

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import crc32c
import pytest

from rigs.paths import as_here
from warmspare.errors import NotFoundError, StoreError
from warmspare.store.contract import PART_BYTES, Store

Opener = Callable[[], Store]
MIB = 1 << 20


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


async def keys(store: Store, prefix: str = "", start_after: str = "") -> list[str]:
    return [info.key async for info in store.list(prefix, start_after=start_after)]


async def upload(store: Store, key: str, data: bytes) -> int:
    async with store.upload(key) as up:
        for at in range(0, len(data), PART_BYTES):
            await up.write(data[at : at + PART_BYTES])
    assert up.bytes == len(data)
    return up.crc32c


async def test_a_listing_begins_behind_any_key(store: Store) -> None:
    """Also where a server sorts keys by their parts: `a/b` before `a-b`."""
    names = ["000000000", "0000000009.json", "0000000010-a.json", "0000000010.json", "0000000010/x", "0000000011.json"]
    names += ["000000001/y", "00000000100.json", "0000000010=b", "9.json", "a-b", "a.b", "a/b"]
    for name in names:
        await store.put(f"q/p/{name}", b"x")
    there = sorted(f"q/p/{name}" for name in names)
    for start in [*there, "q/p/", "q/p/0", "q/p/0000000010", "q/p/00000000105.json", "q/p/z", "q/o", "q/"]:
        assert await keys(store, "q/p/", start) == [key for key in there if key > start], start


async def test_reading_what_does_not_exist(store: Store) -> None:
    assert await keys(store) == []
    assert await store.head("vms/a/x") is None
    assert await store.stale_uploads("") == []
    with pytest.raises(NotFoundError) as caught:
        await store.get("vms/a/x")
    assert "vms/a/x" in str(caught.value)
    with pytest.raises(NotFoundError):
        await store.get_range("vms/a/x", 0, 1)
    with pytest.raises(NotFoundError):
        await store.get_range("vms/a/x", 0, 0)
    await store.delete(["vms/a/x", "y"])
    assert await keys(store) == []


async def test_put_and_read(store: Store) -> None:
    data = noise(10_000)
    put = await store.put("vms/a/x", data)
    head = await store.head("vms/a/x")
    assert head is not None
    assert (put.key, put.bytes, head.key, head.bytes) == ("vms/a/x", 10_000, "vms/a/x", 10_000)
    assert put.etag == head.etag
    assert head.crc32c in (None, crc32c.crc32c(data))
    assert abs(head.modified_s - await store.now()) < 30
    assert await store.get("vms/a/x") == data
    assert await store.get("vms/a/x", max_bytes=10_000) == data
    with pytest.raises(StoreError, match="10000 bytes where at most 9999"):
        await store.get("vms/a/x", max_bytes=9_999)
    await store.put("vms/a/x", b"other")
    assert await store.get("vms/a/x") == b"other"
    await store.put("vms/a/empty", b"")
    assert await store.get("vms/a/empty") == b""


async def test_ranges(store: Store) -> None:
    data = noise(1000)
    await store.put("x", data)
    for offset, length in [(0, 1000), (0, 1), (999, 1), (10, 500), (0, 0), (1000, 0)]:
        assert await store.get_range("x", offset, length) == data[offset : offset + length]
    for offset, length in [(0, 1001), (999, 2), (1000, 1), (5000, 10), (1001, 0)]:
        with pytest.raises(StoreError, match="shorter") as caught:
            await store.get_range("x", offset, length)
        assert not isinstance(caught.value, NotFoundError)
    with pytest.raises(ValueError):
        await store.get_range("x", -1, 5)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/./b", "a b", "a~b", "ä", "a" * 701, "a\n"])
async def test_keys_outside_the_contract_are_refused(store: Store, key: str) -> None:
    with pytest.raises(ValueError):
        await store.put(key, b"")
    with pytest.raises(ValueError):
        await store.get(key)
    assert await keys(store) == []


async def test_every_allowed_character(store: Store) -> None:
    names = [
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ/abcdefghijklmnopqrstuvwxyz/0123456789-_.=",
        ".tmp/upload",
        "=2E=2E/..x",
        "a/b=20c/.d",
        "-/--",
        "_/=",
        "...",
        "a/.../b",
        "/".join(["n" * 150] * 3) + "/0123456789.json",
    ]
    for name in names:
        assert await store.create(name, name.encode())
    for name in names:
        assert await store.get(name) == name.encode()
        assert await keys(store, name) == [name]
    assert await keys(store) == sorted(names)
    await store.delete(names)
    assert await keys(store) == []


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 20 * MIB])
async def test_upload_round_trip(store: Store, size: int) -> None:
    data = noise(size)
    assert await upload(store, "vms/a/packs/r/000001.pack", data) == crc32c.crc32c(data)
    head = await store.head("vms/a/packs/r/000001.pack")
    assert head is not None and head.bytes == size and head.crc32c in (None, crc32c.crc32c(data))
    got = b"".join(
        [await store.get_range(head.key, at, min(3 * MIB, size - at)) for at in range(0, max(size, 1), 3 * MIB)]
    )
    assert got == data
    assert await store.get(head.key) == data
    assert await store.stale_uploads("") == []


async def test_upload_takes_any_buffer(store: Store) -> None:
    parts = [bytearray(noise(PART_BYTES)), memoryview(noise(PART_BYTES, 2)), noise(5, 3)]
    async with store.upload("x") as up:
        for part in parts:
            await up.write(part)
    assert await store.get("x") == b"".join(bytes(part) for part in parts)


async def test_upload_refuses_wrong_parts(store: Store) -> None:
    with pytest.raises(ValueError, match="part"):
        async with store.upload("x") as up:
            await up.write(b"short")
            await up.write(b"after it")
    with pytest.raises(ValueError, match="part"):
        async with store.upload("x") as up:
            await up.write(bytes(PART_BYTES + 1))
    assert await keys(store) == []
    assert await store.stale_uploads("") == []


@pytest.mark.parametrize("size", [100, PART_BYTES + 100])
async def test_upload_onto_an_existing_object(store: Store, size: int) -> None:
    data = noise(size)
    await upload(store, "x", data)
    assert await upload(store, "x", data) == crc32c.crc32c(data)  # identical: fine
    with pytest.raises(StoreError, match="another object"):
        await upload(store, "x", noise(size, 2))
    with pytest.raises(StoreError, match="another object"):
        await upload(store, "x", noise(size + 1))
    assert await store.get("x") == data
    assert await store.stale_uploads("") == []


@pytest.mark.parametrize("parts", [0, 1, 3])
async def test_an_upload_left_by_an_error_leaves_nothing(store: Store, parts: int) -> None:
    with pytest.raises(RuntimeError, match="stop here"):
        async with store.upload("vms/a/x") as up:
            for number in range(parts):
                await up.write(noise(PART_BYTES, number))
            raise RuntimeError("stop here")
    assert await keys(store) == []
    assert await store.stale_uploads("") == []


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.1])
async def test_a_cancelled_upload_leaves_nothing(store: Store, after_s: float) -> None:
    started = asyncio.Event()

    async def run() -> None:
        async with store.upload("vms/a/x") as up:
            for number in range(2):
                await up.write(noise(PART_BYTES, number))
            started.set()
            for number in itertools.count(2):
                await up.write(noise(PART_BYTES, number % 3))
                if number > 8:
                    await asyncio.sleep(60)

    task = asyncio.create_task(run())
    await started.wait()
    await asyncio.sleep(after_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(store) == []
    assert await store.stale_uploads("") == []


async def test_concurrent_uploads(store: Store) -> None:
    blobs = {f"vms/a/packs/r/{n:06d}.pack": noise(PART_BYTES * 2 + n, n) for n in range(4)}
    async with asyncio.TaskGroup() as group:
        for key, data in blobs.items():
            group.create_task(upload(store, key, data))
    assert await keys(store, "vms/a/packs/") == sorted(blobs)
    for key, data in blobs.items():
        assert await store.get(key) == data


async def test_create_only_if_absent(store: Store, opener: Opener) -> None:
    assert await store.create("vms/a/points/0000000001.json", b"mine") is True
    assert await store.create("vms/a/points/0000000001.json", b"mine") is True  # identical: ours
    assert await opener().create("vms/a/points/0000000001.json", b"other") is False
    assert await opener().create("vms/a/points/0000000001.json", b"mine and more") is False
    assert await store.get("vms/a/points/0000000001.json") == b"mine"


def racing_rounds(store: Store) -> int:
    """SeaweedFS looks once a second whether its lock on a contended key is free, so one round takes long."""
    return 1 if store.uri.startswith("s3:") else 8


async def test_racing_creates_have_one_winner(opener: Opener) -> None:
    stores = [opener(), opener()]
    for store in stores:
        await store.head("warm")  # connected, so that the race is one
    for round_number in range(racing_rounds(stores[0])):
        key = f"vms/a/points/{round_number:010d}.json"
        results = await asyncio.gather(*(stores[n % 2].create(key, f"sender {n}".encode()) for n in range(16)))
        assert sum(results) == 1
        assert await stores[0].get(key) == f"sender {results.index(True)}".encode()


async def test_replace(store: Store) -> None:
    assert await store.replace("l", b"0", etag="no such tag") is None
    assert await store.head("l") is None
    first = await store.replace("l", b"1", etag=None)
    assert first is not None and first.bytes == 1
    assert await store.replace("l", b"2", etag=None) is None
    head = await store.head("l")
    assert head is not None and head.etag == first.etag
    second = await store.replace("l", b"2", etag=first.etag)
    assert second is not None and second.etag != first.etag
    assert abs(second.modified_s - await store.now()) < 30
    assert await store.replace("l", b"3", etag=first.etag) is None
    assert await store.get("l") == b"2"
    listed = [info async for info in store.list("l")]
    assert [info.etag for info in listed] == [second.etag]
    await store.delete(["l"])
    assert await store.replace("l", b"4", etag=second.etag) is None
    assert await store.head("l") is None


async def test_racing_replaces_have_one_winner(opener: Opener) -> None:
    stores = [opener(), opener()]
    info = await stores[0].replace("l", b"start", etag=None)
    await stores[1].head("l")
    for round_number in range(racing_rounds(stores[0])):
        assert info is not None
        results = await asyncio.gather(
            *(stores[n % 2].replace("l", f"{round_number}.{n}".encode(), etag=info.etag) for n in range(4))
        )
        won = [n for n, result in enumerate(results) if result is not None]
        assert len(won) == 1
        assert await stores[0].get("l") == f"{round_number}.{won[0]}".encode()
        info = results[won[0]]


async def test_list_is_in_the_order_of_whole_keys(store: Store) -> None:
    names = [
        "q/a/b",
        "q/a-b",
        "q/a.b",
        "q/a=b",
        "q/a0",
        "q/a/c/d",
        "q/A",
        "q/_",
        "q/a-/x",
        "p",
        "r/1",
        "q-/z",
    ]
    for name in names:
        await store.put(name, b"1")
    assert await keys(store) == sorted(names)
    for prefix in [
        "q",
        "q/",
        "q/a",
        "q/a/",
        "q/a-",
        "q/a/c",
        "q/a/c/",
        "q/a/c/d",
        "nothing",
        "q/a/b/",
        "q/b",
    ]:
        assert await keys(store, prefix) == sorted(n for n in names if n.startswith(prefix)), prefix
    for after in [*names, "q/a", "q/a/", "q/", "q/aa", "zzz", "0"]:
        assert await keys(store, "q/", after) == sorted(n for n in names if n.startswith("q/") and n > after)
        assert await keys(store, "", after) == sorted(n for n in names if n > after), after
    with pytest.raises(ValueError):
        await keys(store, "../")


async def test_list_and_delete_beyond_a_page(store: Store) -> None:
    names = [f"vms/a/points/{n:010d}.json" for n in range(1100)]
    limit = asyncio.Semaphore(16)

    async def put(name: str) -> None:
        async with limit:
            await store.put(name, b"x")

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(put(name))
    await store.put("vms/b/y", b"x")
    assert await keys(store, "vms/a/points/") == names
    assert await keys(store, "vms/a/points/", names[1050]) == names[1051:]
    assert await keys(store, "vms/a/points/", names[3]) == names[4:]
    await store.delete([*names, "vms/a/points/absent"])
    assert await keys(store) == ["vms/b/y"]


async def test_listing_hides_unfinished_uploads(store: Store) -> None:
    async with store.upload("vms/a/x") as up:
        await up.write(noise(PART_BYTES))
        await up.write(noise(PART_BYTES))
        assert await keys(store) == []
        assert await store.head("vms/a/x") is None
        stale = await store.stale_uploads("vms/a/")
        assert [s.key for s in stale] == ["vms/a/x"]
        assert await store.stale_uploads("vms/b/") == []
    assert await keys(store) == ["vms/a/x"]


_UPLOADER = """
import asyncio, sys
from warmspare.store.contract import PART_BYTES
from warmspare.store.opening import open_store

async def main():
    store = open_store(sys.argv[1])
    async with store.upload("vms/a/packs/r/000001.pack") as up:
        for n in range(3):
            await up.write(bytes([n]) * PART_BYTES)
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_killed_uploader_leaves_a_stale_upload(uri: str, store: Store) -> None:
    before = time.time()
    environment = as_here()
    process = subprocess.Popen([sys.executable, "-c", _UPLOADER, uri], stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    assert await keys(store) == []
    stale = await store.stale_uploads("vms/")
    assert [s.key for s in stale] == ["vms/a/packs/r/000001.pack"]
    if stale[0].began_s > 1.5e9:  # moto says that every upload began in 2010
        assert before - 2 < stale[0].began_s < time.time() + 2
    await upload(store, "vms/a/packs/r/000001.pack", b"another run's")
    await store.abort_upload(stale[0])
    await store.abort_upload(stale[0])  # gone: fine
    assert await store.stale_uploads("") == []
    assert await keys(store) == ["vms/a/packs/r/000001.pack"]


async def test_now_goes_on(store: Store) -> None:
    first = await store.now()
    await asyncio.sleep(1.1)
    second = await store.now()
    assert 0.05 < second - first < 10
    assert abs(second - time.time()) < 5
