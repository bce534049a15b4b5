"""Rolling audits: changes that tracking lost are found within the period and healed at once, and nothing else ever is
found."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from rig import KIB, MIB
from rigs.sites.lying import DAY_S, HOUR_S, UNIT, World
from warmspare.errors import SourceError, StoreError
from warmspare.format import restore_point
from warmspare.model.extents import normalise
from warmspare.model.keyparts import encode_name
from warmspare.observe.events import Events
from warmspare.source.raw import RawSource
from warmspare.state.local_table import LEAVES_AT
from warmspare.store import layout
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.sync.planning.rolling import DISTRUSTED, FOUND, MISSED
from warmspare.sync.planning.rolling_cursor import RollingCursor


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "world")
    world.machine.add("disk", 8 * MIB)
    return world


def cursor_path(world: World) -> Path:
    [path] = world.state.rglob("audit.json")
    return path


def put_cursor(world: World, span: int) -> None:
    """The next share begins there, and is due since now."""
    RollingCursor(span, world.now_s).write(cursor_path(world))


def test_a_lost_change_is_found_and_healed_in_one_sync(world: World) -> None:
    disk = world.machine.disks[0]
    world.sync()
    data = random.Random(2)
    for at in (1 * MIB + 5000, 6 * MIB):  # one where the share begins, one elsewhere
        world.machine.write(disk, at, data.randbytes(8192), unseen=True)
    world.machine.write(disk, 3 * MIB, data.randbytes(100))
    put_cursor(world, 1)
    world.now_s += DAY_S
    result = world.sync()
    [missed] = world.all("tracking.missed")
    assert (missed["disk"], missed["offset"], missed["length"]) == ("disk", 1 * MIB, 64 * KIB)
    found = [(event["offset"], event["length"]) for event in world.all("finding")]
    assert found == [(1 * MIB + 4096, 12 * KIB), (6 * MIB, 8192)]
    assert result.findings == 2 and result.bytes_read == 8 * MIB
    assert world.exact()
    # what is known of the tracker then goes on to the next sync, wherever it runs, and ends with it
    shutil.rmtree(world.state)
    world.machine.write(disk, 2 * MIB, data.randbytes(100))
    world.machine.write(disk, 5 * MIB, data.randbytes(100), unseen=True)
    result = world.sync()
    assert world.all("disk.start")[0]["reason"] == DISTRUSTED
    assert [event["offset"] for event in world.all("finding")] == [5 * MIB] and result.bytes_read == 8 * MIB
    assert world.exact()
    result = world.sync()
    assert world.all("disk.start")[0]["reason"] == DISTRUSTED and result.findings == 0
    world.machine.write(disk, 2 * MIB, data.randbytes(100))
    result = world.sync()
    assert world.all("disk.start")[0]["reason"] == "" and result.bytes_read == UNIT
    assert world.exact()


def test_the_reason_is_in_the_restore_point(world: World) -> None:
    world.sync()
    world.machine.write(world.machine.disks[0], 0, b"lost", unseen=True)
    put_cursor(world, 0)
    world.now_s += DAY_S
    world.sync()
    path = world.repo / layout.point_key(encode_name("vm"), 2)
    record = restore_point.decode(path.read_bytes(), str(path))
    assert record.disks[0].reason == FOUND and record.hardware[MISSED] == ["disk"]


def test_a_missed_change_beside_a_reported_one_is_held_against_the_tracker_too(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.machine.granularity = 4 * KIB  # finer than a block
    disk = world.machine.add("disk", 4 * MIB)
    world.sync()
    world.machine.write(disk, 1 * MIB, b"seen")
    world.machine.write(disk, 1 * MIB + 8192, b"lost", unseen=True)
    result = world.sync()
    assert result.findings == 1 and not world.all("tracking.missed")
    world.sync()
    assert world.all("disk.start")[0]["reason"] == DISTRUSTED
    assert world.exact()


def test_pages_that_are_not_known_are_found_block_by_block(world: World) -> None:
    """Without a page map it can't be told which page changed; that one did is certain all the same."""
    disk = world.machine.disks[0]
    world.sync()
    [path] = world.state.rglob("pagemap")
    path.unlink()
    world.machine.write(disk, 4 * MIB + 5000, b"lost", unseen=True)
    put_cursor(world, 4)
    world.now_s += DAY_S
    world.sync()
    assert [(event["offset"], event["length"]) for event in world.all("finding")] == [(4 * MIB, 64 * KIB)]
    assert world.exact()


@pytest.mark.parametrize("what", ["data over a hole", "zeros over data"])
def test_holes_are_judged_too(tmp_path: Path, what: str) -> None:
    world = World(tmp_path / "world")
    disk = world.machine.add("disk", 16 * MIB)
    world.machine.write(disk, 2 * MIB, bytes(6 * MIB))
    world.sync()
    put_cursor(world, 0)
    if what == "data over a hole":
        world.machine.write(disk, 3 * MIB, b"lost", unseen=True)
    else:
        world.machine.write(disk, 9 * MIB, bytes(4 * MIB), unseen=True)
    world.now_s += 7 * DAY_S
    put_cursor(world, 0)
    world.now_s += 7 * DAY_S
    for _ in range(8):
        world.sync()
        if world.all("tracking.missed"):
            break
        world.now_s += DAY_S
    assert world.all("tracking.missed")[0]["offset"] == (3 * MIB if what == "data over a hole" else 9 * MIB)
    assert world.all("finding") and world.exact()


def test_it_can_be_off(world: World) -> None:
    world.period_s = 0
    world.sync()
    world.machine.write(world.machine.disks[0], MIB, b"lost", unseen=True)
    for _ in range(3):
        world.now_s += 30 * DAY_S
        assert world.sync().bytes_read == 0
    assert not list(world.state.rglob("audit.json")) and not world.exact()


def test_where_comparing_is_forbidden_it_is_an_error_that_says_why(world: World) -> None:
    world.sync()
    world.machine.write(world.machine.disks[0], 2 * MIB, b"lost", unseen=True)
    put_cursor(world, 2)
    world.now_s += DAY_S
    world.may_compare = False
    for _ in range(2):  # again and again: it does not move on
        with pytest.raises((SourceError, BaseExceptionGroup)) as caught:
            world.sync()
        assert world.all("tracking.missed")
        error: BaseException = caught.value
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        assert isinstance(error, SourceError) and "offset 2097152" in error.where
    world.may_compare = True
    world.sync()
    assert world.exact()
    world.may_compare = False
    with pytest.raises(SourceError, match="had missed changes"):
        world.sync()


def test_what_can_not_be_read_for_an_audit_stops_no_sync(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.sync()
    put_cursor(world, 3)
    world.now_s += DAY_S
    world.machine.write(world.machine.disks[0], 0, b"new")
    fill = RawSource._fill

    def failing(self: RawSource, batch: Any, buffer: bytearray) -> int:
        if batch[0][0] >= 3 * MIB:
            raise SourceError("the medium gives nothing", where="offset 3145728")
        return fill(self, batch, buffer)

    monkeypatch.setattr(RawSource, "_fill", failing)
    result = world.sync()
    assert result.bytes_read == UNIT
    assert any("the medium gives nothing" in event["message"] for event in world.all("source.warning"))
    assert RollingCursor.read(cursor_path(world), Events()).span > 3  # it goes on behind it
    monkeypatch.undo()
    assert world.exact()


def test_a_sync_that_fails_takes_no_share(world: World) -> None:
    world.sync()
    put_cursor(world, 3)
    before = cursor_path(world).read_bytes()
    world.now_s += DAY_S
    world.machine.write(world.machine.disks[0], 0, b"new")

    class Failing(DirectoryStore):
        async def create(self, key: str, data: bytes) -> bool:
            if "/points/" in key:
                raise StoreError("the store is gone")
            return await super().create(key, data)

    with pytest.raises((StoreError, BaseExceptionGroup)):
        world.sync(store=Failing(str(world.repo)))
    assert cursor_path(world).read_bytes() == before
    world.sync()
    assert cursor_path(world).read_bytes() != before


def test_damage_of_the_local_table_is_no_finding(world: World) -> None:
    """It is noticed as what it is, rebuilt, and the share is judged by the right one."""
    world.sync()
    [path] = [path for path in world.state.rglob("table") if path.is_file()]
    with path.open("r+b") as file:
        file.seek(LEAVES_AT + 16 * 16 * 3)
        file.write(b"damaged!")
    put_cursor(world, 3)
    world.now_s += DAY_S
    result = world.sync()
    assert world.all("state.rebuild") and not world.all("tracking.missed") and result.findings == 0
    assert world.all("disk.audited")[-1]["blocks_judged"] >= 16


def test_a_repair_sends_what_no_tracker_reports(world: World) -> None:
    disk = world.machine.disks[0]
    world.period_s = 0
    world.sync()
    world.machine.write(disk, 2 * MIB, b"lost", unseen=True)
    world.machine.write(disk, 4 * MIB, b"seen")
    result = world.sync(also={"disk": normalise([2 * MIB], [64 * KIB])})
    assert result.findings == 1 and result.bytes_read == 2 * UNIT and world.exact()


def campaign(home: Path, seed: int, rounds: int) -> None:
    """An honest tracker, and everything that might look like a lie: zeros, holes, growth, lost pages, lost state, runs
    that died, pauses."""
    world = World(home, seed=seed, period_s=2 * DAY_S)
    world.machine.add_sparse("one", 24 * MIB + 4096)
    world.machine.add_sparse("two", 5 * MIB + 512)
    rng = random.Random(f"{seed} honest")
    judged = 0
    for number in range(rounds):
        world.guest()
        world.now_s += rng.choice([900, HOUR_S, 6 * HOUR_S, 2 * DAY_S])
        draw = rng.random()
        disk = rng.choice(world.machine.disks)
        if draw < 0.05:
            world.machine.grow(disk, disk.tracker.capacity + rng.choice([512, 65536, 300_000, 2 * MIB]))
        elif draw < 0.1:
            for path in world.state.rglob("pagemap"):
                path.unlink()
        elif draw < 0.13:
            shutil.rmtree(world.state, ignore_errors=True)
        elif draw < 0.2:
            failing_sync(world, rng)
            world.guest(2)
        result = world.sync()
        judged += sum(event["blocks_judged"] for event in world.all("disk.audited"))
        assert not world.all("tracking.missed") and not world.all("finding") and not result.findings, number
        if number % 100 == rounds % 100 or number == rounds - 1:
            assert world.exact()
    assert judged > rounds  # it did look


def failing_sync(world: World, rng: random.Random) -> None:
    left = rng.randrange(1, 8)

    class Failing(DirectoryStore):
        async def create(self, key: str, data: bytes) -> bool:
            nonlocal left
            left -= "/leases/" not in key and "lease" not in key
            if left <= 0 or "/points/" in key:
                raise StoreError("the store is gone")
            return await super().create(key, data)

    with pytest.raises((StoreError, BaseExceptionGroup)):
        world.sync(store=Failing(str(world.repo)))


@pytest.mark.parametrize("seed", range(3))
def test_an_honest_tracker_is_never_accused(tmp_path: Path, seed: int) -> None:
    campaign(tmp_path / "world", seed, 15)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 102))
def test_an_honest_tracker_is_never_accused_in_a_thousand_syncs(tmp_path: Path, seed: int) -> None:
    campaign(tmp_path / "world", seed, 500)


def lying(home: Path, seed: int) -> float:
    """A tracker that withholds 1 % of what changed until that really cost something. After how long it was found."""
    world = World(home, seed=seed)
    world.machine.add_sparse("one", 40 * MIB)
    world.machine.add_sparse("two", 7 * MIB + 4096)
    world.sync()
    world.machine.lies = 0.01
    for _ in range(200):
        world.guest(20)
        world.now_s += 6 * HOUR_S
        world.sync()
        if world.machine.withheld:
            break
    lies, began_s = list(world.machine.withheld), world.now_s
    assert lies
    # What is written again is healed, so the guest writes elsewhere.
    elsewhere = next(at for at in range(0, 40 * MIB, UNIT) if ("one", at) not in lies)
    world.machine.lies = 0.0
    while True:
        if missed := world.all("tracking.missed"):  # in the very sync that it was lied to, it may be
            assert world.all("finding") and missed[0]["disk"] in {disk for disk, _ in lies}
            found_s = world.now_s - began_s
            world.sync()  # the other disks of the VM come with the next sync, in full
            assert world.exact()
            return found_s
        assert world.now_s <= began_s + world.period_s + 6 * HOUR_S, "not found within the period"
        assert not world.exact()
        world.now_s += 6 * HOUR_S
        world.machine.write(world.machine.disks[0], elsewhere, world.rng.randbytes(100))
        world.sync()


@pytest.mark.parametrize("seed", range(2))
def test_a_lie_is_found_within_the_period(tmp_path: Path, seed: int) -> None:
    assert lying(tmp_path / "world", seed) <= 7 * DAY_S + 6 * HOUR_S


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thirty_lies_are_found_within_the_period(tmp_path: Path) -> None:
    times = []
    for seed in range(50, 80):
        times.append(lying(tmp_path / str(seed), seed))
        shutil.rmtree(tmp_path / str(seed))
    print(f"found after {sum(times) / len(times) / DAY_S:.1f} days on average, {max(times) / DAY_S:.1f} at most")
    assert max(times) <= 7 * DAY_S + 6 * HOUR_S
