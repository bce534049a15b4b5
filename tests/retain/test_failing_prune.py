"""`prune` over a store that fails at each of its requests in turn, beside others, and twice at once: whatever becomes
of the run, every point that is kept has all that it needs, and the next run goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from retain.simulated import VM, Guest, Simulation
from rigs.stores.memory_store import MemoryStore
from rigs.stores.needed import Needs
from warmspare.apply.receiver import Receiver
from warmspare.copy.copier import Copier
from warmspare.errors import LeaseError, StoreError
from warmspare.observe.events import Events
from warmspare.repository.making import make_repository
from warmspare.retain.policy import RetentionPolicy
from warmspare.retain.removal import Prune

SMALL = Guest(pages=384, database=96, log=16, hot_pages=6, hot=3, wide=3, logged=2)
HOUR_S = 3600.0
WAYS = ("before", "after", "refused")  # it is not carried out; or it is, and its answer is lost; or refused for good


def small(home: Path, patch: pytest.MonkeyPatch, **more: Any) -> Simulation:
    return Simulation(home, SMALL, patch, RetentionPolicy(keep_last=2, keep_hourly=3), 4 * HOUR_S, **more)


async def with_a_past(home: Path, patch: pytest.MonkeyPatch) -> Simulation:
    """Points that were let go and are to be removed now, others that are to go, and folds of before beside them."""
    world = small(home, patch)
    await world.begin()
    for number in range(26):
        await world.point()
        if number in (8, 13, 19):
            await world.prune()
    world.now_s += 2 * HOUR_S
    await world.point()
    return world


class Failing(MemoryStore):
    """The request of that number fails, in one of the WAYS. failed: which it was."""

    def __init__(self, of: MemoryStore, number: int, way: str) -> None:
        super().__init__(clock=of.clock)
        whole = of.copy()
        self.objects, self._keys = whole.objects, whole._keys
        self.number, self.way, self.count, self.failed = number, way, 0, ""

    async def _asked(self, method: str, key: str) -> None:
        await super()._asked(method, key)
        self.count += 1
        if self.count == self.number and self.way != "after":
            self._fail(method, key)

    def _fail(self, method: str, key: str) -> None:
        self.failed = f"{method} {key}"
        raise StoreError("the store is gone", where=key, retryable=self.way != "refused")

    async def put(self, key: str, data: bytes) -> Any:
        return await self._lost("put", key, super().put(key, data))

    async def create(self, key: str, data: bytes) -> bool:
        return await self._lost("create", key, super().create(key, data))

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> Any:
        return await self._lost("replace", key, super().replace(key, data, etag=etag))

    async def delete(self, keys: Any) -> None:
        await self._lost("delete", keys[0], super().delete(keys))

    async def _lost(self, method: str, key: str, work: Awaitable[Any]) -> Any:
        done = await work
        if self.way == "after" and self.count == self.number:
            self._fail(method, key)
        return done


async def test_every_request_fails_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one of the ways, which take turns."""
    world = await with_a_past(tmp_path, monkeypatch)
    assert await failures(world, lambda number: [WAYS[number % 3]]) > 80


@pytest.mark.slow
async def test_every_request_fails_once_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await with_a_past(tmp_path, monkeypatch)
    assert await failures(world, lambda number: WAYS) > 250


async def failures(world: Simulation, ways: Callable[[int], Sequence[str]]) -> int:
    """Let each request fail, and prune again; how many failed. ways: in which, by the number of the request."""
    needs, number, failed, began_s = Needs(VM), 0, 0, world.now_s
    whole = Failing(world.store, 0, "before")
    await world.prune(whole)
    kept, count = needs.demand(whole), whole.count
    assert len(kept) < len(needs.demand(world.store)), "nothing went"
    assert len([key for key in whole.objects if "/points/" in key]) < world.made, "nothing was removed"
    for number in range(1, count + 1):
        for way in ways(number):
            store, world.now_s = Failing(world.store, number, way), began_s
            try:
                await world.prune(store)
            except* (StoreError, LeaseError):
                pass
            failed += bool(store.failed)
            told = f"request {number}, {store.failed}, {way}"
            assert set(needs.demand(store)) >= set(kept), told
            store.number, world.now_s = 0, began_s + 200  # a lease that could not be given back has run out
            await world.prune(store)
            assert needs.demand(store) == kept, told
            if failed % 40 == 0:
                await world.materialise(kept, store)
    return failed


@pytest.mark.parametrize("leased", [True, False])
async def test_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leased: bool) -> None:
    """One of them is refused; and where a lease means nothing, nothing is lost all the same."""
    world = await with_a_past(tmp_path, monkeypatch)
    if not leased:

        async def nobody(*_: object) -> None:
            return None

        monkeypatch.setattr(Prune, "_held", nobody)
        monkeypatch.setattr(Prune, "_confirm", nobody)
    needs, ended = Needs(VM), []
    for seed in range(12):
        store = Slow(world.store, random.Random(seed))
        policies = [RetentionPolicy(keep_last=2, keep_hourly=3), RetentionPolicy(keep_last=1 + seed % 4)]
        worlds = [world, small(tmp_path / "other", monkeypatch)]
        for one, policy in zip(worlds, policies, strict=True):
            one.policy, one.now_s = policy, world.now_s
        told = await asyncio.gather(*(one.prune(store) for one in worlds), return_exceptions=True)
        for one in told:
            assert not isinstance(one, BaseException) or isinstance(one, LeaseError), repr(one)
        ended.append(sum(not isinstance(one, BaseException) for one in told))
        kept = needs.demand(store)
        await world.materialise(kept[:1] + kept[-1:], store)
        world.policy = policies[0]
        await world.prune(store)
        needs.demand(store)
    assert 1 in ended, ended


class Slow(MemoryStore):
    """Requests take different times, so that those of several come in any order."""

    def __init__(self, of: MemoryStore, rng: random.Random) -> None:
        super().__init__(clock=of.clock)
        whole = of.copy()
        self.objects, self._keys, self._rng = whole.objects, whole._keys, rng

    async def _asked(self, method: str, key: str) -> None:
        await super()._asked(method, key)
        await asyncio.sleep(self._rng.choice((0, 0, 0.001, 0.003)))


async def test_beside_a_sync_a_follower_and_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = small(tmp_path, monkeypatch, step_s=300.0)
    world.store = Slow(world.store, random.Random(4))
    copied = MemoryStore(clock=lambda: world.now_s)
    await world.begin()
    await make_repository(copied, Events())
    await world.point()
    replica, ended, counts = tmp_path / "replica.raw", asyncio.Event(), {"prune": 0, "apply": 0, "copy": 0}

    async def again(name: str, work: Callable[[], Awaitable[object]]) -> None:
        while not ended.is_set():
            await work()
            counts[name] += 1

    async def copy() -> None:
        await Copier(world.store, copied, tmp_path / "copying", Events()).run()

    async def syncs() -> None:
        for _ in range(60):
            await world.point()
        ended.set()

    needs = Needs(VM)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(syncs())
        tasks.create_task(again("prune", world.prune))
        tasks.create_task(again("copy", copy))
        tasks.create_task(again("apply", lambda: Receiver(world.store, VM, replica, Events()).run()))
    assert min(counts.values()) >= 3, counts
    for _ in range(2):  # what the last run let go is removed by the next
        world.now_s += 5 * HOUR_S
        await world.prune()
    kept = needs.demand(world.store)
    assert len(kept) <= 5 and len([key for key in world.store.objects if "/points/" in key]) == len(kept)
    await world.materialise(kept)
    await Receiver(world.store, VM, replica, Events()).run()
    assert replica.read_bytes() == world.pages.tobytes()
    await copy()
    await world.materialise(needs.demand(copied)[-1:], copied)
