"""Audits of a replica beside an apply, and interrupted ones: never a false finding, never a stale verdict."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rig import MIB, Event, Rig, random_disk, same, scribble
from rigs.damage.replica import audit
from rigs.host.hearing import recorder
from rigs.kills.selfkill import killed_at
from warmspare.audit.replica import disk_audit as disk_module
from warmspare.audit.replica import repair
from warmspare.audit.replica.disk_audit import DiskAudit, JudgedBlocks, Unit
from warmspare.audit.replica.replica_audit import ReplicaAudit, ReplicaAuditSettings
from warmspare.audit.reports.report import AuditReport
from warmspare.errors import ConfigError, IntegrityError, LeaseError
from warmspare.model.ids import PointId
from warmspare.model.units import BLOCK_BYTES
from warmspare.observe.events import Events
from warmspare.state.local_files import read_record, write_record
from warmspare.state.replica_record import ReplicaRecord
from warmspare.store.opening import open_store

SIZE = 16 * MIB


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A replica at the second restore point of a disk of random data, 256 blocks."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "local"))
    monkeypatch.setattr(disk_module, "UNIT_BLOCKS", 8)
    rig = Rig(tmp_path)
    rng = random.Random(5)
    rig.disk.write_bytes(rng.randbytes(SIZE))
    rig.sync()
    scribble(rig.disk, rng)
    rig.sync()
    rig.apply()
    return rig


def outside(*arguments: object) -> None:
    """The command line in a process of its own: within an event loop it can't be run."""
    done = subprocess.run(
        [sys.executable, "-m", "warmspare", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def advance(rig: Rig, seed: int = 9) -> None:
    """Another restore point, and the replica brought to it."""
    scribble(rig.disk, random.Random(seed))
    outside("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state)
    outside("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica)


def make(rig: Rig, seen: list[Event] | None = None, **settings: object) -> ReplicaAudit:
    events = Events(recorder(seen)) if seen is not None else Events()
    return ReplicaAudit(
        open_store(rig.repo),
        rig.vm,
        rig.replica,
        rig.home / "scratch",
        rig.home / "unfinished",
        events,
        ReplicaAuditSettings(**settings),  # type: ignore[arg-type]
    )


def corrupt_block(rig: Rig, block: int) -> None:
    with rig.replica.open("r+b") as file:
        file.seek(block * BLOCK_BYTES + 77)
        before = file.read(1)
        file.seek(block * BLOCK_BYTES + 77)
        file.write(bytes([before[0] ^ 4]))


def blocks(report: AuditReport) -> list[int]:
    return [each.offset // BLOCK_BYTES for each in report.findings if each.offset is not None]


def unchanged_block(rig: Rig, before: bytes, after: Path) -> int:
    """A block that is the same in both."""
    now = after.read_bytes()
    return next(
        at // BLOCK_BYTES
        for at in range(40 * BLOCK_BYTES, SIZE, BLOCK_BYTES)
        if now[at : at + BLOCK_BYTES] == before[at : at + BLOCK_BYTES]
    )


def after_first_scan(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Do something once, when all blocks have been read for the first time."""
    plain, done = DiskAudit.scan, []

    async def scan(self: DiskAudit) -> None:
        await plain(self)
        if not done:
            done.append(True)
            await asyncio.to_thread(action)

    monkeypatch.setattr(DiskAudit, "scan", scan)


async def test_a_replica_that_moves_on_is_judged_by_its_new_point(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    after_first_scan(monkeypatch, lambda: advance(rig))
    seen: list[Event] = []
    report = await make(rig, seen).run()
    assert report.clean and not report.findings and report.coverage_percent == 100
    assert report.point and report.point.sequence == 3
    assert [event["point"] for event in seen if event["event"] == "audit.point"] == [report.point.label]
    assert SIZE < report.bytes_read < 1.7 * SIZE  # what the new point changed was read again, the rest was not
    shown = report.disks[0]
    assert shown.zero + shown.sound == shown.blocks == 256


async def test_what_is_wrong_is_found_though_the_replica_moves_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rig.disk.read_bytes()
    later = rig.home / "later.raw"
    shutil.copy(rig.disk, later)
    scribble(later, random.Random(9))
    block = unchanged_block(rig, before, later)
    corrupt_block(rig, block)
    after_first_scan(monkeypatch, lambda: advance(rig))
    report = await make(rig).run()
    assert report.point and report.point.sequence == 3
    assert blocks(report) == [block] and report.findings[0].point == report.point.label


async def test_a_disk_that_grows_meanwhile_is_judged_whole(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow() -> None:
        with rig.disk.open("ab") as file:
            file.write(os.urandom(MIB))
        advance(rig)

    after_first_scan(monkeypatch, grow)
    report = await make(rig).run()
    assert report.clean and report.disks[0].capacity_bytes == SIZE + MIB and report.disks[0].judged == 272


async def test_damage_done_by_an_unfinished_move_is_no_finding(rig: Rig) -> None:
    """A block that the next point already changed, while the record says that the replica is on its way there."""
    path = Path(f"{rig.replica}.warmspare") / "replica.json"
    record = read_record(path, ReplicaRecord, "test", Events())
    assert record and record.at
    corrupt_block(rig, 17)
    moving = msgspec.structs.replace(record, moving=PointId(record.at.sequence + 1, "0" * 64))
    write_record(path, moving, "test")
    audit_task = asyncio.create_task(make(rig, patience_s=60).run())
    await asyncio.sleep(0.7)
    assert not audit_task.done()  # it waits, and says nothing yet
    corrupt_block(rig, 17)  # what apply would do in the end
    write_record(path, record, "test")
    assert (await audit_task).clean
    write_record(path, moving, "test")
    with pytest.raises(LeaseError, match="nothing has moved it"):
        await make(rig, patience_s=0.5).run()
    with pytest.raises(LeaseError, match="interrupted apply"):
        await make(rig, repair=True).run()


async def test_a_file_that_is_replaced_or_cut_meanwhile_is_judged_as_it_is(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace() -> None:
        other = rig.home / "other"
        shutil.copy(rig.replica, other)
        with other.open("r+b") as file:
            file.write(b"not what it was")
        other.rename(rig.replica)

    after_first_scan(monkeypatch, replace)
    assert blocks(await make(rig).run()) == [0]
    monkeypatch.undo()
    after_first_scan(monkeypatch, lambda: os.truncate(rig.replica, SIZE // 2))
    report = await make(rig).run()
    assert {str(each.kind) for each in report.findings} == {"disk-short", "block-wrong"}
    assert report.disks[0].wrong == 129


FOLLOW = """
import asyncio, sys
from pathlib import Path
from warmspare.apply.receiver import Receiver
from warmspare.observe.events import Events
from warmspare.store.opening import open_store
repo, vm, target = sys.argv[1:]
asyncio.run(Receiver(open_store(repo), vm, Path(target), Events()).follow(poll_s=0.02))
"""


def test_audits_beside_a_follower_find_nothing(rig: Rig) -> None:
    """Each restore point is applied the moment it is there, while audits run one after the other."""
    follower = subprocess.Popen(
        [sys.executable, "-c", FOLLOW, rig.repo, rig.vm, str(rig.replica)], stderr=subprocess.PIPE, text=True
    )
    sync = ["sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state]
    try:
        rng = random.Random(3)
        for number in range(4):
            scribble(rig.disk, rng, pieces=60)
            syncing = subprocess.Popen([sys.executable, "-m", "warmspare", *map(str, sync)], stdout=subprocess.DEVNULL)
            while syncing.poll() is None or number == 0:
                outcome = audit(rig, code=0)
                assert not outcome.all("finding") and outcome.last("audit.done")["point"]
                number = number or 1
            assert syncing.returncode == 0
        assert follower.poll() is None, follower.stderr and follower.stderr.read()
        refused = audit(rig, "--repair", code=6)
        assert "is working on this replica" in refused.stderr
        deadline = time.monotonic() + 60
        while not same(rig.disk, rig.replica) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert audit(rig, code=0).last("audit.done")["point"].startswith("6-")
    finally:
        follower.send_signal(signal.SIGTERM)
        follower.wait(timeout=30)
        if follower.stderr:
            follower.stderr.close()


# interrupted audits


async def interrupted(rig: Rig, monkeypatch: pytest.MonkeyPatch, units: int, **settings: object) -> None:
    """An audit that is cancelled after so many units."""
    plain, counted = DiskAudit._count, []
    with monkeypatch.context() as patch:

        def count(self: DiskAudit, unit: Unit, judged: JudgedBlocks) -> None:
            plain(self, unit, judged)
            counted.append(unit)
            if len(counted) == units:
                task.cancel()

        patch.setattr(DiskAudit, "_count", count)
        task = asyncio.create_task(make(rig, **settings).run())
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(counted) >= units


async def test_an_interrupted_audit_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    corrupt_block(rig, 3)
    corrupt_block(rig, 250)
    await interrupted(rig, monkeypatch, 20)
    assert list((rig.home / "unfinished").glob("*.json"))
    report = await make(rig).run()
    assert report.resumed and blocks(report) == [3, 250] and report.coverage_percent == 100
    assert report.bytes_read < SIZE * 0.6
    assert report.disks[0].sound == 254 and report.disks[0].bytes_read >= SIZE
    assert not list((rig.home / "unfinished").glob("*.json"))


async def test_it_starts_anew_when_someone_wrote_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await interrupted(rig, monkeypatch, 20)
    corrupt_block(rig, 3)  # among the blocks that were judged sound
    report = await make(rig).run()
    assert not report.resumed and blocks(report) == [3]


async def test_a_killed_audit_goes_on(rig: Rig) -> None:
    """By the command line, killed by the kernel; it had noted how far it was a moment before."""
    corrupt_block(rig, 3)
    corrupt_block(rig, 250)
    words = ["audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica]
    disk, whole = "warmspare.audit.replica.disk_audit", "warmspare.audit.replica.replica_audit"
    constants = {f"{disk}:UNIT_BLOCKS": 8, f"{whole}:SAVE_S": 0.0}
    await asyncio.to_thread(killed_at, f"{disk}:DiskAudit._count", 20, *words, constants=constants)
    [left] = (rig.home / "local" / "warmspare" / "audits" / "unfinished").glob("*.json")
    left.parent.rename(rig.home / "unfinished")
    report = await make(rig).run()
    assert report.resumed and blocks(report) == [3, 250] and report.coverage_percent == 100


async def test_it_goes_on_when_only_apply_wrote_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await interrupted(rig, monkeypatch, 20)
    await asyncio.to_thread(advance, rig)
    report = await make(rig).run()
    assert report.resumed and report.clean and report.point and report.point.sequence == 3
    assert report.disks[0].sound == 256


async def test_a_sample_goes_on_with_the_same_blocks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await interrupted(rig, monkeypatch, 10, percent=50.0)
    report = await make(rig, percent=50.0).run()
    assert report.resumed and report.disks[0].judged == 128 and "50 %" in report.mode
    assert not (await make(rig, percent=50.0).run()).resumed


async def test_progress_of_another_file_or_too_old_does_not_count(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await interrupted(rig, monkeypatch, 20)
    other = rig.home / "other"
    shutil.copy(rig.replica, other)
    other.rename(rig.replica)
    assert not (await make(rig).run()).resumed
    await interrupted(rig, monkeypatch, 20)
    monkeypatch.setattr("warmspare.audit.replica.replica_progress.MAX_AGE_S", 0)
    assert not (await make(rig).run()).resumed


# what can't be audited


async def test_refusals(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no replica"):
        await make(Rig(tmp_path / "nothing", repo=rig.repo)).run()
    with pytest.raises(ConfigError, match="is at restore point 2-"):
        await make(rig, at="1").run()
    state = Path(f"{rig.replica}.warmspare")
    state.rename(rig.home / "away")
    with pytest.raises(ConfigError, match="nothing says which restore point"):
        await make(rig).run()
    with pytest.raises(ConfigError, match="can be repaired"):
        await make(rig, at="2", repair=True).run()
    report = await make(rig, at="latest").run()  # any raw image can be judged by a point that is named
    assert report.clean and report.point and report.point.sequence == 2
    (rig.home / "away").rename(state)
    point = rig.point_path(2)
    point.unlink()
    with pytest.raises(IntegrityError, match="rolled back"):
        await make(rig).run()


async def test_a_damaged_chain_judges_nothing(rig: Rig) -> None:
    manifest = rig.objects("manifests")[-1]
    data = bytearray(manifest.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.chmod(0o600)
    manifest.write_bytes(data)
    with pytest.raises(IntegrityError, match="manifest"):
        await make(rig).run()


def test_a_block_that_the_chain_can_not_give_stays_wrong_and_is_told(rig: Rig) -> None:
    corrupt_block(rig, 3)
    corrupt_block(rig, 200)
    pack = rig.objects("packs")[0]
    data = bytearray(pack.read_bytes())
    data[3 * BLOCK_BYTES + 100] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    outcome = audit(rig, "--repair", code=5)
    state = {event["offset"] // BLOCK_BYTES: event["repaired"] for event in outcome.all("finding")}
    assert state[200] is True and state[3] is False
    left = next(event for event in outcome.all("finding") if not event["repaired"])
    assert "could not be repaired" in left["remedy"] and "damaged" in left["remedy"]
    assert audit(rig, code=5).last("audit.done")["findings"] == 1


def test_a_medium_that_does_not_keep_a_repair(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something changes the block again before it is read back."""
    corrupt_block(rig, 3)
    corrupt_block(rig, 200)
    write = repair._write

    def written(*arguments: Any) -> Any:
        done = write(*arguments)
        corrupt_block(rig, 3)
        return done

    monkeypatch.setattr(repair, "_write", written)
    outcome = audit(rig, "--repair", code=5)
    state = {event["offset"] // BLOCK_BYTES: event["repaired"] for event in outcome.all("finding")}
    assert state == {3: False, 200: True}
    assert "the medium does not keep it" in next(
        event["remedy"] for event in outcome.all("finding") if not event["repaired"]
    )


def test_a_missing_disk_and_several_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "local"))
    rig = Rig(tmp_path)
    rng = random.Random(1)
    disks = [tmp_path / "a.raw", tmp_path / "b.raw"]
    for disk in disks:
        random_disk(disk, 4 * MIB, rng)
    rig.sync(disks=list(disks))
    target = tmp_path / "spare"
    rig.apply(to=target)
    assert audit(rig, code=0, target=target).last("audit.done")["coverage_percent"] == 100
    (target / "b.raw").unlink()
    with (target / "a.raw").open("r+b") as file:
        file.seek(MIB)
        file.write(os.urandom(10))
    outcome = audit(rig, "--repair", code=5, target=target)
    kinds = {(event["disk"], event["kind"], event["repaired"]) for event in outcome.all("finding")}
    assert ("b.raw", "disk-missing", False) in kinds and {disk for disk, _, _ in kinds} == {"a.raw", "b.raw"}
    assert same(disks[0], target / "a.raw") and not (target / "b.raw").exists()
