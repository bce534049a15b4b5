"""The index of VMs is a hint: asked first, proved by the VM's own record, never believed where it could mislead; and
kept by syncs that neither wait for it nor fail over it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rigs.stores.memory_store import MemoryStore
from servers import S3Place
from warmspare.errors import ConfigError, StoreError
from warmspare.format import flags, index_shard, repofile, restore_point
from warmspare.format.index_shard import MAX_SHARD_BYTES, MAX_SHARD_VMS, MAX_TEXT, IndexShard, entry_of, shard_of
from warmspare.format.repofile import RepositoryRecord
from warmspare.format.restore_point import Disk, ObjectRef, RestorePoint, Unprotected
from warmspare.model.ids import PointId, RunId, VmId, vm_key
from warmspare.observe.event import Event
from warmspare.observe.events import Events
from warmspare.observe.housekeeping import Housekeeping
from warmspare.observe.kinds.run_events import HousekeepingWarning
from warmspare.repository import vm_index
from warmspare.repository.chain import Point, Repository
from warmspare.repository.vm_index import TRIES, VmIndex
from warmspare.repository.vm_lookup import NamedVm, VmNames, find, point_called
from warmspare.store import layout
from warmspare.store.around.passing import PassingStore
from warmspare.store.contract import ObjectInfo, Store
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.opening import open_store

ID = "c" * 32
REF = ObjectRef("vms/v/manifests/r/000.manifest", 10, "0" * 64, 5)


def uuid_of(number: int) -> VmId:
    return VmId(f"5012{number:04x}-0000-4000-8000-{number:012x}")


def record(vm: VmId, name: str, parent: Point | None) -> RestorePoint:
    return RestorePoint(
        flags.VERSION,
        0,
        vm,
        name,
        parent.id.sequence + 1 if parent else 1,
        parent.id.sha256 if parent else None,
        RunId("b" * 32),
        "2026-01-02T03:04:05Z",
        "x",
        [Disk("d", "d.raw", 5 << 30, "a" * 64, REF, 7)],  # type: ignore[arg-type]
        1,
        2,
        3,
        [Unprotected("rdm", "a physical RDM")],
    )


class World:
    """A repository of small records in memory, and what its senders do."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.repository = Repository(self.store, ID)
        self.events: list[Event] = []
        self.heads: dict[VmId, Point] = {}
        self.store.keep(layout.repository_key(), repofile.encode(RepositoryRecord(1, 0, ID, "2026")))
        self.whole()

    def whole(self) -> None:
        self.store.keep(layout.index_whole_key(), index_shard.encode(index_shard.WholeMark(1, 0, ID)))

    def publish(self, vm: VmId, name: str) -> Point:
        """A record, without a word in the index."""
        made = record(vm, name, self.heads.get(vm))
        data = restore_point.encode(made)
        self.store.keep(layout.point_key(vm_key(vm), made.sequence), data)
        self.heads[vm] = Point(PointId(made.sequence, restore_point.identity(data)), made, data)
        return self.heads[vm]

    async def sync(self, vm: VmId, name: str, repository: Repository | None = None) -> VmIndex:
        before = self.heads.get(vm)
        point = self.publish(vm, name)
        index = VmIndex(repository or self.repository)
        with Housekeeping(Events(self.events.append), vm) as housekeeping:
            await index.note(point, before.record.vm_name if before else None, housekeeping)
        return index

    def shard(self, text: str) -> IndexShard:
        key = layout.index_key(shard_of(text))
        return index_shard.decode(self.store.objects[key][0], shard_of(text), ID, key)

    def write(self, text: str, shard: IndexShard | bytes) -> None:
        data = shard if isinstance(shard, bytes) else index_shard.encode(shard)
        self.store.keep(layout.index_key(shard_of(text)), data)

    async def counted(self, given: str) -> tuple[Point, int]:
        """The newest point of the VM that is called so, and what finding it took."""
        self.store.requests.clear()
        point = await point_called(self.repository, given, None)
        return point, self.store.requests.total()


async def web(world: World) -> VmId:
    """A VM called web among others; its index is there."""
    for number in range(1, 20):
        await world.sync(uuid_of(number), f"other{number}")
    await world.sync(uuid_of(0), "web")
    return uuid_of(0)


async def test_one_of_five_thousand_by_name_takes_three_requests() -> None:
    world = World()
    for number in range(5000):
        await world.sync(uuid_of(number), f"vm {number}")
    assert world.store.requests.total() <= 5000 * 4  # a look, a read, a write; the mark where a shard begins
    sizes = [world.store.info(key).bytes for key in world.store.objects if key.startswith("index/")]  # type: ignore[union-attr]
    assert len(sizes) == 257 and max(sizes) < 16 << 10
    for number in random.Random(1).sample(range(5000), 50):
        point, asked = await world.counted(f"vm {number}")
        assert point == world.heads[uuid_of(number)] and asked <= 3
        point, asked = await world.counted(uuid_of(number))
        assert point == world.heads[uuid_of(number)] and asked <= 2
    for moved in (1, 40):  # the index is behind by one, and by many
        for _ in range(moved):
            world.publish(uuid_of(7), "vm 7")
        point, asked = await world.counted("vm 7")
        assert point == world.heads[uuid_of(7)] and point.id.sequence > moved and asked <= 3
    world.store.requests.clear()
    assert await find(world.repository, "nobody") == NamedVm(VmId("nobody"), None)
    assert world.store.requests.total() > 10_000, "a name that the index does not know is looked for everywhere"


async def test_several_names_that_the_index_does_not_know_are_looked_for_once() -> None:
    """A failover of a whole site from a repository of before."""
    world = World()
    for number in range(200):
        world.publish(uuid_of(number), f"vm {number}")
    world.store.forget(layout.index_whole_key())
    names = VmNames(world.repository)
    for number in range(0, 200, 10):
        assert await names.known(f"vm {number}") == uuid_of(number)
        assert (await names.point(f"vm {number}", None)) == world.heads[uuid_of(number)]
    # All VMs once: where each begins, its keys, its record; and of each name a shard and keys of that ID, twice.
    assert world.store.requests.total() <= 3 * 200 + 1 + 20 * 2 * 2
    with pytest.raises(ConfigError, match=r"there is no VM 'vm 7000' in this repository .*; `warmspare status` shows"):
        await names.known("vm 7000")


async def test_an_id_comes_before_a_name() -> None:
    world = World()
    await world.sync(uuid_of(1), "web")
    assert (await find(world.repository, "web")).id == uuid_of(1)
    await world.sync(VmId("web"), "another")
    assert (await find(world.repository, "web")).id == "web"
    assert (await find(world.repository, "another")).id == "web"
    await world.sync(uuid_of(2), uuid_of(1))  # somebody calls his VM by another's ID
    assert (await find(world.repository, uuid_of(1))).id == uuid_of(1)


async def test_two_of_one_name_are_refused_as_long_as_either_could_be_hidden() -> None:
    world = World()
    await world.sync(uuid_of(1), "web")
    await world.sync(uuid_of(2), "web")
    with pytest.raises(ConfigError, match="2 VMs in this repository are called 'web'"):
        await find(world.repository, "web")
    # Of an old repository only the one that was synced since is in the index.
    world.store.forget(layout.index_key(shard_of("web")))
    world.store.forget(layout.index_whole_key())
    await world.sync(uuid_of(1), "web")
    assert [one.id for one in world.shard("web").vms] == [uuid_of(1)]
    with pytest.raises(ConfigError, match="2 VMs in this repository are called 'web'"):
        await find(world.repository, "web")
    # A shard that was lost, or spoilt, from a repository with an index is no better, whoever writes it first.
    for spoil in (lambda: world.store.forget(layout.index_key(shard_of("web"))), lambda: world.write("web", b"{")):
        world.whole()
        spoil()
        await world.sync(uuid_of(1), "web")
        assert not world.shard("web").whole
        with pytest.raises(ConfigError, match="2 VMs in this repository are called 'web'"):
            await find(world.repository, "web")


async def test_a_name_is_that_of_the_newest_point() -> None:
    world = World()
    vm = await web(world)
    world.publish(vm, "web2")  # renamed, and its index is behind
    assert (await find(world.repository, "web")).newest is None
    assert (await find(world.repository, "web2")).id == vm
    await world.sync(uuid_of(1), "web")
    assert (await find(world.repository, "web")).id == uuid_of(1)
    await world.sync(vm, "web3")
    assert world.shard("web3").entry(vm) and (await world.counted("web3"))[1] <= 3
    await world.sync(vm, "web4")
    assert not world.shard("web3").entry(vm) and world.shard("web4").entry(vm)


def forged(world: World, vm: VmId, **fields: object) -> IndexShard:
    shard = world.shard("web")
    entry = shard.entry(vm)
    assert entry
    return shard.without(vm).having(msgspec.structs.replace(entry, **fields))


Spoil = Callable[[World, VmId], IndexShard | bytes]
SPOILT: dict[str, Spoil] = {
    "a head that is not there": lambda world, vm: forged(world, vm, sequence=9_999_999_999),
    "a head of before": lambda world, vm: forged(world, vm, sequence=1),
    "another digest": lambda world, vm: forged(world, vm, sha256="f" * 64),
    "a VM that is not there": lambda world, vm: forged(world, vm, id=uuid_of(999)).without(vm),
    "another's name": lambda world, vm: forged(world, vm, id=uuid_of(1)).without(vm),
    "all of another's name": lambda world, vm: forged(world, vm, id=uuid_of(1)),
    "nobody": lambda world, vm: world.shard("web").without(vm),
    "another repository's": lambda world, vm: msgspec.structs.replace(world.shard("web"), repository="d" * 32),
    "another version": lambda world, vm: msgspec.structs.replace(world.shard("web"), format=2),
    "unknown features": lambda world, vm: msgspec.structs.replace(world.shard("web"), flags=4),
    "an unknown field": lambda world, vm: index_shard.encode(world.shard("web")).replace(b'"vms"', b'"more":1,"vms"'),
    "another shard": lambda world, vm: world.store.objects[
        next(k for k in world.store.objects if k.startswith("index/") and k != layout.index_key(shard_of("web")))
    ][0],
    "nothing": lambda world, vm: b"",
    "too much": lambda world, vm: b" " * (MAX_SHARD_BYTES + 1),
}


@pytest.mark.parametrize("what", list(SPOILT))
async def test_what_the_index_says_wrongly_costs_time_alone(what: str) -> None:
    world = World()
    vm = await web(world)
    for _ in range(3):
        await world.sync(vm, "web")
    world.write("web", SPOILT[what](world, vm))
    point, _ = await world.counted("web")
    assert point == world.heads[vm]
    assert (await find(world.repository, "other1")).id == uuid_of(1)
    newer = what in ("another version", "unknown features")
    before = world.store.objects[layout.index_key(shard_of("web"))][0]
    await world.sync(vm, "web")
    assert (await world.counted("web"))[0] == world.heads[vm]
    after = world.store.objects[layout.index_key(shard_of("web"))][0]
    assert (after == before) == newer, "what a later release wrote stays"
    if not newer:
        assert world.shard("web").entry(vm) == entry_of(world.heads[vm].record, world.heads[vm].id.sha256)


async def test_a_torn_shard_is_not_believed() -> None:
    world = World()
    vm = await web(world)
    whole = world.store.objects[layout.index_key(shard_of("web"))][0]
    for length in range(0, len(whole) - 1, 7):
        world.write("web", whole[:length])
        assert (await find(world.repository, "web")).id == vm


async def test_who_may_not_read_it_finds_the_long_way_and_who_may_not_write_it_goes_on() -> None:
    world = World()
    vm = await web(world)
    world.store.refused = {("get", "index/")}
    assert (await find(world.repository, "web")).id == vm
    world.store.refused = {("replace", "index/"), ("put", "index/"), ("create", "index/")}
    await world.sync(vm, "web")
    [event] = world.events
    assert isinstance(event, HousekeepingWarning) and event.action == vm_index.ACTION and event.count == 1
    assert "could not be brought up to date" in event.message
    world.store.refused = set()
    assert (await find(world.repository, "web")).newest == 2


async def test_two_of_one_name_of_which_one_could_not_be_noted() -> None:
    """What is left open, and told: it ends with the next sync that can."""
    world = World()
    await world.sync(uuid_of(1), "web")
    world.store.refused = {("replace", "index/"), ("put", "index/"), ("create", "index/")}
    await world.sync(uuid_of(2), "web")
    world.store.refused = set()
    assert world.events and (await find(world.repository, "web")).id == uuid_of(1)
    assert (await find(world.repository, uuid_of(2))).id == uuid_of(2)
    await world.sync(uuid_of(2), "web")
    with pytest.raises(ConfigError, match="2 VMs"):
        await find(world.repository, "web")


async def test_a_sender_that_dies_once_it_has_published_leaves_no_name_hidden() -> None:
    world = World()
    await world.sync(uuid_of(1), "web")
    await world.sync(uuid_of(2), "db")
    for vm, before in ((uuid_of(3), None), (uuid_of(2), "db")):  # a first point; a new name
        twin = World(world.store)
        twin.heads = dict(world.heads)
        point = twin.publish(vm, "web")
        key = layout.point_key(vm_key(vm), point.id.sequence)
        data = world.store.objects[key][0]
        world.store.forget(key)  # it is about to be
        with Housekeeping(Events()) as housekeeping:
            await VmIndex(world.repository).announce(point, before, housekeeping)
        assert (await find(world.repository, "web")).id == uuid_of(1), "it is not there yet"
        assert before is None or (await find(world.repository, before)).id == vm, "it has its old name still"
        world.store.keep(key, data)
        with pytest.raises(ConfigError, match="2 VMs"):
            await find(world.repository, "web")
        world.store.forget(key)
    world.store.requests.clear()
    with Housekeeping(Events()) as housekeeping:
        await VmIndex(world.repository).announce(world.heads[uuid_of(1)], "web", housekeeping)
    assert not world.store.requests.total()


async def test_a_store_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_index, "WITHIN_S", 0.05)
    world = World()
    world.store.latency_s = 60.0
    await world.sync(uuid_of(0), "web")
    [event] = world.events
    assert isinstance(event, HousekeepingWarning) and "did not take it" in event.message


async def test_more_than_a_shard_holds_is_found_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    full = world.repository
    shard = IndexShard(1, 0, ID, True)
    point = world.publish(uuid_of(0), "web")
    entry = entry_of(point.record, point.id.sha256)
    names = (f"n{number}" for number in range(10**9))
    for number in range(1, MAX_SHARD_VMS + 1):
        name = next(name for name in names if shard_of(name) == shard_of("web"))
        shard.vms.append(msgspec.structs.replace(entry, id=uuid_of(number), name=name))
    assert shard.whole and len(index_shard.encode(shard)) < MAX_SHARD_BYTES
    world.write("web", shard)
    await world.sync(uuid_of(0), "web")
    assert not world.shard("web").whole and len(world.shard("web").vms) == MAX_SHARD_VMS
    assert (await find(full, "web")).id == uuid_of(0)
    long = "x" * (MAX_TEXT + 1)
    await world.sync(uuid_of(2000), long)
    assert (await find(full, long)).id == uuid_of(2000)
    wide = [msgspec.structs.replace(entry, id=VmId(f"{n:04d}" + "é" * 508)) for n in range(999)]
    assert len(index_shard.encode(IndexShard(1, 0, ID, True, wide).having(entry))) > MAX_SHARD_BYTES / 2


class Slow(PassingStore):
    """A store that is as far away as S3."""

    def __init__(self, store: Store, latency_s: float) -> None:
        super().__init__(store)
        self._latency_s = latency_s

    async def get(self, key: str, *, max_bytes: int = 64 << 20) -> bytes:
        await asyncio.sleep(self._latency_s)
        return await super().get(key, max_bytes=max_bytes)

    async def head(self, key: str) -> ObjectInfo | None:
        await asyncio.sleep(self._latency_s)
        return await super().head(key)

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        await asyncio.sleep(self._latency_s * random.random())  # asked, and done on the way
        return await super().replace(key, data, etag=etag)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries alone are counted, however busy the machine is."""
    monkeypatch.setattr(vm_index, "WITHIN_S", 120.0)


async def race(open_one: Callable[[], Store], hosts: int, vms: int, name: Callable[[int], str]) -> tuple[int, int, int]:
    """All VMs of all hosts at once, then one by one on each host.

    (notes given up, conflicts, most of one)."""
    store = open_one()
    await VmIndex(Repository(store, ID)).leave_whole_mark()
    stores = [open_one() for _ in range(hosts)]
    world = World()
    lost: list[Event] = []

    async def note(number: int, index: VmIndex) -> int:
        before = world.heads.get(uuid_of(number))
        point = world.publish(uuid_of(number), name(number))
        with Housekeeping(Events(lost.append)) as housekeeping:
            await index.note(point, before.record.vm_name if before else None, housekeeping)
        return index.conflicts

    at_once = await asyncio.gather(
        *(note(number, VmIndex(Repository(stores[number % hosts], ID))) for number in range(hosts * vms))
    )
    given_up = len(lost)
    load = Counter(shard_of(name(number)) for number in range(hosts * vms))
    for number, conflicts in enumerate(at_once):  # each is another's success
        assert conflicts <= min(load[shard_of(name(number))] - 1, TRIES)

    async def again(host: int) -> None:
        for number in range(host, hosts * vms, hosts):
            await note(number, VmIndex(Repository(stores[host], ID)))

    await asyncio.gather(*map(again, range(hosts)))
    assert len(lost) == given_up
    reader = VmIndex(Repository(store, ID))
    for number in range(hosts * vms):
        shard = await reader.read(shard_of(name(number)))
        point = world.heads[uuid_of(number)]
        assert shard and shard.whole and shard.entry(uuid_of(number)) == entry_of(point.record, point.id.sha256)
    for one in (store, *stores):
        await one.close()
    return given_up, sum(at_once), max(at_once)


@pytest.mark.long
async def test_five_hundred_vms_of_twenty_hosts_at_once(tmp_path: Path, unhurried: None) -> None:
    given_up, conflicts, most = await race(
        lambda: Slow(DirectoryStore(str(tmp_path)), 0.01), 20, 25, lambda number: f"vm {number}"
    )
    print("given up, conflicts, most of one:", given_up, conflicts, most)
    assert given_up == 0 and conflicts <= 500 * 4 and most < TRIES


@pytest.mark.long
async def test_all_in_one_shard(tmp_path: Path, unhurried: None) -> None:
    """The worst that names can do: bounded, and in the end all the same."""
    names = [name for number in range(100_000) if shard_of(name := f"vm {number}") == 0][:50]
    given_up, conflicts, most = await race(lambda: Slow(DirectoryStore(str(tmp_path)), 0.005), 10, 5, names.__getitem__)
    print("given up, conflicts, most of one:", given_up, conflicts, most)
    assert most <= TRIES and conflicts <= 50 * TRIES


@pytest.mark.program
async def test_on_a_server(moto_place: S3Place, unhurried: None) -> None:
    given_up, conflicts, most = await race(lambda: open_store(moto_place.uri), 4, 5, lambda number: f"vm {number % 7}")
    print("given up, conflicts, most of one:", given_up, conflicts, most)
    assert most <= TRIES and conflicts <= 20 * TRIES


class NoSwaps(PassingStore):
    """A server without conditional writes."""

    async def replace(self, key: str, data: bytes, *, etag: str | None) -> ObjectInfo | None:
        raise StoreError("not implemented", where=key)


async def test_where_a_server_can_not_swap() -> None:
    world = World()
    for _ in range(2):
        for number in range(3):
            await world.sync(uuid_of(number), "web", Repository(NoSwaps(world.store), ID))
    assert not world.events and [one.sequence for one in world.shard("web").vms] == [2, 2, 2]
    assert world.shard("web").whole
