"""Staging from a replica that an apply follows: who waits for whom, and what is staged then."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recover.stagerig import StageRig, elsewhere
from rig import MIB, Outcome, command, random_disk, scribble
from rigs.aws.ebsparts import Refusal
from rigs.host import media
from rigs.host.hearing import heard
from rigs.paths import as_here
from warmspare.observe.events import Events
from warmspare.recover.staging.stager import Stage
from warmspare.state.local_files import locked, read_record
from warmspare.state.replica_record import RECORD, ReplicaRecord


class Follower:
    """`apply --follow` of the rig's replica, in a process of its own."""

    def __init__(self, rig: StageRig) -> None:
        self._rig, self._log = rig, rig.home / "follower"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "warmspare",
                    "apply",
                    "--vm",
                    rig.vm,
                    "--repo",
                    rig.repo,
                    "--to",
                    rig.replica,
                    "--follow",
                    "--json",
                ],
                env=as_here(),
                stdout=log,
                stderr=log,
            )

    def events(self, name: str) -> list[dict[str, Any]]:
        found = [heard(line) for line in self._log.read_text().splitlines() if line.endswith("}")]
        return [event for event in found if event["event"] == name]

    def until(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not there():
            assert self._process.poll() is None and time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)


@pytest.fixture
def world(rig: StageRig) -> StageRig:
    """A replica at point 1, of 12 MiB."""
    random_disk(rig.disk, 12 * MIB + 512, random.Random(5))
    rig.sync()
    rig.apply()
    return rig


@pytest.fixture
def follower(world: StageRig) -> Iterator[Follower]:
    made = Follower(world)
    try:
        made.until(lambda: bool(made.events("apply.done")))
        yield made
    finally:
        made.end()


def at(rig: StageRig) -> int:
    """Where the replica is."""
    record = read_record(rig.home / "replica.raw.warmspare" / RECORD, ReplicaRecord, "x", Events())
    assert record and record.at
    return record.at.sequence


def sync_elsewhere(rig: StageRig) -> None:
    elsewhere("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state)


def apply_elsewhere(rig: StageRig) -> None:
    elsewhere("apply", "--vm", rig.vm, "--repo", rig.repo, "--to", rig.replica)


def demand_from_replica(rig: StageRig, outcome: Outcome, disk: Path | None = None) -> None:
    """The snapshot is right, and its bytes are the replica's: nothing was taken from the chain."""
    (made,) = rig.snapshots(outcome)
    rig.demand_same(made.id, disk)
    assert not outcome.all("finding")
    assert outcome.last("stage.disk.done")["bytes_read"] <= outcome.last("stage.done")["bytes_put"]


def test_a_replica_on_a_read_only_medium(world: StageRig, tmp_path: Path) -> None:
    place = tmp_path / "spare"
    place.mkdir()
    world.apply(to=place / "replica.raw")
    with media.read_only(place):
        demand_from_replica(world, world.stage("--replica", place / "replica.raw"))


def test_beside_an_apply_that_follows(world: StageRig, follower: Follower) -> None:
    demand_from_replica(world, world.stage("--replica", world.replica))


def test_the_replica_stays_where_it_is_while_it_is_staged(world: StageRig, follower: Follower) -> None:
    first = world.home / "first"
    shutil.copy(world.disk, first)
    seen: list[int] = []

    def refuse(action: str) -> Refusal | None:
        """No block is taken until the apply has looked."""
        busy = action == "PutSnapshotBlock" and not seen and thread.is_alive()
        return Refusal(503, "InternalServerException", "not now") if busy else None

    world.account.faults.refuse = refuse

    def publish() -> None:
        while not world.account.actions["ebs:StartSnapshot"]:
            time.sleep(0.01)
        scribble(world.disk, random.Random(1))
        sync_elsewhere(world)
        follower.until(lambda: bool(follower.events("apply.waiting")))
        seen.append(at(world))

    thread = threading.Thread(target=publish)
    thread.start()
    outcome = world.stage("--replica", world.replica)
    thread.join()
    assert seen == [1] and outcome.last("stage.done")["point"].startswith("1-")
    demand_from_replica(world, outcome, first)
    assert "staging" in follower.events("apply.waiting")[0]["message"]
    follower.until(lambda: at(world) == 2)
    demand_from_replica(world, world.stage("--replica", world.replica))


def test_it_waits_for_the_apply_to_bring_the_replica_to_the_point(
    world: StageRig, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The apply is kept from moving until staging waits: whichever is first then, the point that is staged is 2."""
    still, free = world.home / "replica.raw.warmspare" / "still", threading.Event()
    holding = threading.Event()

    def hold() -> None:
        with locked(still, "x") as mine:
            assert mine
            holding.set()
            assert free.wait(120)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(30)
    scribble(world.disk, random.Random(1))
    world.sync()
    waiting = Stage._waiting

    def heard(self: Stage, why: str) -> None:
        waiting(self, why)
        free.set()

    monkeypatch.setattr(Stage, "_waiting", heard)
    outcome = world.stage("--replica", world.replica)
    holder.join()
    reasons = [event["message"] for event in outcome.all("stage.waiting")]
    assert "something else is reading" in reasons[0]
    assert outcome.last("stage.done")["point"].startswith("2-") and at(world) == 2
    demand_from_replica(world, outcome)


def test_a_point_that_came_while_it_waited_is_staged(world: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was to stage 2, and when the replica could be read it stood at 3."""
    scribble(world.disk, random.Random(1))
    world.sync()

    def followed(_: object) -> bool:
        if at(world) == 1:
            scribble(world.disk, random.Random(2))
            sync_elsewhere(world)
            apply_elsewhere(world)
        return True

    monkeypatch.setattr("warmspare.recover.blocks.replicablocks.Replica.followed", followed)
    outcome = command(*world.arguments("--replica", world.replica))
    assert outcome.code == 0, outcome
    assert outcome.last("stage.done")["point"].startswith("3-")
    demand_from_replica(world, outcome)


def test_the_wait_has_an_end(world: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmspare.recover.blocks.replicablocks.WAIT_S", 1.0)
    state = world.home / "replica.raw.warmspare"
    with locked(state / "still", "x") as mine:
        assert mine
        outcome = world.stage("--replica", world.replica, code=6)
    assert outcome.all("stage.waiting") and "after 1 s" in outcome.stderr and not world.account.snapshots
    scribble(world.disk, random.Random(1))
    world.sync()
    with locked(state / "lock", "x") as mine:  # an apply is there, and does not come on
        assert mine
        outcome = world.stage("--replica", world.replica, code=6)
    assert "is at 1-" in outcome.stderr and not world.account.snapshots


def test_where_no_apply_is_at_work_nothing_is_waited_for(world: StageRig) -> None:
    scribble(world.disk, random.Random(1))
    world.sync()
    outcome = world.stage("--replica", world.replica, code=2)
    assert not outcome.all("stage.waiting") and "apply that point first" in outcome.stderr
    world.apply()
    outcome = world.stage("--replica", world.replica, "--at", 1, code=2)
    assert "is at 2-" in outcome.stderr and not world.account.snapshots


def test_an_apply_that_ends_between_two_looks_is_not_missed(world: StageRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood at 1, and by the time that nobody was found at work it stood at 2."""
    scribble(world.disk, random.Random(1))
    world.sync()

    def followed(_: object) -> bool:
        if at(world) == 1:
            apply_elsewhere(world)
        return False

    monkeypatch.setattr("warmspare.recover.blocks.replicablocks.Replica.followed", followed)
    demand_from_replica(world, world.stage("--replica", world.replica))
