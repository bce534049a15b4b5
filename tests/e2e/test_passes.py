"""A sync whose snapshot must not get old reads in passes, each from a snapshot of its own, and publishes the last:
exact whatever changed meanwhile, nothing sent twice, no finding that is none, local state right for the next sync."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

import warmspare.sync.passes.moment
import warmspare.sync.stages.pack_writer
from rig import KIB, MIB, begin, command, same
from rigs.host.hearing import recorder
from rigs.sites.moments import Moments
from warmspare.audit.repository.repository_audit import RepositoryAudit
from warmspare.audit.repository.seen import KnownRepository
from warmspare.errors import SourceError, StoreError
from warmspare.format import restore_point
from warmspare.format.manifest import ManifestReader
from warmspare.model.keyparts import encode_name
from warmspare.observe.events import Events, Meter
from warmspare.source.ports import Opened
from warmspare.store import layout
from warmspare.store.around.passing import PassingStore, PassingUpload
from warmspare.store.contract import Upload
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.sync.passes.moment import Moment, Passes
from warmspare.sync.publishing.spool import SpoolPlace
from warmspare.sync.results import SyncResult
from warmspare.sync.sender import Sender
from warmspare.sync.sync_settings import SyncSettings

BLOCK = 64 * KIB
AGE_S = 0.2


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
            self.packs.append(time.monotonic())


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
    store: Thin = dataclasses.field(init=False)
    spooled: bool = False
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    meter: Meter = dataclasses.field(default_factory=Meter)

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    def sync(self, age_s: float | None = AGE_S, *, rate: float = 1e12) -> SyncResult:
        """Without an age, moments do not get stuck."""
        self.events.clear()
        self.meter = Meter()
        self.store = Thin(DirectoryStore(str(self.repo)), rate)
        spans = self.machine.spans
        self.machine.spans = spans if age_s is not None else None
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(self._sync(age_s))
        finally:
            self.machine.spans = spans
            assert not self.machine.held, "a moment is left"

    async def _sync(self, age_s: float | None) -> SyncResult:
        start = await begin(DirectoryStore(str(self.repo)), "vm")
        try:
            return await Sender(
                self.store,
                self.machine,
                SyncSettings(
                    self.home / "state",
                    1,
                    SpoolPlace(self.home / "spool") if self.spooled else None,
                    max_snapshot_age_s=age_s,
                    start=start,
                ),
                Events(recorder(self.events)),
                meter=self.meter,
            ).run()
        finally:
            await self.store.close()

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == name]

    def point(self, sequence: int) -> restore_point.RestorePoint:
        path = self.repo / layout.point_key(encode_name("vm"), sequence)
        return restore_point.decode(path.read_bytes(), str(path))

    def manifest(self, disk: restore_point.Disk) -> ManifestReader:
        data = (self.repo / disk.manifest.key).read_bytes()
        return ManifestReader(lambda at, size: data[at : at + size], len(data), disk.manifest.key)

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
                for pack in self.manifest(disk).packs:
                    named.add(layout.pack_key(encode_name("vm"), pack.id))
        assert self.packs() == named
        left = [path.name for path in (self.home / "state").rglob("*") if path.name in ("unfinished", "carried")]
        assert not left and self.meter.done_bytes == self.meter.total_bytes


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Packs of a quarter of a megabyte, moments that get stuck after five megabytes; and patience with slow machines:
    the age counts from when the first disk is begun."""
    monkeypatch.setattr(warmspare.sync.stages.pack_writer, "PACK_BYTES", MIB // 4)
    monkeypatch.setattr(warmspare.sync.passes.moment, "MOST_IN_VAIN", 100)
    world = World(tmp_path, Moments(tmp_path, spans=5))
    moment = Passes.moment

    def begun(passes: Passes, machine: Moments, tasks: asyncio.TaskGroup, opened: Opened) -> Moment:
        machine.lifetimes[-1][0] = time.monotonic()
        return moment(passes, machine, tasks, dataclasses.replace(opened, taken_s=machine.lifetimes[-1][0]))

    monkeypatch.setattr(Passes, "moment", begun)
    return world


def two_disks(world: World, size: int = 12 * MIB) -> None:
    world.machine.add("a", size)
    world.machine.add("b", size // 2 + 512)


def test_a_first_sync_in_several_passes(world: World) -> None:
    two_disks(world)
    rng = random.Random(2)
    world.machine.before = lambda number: world.machine.scribble(rng, pieces=8) if number > 1 else None
    done = world.sync()
    renewed = world.named("sync.snapshot_renewed")
    assert len(renewed) == world.machine.count - 1 >= 2
    assert [event["passes"] for event in renewed] == list(range(2, world.machine.count + 1))
    assert [event["disk"] for event in world.named("disk.done")][-2:] == ["a", "b"]
    assert world.point(1).bytes_read == done.bytes_read == world.meter.read_bytes
    assert not done.findings
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert done.bytes_sent < 1.3 * size + len(renewed) * 8 * (100 + 128) * KIB
    world.check(1)
    world.machine.before = lambda _: None
    again = world.sync(None)
    assert not again.bytes_changed and not again.findings
    world.check(2)


def test_what_was_read_is_not_read_again(world: World) -> None:
    two_disks(world)
    done = world.sync()
    assert world.machine.count >= 3
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert size <= done.bytes_read <= size + world.machine.count * 8 * MIB  # what was on its way when reading ended
    assert done.bytes_changed == size
    assert size < done.bytes_sent < 1.01 * size + 100 * KIB * world.machine.count
    world.check(1)


def test_a_thin_link_never_holds_the_moment(world: World) -> None:
    """The reader is stuck behind full queues when time is over: the moment goes all the same, while what was read is
    still on its way; and the next one comes when that is complete."""
    two_disks(world, 40 * MIB)
    world.machine.spans = None
    world.sync(rate=10.0 * MIB)
    assert world.machine.count >= 3
    lives, packs = world.machine.lifetimes, world.store.packs
    for taken, gone in lives:
        late = [at for at in packs if taken + 1.5 * AGE_S < at < gone]  # a busy machine lets several come at once
        assert len(late) <= 1, f"held for {gone - taken} s, and {len(late)} packs"
    assert sum(gone < at < taken for at in packs for (_, gone), (taken, _) in itertools.pairwise(lives)) > 20
    print([round(gone - taken, 3) for taken, gone in lives])
    world.check(1)


def test_time_is_over_between_disks(world: World) -> None:
    """All of the first disk was read and is still being sent, and the second was not begun."""
    world.machine.add("a", 2 * MIB)
    world.machine.add("b", 2 * MIB)
    world.machine.spans = None
    world.sync(rate=1.0 * MIB)
    manifest = world.manifest(world.point(1).disks[0])
    sent_s = world.store.packs[len(manifest.packs) - 1]
    gone = [gone for _, gone in world.machine.lifetimes if gone < sent_s]
    assert gone and world.machine.lifetimes[len(gone)][0] > sent_s, "held while the first disk was sent"
    done = [event["disk"] for event in world.named("disk.done")]
    # On a starved machine a moment may go by before even the first disk was read anew.
    assert done == ["a"] * (len(done) - 1) + ["b"] and 2 <= len(done) - 1 <= len(gone) + 1
    world.check(1)


def test_passes_through_a_spool(world: World) -> None:
    """The next moment comes when the spool is empty: what a pass recorded counts once it is in the store."""
    two_disks(world)
    world.spooled = True
    rng = random.Random(11)
    world.machine.before = lambda number: world.machine.scribble(rng, pieces=3) if number < 4 else None
    done = world.sync(rate=20.0 * MIB)
    assert world.machine.count >= 3 and not done.findings
    assert not [path for path in (world.home / "spool").rglob("packs/**/*") if path.is_file()]
    named = [pack for disk in world.point(1).disks for pack in world.manifest(disk).packs]
    assert len({pack.id.run for pack in named}) >= 3
    assert world.point(1).bytes_sent >= sum(pack.bytes for pack in named), "all of the passes were sent by this sync"
    world.check(1)


def test_an_increment_in_passes(world: World) -> None:
    two_disks(world)
    world.sync(None)
    rng = random.Random(3)
    world.machine.before = lambda n: world.machine.scribble(rng, pieces=12, most=600 * KIB) if n < 4 else None
    world.machine.spans = 3
    done = world.sync()
    assert world.named("sync.snapshot_renewed") and not done.findings
    world.check(2)
    assert not (world.sync(None)).findings
    world.check(3)


def test_changed_and_changed_back(world: World) -> None:
    """Changed in the first pass, back as at the head in the second, and in the next sync what it was in the first one:
    the page map must not know the pages that were never published."""
    disk = world.machine.add("a", 8 * MIB)
    world.sync(None)
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
    world.sync()
    assert world.machine.count >= 3
    world.check(2)
    world.machine.before = lambda _: None
    world.machine.write(disk, 0, new)
    for block in range(4):  # not all of a block's pages: one that changed in none is sent whole
        world.machine.write(disk, block * BLOCK + 3 * 4 * KIB, b"another page")
    world.sync(None)
    world.check(3)
    world.machine.write(disk, 0, old)
    world.sync(None)
    world.check(4)


def test_findings_are_of_what_no_pass_reported(world: World) -> None:
    """A page that the tracker missed, in a block that it reported in part, is a finding; what it reported to an earlier
    pass is none, even where it is read again for another page."""
    world.machine = Moments(world.home, granularity=4 * KIB, spans=3)
    disk = world.machine.add("a", 8 * MIB)
    world.sync(None)

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
    done = world.sync()
    assert world.machine.count >= 3
    found = [(event["offset"], event["length"]) for event in world.named("finding")]
    assert found == [(4 * BLOCK + 5 * 4 * KIB, 4 * KIB)] and done.findings == 1
    world.check(2)


def test_tracking_begins_anew_between_passes(world: World) -> None:
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
    done = world.sync()
    assert world.machine.count >= 4 and not done.findings
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert done.bytes_sent < 1.2 * size, "what was sent and is the same was sent again"
    assert world.point(1).disks[0].reason == "it is doubted"
    world.check(1)


def test_disks_grow_come_and_go_between_passes(world: World) -> None:
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
    world.sync()
    assert world.machine.count >= 3
    assert [disk.id for disk in world.point(1).disks] == ["new", "a", "b"]
    world.check(1)
    world.machine.before = lambda _: world.machine.scribble(random.Random(6), pieces=10)
    world.sync(None)
    world.check(2)


def test_a_pack_is_lost_between_passes(world: World) -> None:
    """Nothing that a pass recorded counts unless all of its packs stand: that disk is read again, and what is lost sent
    again."""
    two_disks(world)
    lost = list[str]()

    def lose(number: int) -> None:
        if number in (2, 3):
            lost.append(min(world.packs() - set(lost)))
            (world.repo / lost[-1]).unlink()

    world.machine.before = lose
    done = world.sync()
    assert len(lost) == 2
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert done.bytes_read > 1.1 * size and done.bytes_sent < 1.2 * size
    world.check(1)


def test_changes_outrun_the_link(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, with nothing published, and what was sent is used by the next one."""
    monkeypatch.setattr(warmspare.sync.passes.moment, "MOST_IN_VAIN", 3)
    disk = world.machine.add("a", 8 * MIB)
    rng = random.Random(5)
    world.machine.before = lambda _: world.machine.write(disk, 3 * MIB, rng.randbytes(5 * MIB))
    world.machine.spans = 4
    with pytest.raises(SourceError, match="changes faster than it can be sent") as caught:
        world.sync()
    assert caught.value.exit_code == 3 and caught.value.retryable
    assert world.machine.count <= 8 and not list((world.repo / "vms").rglob("points/*.json"))
    world.machine.before = lambda _: None
    done = world.sync(None)
    assert done.bytes_sent < 6 * MIB
    world.check(1)


def test_a_moment_too_short_for_anything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmspare.sync.passes.moment, "MOST_IN_VAIN", 3)
    world.machine.add("a", 8 * MIB)
    with pytest.raises(SourceError, match="raise max_snapshot_age"):
        world.sync(0.0)
    assert world.machine.count == 4


@pytest.mark.parametrize("at", [2, 3])
def test_no_second_moment_can_be_had(world: World, at: int) -> None:
    """What was sent is kept for the next run, which needs no more than one pass."""
    two_disks(world)

    def fail(number: int) -> None:
        if number == at:
            raise SourceError("no snapshot can be taken", retryable=True)

    world.machine.before = fail
    with pytest.raises(SourceError, match="no snapshot"):
        world.sync()
    sent = world.meter.sent_bytes
    world.machine.before = lambda _: None
    done = world.sync(None)
    size = sum(disk.tracker.capacity for disk in world.machine.disks)
    assert sent + done.bytes_sent < 1.2 * size and sent > MIB
    world.check(1)


def test_dead_after_the_publication(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page log of all passes is the journal's: the next run goes on with it."""
    two_disks(world)
    world.sync(None)
    rng = random.Random(7)
    world.machine.before = lambda n: world.machine.scribble(rng, pieces=12, most=600 * KIB) if n < 4 else None
    world.machine.spans = 3
    with monkeypatch.context() as patch:

        async def dies(*_: object) -> None:
            raise StoreError("the host died", retryable=True)

        patch.setattr(Sender, "_commit", dies)
        with pytest.raises(StoreError):
            world.sync()
    assert world.named("sync.snapshot_renewed")
    world.machine.before = lambda _: None
    done = world.sync(None)
    assert not done.bytes_changed and not done.findings
    world.check(3)


def campaign(world: World, seed: int, rounds: int) -> int:
    """Syncs in passes of random ages over random links, with everything that may happen between passes, and runs that
    end in the middle; each point is exact. How many passes there were."""
    rng = random.Random(seed)
    two_disks(world)
    published, passes, gone = 0, 0, 0
    machine = world.machine

    def happens(number: int) -> None:
        if rng.random() < 0.5:
            machine.scribble(rng, pieces=rng.randrange(1, 8), most=rng.choice([9, 200]) * KIB)
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
        machine.spans = rng.randrange(2, 7)
        try:
            world.sync(rng.choice([AGE_S, AGE_S, None]) if published else AGE_S, rate=rng.choice([1e12, 50.0 * MIB]))
        except SourceError:
            gone += 1
            assert gone < 20 * rounds
            continue
        published += 1
        passes += len(world.named("sync.snapshot_renewed")) + 1
        assert not world.named("finding")
        world.check(published)
    return passes


@pytest.mark.parametrize("seed", range(2))
def test_anything_may_happen_between_passes(world: World, seed: int) -> None:
    assert campaign(world, seed, 2) > 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_anything_may_happen_between_many_passes(world: World, seed: int) -> None:
    assert campaign(world, seed, 10) > 10


@pytest.mark.parametrize("seed", range(3))
def test_what_an_audit_marked_is_whole_in_every_pass(world: World, seed: int) -> None:
    """Also what a pass had sent and a later one reads again because it changed."""
    two_disks(world)
    world.sync(None)
    rng = random.Random(seed)
    for key in rng.sample(sorted(world.packs()), 12):
        (world.repo / key).unlink()

    async def mark() -> None:
        store = DirectoryStore(str(world.repo))
        report = await RepositoryAudit(store, world.home / "scratch", KnownRepository(), Events(), repair=True).run()
        assert report.figures["blocks marked"]
        await store.close()

    asyncio.run(mark())
    world.machine.before = lambda n: world.machine.scribble(rng, pieces=12, most=100 * KIB) if n < 5 else None
    world.machine.spans = 2
    world.sync()
    assert world.named("sync.snapshot_renewed") and world.named("sync.anew")
    assert not list((world.repo / "vms").rglob("marks/*"))
    target = world.home / "fresh"
    assert command("apply", "--vm", "vm", "--repo", world.repo, "--to", target).code == 0
    for name, image in world.machine.frozen.items():
        assert same(image, target / name), name
    assert not (world.sync(None)).bytes_changed
