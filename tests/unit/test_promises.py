"""What is found of stores that keep their promises, and of those that break one; and what follows of it."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from rigs.host.hearing import Record, recorder
from rigs.stores.unkept import (
    AddOnly,
    Boastful,
    Cached,
    Careless,
    Closed,
    Early,
    Late,
    OneTag,
    Rangeless,
    Swapless,
    Unkept,
)
from rigs.stores.vm_fleet import VmFleet, uuid_of
from warmspare.errors import LeaseError, StoreError
from warmspare.model.ids import PointId, vm_key
from warmspare.observe.events import Events
from warmspare.repository.chain import Repository
from warmspare.repository.failover_record import read_journal
from warmspare.repository.making import make_repository
from warmspare.repository.repository_doctor import examine_repository
from warmspare.repository.trust import StoreTrust, prove
from warmspare.store import layout
from warmspare.store.around.passing import PassingStore
from warmspare.store.contract import ObjectInfo, Store
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.lease import Lease
from warmspare.store.promises import AGAIN, Examined, Promise, examine
from warmspare.store.swaps import swap

Breaking = Callable[[Store], Store]


@pytest_asyncio.fixture
async def honest(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    store = DirectoryStore(str(tmp_path / "repository"))
    yield store
    await store.close()


def closed(store: Store, *, unknown: bool) -> Store:
    made = Closed(store)
    made.unknown = unknown
    return made


def swapless(store: Store, *, unknown: bool) -> Store:
    made = Swapless(store)
    made.unknown = unknown
    return made


def states(examined: Examined) -> dict[str, bool | None]:
    return {str(one.promise): one.kept for one in examined.tried}


async def left(store: Store) -> list[str]:
    return [info.key async for info in store.list("")]


async def test_an_honest_store(honest: DirectoryStore) -> None:
    await honest.put("repository.json", b"{}")
    assert states(await examine(honest)) == {
        "create": True,
        "replace": True,
        "read": True,
        "list": True,
        "ranges": True,
        "checksums": None,
        "uploads": None,
        "clock": True,
        "delete": True,
    }
    assert await left(honest) == ["repository.json"]


BREAKING: dict[str, tuple[Breaking, Promise]] = {
    "creates ignored": (lambda s: Unkept(s, creates=1), Promise.CREATE),
    "creates ignored at times": (lambda s: Unkept(s, creates=0.5, seed=3), Promise.CREATE),
    "creates ignored when several come at once": (lambda s: Unkept(s, creates=1, only_together=True), Promise.CREATE),
    "a refused create called done": (Boastful, Promise.CREATE),
    "every condition refused": (lambda s: closed(s, unknown=False), Promise.CREATE),
    "conditions unknown": (lambda s: closed(s, unknown=True), Promise.CREATE),
    "heads from a cache": (lambda s: Cached(s, heads=True), Promise.READ),
    "gets from a cache": (lambda s: Cached(s, gets=True), Promise.READ),
    "reads that come late": (Late, Promise.READ),
    "listings from a cache": (lambda s: Cached(s, lists=True), Promise.LIST),
    "ranges that begin at the beginning": (Rangeless, Promise.RANGES),
}
BEARABLE: dict[str, tuple[Breaking, Promise]] = {
    "replacements ignored": (lambda s: Unkept(s, replaces=1), Promise.REPLACE),
    "replacements ignored at times": (lambda s: Unkept(s, replaces=0.5, seed=2), Promise.REPLACE),
    "right tags refused": (lambda s: swapless(s, unknown=False), Promise.REPLACE),
    "replacements unknown": (lambda s: swapless(s, unknown=True), Promise.REPLACE),
    "one tag for all": (OneTag, Promise.REPLACE),
    "checksums not looked at": (Careless, Promise.CHECKSUMS),
    "a clock that is off": (Early, Promise.CLOCK),
    "nothing can be removed": (AddOnly, Promise.DELETE),
}


@pytest.mark.parametrize("name", BREAKING)
async def test_what_no_repository_may_be_in(name: str, honest: DirectoryStore, tmp_path: Path) -> None:
    breaking, promise = BREAKING[name]
    store = breaking(honest)
    examined = await examine(store)
    assert examined.of(promise).kept is False, examined
    with pytest.raises(StoreError) as caught:
        await prove(breaking(honest), Events())
    assert caught.value.exit_code == 4 and not caught.value.retryable and caught.value.where
    repository = Repository(breaking(honest), "a" * 32)
    with pytest.raises(StoreError):
        await StoreTrust(tmp_path / "state", Events()).demand(repository)
    assert not (tmp_path / "state" / "promises" / f"{'a' * 32}.json").exists(), "nothing is believed"
    assert await left(honest) == []
    checks = await examine_repository(honest, single_sender=False)
    assert [one.state for one in checks] == ["wrong"], "of a directory that is no repository yet nothing is tried"
    await make_repository(honest, Events())
    checks = await examine_repository(honest, single_sender=False)
    assert {one.state for one in checks} == {"ok"} and len(checks) >= 7
    checks = await examine_repository(breaking(honest), single_sender=False)
    assert "wrong" in {one.state for one in checks} and await left(honest) == ["index/whole.json", "repository.json"]


async def test_the_doctor_looks_at_the_index() -> None:
    fleet = VmFleet()

    async def index() -> tuple[str, str]:
        [check] = [one for one in await examine_repository(fleet.store, single_sender=False) if one.name == "index"]
        assert (check.state == "ok") == (check.meaning == "")
        return check.state, check.found

    fleet.many(5)
    assert await index() == ("ok", "knows all 5 VMs")
    fleet.point(uuid_of(9), "another", noted=False)
    assert await index() == ("note", f"lacks 1 of 6 VMs, {uuid_of(9)!r} among them")
    fleet.store.forget(layout.point_key(vm_key(uuid_of(9)), 1))
    fleet.store.forget(layout.index_whole_key())
    assert await index() == ("note", "does not say that it has all VMs")
    fleet.forget_index()
    assert await index() == ("note", "there is none, or none that can be read")


@pytest.mark.parametrize("name", BEARABLE)
async def test_what_can_be_done_without_is_said(name: str, honest: DirectoryStore, tmp_path: Path) -> None:
    breaking, promise = BEARABLE[name]
    heard: list[Record] = []
    trust = StoreTrust(tmp_path, Events(recorder(heard)))
    repository = Repository(breaking(honest), "b" * 32)
    await trust.demand(repository)
    assert heard and all(one.get("promise", "") in (promise, "") for one in heard)
    first, heard[:] = list(heard), []
    await trust.demand(repository)
    assert bool(heard) == (promise is Promise.REPLACE), "a lease that is weak is said each time, the rest once a host"
    if promise is Promise.DELETE:
        assert [one["event"] for one in first] == ["housekeeping.warning"] and "probes/" in first[0]["object"]
    else:
        assert await left(honest) == []


@pytest.mark.parametrize("share", [1.0, 0.5])
async def test_a_single_sender_may_be_where_creates_are_ignored(
    share: float, honest: DirectoryStore, tmp_path: Path
) -> None:
    """And each run of it tries anew and says so."""
    store, heard = Unkept(honest, creates=share, seed=5), []
    trust = StoreTrust(tmp_path, Events(recorder(heard)), single_sender=True)
    for _ in range(2):
        before = store.dropped
        await trust.demand(Repository(store, "c" * 32))
        assert [one["promise"] for one in heard if one["event"] == "store.promise"][-2:].count("create") == 1
        assert store.dropped > before
    store.on = False  # the server was mended
    heard.clear()
    await trust.demand(Repository(store, "c" * 32))
    assert not heard
    store.on, before = True, store.dropped
    await trust.demand(Repository(store, "c" * 32))
    assert store.dropped == before, "it is believed now, until what is published says otherwise"


async def test_a_single_sender_is_no_excuse_for_a_server_that_refuses(honest: DirectoryStore) -> None:
    for unknown in (False, True):
        with pytest.raises(StoreError):
            await prove(closed(honest, unknown=unknown), Events(), single_sender=True)


class Counting(PassingStore):
    """How many objects were created."""

    creates = 0
    name = "one"

    @property
    def server(self) -> str:
        return self.name

    async def create(self, key: str, data: bytes) -> bool:
        self.creates += 1
        return await super().create(key, data)


async def test_it_is_tried_once_for_a_repository_a_server_and_a_version(
    honest: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Counting(honest)
    trust = StoreTrust(tmp_path, Events())

    async def tried(identity: str = "d" * 32) -> bool:
        before = store.creates
        await trust.demand(Repository(store, identity))
        return store.creates > before

    assert await tried() and not await tried()
    assert await tried("e" * 32) and not await tried()
    store.name = "another"
    assert await tried() and not await tried()
    monkeypatch.setattr("warmspare.repository.trust.__version__", "0.0.0")
    assert await tried() and not await tried()
    trust.forget()
    assert await tried()
    path = tmp_path / "promises" / f"{'d' * 32}.json"
    path.write_bytes(path.read_bytes()[:-9])
    assert await tried(), "a damaged note is none"


async def test_what_a_dead_trial_left_is_removed_by_the_next(
    honest: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    class Dying(PassingStore):
        async def delete(self, keys: Any) -> None:
            raise Killed  # nothing more is done there

        async def stale_uploads(self, prefix: str) -> Any:
            return []

    trust = StoreTrust(tmp_path, Events())
    with pytest.raises(Killed):
        await trust.demand(Repository(Dying(honest), "f" * 32))
    old = layout.probe_key("0" * 32, "create")
    await honest.put(old, b"of another host")
    assert len(await left(honest)) == 4
    await trust.demand(Repository(honest, "f" * 32))
    assert await left(honest) == [old], "another host may be at it now"
    ago = time.time() - 90_000
    os.utime(f"{honest.uri}/{old}", (ago, ago))
    await examine(honest)
    assert await left(honest) == []


async def test_what_may_pass_is_no_broken_promise(honest: DirectoryStore, tmp_path: Path) -> None:
    class Away(PassingStore):
        async def replace(self, key: str, data: bytes, *, etag: str | None) -> None:
            raise StoreError("the server can't be reached", retryable=True)

    with pytest.raises(StoreError, match="reached") as caught:
        await StoreTrust(tmp_path, Events()).demand(Repository(Away(honest), "a" * 32))
    assert caught.value.retryable and await left(honest) == []


# directories


async def test_a_file_system_without_hard_links(honest: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a rename that never replaces, or no repository is in it."""

    def no_link(*arguments: object, **more: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", no_link)
    assert not (await examine(honest)).broken
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **more: object())
    examined = await examine(honest)
    assert "neither hard links" in examined.of(Promise.CREATE).found
    with pytest.raises(StoreError, match="neither hard links"):
        await prove(honest, Events(), single_sender=True)


async def test_a_file_system_without_locks(honest: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases go on without, and what is not wanted is removed all the same."""

    def no_lock(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    examined = await examine(honest)
    assert [one.promise for one in examined.broken] == [Promise.REPLACE]
    assert "locks" in examined.of(Promise.REPLACE).found
    await demand_leases(honest)
    assert await left(honest) == ["vms/v/lease.json"]


async def test_a_link_that_replaces(honest: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def replacing(source: str, target: str) -> None:
        Path(target).unlink(missing_ok=True)
        link(source, target)

    monkeypatch.setattr(os, "link", replacing)
    with pytest.raises(StoreError, match="create"):
        await prove(honest, Events())


# what is done without a conditional replacement


async def demand_leases(store: Store) -> None:
    """One after the other has it, twice, and no two at once."""
    for _ in range(2):
        async with Lease.hold(store, "vms/v/lease.json", ttl_s=60) as lease:
            await lease.confirm()
            assert await lease._renew()
            with pytest.raises(LeaseError):
                async with Lease.hold(store, "vms/v/lease.json", ttl_s=60):
                    raise AssertionError


@pytest.mark.parametrize("unknown", [False, True])
async def test_a_lease_without_it(unknown: bool, honest: DirectoryStore) -> None:
    await demand_leases(swapless(honest, unknown=unknown))


async def test_a_swap_sees_what_stands_there(honest: DirectoryStore) -> None:
    store = swapless(honest, unknown=True)
    first = await swap(store, "x", b"1", etag=None)
    assert first is not None and await swap(store, "x", b"2", etag=None) is None
    second = await swap(store, "x", b"2", etag=first.etag)
    assert second is not None and await swap(store, "x", b"3", etag=first.etag) is None
    await honest.delete(["x"])
    assert await swap(store, "x", b"3", etag=second.etag) is None and await left(honest) == []
    assert AGAIN >= 4


@pytest.mark.parametrize("seed", range(6))
async def test_two_failovers_where_replacements_are_ignored(
    seed: int, honest: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that begin end as one, however they meet; and where tags are refused or unknown it goes on."""
    monkeypatch.setattr("warmspare.repository.failover_record.SETTLE_S", 0.2)
    repository = Repository(honest, "a" * 32)
    first = await read_journal(repository, "vm")
    await first.begin(PointId(1, "0" * 64), "eu-central-1", "register-image")
    await first.move("cleared")
    rng = random.Random(seed)

    class Loose(Unkept):
        async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
            await asyncio.sleep(rng.random() / 200)
            return await super().replace(key, data, etag=etag)

    loose = Repository(Loose(honest, replaces=1), "a" * 32)
    launched = []

    async def fail_over(name: str) -> None:
        journal = await read_journal(loose, "vm")
        try:
            await journal.begin(PointId(2, "1" * 64), "eu-central-1", "register-image")
            for step in ("image", "launching"):
                await asyncio.sleep(rng.random() / 200)
                await journal.note(step, name)
        except LeaseError:
            return
        assert journal.record is not None
        launched.append(journal.record.run)

    await asyncio.gather(fail_over("one"), fail_over("other"))
    assert len(set(launched)) <= 1, "two would start two instances; one that joined the other's run starts none"
    await fail_over("a third")
    assert launched and len(set(launched)) == 1, "whoever goes on where they stopped is let through"
    for unknown in (False, True):
        journal = await read_journal(Repository(swapless(honest, unknown=unknown), "a" * 32), "vm")
        await journal.note("instance", f"i-{unknown}")
        await journal.move("started")
    assert (await read_journal(repository, "vm")).record is not None
