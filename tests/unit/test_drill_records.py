"""Records of drills, their trend, and who waits for room on a host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from warmspare.errors import FormatError
from warmspare.recover.drills import drill_record
from warmspare.recover.drills.drill_record import DrillRecord, DrillStep
from warmspare.recover.drills.ec2.ec2_lab import lasts_s
from warmspare.recover.drills.qemu.qemu_lab import Room
from warmspare.recover.drills.rules import Rules
from warmspare.recover.drills.trend import COMPARED, trends
from warmspare.recover.failover.plan import VmPlan


def step(**changes: Any) -> DrillStep:
    plain = DrillStep(
        "vm-1",
        "web",
        "1-00000000",
        1,
        "0" * 64,
        "2026-01-01T00:00:00Z",
        1,
        0.0,
        "running",
        "passed",
        "it did",
        0,
        0.0,
        0.0,
        9.0,
        12.0,
        10.0,
        60.0,
        True,
        "/evidence",
        "1" * 64,
    )
    return msgspec.structs.replace(plain, **changes)


def made(*steps: DrillStep, **changes: Any) -> DrillRecord:
    plain = DrillRecord(
        drill_record.FORMAT,
        0,
        "",
        "ec2",
        "test",
        "host",
        "",
        "plan.toml",
        "s3://repo",
        "id",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:01:00Z",
        60.0,
        9.0,
        60.0,
        True,
        "passed",
        0,
        list(steps or (step(),)),
        [],
    )
    return msgspec.structs.replace(plain, **changes)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    chain = drill_record.of(tmp_path / "records")
    done = chain.keep(made(step(vm_name="caf\udce9")))
    assert drill_record.decode(done.path.read_bytes(), "").steps[0].vm_name == "caf\\udce9"
    assert [each.report.number for each in chain.read()[1]] == [1] and not chain.verify().wrong
    assert done.path.name == "00000001-ec2-all.json"
    assert chain.keep(made(vm="a/b")).report.previous == done.sha256


@pytest.mark.parametrize(
    "fields",
    [{"format": 2}, {"kind": "elsewhere"}, {"result": "fine"}, {"seconds": -1}, {"steps": [{}]}, {"number": -1}],
)
def test_a_record_that_somebody_changed_is_none(fields: dict[str, object]) -> None:
    data = json.loads(drill_record.encode(made())) | fields
    with pytest.raises(FormatError):
        drill_record.decode(json.dumps(data).encode(), "there")


def test_any_bytes_are_refused_or_a_record() -> None:
    whole, rng = drill_record.encode(made()), random.Random(3)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(FormatError):
            drill_record.decode(bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data), "there")


def test_the_trend_is_of_those_that_came_up() -> None:
    boots = [30.0, None, 10.0, 12.0, 14.0]  # newest first
    results = ["late", "failed", "passed", "passed", "passed"]
    newest_first = []
    for day, boot, result in zip((9, 8, 7, 6, 5), boots, results, strict=True):
        one = step(boot_seconds=boot, up_seconds=boot, ready_seconds=boot, result=result)
        newest_first.append(made(one, began=f"2026-01-0{day}T00:00:00Z"))
    newest_first.insert(2, made(step(boot_seconds=99.0), kind="qemu"))
    ec2, qemu = trends(newest_first)
    assert (ec2.drills, ec2.passed, ec2.late, qemu.drills) == (5, 3, 1, 1)
    assert (ec2.boot_s, ec2.median_boot_s) == (30.0, 12.0) and qemu.median_boot_s is None
    assert (ec2.last, ec2.last_passed) == ("2026-01-09T00:00:00Z", "2026-01-07T00:00:00Z")
    many = trends([made(step(boot_seconds=float(n))) for n in range(3 * COMPARED)])[0]
    assert many.median_boot_s == (COMPARED + 1) / 2


def test_how_long_an_instance_may_be_needed_goes_by_what_is_asked_for() -> None:
    """Its tag says so, and once that is past another drill ends it."""
    plans = [
        VmPlan("a", "a", ready_s=60),
        VmPlan("b", "b", ready_s=90, delay_s=5),
        VmPlan("c", "c", order=2, ready_s=30),
    ]
    assert lasts_s(plans, lambda vm: Rules(timeout_s=vm.ready_s)) == 95 + 30
    assert lasts_s(plans, lambda _: Rules(timeout_s=7200.0)) == 7205 + 7200


async def test_room_is_given_in_turn_and_one_machine_always_has_some() -> None:
    room, inside, most, served = Room(1000, None), 0, 0, []

    async def machine(number: int, memory_mib: int) -> None:
        nonlocal inside, most
        async with room.taken(memory_mib):
            served.append(number)
            inside += memory_mib
            most = max(most, inside)
            assert inside <= 1000 or inside == memory_mib
            await asyncio.sleep(0.001)
            inside -= memory_mib

    sizes = [400, 400, 400, 5000, 100, 100, 1000, 1]
    async with asyncio.TaskGroup() as tasks:
        for number, size in enumerate(sizes):
            tasks.create_task(machine(number, size))
    assert served == list(range(len(sizes))) and most == 5000


async def test_who_gives_up_waiting_for_room_takes_none_with_it() -> None:
    room = Room(1000, 2)
    async with room.taken(900):
        waiting = [asyncio.ensure_future(_hold(room, 600)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting[1:])
        async with room.taken(1000):
            pass


async def _hold(room: Room, memory_mib: int) -> None:
    async with room.taken(memory_mib):
        await asyncio.sleep(0)
