"""A replica that is far behind fetches each frame once, however many chunks the manifest has that says it all."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from retain.simulated import VM, Guest, Simulation
from warmspare.apply.receiver import Receiver
from warmspare.observe.events import Events
from warmspare.repository.history import fold_rows

GUEST = Guest(pages=2048, database=1024, log=256, hot_pages=16, hot=6, wide=10, logged=4)


@pytest.mark.parametrize("begin", ["1", None])
async def test_each_frame_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: str | None) -> None:
    monkeypatch.setattr(fold_rows, "MAX_RECORDS", 48)  # hundreds of blocks in a chunk are many thousand in a real one
    world = Simulation(tmp_path / "home", GUEST, monkeypatch)
    await world.begin()
    for _ in range(30):
        await world.point()
    replica = tmp_path / "replica.raw"
    if begin:
        await Receiver(world.store, VM, replica, Events()).run(at=begin)
    asked: Counter[tuple[str, int]] = Counter()
    fetch, damage = world.store.get_range, random.Random(7)

    async def get_range(key: str, offset: int, length: int) -> bytes:
        asked[key, offset] += 1
        await asyncio.sleep(0)
        data = await fetch(key, offset, length)
        return data if begin or damage.random() > 0.1 else data[:-1] + bytes([data[-1] ^ 1])

    monkeypatch.setattr(world.store, "get_range", get_range)
    done = await Receiver(world.store, VM, replica, Events()).run()
    assert np.array_equal(np.fromfile(replica, dtype=np.uint8), world.pages.reshape(-1))
    if begin:
        assert len(asked) >= 29 and set(asked.values()) == {1} and not done.blocks_rebuilt
    else:
        assert done.blocks_rebuilt, "what was damaged on the way is asked for again, not taken from the shelf"
