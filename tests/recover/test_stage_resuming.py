"""What an interrupted staging leaves, and what the next one makes of it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from recover.stagerig import StageRig
from rig import MIB, command, random_disk, scribble
from rigs.aws.ebsparts import BLOCK, Refusal
from rigs.host.peak import measure
from rigs.paths import as_here
from suite.remedies import remedy

PUT = "after Digests.put"


@pytest.fixture
def full(rig: StageRig) -> StageRig:
    """One restore point of a disk whose every EBS block holds data: 48 of them."""
    with rig.disk.open("wb") as file:
        for _ in range(48):
            file.write(random.Random(7).randbytes(4096) * 128)
    with rig.disk.open("r+b") as file:
        for index in range(48):
            file.seek(index * BLOCK + 100)
            file.write(b"%d" % index)
    rig.sync()
    return rig


def only(rig: StageRig) -> str:
    (found,) = rig.account.snapshots
    return found


def test_what_was_put_is_not_put_again(full: StageRig) -> None:
    assert full.victim("kill", PUT, 20) == -9
    first = full.account.snapshots[only(full)]
    assert full.account.state(first) == "pending" and first.puts >= 20
    done = full.stage()
    assert done.last("stage.disk")["resumed"] and done.last("stage.disk")["snapshot"] == first.id == only(full)
    kept = done.last("stage.disk.done")["bytes_kept"] // BLOCK
    assert kept >= 20 and done.last("stage.done")["bytes_put"] == (48 - kept) * BLOCK
    full.demand_same(first.id)


def test_a_kill_at_the_start_finds_the_same_snapshot_by_its_token(full: StageRig) -> None:
    assert full.victim("kill", "after Aws._once", 2) == -9  # 1: what is there; 2: the start
    started = only(full)
    full.account.unseen_s = 5.0  # listings do not show it yet
    full.account.snapshots[started].seen_from += 2.0
    done = full.stage()
    assert only(full) == started and not done.last("stage.disk")["resumed"]
    full.demand_same(started)


def test_a_kill_after_completing_waits_for_what_is_sealed(full: StageRig) -> None:
    full.account.complete_s = 6.0
    assert full.victim("kill", "after Ebs.complete", 1) == -9
    sealed = full.account.snapshots[only(full)]
    assert sealed.sealed is not None and full.account.state(sealed) == "pending"
    puts = sealed.puts
    full.stage()
    assert only(full) == sealed.id and sealed.puts == puts and full.account.state(sealed) == "completed"


def test_another_host_goes_on_without_local_traces(full: StageRig) -> None:
    assert full.victim("kill", PUT, 20) == -9
    started = only(full)
    (full.home / "stage-state").rename(full.home / "gone")
    full.stage()
    assert only(full) == started
    full.demand_same(started)


def test_an_older_point_that_was_begun_is_finished_first(full: StageRig) -> None:
    assert full.victim("kill", PUT, 20) == -9
    begun = only(full)
    scribble(full.disk, random.Random(1), pieces=2)
    full.sync()
    done = full.stage()
    assert [event["point"].partition("-")[0] for event in done.all("stage.point")] == ["1", "2"]
    assert full.snapshots(done)[0].parent == begun
    full.demand_same(full.snapshots(done)[0].id)


def test_what_was_begun_before_a_newer_staged_point_is_removed(full: StageRig) -> None:
    assert full.victim("kill", PUT, 20) == -9
    begun = only(full)
    scribble(full.disk, random.Random(1), pieces=2)
    full.sync()
    full.stage("--at", "2")
    assert begun in full.account.snapshots, "asked for one point, it leaves the others alone"
    done = full.stage()
    assert done.last("stage.removed")["snapshot"] == begun and begun not in full.account.snapshots


def test_a_pending_snapshot_that_aws_gave_up_begins_anew(full: StageRig) -> None:
    assert full.victim("kill", PUT, 20) == -9
    dead = full.account.snapshots[only(full)]
    dead.error = True
    done = full.stage()
    (made,) = full.snapshots(done)
    assert made.id != dead.id and only(full) == made.id
    full.demand_same(made.id)


def test_a_pending_snapshot_that_was_deleted_begins_anew(full: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmspare.recover.staging.ebs.UNSEEN_S", 1.0)
    assert full.victim("kill", PUT, 20) == -9
    full.account.snapshots.clear()
    done = full.stage()
    assert done.all("stage.again")
    full.demand_same(only(full))


def test_damaged_local_digests_cost_a_new_beginning(full: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmspare.recover.staging.ebs.SEALED_POLLS", 10)
    assert full.victim("kill", PUT, 20) == -9
    (journal,) = (full.home / "stage-state").rglob("*.digests")
    journal.write_bytes(random.Random(1).randbytes(journal.stat().st_size))
    for snapshot in full.account.snapshots.values():
        snapshot.error = False
    outcome = _breaking(full, "blocks said|aggregate")
    assert outcome  # AWS refused to seal it, so nothing wrong became usable
    full.demand_same(_usable(full))


def _breaking(rig: StageRig, what: str) -> bool:
    """Stage although the stand-in will note a breach of that kind; take the note away."""
    import re

    from rig import command

    outcome = command(*rig.arguments())
    assert outcome.code == 0, outcome
    found = [each for each in rig.account.breaches if re.search(what, each)]
    rig.account.breaches = [each for each in rig.account.breaches if each not in found]
    return bool(found)


def _usable(rig: StageRig) -> str:
    (found,) = [each.id for each in rig.account.snapshots.values() if rig.account.state(each) == "completed"]
    return found


def test_a_damaged_hash_table_is_rebuilt(full: StageRig) -> None:
    full.stage()
    (table,) = (full.home / "stage-state").rglob("table")
    data = bytearray(table.read_bytes())
    for at in range(4096, len(data), 512):
        data[at] ^= 0x55
    table.write_bytes(data)
    scribble(full.disk, random.Random(2), pieces=3)
    full.sync()
    (made,) = full.snapshots(full.stage())
    full.demand_same(made.id)
    assert set(made.blocks) == full.touched(2)


@remedy("run again to wait on, and ask AWS")
def test_a_snapshot_that_is_not_completed_for_hours(full: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    full.account.complete_s = 1e9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warmspare.recover.staging.ebs.COMPLETED_S", 0.1)
        assert "for hours" in full.stage(code=8).stderr
    full.account.complete_s = 0.0
    full.demand_same(full.snapshots(full.stage())[0].id)


@remedy("run again: it begins anew, built on another or on none")
def test_the_parent_of_a_pending_snapshot_is_none_to_build_on(full: StageRig) -> None:
    """Somebody changed its tags: it is of a larger disk now."""
    (first,) = full.snapshots(full.stage())
    scribble(full.disk, random.Random(1), pieces=2)
    full.sync()
    assert full.victim("kill", PUT, 1) == -9
    first.tags["warmspare:capacity"] = str(full.disk.stat().st_size + MIB)
    (made,) = full.snapshots(full.stage())
    assert not made.parent
    full.demand_same(made.id)


@remedy("correct --vm or --repo, or make one with `warmspare sync`")
def test_a_vm_without_restore_points(rig: StageRig) -> None:
    random_disk(rig.disk, MIB, random.Random(3), pieces=2)
    assert command("init", rig.repo).code == 0
    assert "no restore point" in rig.stage(code=2).stderr
    rig.sync()
    rig.stage()


def test_a_parent_that_aws_does_not_take_means_a_full_one(full: StageRig) -> None:
    first = full.snapshots(full.stage())[0]
    full.account.parents_may_be_smaller = False
    with full.disk.open("r+b") as file:
        file.truncate((1 << 30) + 3 * MIB)
    full.sync()
    done = full.stage()
    (made,) = full.snapshots(done)
    assert done.all("stage.again") and made.parent == "" and made.gib == 2 and first.gib == 1
    full.demand_same(made.id)


def test_a_place_of_the_staging_that_leads_elsewhere(full: StageRig) -> None:
    """Refused before anything is asked of AWS or written there."""
    full.stage("--dry-run")
    home = full.home / "stage-state"
    (lock,) = home.rglob("lock")
    (table,) = home.rglob("table")
    away, vm = full.home / "away", lock.parent
    for place in (home / "stage", vm.parent, vm, vm / "disks", table.parent, vm / "pending", vm / "tmp"):
        away.mkdir()
        kept = place.rename(full.home / "kept") if place.exists() else None
        place.symlink_to(away)
        stderr = full.stage(code=4).stderr
        assert f"a symbolic link stands where a directory belongs ({place})" in stderr
        place.unlink()
        away.rmdir()
        if kept:
            kept.rename(place)
    os.mkfifo(vm / "attempt.json")
    assert "a FIFO stands where a file belongs" in full.stage(code=4).stderr
    assert not full.account.snapshots


@remedy("let that one end, and run again")
def test_two_stagings_of_one_vm(full: StageRig) -> None:
    from warmspare.state.local_files import locked

    full.stage("--dry-run")
    (lock,) = (full.home / "stage-state").rglob("lock")
    with locked(lock, "the state directory") as mine:
        assert mine
        assert "another staging" in full.stage(code=6).stderr
    full.stage()


def test_an_unchanged_disk_is_staged_by_an_empty_increment(full: StageRig) -> None:
    first = full.snapshots(full.stage())[0]
    full.sync()
    (made,) = full.snapshots(full.stage())
    assert made.parent == first.id and not made.blocks and made.puts == 0
    full.demand_same(made.id)


def test_the_quota_of_pending_snapshots_is_waited_for(full: StageRig) -> None:
    left = [3]

    def refuse(action: str) -> Refusal | None:
        if action == "StartSnapshot" and left[0]:
            left[0] -= 1
            return Refusal(400, "ConcurrentLimitExceededException", "too many pending snapshots")
        return None

    full.account.faults.refuse = refuse
    full.stage()
    full.demand_same(only(full))


def test_several_disks_and_one_that_joins(rig: StageRig) -> None:
    rng = random.Random(9)
    disks = [rig.home / name for name in ("a.raw", "b.raw", "c.raw")]
    for disk in disks:
        random_disk(disk, 4 * MIB, rng, pieces=4)
    rig.sync(disks=list(disks[:2]))
    for disk, made in zip(disks, rig.snapshots(rig.stage()), strict=False):
        rig.demand_same(made.id, disk)
    scribble(disks[1], rng)
    rig.sync(disks=list(disks))
    made = rig.snapshots(rig.stage())
    assert [bool(each.parent) for each in made] == [True, True, False]
    assert {each.tags["warmspare:disks"] for each in made} == {"3"}
    for disk, each in zip(disks, made, strict=True):
        rig.demand_same(each.id, disk)


def test_a_disk_that_left_and_came_back_begins_anew(rig: StageRig) -> None:
    rng = random.Random(4)
    disks = [rig.home / name for name in ("a.raw", "b.raw")]
    for disk in disks:
        random_disk(disk, 4 * MIB, rng, pieces=4)
    rig.sync(disks=list(disks))
    rig.stage()
    rig.sync(disks=[disks[0]], code=7)
    random_disk(disks[1], 4 * MIB, rng, pieces=4)
    rig.sync(disks=list(disks))
    made = rig.snapshots(rig.stage())
    assert [bool(each.parent) for each in made] == [True, False]
    rig.demand_same(made[1].id, disks[1])


def test_two_hosts_at_once_write_the_same_snapshot(full: StageRig) -> None:
    full.account.put_s, full.account.complete_s = 0.3, 1.0
    other = subprocess.Popen(
        [sys.executable, "-m", "warmspare", *full.arguments("--state", full.home / "other-host"), "--json"],
        env=as_here(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while not full.account.put_times and other.poll() is None:
            time.sleep(0.01)
        done = full.stage()
        assert other.wait(timeout=100) == 0, other.stderr
    finally:
        other.kill()
        other.communicate()
    assert full.snapshots(done)[0].id == only(full)
    full.demand_same(only(full))


def test_memory_does_not_follow_the_disk(rig: StageRig) -> None:
    """A disk of 2 TiB, 400 blocks of it dense, 400 more with a page each at far places."""
    rng = random.Random(8)
    with rig.disk.open("wb") as file:
        file.truncate(2 << 40)
        for _ in range(400):
            file.write(rng.randbytes(BLOCK))
        for number in range(400):
            file.seek((number + 1) * (5 << 30) // 4096 * 4096 - 4096)
            file.write(rng.randbytes(4096))
    rig.sync()
    peak = measure([sys.executable, "-m", "warmspare", *rig.arguments(), "--json"], "stage.done")
    assert peak.counted_bytes < 256 << 20
    assert peak.event["bytes_put"] == 800 * BLOCK
    assert only(rig) and not rig.account.breaches
