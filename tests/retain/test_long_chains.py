"""What runs every quarter of an hour costs the same however many points there are, and however many were let go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import warmspare
from retain.long_chains import lengthen, move_replica
from retain.simulated import Guest, Simulation
from warmspare.apply.receiver import Receiver
from warmspare.model.ids import VmId
from warmspare.observe.events import Events

CHECKPOINT_BYTES = 1024  # a hundred points have none yet, and each record that is read names it
SMALL = Guest(pages=512, database=64, log=16, hot_pages=6, hot=3, wide=3, logged=2)


async def costs(home: Path, patch: pytest.MonkeyPatch, vm: VmId, points: int) -> dict[str, tuple[int, int]]:
    """(requests, bytes read) of each of the things that run all the time, in a repository of so many points."""
    patch.setattr("retain.simulated.VM", vm)
    world = Simulation(home, SMALL, patch)
    await world.begin()
    await world.point()
    replica = home / "replica.raw"
    await Receiver(world.store, vm, replica, Events()).run()

    async def put(key: str, data: bytes) -> None:
        world.store.keep(key, data)

    head = await lengthen(world.store, vm, points, put)
    world.now_s += points
    (home / "state").rename(home / "old")
    (home / "state").mkdir()
    await world.point()  # without what it knew: it finds the chain again
    move_replica(replica, head)
    patch.setattr("warmspare.store.opening.open_store", lambda uri, **more: world.store)
    found: dict[str, tuple[int, int]] = {}

    async def cost(name: str, work: Callable[[], Awaitable[object]]) -> None:
        world.store.requests.clear()
        world.store.read_bytes = 0
        await work()
        found[name] = sum(world.store.requests.values()), world.store.read_bytes

    place = warmspare.RepositoryPlace("x")
    request = warmspare.PointsRequest(repository=place, vm=vm, last=20)
    await cost("apply", lambda: Receiver(world.store, vm, replica, Events()).run())
    await cost("sync", world.point)
    await cost("points", lambda: warmspare.Engine().run(request, lambda event: None))
    assert replica.exists()
    return found


@pytest.mark.parametrize("vm", ["vm", "50120001-0000-4000-8000-000000000001"])
async def test_the_number_of_points_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vm: VmId) -> None:
    monkeypatch.setattr("rigs.stores.memory_store.PAGE", 100)  # as if there were ten times as many
    few, many = [await costs(tmp_path / str(count), monkeypatch, vm, count) for count in (100, 1600)]
    for name, (requests, read_bytes) in many.items():
        assert requests <= 1.2 * few[name][0], (name, few, many)
        assert read_bytes <= 1.2 * few[name][1] + CHECKPOINT_BYTES, (name, few, many)
