"""Months of one VM's restore points, made and let go as time goes by: how many stay, that they are right, and that the
repository is as large as one that never had the others."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from retain.simulated import DAY_S, MOST_KEPT, QUARTER_S, VM, Guest, Simulation
from rigs.stores.needed import Needs
from rigs.stores.sizes import sizes_of

A_DAY, AN_HOUR = int(DAY_S / QUARTER_S), 4  # points
MOST = 1.15  # times what a repository takes that was only given the kept points


async def live(world: Simulation, days: int, hourly_days: int) -> None:
    """Points and runs of `prune`, once a day and in the last days each hour."""
    needs = Needs(VM)
    await world.begin()
    for number in range(1, days * A_DAY + 1):
        await world.point()
        every = A_DAY if number <= (days - hourly_days) * A_DAY else AN_HOUR
        if number % every == 0:
            await world.prune()
            assert len(needs.demand(world.store)) <= MOST_KEPT, f"after point {number}"
    world.now_s += DAY_S + 3600
    await world.prune()
    kept = needs.demand(world.store)
    assert len(kept) == len([key for key in world.store.objects if "/points/" in key]), "some were not removed"


async def weigh(world: Simulation, checked: int) -> float:
    """Look whether so many points are right, and the oldest and the newest; how many times what it need be it takes."""
    kept = await world.sequences()
    some = random.Random(world.guest.seed).sample(kept, min(checked, len(kept)))
    await world.materialise({*some, kept[0], kept[-1]})
    here, fresh = sizes_of(world.store, VM), sizes_of(await world.fresh(kept), VM)
    print(f"{world.made} points, {len(kept)} kept\n  retained: {here.words()}\n  fresh: {fresh.words()}")
    assert here.live_pages == fresh.live_pages
    return here.total / fresh.total


@pytest.mark.timeout(1200)  # three thousand syncs
async def test_a_month(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Simulation(tmp_path, Guest(), monkeypatch)
    await live(world, 31, 1)
    ratio = await weigh(world, 8)
    assert ratio <= MOST, ratio


@pytest.mark.slow
@pytest.mark.timeout(5400)
async def test_a_year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began_s, cpu_s = time.monotonic(), time.process_time()
    world = Simulation(tmp_path, Guest(), monkeypatch)
    await live(world, int(os.environ.get("WARMSPARE_SIMULATED_DAYS", "365")), 7)
    ratio = await weigh(world, 50)
    took_s = time.monotonic() - began_s
    print(f"  {ratio:.3f} times; {took_s:.0f} s, {time.process_time() - cpu_s:.0f} s of processor time")
    assert ratio <= MOST, ratio
