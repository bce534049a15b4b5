"""A VDDK that fails, hangs, crashes or lies: exact all the same, or a clear error, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from fault.vddk_bench import Bench, read_all
from fault.vddk_campaign import ANSWERS, PASSWORD, SETTINGS, World, children
from rig import MIB
from warmspare.errors import SourceError
from warmspare.model.extents import normalise, whole_disk
from warmspare.model.units import BLOCK_BYTES
from warmspare.source.ports import Hole
from warmspare.source.vddk.vddk_session import VddkSession

ROUNDS = int(os.environ.get("WARMSPARE_VDDK_ROUNDS", "0")) or 210


def campaign(home: Path, seed: int, rounds: int) -> World:
    world = World(home, seed)
    for number in range(rounds):
        world.round(number)
    print(world.report.table())
    return world


def test_random_faults(tmp_path: Path) -> None:
    report = campaign(tmp_path, 31, 12).report
    assert sum(report.ends.values()) == 12 and report.ends["identical"] >= 6
    assert sum(report.hits.values()) >= 10


@pytest.mark.slow
def test_random_faults_at_every_call(tmp_path: Path) -> None:
    report = campaign(tmp_path, 32, ROUNDS).report
    assert set(report.hits) == {*ANSWERS, "(SIGKILL)"}, report.table()


RULES = {
    "reconnect": "at ReadAsync 9 fail 14011",
    "refused at once": "at ReadAsync 9 error 14010",
    "short of memory": "at ReadAsync 3 fail 2",
    "names to resolve": "at ConnectEx 2 error 14014",
    "crash": "at ReadAsync 11 crash",
    "panic": "at Open 2 panic no more",
    "quiet end": "at GetInfo 2 exit",
    "hang in a call": "at Open 2 hang",
    "hang in a read": "at ReadAsync 11 hang",
    "read that was none": "at ReadAsync 7 short",
    "completed twice": "at ReadAsync 7 nonsense",
    "short list": "at QueryAllocatedBlocks 1 short",
    "short coarse list": "at QueryAllocatedBlocks 2 short",
    "list of nonsense": "from QueryAllocatedBlocks 1 nonsense",
    "list refused": "at QueryAllocatedBlocks 1 error 14009",
    "hang in the list": "at QueryAllocatedBlocks 1 hang",
    "no capacity": "at GetInfo 2 nonsense",
    "no transport": "at GetTransportMode 2 nonsense",
}


@pytest.mark.parametrize("name", list(RULES))
def test_a_fault_once_costs_only_time(tmp_path: Path, name: str) -> None:
    world = World(tmp_path, 33)
    world.round(0, RULES[name])
    assert world.report.ends == {"identical": 1}
    assert sum(world.report.hits.values()) >= 1


@pytest.mark.parametrize(
    "rule",
    [
        "from ReadAsync 5 fail 14009",
        "from Open 1 error 16014",
        "from ReadAsync 1 crash",
        "from GetInfo 2 short",
        "from ReadAsync 3 short",
        "at ConnectEx 1 error 18000",
    ],
)
def test_a_fault_that_stays_is_a_source_error(tmp_path: Path, rule: str) -> None:
    world = World(tmp_path, 34)
    world.round(0, rule)
    assert world.report.ends == {"Source error": 1}


# -- what each failure leads to ---------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("rule", ["at ReadAsync 30 crash", "at ReadAsync 30 fail 14011", "at ReadAsync 30 hang"])
async def test_what_was_read_is_kept(bench: Bench, rule: str) -> None:
    bench.standin.script(rule)
    async with bench.source() as source:
        assert await read_all(source) == bench.image.read_bytes()
    assert len(bench.retries()) == 1
    again = bench.standin.counts()["ReadAsync"] - 40
    assert 1 <= again <= SETTINGS.requests, "more was read again than was in flight"


async def test_spans_that_are_held_survive_the_reader(bench: Bench) -> None:
    """A span given out is good until it is released, even when its reader died and another took over."""
    held, number = [], 0
    async with bench.source() as source:
        expected = bench.image.read_bytes()
        async for item in source.read(whole_disk(source.capacity_bytes)):
            assert not isinstance(item, Hole)
            held.append(item)
            number += 1
            if number == 5:
                os.kill(children()[0], signal.SIGKILL)
            if number % 10 == 0:
                for span in held:
                    at = int(span.blocks[0]) * BLOCK_BYTES
                    assert bytes(span.data) == expected[at : at + len(span.data)]
                    span.release()
                held.clear()
    assert number == 40
    assert len(bench.retries()) == 1 and "SIGKILL" in bench.retries()[0]


async def test_a_library_short_of_memory_is_asked_for_less(bench: Bench) -> None:
    bench.standin.script("at ReadAsync 3 fail 2\nat ReadAsync 12 fail 2")
    async with bench.source() as source:
        assert await read_all(source) == bench.image.read_bytes()
        session: VddkSession = source._session
        assert (session.requests, session.request_bytes) == (2, MIB // 4)
    assert bench.standin.counts()["ReadAsync"] > 100


async def test_a_login_that_is_refused_is_not_tried_again(bench: Bench) -> None:
    bench.standin.expect(password="another")
    with pytest.raises(SourceError, match="VixDiskLib_ConnectEx") as caught:
        async with bench.source():
            pass
    assert not caught.value.retryable
    assert bench.standin.counts()["ConnectEx"] == 1
    assert PASSWORD not in str(caught.value)


async def test_an_idle_handle_is_kept_alive(bench: Bench) -> None:
    async def dawdle(number: int) -> None:
        if number == 20:
            await asyncio.sleep(0.8)

    bench.standin.script("idle-drop 0.3")
    async with bench.source(replace(SETTINGS, keep_alive_s=0.05)) as source:
        assert await read_all(source, dawdle) == bench.image.read_bytes()
    assert not bench.retries()
    assert bench.standin.counts()["Read"] >= 5


async def test_a_handle_that_was_dropped_is_opened_again(bench: Bench) -> None:
    async def dawdle(number: int) -> None:
        if number == 20:
            await asyncio.sleep(0.8)

    bench.standin.script("idle-drop 0.3")
    async with bench.source(replace(SETTINGS, keep_alive_s=60.0)) as source:
        assert await read_all(source, dawdle) == bench.image.read_bytes()
    assert len(bench.retries()) == 1 and "14010" in bench.retries()[0]
    assert bench.standin.counts()["Open"] == 3


async def test_no_more_in_flight_than_allowed(bench: Bench) -> None:
    """Every read takes 20 ms; 40 reads, 8 in flight, are 5 turns."""
    bench.standin.script("latency 20")
    order: list[int] = []
    async with bench.source(replace(SETTINGS, requests=8)) as source:
        async for item in source.read(whole_disk(source.capacity_bytes)):
            assert not isinstance(item, Hole)
            order.append(int(item.blocks[0]))
            item.release()
    assert order == sorted(order) and len(order) == 40
    bench.standin.check()


async def test_small_extents_share_spans(bench: Bench) -> None:
    blocks = list(range(0, 600, 3))
    async with bench.source() as source:
        spans = 0
        expected = bench.image.read_bytes()
        async for item in source.read(normalise([b * BLOCK_BYTES for b in blocks], [BLOCK_BYTES] * len(blocks))):
            assert not isinstance(item, Hole)
            spans += 1
            for row, block in enumerate(item.blocks.tolist()):
                at = block * BLOCK_BYTES
                assert item.data[row * BLOCK_BYTES : (row + 1) * BLOCK_BYTES] == expected[at : at + BLOCK_BYTES]
            item.release()
    assert spans <= 2 * len(blocks) / 16, "a span of its own for each block"
    assert bench.standin.counts()["ReadAsync"] == len(blocks)


async def test_another_disk_under_the_same_path(bench: Bench) -> None:
    async def swap(number: int) -> None:
        if number == 2:
            os.truncate(bench.image, 41 * MIB)

    bench.standin.script("at ReadAsync 20 crash")
    with pytest.raises(SourceError, match="had 41943040 bytes"):
        async with bench.source() as source:
            await read_all(source, swap)


async def test_a_reading_given_up_leaves_nothing(bench: Bench) -> None:
    async with bench.source() as source:
        reading = source.read(whole_disk(source.capacity_bytes))
        item = await anext(reading)
        assert not isinstance(item, Hole)
        await reading.aclose()
        item.release()
        assert await read_all(source) == bench.image.read_bytes()  # and it can be begun again
    bench.standin.check()
