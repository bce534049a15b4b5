"""What the stand-in answers, by a client that shares no declaration with it."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from interop.interop_world import SECTORS, World
from interop.vddk_client import ASYNC, SECTOR, SESSION_ID, Client, Completions, ConnectParams, VddkError
from rigs.paths import TESTS
from standin import CALLS, TOTAL, Standin

LOGIN = {"serverName": "vc.example", "userName": "backup", "password": "s3cret-Zq9", "vmxSpec": "moref=vm-7"}


def content(world: World) -> bytes:
    return world.image.read_bytes()[: SECTORS * SECTOR]


def ranges() -> list[tuple[int, int]]:
    """(start, sectors): all of it in pieces, the first and last sector, and some anywhere."""
    rng = random.Random(7)
    some = [(start, rng.randrange(1, SECTORS - start + 1)) for start in rng.sample(range(SECTORS), 20)]
    whole = [(start, min(2048, SECTORS - start)) for start in range(0, SECTORS, 2048)]
    return [*whole, (0, 1), (SECTORS - 1, 1), (0, SECTORS), *some]


def read_async(client: Client, handle: object, wanted: list[tuple[int, int]], depth: int) -> list[bytes]:
    """Each range by ReadAsync, so many in flight, with a Wait after each lot."""
    out = []
    for lot in (wanted[at : at + depth] for at in range(0, len(wanted), depth)):
        done = Completions()
        buffers = [ctypes.create_string_buffer(sectors * SECTOR) for _, sectors in lot]
        for tag, ((start, sectors), buffer) in enumerate(zip(lot, buffers, strict=True)):
            client.queue(handle, start, sectors, buffer, done, tag)
        client.check("Wait", handle)
        assert sorted(done.results) == [(tag, 0) for tag in range(len(lot))]
        out += [buffer.raw for buffer in buffers]
    return out


@pytest.mark.parametrize("mode", ["nbd", "nbdssl", "san", "hotadd", "file"])
def test_bytes_are_those_of_the_image(world: World, mode: str) -> None:
    world.standin.modes("file:san:hotadd:nbdssl:nbd")
    client, expected = world.start(), content(world)
    with client.opened(world.path, modes=f"none:{mode}:nbd".encode(), **LOGIN) as handle:
        assert client.raw.GetTransportMode(handle).decode() == mode
        for start, sectors in ranges():
            assert client.read(handle, start, sectors) == expected[start * SECTOR :][: sectors * SECTOR]
        for depth in (1, 8):
            for (start, sectors), got in zip(ranges(), read_async(client, handle, ranges(), depth), strict=True):
                assert got == expected[start * SECTOR :][: sectors * SECTOR]
    client.raw.Exit()
    world.standin.check()


def test_info(world: World) -> None:
    client = world.start()
    with client.opened(world.path, **LOGIN) as handle:
        info = client.info(handle)
    assert info["capacity"] == SECTORS  # the 100 bytes after the last sector do not count
    assert info["uuid"] == b"60 00 c2 91 aa bb cc dd-00 11 22 33 44 55 66 77"
    assert info["numLinks"] == 1 and info["parentFileNameHint"] is None and info["adapterType"] > 0
    assert info["logicalSectorSize"] == info["physicalSectorSize"] == SECTOR
    cylinders, heads, sectors = info["physGeo"]
    assert info["biosGeo"] == info["physGeo"] and 0 < cylinders * heads * sectors <= SECTORS


def test_transport_modes(world: World) -> None:
    world.standin.modes("san:nbd")
    client = world.start()
    assert client.raw.ListTransportModes() == b"san:nbd"
    for asked, chosen in {None: b"san", b"": b"san", b"nbd:san": b"nbd", b"nbdssl:hotadd:nbd": b"nbd"}.items():
        with client.opened(world.path, modes=asked, **LOGIN) as handle:
            assert client.raw.GetTransportMode(handle) == chosen
    with pytest.raises(VddkError) as refused, client.opened(world.path, modes=b"nbdssl", **LOGIN):
        pass
    assert (refused.value.call, refused.value.code) == ("Open", 13)


def test_disks_that_are_there_and_those_that_are_not(world: World) -> None:
    client = world.start()
    params, local = client.params(**LOGIN), client.params()
    remote, here = client.connect(params), client.connect(local)
    gone = world.image.with_name("gone.raw")
    for connection, path in (
        (remote, "[store 1] other.vmdk"),
        (remote, str(world.image)),
        (here, str(gone)),
        (here, "x"),
    ):
        with pytest.raises(VddkError) as refused:
            client.open(connection, path)
        assert refused.value.code == 4
    handle = client.open(here, str(world.image))
    assert client.raw.GetTransportMode(handle) == b"file"
    assert client.read(handle, 0, SECTORS) == content(world)
    uuid = client.info(handle)["uuid"]
    assert len(uuid) == 47 and uuid[23:24] == b"-"
    client.check("Close", handle)
    for connection in (remote, here):
        client.check("Disconnect", connection)
    for each in (params, local):
        client.raw.FreeConnectParams(each)
    client.raw.Exit()
    world.standin.check()


def allocated(image: Path, start: int, sectors: int, chunk: int) -> list[tuple[int, int]]:
    """Which chunks hold data, asked of the file system sector by sector's first data; merged."""
    out: list[tuple[int, int]] = []
    fd = os.open(image, os.O_RDONLY)
    try:
        for at in range(start, start + sectors, chunk):
            try:
                data = os.lseek(fd, at * SECTOR, os.SEEK_DATA)
            except OSError:
                break
            if data < (at + chunk) * SECTOR:
                if out and sum(out[-1]) == at:
                    out[-1] = (out[-1][0], out[-1][1] + chunk)
                else:
                    out.append((at, chunk))
    finally:
        os.close(fd)
    return out


def test_allocated_blocks(world: World) -> None:
    sparse = world.image.with_name("sparse.raw")
    rng = random.Random(8)
    with sparse.open("wb") as file:
        file.truncate(256 << 20)
        for _ in range(40):
            file.seek(rng.randrange(256 << 20))
            file.write(b"data" * rng.randrange(1, 100_000))
        file.truncate(256 << 20)
    hollow = world.image.with_name("hollow.raw")
    with hollow.open("wb") as file:
        file.truncate(64 << 20)
    world.standin.disk("sparse", sparse)
    world.standin.disk("hollow", hollow)
    client = world.start()
    found = 0
    with client.opened("sparse", **LOGIN) as handle:
        total = (256 << 20) // SECTOR
        for chunk in (128, 1000, 2048, 65536):
            whole = total // chunk
            for first, last in ((0, whole), (1, whole), (0, 1), (whole - 1, whole), (whole // 3, whole // 2)):
                start, sectors = first * chunk, (last - first) * chunk
                if sectors:
                    expected = allocated(sparse, start, sectors, chunk)
                    found += len(expected)
                    assert client.blocks(handle, start, sectors, chunk) == expected
    assert found > 100
    with client.opened("hollow", **LOGIN) as handle:
        assert client.blocks(handle, 0, (64 << 20) // SECTOR, 128) == []
    client.raw.Exit()
    world.standin.check()


def test_error_texts(world: World) -> None:
    client = world.start()
    codes = (0, 1, 2, 3, 4, 14006, 14007, 14008, 14009, 14010, 14011, 16000, 16007, 16008, 16014, 18000)
    texts = [client.error_text(code) for code in codes]
    assert len(set(texts)) == len(texts) and all(texts)
    assert client.error_text(14009 | 1 << 40) == client.error_text(14009)
    assert "31234" in client.error_text(31234)
    client.raw.Exit()
    world.standin.check()


def test_failures_have_bits_above_the_code(world: World) -> None:
    client = world.start()
    params = client.params(**LOGIN)
    connection = client.connect(params)
    error = client.raw.Open(connection, b"none", 4, ctypes.byref(ctypes.c_void_p()))
    assert error & 0xFFFF == 4 and error >> 16


def test_writing(world: World) -> None:
    client, expected = world.start(), bytearray(content(world))
    rng = random.Random(9)
    with client.opened(world.path, read_only=False, **LOGIN) as handle:
        for start, sectors in ranges()[:12]:
            data = rng.randbytes(sectors * SECTOR)
            client.check("Write", handle, start, sectors, data)
            expected[start * SECTOR : (start + sectors) * SECTOR] = data
        done = Completions()
        data = rng.randbytes(1 << 20)
        for tag in range(4):  # several may read the same buffer
            assert client.raw.WriteAsync(handle, tag * 2048, 2048, data, done.function, tag) == ASYNC
            expected[tag << 20 : (tag + 1) << 20] = data
        client.check("Wait", handle)
        assert sorted(done.results) == [(tag, 0) for tag in range(4)]
        client.check("Flush", handle)
        assert client.read(handle, 0, SECTORS) == expected
    client.raw.Exit()
    assert content(world) == expected
    world.standin.check()


def test_every_call_of_an_orderly_client(world: World) -> None:
    """Expectations met by user and by session; each function is called and counted; no breach; no secret anywhere."""
    world.standin.modes("nbdssl:nbd")
    world.standin.expect(
        **LOGIN,
        thumbPrint="AA:BB",
        port=443,
        nfcHostPort=902,
        snapshotRef="snapshot-3",
        transportModes="nbd",
        readOnly=False,
        identity="warmspare",
        credType=1,
    )
    client = world.start()
    assert not client.missing
    params = client.params(**LOGIN, thumbPrint="AA:BB", port=443, nfcHostPort=902)
    numbers = [ctypes.c_uint32(9), ctypes.c_uint32(9)]
    client.check("Cleanup", params, *map(ctypes.byref, numbers))
    assert [number.value for number in numbers] == [0, 0]
    client.check("EndAccess", params, b"warmspare")  # what a crashed run left
    client.check("PrepareForAccess", params, b"warmspare")
    connection = client.connect(params, False, snapshot=b"snapshot-3", modes=b"nbd")
    handle = client.open(connection, world.path, 0)
    client.info(handle)
    client.blocks(handle, 0, SECTORS // 128 * 128, 128)
    client.raw.GetTransportMode(handle)
    client.raw.ListTransportModes()
    client.error_text(4)
    sector = client.read(handle, 0, 1)
    client.check("Write", handle, 0, 1, sector)
    done = Completions()
    assert client.raw.WriteAsync(handle, 0, 1, sector, done.function, 0) == ASYNC
    client.check("Wait", handle)
    client.check("Flush", handle)
    read_async(client, handle, [(0, 1)], 1)
    client.check("Close", handle)
    client.check("Disconnect", connection)
    client.check("EndAccess", params, b"warmspare")
    client.raw.FreeConnectParams(params)
    client.raw.Exit()
    world.standin.check()
    counts = world.standin.counts()
    assert all(counts[name] >= 1 for name in CALLS)
    assert counts[TOTAL] == sum(counts[name] for name in CALLS) and counts["EndAccess"] == 2
    assert not any(world.standin.hits().values())
    assert any("sectors" in text for _, text in client.said)
    assert not any(LOGIN["password"] in text for _, text in client.said)
    for path in world.standin.home.iterdir():
        if path.is_file() and path.name != "standin.conf":
            assert LOGIN["password"].encode() not in path.read_bytes()


def test_a_session_in_place_of_a_password(world: World) -> None:
    world.standin.expect(cookie="c00kie", userName="backup", key="k3y", credType=SESSION_ID)
    client = world.start()
    session = {"cookie": "c00kie", "userName": "backup", "key": "k3y", "credType": SESSION_ID, "serverName": "vc"}
    with client.opened(world.path, **session) as handle:
        client.read(handle, 0, 1)
    world.standin.check()


def test_requests_in_flight_wait_together(world: World) -> None:
    world.standin.script("latency 100")
    client = world.start()
    with client.opened(world.path, **LOGIN) as handle:
        begun = time.monotonic()
        read_async(client, handle, [(i, 1) for i in range(3)], 1)
        one_by_one = time.monotonic() - begun
        begun = time.monotonic()
        read_async(client, handle, [(i, 1) for i in range(16)], 16)
        together = time.monotonic() - begun
        begun = time.monotonic()
        client.read(handle, 0, 1)
        assert time.monotonic() - begun >= 0.1
    assert one_by_one >= 0.3
    assert 0.1 <= together < 1.6  # of 16


def test_completions_come_when_due_and_from_another_thread(world: World) -> None:
    world.standin.script("at ReadAsync 1 slow 400")
    client = world.start()
    threads = set()
    done = Completions()
    done.then = lambda tag, result: threads.add(threading.get_native_id())
    with client.opened(world.path, **LOGIN) as handle:
        buffers = [ctypes.create_string_buffer(SECTOR) for _ in range(4)]
        for tag, buffer in enumerate(buffers):
            client.queue(handle, tag, 1, buffer, done, tag)
        client.check("Wait", handle)
        assert sorted(done.results[:3]) == [(1, 0), (2, 0), (3, 0)] and done.results[3] == (0, 0)
    assert threads and threading.get_native_id() not in threads


@pytest.mark.parametrize("mode", ["san", "hotadd", "file"])
def test_the_other_modes_call_back_from_within(world: World, mode: str) -> None:
    world.standin.modes(mode)
    client = world.start()
    threads = []
    done = Completions()
    done.then = lambda tag, result: threads.append(threading.get_native_id())
    with client.opened(world.path, **LOGIN) as handle:
        client.queue(handle, 0, 1, ctypes.create_string_buffer(SECTOR), done, 5)
        assert done.results == [(5, 0)] and threads == [threading.get_native_id()]


def test_bandwidth_is_one_for_all(world: World) -> None:
    world.standin.script("bandwidth 10")
    client = world.start()
    with client.opened(world.path, **LOGIN) as handle:
        begun = time.monotonic()
        read_async(client, handle, [(i * 512, 512) for i in range(16)], 8)
        assert time.monotonic() - begun >= 16 * 512 * 512 / 10e6


def test_counts_go_on_over_processes(world: World) -> None:
    for number in (1, 2):
        done = world.run("c.raw.ListTransportModes(); c.raw.Exit()")
        assert done.returncode == 0, done.stderr
        assert world.standin.counts()["ListTransportModes"] == number
        assert world.standin.counts()[TOTAL] == 3 * number


def test_a_library_of_6_5(world: World, tmp_path: Path) -> None:
    old = Standin(tmp_path / "old", old=True)
    old.disk(world.path, world.image)
    client = Client(old.library)
    assert set(client.missing) == {
        "AllocateConnectParams",
        "Flush",
        "ReadAsync",
        "WriteAsync",
        "Wait",
        "QueryAllocatedBlocks",
        "FreeBlockList",
    }
    with pytest.raises(VddkError) as refused:
        client.init(8, 0)
    assert refused.value.code == 6
    client.init(6, 5)
    params = ConnectParams()
    client.fill(params, **LOGIN)
    connection = client.connect(ctypes.byref(params))
    handle = client.open(connection, world.path)
    assert client.read(handle, 0, SECTORS) == content(world)
    client.check("Close", handle)
    client.check("Disconnect", connection)
    client.raw.Exit()
    old.check()


def test_address_sanitizer_is_content(world: World, tmp_path: Path) -> None:
    """An orderly client, and one that frees a list while a request hangs, in the instrumented library."""
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(runtime).exists():
        pytest.skip("no AddressSanitizer here")
    standin = Standin(tmp_path / "asan", sanitize="address")
    standin.disk(world.path, world.image)
    standin.script("log warn hello\nat ReadAsync 40 hang\nat ReadAsync 41 slow 5000")
    program = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
from interop.vddk_client import *
c = Client({str(standin.library)!r}); c.init()
with c.opened({world.path!r}, serverName="vc") as h:
    c.info(h); c.error_text(3); c.blocks(h, 0, 128 * 64, 128); c.read(h, 0, 5)
    d = Completions()
    buffers = [ctypes.create_string_buffer(4096) for _ in range(39)]
    for i, b in enumerate(buffers): c.queue(h, i, 8, b, d, i)
    c.check("Wait", h)
    late = [ctypes.create_string_buffer(4096) for _ in range(2)]
    for b in late: c.queue(h, 0, 8, b, d, 0)
c.raw.Exit()
assert len(d.results) == 39, d.results
"""
    done = subprocess.run(
        ["env", f"LD_PRELOAD={runtime}", "ASAN_OPTIONS=detect_leaks=0", sys.executable, "-c", program],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "AddressSanitizer" not in done.stderr, done.stderr
    assert [line.split(" ", 2)[2] for line in standin.breaches()] == [
        "Close: 2 asynchronous requests are pending; Wait comes first"
    ]
