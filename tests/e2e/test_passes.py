"""A sync whose snapshot must not get old reads in passes, each from a snapshot of its own, and publishes the last: exact
whatever changed meanwhile, nothing sent twice, no finding that is none, and the local state right for the next sync."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import warmspare.sync.upload
from moments import Moments
from rig import KIB, MIB, command, same
from warmspare.errors import SourceError, StoreError
from warmspare.format import point
from warmspare.format.manifest import ManifestReader
from warmspare.observe.events import Events, Meter
from warmspare.store import layout
from warmspare.store.base import Upload
from warmspare.store.directory import DirectoryStore
from warmspare.store.passing import PassingStore, PassingUpload
from warmspare.sync.pipeline import Sync, SyncResult

BLOCK = 64 * KIB


class Thin(PassingStore):
    """A store behind a thin link: so many bytes a second, of packs. packs: when each was complete."""

    def __init__(self, store: DirectoryStore, rate: float) -> None:
        super().__init__(store)
        self.rate, self.packs = rate, list[float]()

    @asynccontextmanager
    async def upload(self, key: str) -> AsyncIterator[Upload]:
        async with super().upload(key) as upload:
            yield _Slow(upload, self.rate) if "/packs/" in key else upload
        if "/packs/" in key:
            self.packs.append(asyncio.get_running_loop().time())


class _Slow(PassingUpload):
    def __init__(self, upload: Upload, rate: float) -> None:
        super().__init__(upload)
        self._rate = rate

    async def write(self, data: memoryview | bytes) -> None:
        await asyncio.sleep(len(data) / self._rate)
        await super().write(data)


@dataclasses.dataclass
class World:
    """A machine and a repository."""

    home: Path
    machine: Moments
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    meter: Meter = dataclasses.field(default_factory=Meter)

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    async def sync(self, age_s: float | None, *, rate: float = 1e12, state: str = "state") -> SyncResult:
        self.events.clear()
        self.meter = Meter()
        store = Thin(DirectoryStore(str(self.repo)), rate)
        self.store = store
        try:
            return await Sync(
                store, self.machine, self.home / state, Events(self.events.append), level=1, meter=self.meter,
                max_snapshot_age_s=age_s,
            ).run()  # fmt: skip
        finally:
            await store.close()
            assert not self.machine._held, "a moment is left"

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def point(self, sequence: int) -> point.RestorePoint:
        path = self.repo / layout.point_key(layout.encode_name("vm"), sequence)
        return point.decode(path.read_bytes(), str(path))

    def packs(self) -> set[str]:
        return {str(path.relative_to(self.repo)) for path in (self.repo / "vms").rglob("packs/**/*") if path.is_file()}

    def check(self, sequence: int) -> None:
        """The replica and one from nothing are the last moment; the store holds what points name and nothing else."""
        frozen = self.machine.frozen
        for target in (self.home / "replica", self.home / f"fresh-{sequence}"):
            done = command("apply", "--vm", "vm", "--repo", self.repo, "--to", target)
            assert done.code == 0, done
            for name, image in frozen.items():
                assert same(image, target / name if len(frozen) > 1 else target), (target, name)
        named = set[str]()
        for number in range(1, sequence + 1):
            for disk in self.point(number).disks:
                data = (self.repo / disk.manifest.key).read_bytes()
                for pack in ManifestReader(lambda at, size, data=data: data[at : at + size], len(data), "").packs:
                    named.add(layout.pack_key(layout.encode_name("vm"), pack.run.hex(), pack.number))
        assert self.packs() == named
        left = [path.name for path in (self.home / "state").rglob("*") if path.name in ("unfinished", "carried")]
        assert not left and self.meter.done_bytes == self.meter.total_bytes


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Packs of a quarter of a megabyte; reading takes 10 ms a megabyte."""
    monkeypatch.setattr(warmspare.sync.upload, "PACK_BYTES", MIB // 4)
    return World(tmp_path, Moments(tmp_path, pause_s=0.01))


def two_disks(world: World, size: int = 12 * MIB) -> None:
    world.machine.add("a", size)
    world.machine.add("b", size // 2 + 512)


async def test_a_first_sync_in_several_passes(world: World) -> None:
    two_disks(world)
    rng = random.Random(2)
    world.machine.before = lambda number: world.machine.scribble(rng, pieces=8) if number > 1 else None
    done = await world.sync(0.05)
    renewed = world.named("sync.snapshot_renewed")
    assert len(renewed) == world.machine.count - 1 >= 2
    assert [event["passes"] for event in renewed] == list(range(2, world.machine.count + 1))
    assert len(world.named("disk.done")) == 2 and world.point(1).bytes_read == done.bytes_read == world.meter.read_bytes
    assert not done.findings
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert done.bytes_sent < 1.3 * size + len(renewed) * 8 * (100 + 128) * KIB
    world.check(1)
    world.machine.before = lambda _: None
    again = await world.sync(None)
    assert not again.bytes_changed and not again.findings
    world.check(2)


async def test_what_was_read_is_not_read_again(world: World) -> None:
    two_disks(world)
    done = await world.sync(0.05)
    assert world.machine.count >= 3
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert size <= done.bytes_read <= size + world.machine.count * 8 * MIB  # what was on its way when reading ended
    assert done.bytes_changed == size
    assert size < done.bytes_sent < 1.01 * size + 100 * KIB * world.machine.count
    world.check(1)


async def test_a_thin_link_never_holds_the_moment(world: World) -> None:
    """The reader is stuck behind a full queue, then between disks, when time is over: it goes all the same, while the
    packs are still on their way."""
    two_disks(world, 24 * MIB)
    world.machine.pause_s = 0.0
    await world.sync(0.5, rate=6.0 * MIB)
    assert world.machine.count >= 3
    for taken, gone in world.machine.lives:
        late = [at for at in world.store.packs if taken + 0.5 < at < gone]
        assert len(late) <= 1, f"held for {gone - taken} s, and {len(late)} packs"
    world.check(1)


@pytest.mark.parametrize("where", ["unbegun", "sending"])
async def test_time_is_over_between_disks(world: World, where: str) -> None:
    """All of the first disk was read, and what was read is still being sent."""
    world.machine.add("a", 2 * MIB)
    world.machine.add("b", 2 * MIB)
    world.machine.pause_s = 0.0
    await world.sync(0.2, rate=2.0 * MIB)
    first, second = world.machine.lives[:2]
    assert first[1] < world.store.packs[7] < second[0], "held while packs were sent, or taken before they were complete"
    assert world.machine.count == 2 and len(world.named("disk.start")) == 3
    world.check(1)


async def test_an_increment_in_passes(world: World) -> None:
    two_disks(world)
    await world.sync(None)
    rng = random.Random(3)
    world.machine.before = lambda _: world.machine.scribble(rng, pieces=12, most=600 * KIB)
    world.machine.pause_s = 0.03
    done = await world.sync(0.1)
    assert world.named("sync.snapshot_renewed") and not done.findings
    world.check(2)
    world.machine.pause_s = 0.0
    assert not (await world.sync(None)).findings
    world.check(3)


async def test_changed_and_changed_back(world: World) -> None:
    """Changed in the first pass, back as at the head in the second, and in the next sync what it was in the first one:
    the page map must not know the pages that were never published."""
    disk = world.machine.add("a", 8 * MIB)
    await world.sync(None)
    old, new = disk.path.read_bytes()[: 4 * BLOCK], random.Random(9).randbytes(4 * BLOCK)
    zeros = bytes(BLOCK)

    def writes(number: int) -> None:
        if number == 2:
            world.machine.write(disk, 0, new)
            world.machine.write(disk, 2 * MIB, random.Random(8).randbytes(5 * MIB))
        if number == 3:
            world.machine.write(disk, 0, old[: 2 * BLOCK])
            world.machine.write(disk, 2 * BLOCK, zeros)

    world.machine.before = writes
    world.machine.pause_s = 0.05
    await world.sync(0.15)
    assert world.machine.count >= 3
    world.check(2)
    world.machine.before = lambda _: None
    world.machine.write(disk, 0, new)
    world.machine.pause_s = 0.0
    await world.sync(None)
    world.check(3)
    world.machine.write(disk, 0, old)
    await world.sync(None)
    world.check(4)


async def test_findings_are_of_what_no_pass_reported(world: World) -> None:
    """A page that the tracker missed, in a block that it reported in part, is a finding; what it reported to an earlier
    pass is none, even where it is read again for another page."""
    world.machine = Moments(world.home, granularity=4 * KIB, pause_s=0.05)
    disk = world.machine.add("a", 8 * MIB)
    await world.sync(None)

    def writes(number: int) -> None:
        if number == 2:
            for block in range(0, 100, 2):
                world.machine.write(disk, block * BLOCK, random.Random(block).randbytes(100))
            world.machine.write(disk, 6 * MIB, random.Random(1).randbytes(2 * MIB))
        if number == 3:  # other pages of blocks that the first pass has sent
            for block in range(0, 10, 2):
                world.machine.write(disk, block * BLOCK + 9 * 4 * KIB, random.Random(block).randbytes(100))
            world.machine.write(disk, 4 * BLOCK + 5 * 4 * KIB, b"missed", unseen=True)

    world.machine.before = writes
    done = await world.sync(0.12)
    assert world.machine.count >= 3
    found = [(event["offset"], event["length"]) for event in world.named("finding")]
    assert found == [(4 * BLOCK + 5 * 4 * KIB, 4 * KIB)] and done.findings == 1
    world.check(2)


async def test_tracking_begins_anew_between_passes(world: World) -> None:
    two_disks(world)
    rng = random.Random(4)

    def writes(number: int) -> None:
        if number == 2:
            world.machine.scribble(rng, pieces=5)
            world.machine.disks[0].tracker.reset()
        if number == 3:
            world.machine.doubted = True
            world.machine.write(world.machine.disks[1], 100, b"unseen, but doubted", unseen=True)

    world.machine.before = writes
    world.machine.during = lambda number: setattr(world.machine, "pause_s", 0.01 if number < 4 else 0.0)
    done = await world.sync(0.15)
    assert world.machine.count >= 4 and not done.findings
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert done.bytes_sent < 1.2 * size, "what was sent and is the same was sent again"
    assert world.point(1).disks[0].reason == "it is not in the last restore point"
    world.check(1)


async def test_disks_grow_come_and_go_between_passes(world: World) -> None:
    two_disks(world)
    gone = world.machine.add("gone", 3 * MIB)
    world.machine.disks = [gone, *world.machine.disks[:2]]
    a = world.machine.disks[1]

    def writes(number: int) -> None:
        if number == 2:
            world.machine.grow(a, 15 * MIB + 1536)
        if number == 3:
            world.machine.disks.remove(gone)
            world.machine.add("new", MIB)
            world.machine.disks.insert(0, world.machine.disks.pop())

    world.machine.before = writes
    await world.sync(0.06)
    assert world.machine.count >= 3
    assert [disk.id for disk in world.point(1).disks] == ["new", "a", "b"]
    world.check(1)
    world.machine.before = lambda _: world.machine.scribble(random.Random(6), pieces=10)
    await world.sync(None)
    world.check(2)


async def test_a_pack_is_lost_between_passes(world: World) -> None:
    """Nothing that a pass recorded counts unless all of its packs stand: that disk is read again, and what is lost sent
    again."""
    two_disks(world)
    lost = list[str]()

    def lose(number: int) -> None:
        if number in (2, 3):
            lost.append(min(world.packs() - set(lost)))
            (world.repo / lost[-1]).unlink()

    world.machine.before = lose
    world.machine.during = lambda number: setattr(world.machine, "pause_s", 0.01 if number < 4 else 0.0)
    done = await world.sync(0.08)
    assert len(lost) == 2
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert done.bytes_read > 1.1 * size and done.bytes_sent < 1.2 * size
    world.check(1)


async def test_changes_outrun_the_link(world: World) -> None:
    """It ends, with nothing published, and what was sent is used by the next one."""
    disk = world.machine.add("a", 8 * MIB)
    rng = random.Random(5)
    world.machine.before = lambda _: world.machine.write(disk, 0, rng.randbytes(7 * MIB))
    with pytest.raises(SourceError, match="changes faster than it can be sent") as caught:
        await world.sync(0.1, rate=20.0 * MIB)
    assert caught.value.exit_code == 3 and caught.value.retryable
    assert world.machine.count <= 8 and not list((world.repo / "vms").rglob("points/*.json"))
    world.machine.before = lambda _: None
    world.machine.pause_s = 0.0
    done = await world.sync(None)
    assert done.bytes_sent < 8 * MIB
    world.check(1)


async def test_a_moment_too_short_for_anything(world: World) -> None:
    world.machine.add("a", 8 * MIB)
    with pytest.raises(SourceError, match="raise max_snapshot_age"):
        await world.sync(0.0)
    assert world.machine.count == 4


@pytest.mark.parametrize("at", [2, 3])
async def test_no_second_moment_can_be_had(world: World, at: int) -> None:
    """What was sent is kept for the next run, which needs no more than one pass."""
    two_disks(world)

    def fail(number: int) -> None:
        if number == at:
            raise SourceError("no snapshot can be taken", retryable=True)

    world.machine.before = fail
    with pytest.raises(SourceError, match="no snapshot"):
        await world.sync(0.05)
    sent = world.meter.sent_bytes
    world.machine.before, world.machine.pause_s = (lambda _: None), 0.0
    done = await world.sync(None)
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert sent + done.bytes_sent < 1.2 * size and sent > MIB
    world.check(1)


async def test_dead_after_the_publication(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page log of all passes is the journal's: the next run goes on with it."""
    two_disks(world)
    await world.sync(None)
    rng = random.Random(7)
    world.machine.before = lambda _: world.machine.scribble(rng, pieces=12, most=600 * KIB)
    world.machine.pause_s = 0.03
    with monkeypatch.context() as patch:

        async def dies(*_: object) -> None:
            raise StoreError("the host died", retryable=True)

        patch.setattr(Sync, "_commit", dies)
        with pytest.raises(StoreError):
            await world.sync(0.1)
    assert world.named("sync.snapshot_renewed")
    world.machine.before, world.machine.pause_s = (lambda _: None), 0.0
    done = await world.sync(None)
    assert not done.bytes_changed and not done.findings
    world.check(3)


Chance = Callable[[float], bool]


async def campaign(world: World, seed: int, rounds: int) -> int:
    """Syncs in passes of random ages over random links, with everything that may happen between passes, and runs that
    end in the middle; each point is exact. How many passes there were."""
    rng = random.Random(seed)
    two_disks(world)
    published, passes, gone = 0, 0, 0
    machine = world.machine

    def happens(number: int) -> None:
        if rng.random() < 0.8:
            machine.scribble(rng, pieces=rng.randrange(1, 10), most=rng.choice([9, 400]) * KIB)
        if rng.random() < 0.1:
            rng.choice(machine.disks).tracker.reset()
        if rng.random() < 0.1:
            machine.grow(disk := rng.choice(machine.disks), disk.tracker.capacity + 512 * rng.randrange(1, 400))
        if rng.random() < 0.1:
            machine.doubted = True
        if rng.random() < 0.1:
            rng.shuffle(machine.disks)
        if rng.random() < 0.1:
            raise SourceError("no snapshot can be taken", retryable=True)

    machine.before = happens
    while published < rounds:
        machine.pause_s = rng.choice([0.0, 0.005, 0.01])
        try:
            await world.sync(rng.choice([0.05, 0.1, 0.2, None]), rate=rng.choice([1e12, 50.0 * MIB]))
        except SourceError:
            gone += 1
            assert gone < 20 * rounds
            continue
        published += 1
        passes += len(world.named("sync.snapshot_renewed")) + 1
        assert not world.named("finding")
        world.check(published)
    return passes


@pytest.mark.parametrize("seed", range(3))
async def test_anything_may_happen_between_passes(world: World, seed: int) -> None:
    assert await campaign(world, seed, 4) > 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
async def test_anything_may_happen_between_many_passes(world: World, seed: int) -> None:
    assert await campaign(world, seed, 10) > 10
