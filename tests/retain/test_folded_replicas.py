"""Audits of replicas and sources over a chain from which points were let go; also while they are."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from retain.test_folded_chain import past
from rig import MIB, Outcome, Rig, command, flip, random_disk, same, scribble, write_extents
from rigs.damage.replica import audit
from rigs.sites.lying import DAY_S, World
from rigs.stores.retaining import retain
from warmspare.audit.replica import disk_audit
from warmspare.audit.replica.disk_audit import DiskAudit, JudgedBlocks, Unit
from warmspare.audit.replica.replica_audit import ReplicaAudit, ReplicaAuditSettings
from warmspare.observe.events import Events
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.opening import open_store


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(disk_audit, "UNIT_BLOCKS", 8)


def drop(rig: Rig, keep: list[int], *, remove: bool) -> None:
    retain(DirectoryStore(rig.repo), rig.vm, keep, rig.home / "folding", remove=remove)


def damaged(rig: Rig) -> Outcome:
    """A replica with a few wrong blocks, found and repaired."""
    for at in (300_000, 1 * MIB + 7, 5 * MIB):
        flip(rig.replica, at)
    with rig.replica.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(bytes(65536))
    found = audit(rig, code=5).last("audit.done")
    repaired = audit(rig, "--repair", code=5).last("audit.done")
    assert found["findings"] == repaired["findings"] == repaired["repaired"] > 2
    return audit(rig, code=0)


@pytest.mark.parametrize("start", [1, 4, 6])
def test_a_replica_at_a_point_that_a_fold_leads_to(rig: Rig, start: int) -> None:
    """A new one, one that came over the fold, and one of which the blocks are stale since before it."""
    images = past(rig, 6)
    rig.apply("--at", start)
    drop(rig, [4, 6], remove=True)
    rig.apply()
    assert damaged(rig).last("audit.done")["point"].startswith("6-")
    assert rig.replica.read_bytes() == images[6]


def test_a_block_that_is_stale_since_before_a_fold(rig: Rig) -> None:
    images = past(rig, 6)
    drop(rig, [2, 6], remove=True)
    rig.apply()
    at = next(at for at in range(0, 8 * MIB, 65536) if images[2][at : at + 65536] != images[6][at : at + 65536])
    with rig.replica.open("r+b") as file:
        file.seek(at)
        file.write(images[2][at : at + 65536])
    [found] = audit(rig, code=5).all("finding")
    assert found["kind"] == ("block-stale" if any(images[2][at : at + 65536]) else "block-zeroed")
    assert found["kind"] == "block-zeroed" or "2-" in found["message"]


def test_a_replica_at_a_point_that_was_let_go(rig: Rig) -> None:
    """Audited and repaired in the grace time; after it, it has to be brought on first, and that is said."""
    images = past(rig, 6)
    rig.apply("--at", 3)
    drop(rig, [2, 4, 5, 6], remove=False)
    assert damaged(rig).last("audit.done")["point"].startswith("3-")
    drop(rig, [2, 6], remove=False)
    damaged(rig)
    assert rig.replica.read_bytes() == images[3]
    drop(rig, [6], remove=True)
    refused = audit(rig, code=2)
    assert "restore point 3 of VM 'vm' was dropped" in refused.stderr and "`warmspare apply`" in refused.stderr
    rig.apply()
    assert damaged(rig).last("audit.done")["point"].startswith("6-")


def test_one_whose_way_is_gone_though_its_record_is_there(rig: Rig) -> None:
    """Removal has begun: what the point needs is gone, and which point that is stands in the answer."""
    past(rig, 5)
    rig.apply("--at", 3)
    record = rig.point_path(3).read_bytes()
    drop(rig, [2, 5], remove=True)
    drop(rig, [5], remove=True)
    rig.point_path(3).write_bytes(record)
    assert "restore point 3 of VM 'vm' was dropped" in audit(rig, code=2).stderr


def make(rig: Rig) -> ReplicaAudit:
    return ReplicaAudit(
        open_store(rig.repo),
        rig.vm,
        rig.replica,
        rig.home / "scratch",
        rig.home / "unfinished",
        Events(),
        ReplicaAuditSettings(),
    )


def interrupted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An audit that is cancelled half-way."""
    plain, counted = DiskAudit._count, []

    async def work() -> None:
        task = asyncio.create_task(make(rig).run())

        def count(self: DiskAudit, unit: Unit, judged: JudgedBlocks) -> None:
            plain(self, unit, judged)
            counted.append(unit)
            if len(counted) == 8:
                task.cancel()

        with monkeypatch.context() as patch, pytest.raises(asyncio.CancelledError):
            patch.setattr(DiskAudit, "_count", count)
            await task

    asyncio.run(work())


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_an_interrupted_audit_of_a_point_that_was_let_go_since(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, remove: bool, moved: bool
) -> None:
    """It goes on as long as its point is there, and begins anew when it is gone; never is a verdict wrong."""
    past(rig, 6)
    rig.apply("--at", 3)
    flip(rig.replica, 7 * MIB)
    interrupted(rig, monkeypatch)
    drop(rig, [2, 6], remove=remove)
    if moved or remove:
        rig.apply()
    report = asyncio.run(make(rig).run())
    assert bool(report.resumed) is not remove
    assert report.point and report.point.sequence == (6 if moved or remove else 3)
    wrong = rig.replica.read_bytes()[7 * MIB] != rig.disk.read_bytes()[7 * MIB] or not (moved or remove)
    assert len(report.findings) == wrong and report.coverage_percent == 100


def meanwhile(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Do something once, when all blocks have been read for the first time."""
    plain, done = DiskAudit.scan, []

    async def scan(self: DiskAudit) -> None:
        await plain(self)
        if not done:
            done.append(True)
            await asyncio.to_thread(action)

    monkeypatch.setattr(DiskAudit, "scan", scan)


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("harm", [False, True])
def test_a_replica_that_moves_over_a_fold_while_it_is_audited(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, remove: bool, harm: bool
) -> None:
    past(rig, 6)
    rig.apply("--at", 3)
    if harm:
        with rig.disk.open("r+b") as file:  # a block that nothing changes after the third
            file.seek(8 * MIB + 4 * 4096)
            file.write(b"the same from now on")
        rig.sync()
        flip(rig.replica, 100)

    def go_on() -> None:
        drop(rig, [2, 6] if not harm else [2, 7], remove=remove)
        rig.apply()

    meanwhile(monkeypatch, go_on)
    report = asyncio.run(make(rig).run())
    assert report.point and report.point.sequence == (7 if harm else 6)
    assert bool(report.findings) == (not same(rig.disk, rig.replica)) and report.coverage_percent == 100


def test_a_replica_whose_point_is_let_go_while_it_is_repaired(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hashes are known by then; what the chain can't give any more stays wrong, and why is said."""
    images = past(rig, 5)
    rig.apply("--at", 3)
    at = next(at for at in range(0, 8 * MIB, 65536) if any(images[3][at : at + 65536]))
    flip(rig.replica, at)
    meanwhile(monkeypatch, lambda: drop(rig, [2, 5], remove=False))
    assert audit(rig, "--repair", code=5).last("audit.done")["repaired"] == 1
    assert rig.replica.read_bytes() == images[3]
    flip(rig.replica, at)
    meanwhile(monkeypatch, lambda: drop(rig, [5], remove=True))
    done = audit(rig, "--repair", code=5)
    assert done.last("audit.done")["repaired"] == 0
    [found] = done.all("finding")
    assert "could not be repaired" in found["remedy"] and "was dropped" in found["remedy"]


def test_a_source_by_a_point_that_a_fold_leads_to(rig: Rig) -> None:
    """Nothing is found where nothing was lost; a change that tracking lost is found and healed."""
    past(rig, 5)
    drop(rig, [2, 5], remove=True)
    shutil.rmtree(rig.state)
    words = ["audit", "source", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state]
    assert command(*words).last("audit.done")["result"] == "clean"
    nothing = write_extents(rig.home / "nothing", [], 512, rig.disk.stat().st_size)
    flip(rig.disk, 2 * MIB)
    found = command(*words, "--extents", nothing, "--repair")
    [each] = [each for each in found.all("finding") if each["kind"] == "change-lost"]
    assert found.code == 5 and each["offset"] == 2 * MIB and each["repaired"]
    drop(rig, [5, 6], remove=True)
    rig.apply()
    assert same(rig.disk, rig.replica)


@pytest.mark.parametrize("state", ["there", "lost"])
def test_a_rolling_audit_over_a_folded_chain(tmp_path: Path, state: str) -> None:
    """What tracking lost is found within the period, and nothing else."""
    world = World(tmp_path / "world")
    world.machine.add("disk", 8 * MIB)
    [disk] = world.machine.disks
    rng = random.Random(4)
    for number in range(4):
        world.machine.write(disk, number * MIB, rng.randbytes(9000))
        assert world.sync().findings == 0
    retain(DirectoryStore(str(world.repo)), world.machine.vm_id, [2, 4], tmp_path / "folding")
    if state == "lost":
        shutil.rmtree(world.state)
    assert world.sync().findings == 0
    world.machine.write(disk, 5 * MIB, rng.randbytes(4096), unseen=True)
    found = 0
    for _ in range(9):
        world.now_s += DAY_S
        world.machine.write(disk, MIB, rng.randbytes(100))
        found += world.sync().findings
    assert found == 1 and world.exact()


def test_a_disk_that_came_and_went_below_a_fold(rig: Rig) -> None:
    """It begins anew, whatever a replica held of it."""
    second = rig.home / "second.raw"
    random_disk(second, 2 * MIB, random.Random(1))
    rig.sync(disks=[rig.disk, second])
    rig.sync(disks=[rig.disk], code=7)
    random_disk(second, 2 * MIB, random.Random(2))
    rig.sync(disks=[rig.disk, second])
    scribble(second, random.Random(3), pieces=4)
    rig.sync(disks=[rig.disk, second])
    target = rig.home / "many"
    rig.apply("--at", 1, to=target)
    drop(rig, [1, 4], remove=True)
    rig.apply(to=target)
    assert not audit(rig, target=target, code=0).all("finding")
    assert not command("audit", "repository", "--repo", rig.repo, "--deep").all("finding")
