"""`warmspare plan` says what a sync would send, sends nothing, and leaves everything as it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from rig import KIB, MIB, Outcome, Rig, command, fingerprint, made, random_disk, same, scribble, write_extents


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    random_disk(rig.disk, 20 * MIB, random.Random(1), pieces=60)
    return rig


def plan(rig: Rig, *more: object, code: int = 0) -> Outcome:
    arguments = ("plan", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state, *more)
    outcome = command(*arguments)
    assert outcome.code == code, outcome
    return outcome


def close(planned: Outcome, sent: Outcome) -> None:
    """The forecast is what the sync then did; only records and leases, a few KiB, are left out of it."""
    told, done = planned.last("plan.done"), sent.last("sync.done")
    assert told["bytes_read"] == done["bytes_read"] and told["bytes_changed"] == done["bytes_changed"]
    assert abs(told["bytes_to_send"] - done["bytes_sent"]) < 8 * KIB + 0.01 * done["bytes_sent"]


def test_before_there_is_a_repository(rig: Rig) -> None:
    refused = plan(rig, "--new", code=2)
    assert f"warmspare init {rig.repo}" in refused.stderr
    assert not Path(rig.repo).exists() and not rig.state.exists(), "a plan made something"


def test_before_there_is_a_point(rig: Rig) -> None:
    """Its plan begins no chain, and what it said must be said again of the sync."""
    made(rig.repo)
    assert "--new" in plan(rig, code=2).stderr
    before = fingerprint(Path(rig.repo))
    planned = plan(rig, "--new", "--level", "3")
    assert planned.last("disk.start")["reason"] == "first sync of this disk"
    assert fingerprint(Path(rig.repo)) == before, "a plan made something"
    unsaid = command("sync", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state)
    assert unsaid.code == 2 and fingerprint(Path(rig.repo)) == before
    close(planned, rig.sync("--level", "3"))


def test_of_an_increment(rig: Rig) -> None:
    rig.sync()
    extents = write_extents(rig.home / "e", scribble(rig.disk, random.Random(2)), MIB, rig.disk.stat().st_size)
    before = rig.snapshot()
    for _ in range(2):  # it may be asked again and again
        planned = plan(rig, "--extents", extents, "--level", "3", "--limit", "1mbit")
        assert rig.snapshot() == before, "a plan changed the repository"
    told = planned.last("plan.done")
    assert told["seconds_at_limit"] == pytest.approx(max(told["bytes_to_send"] / 125_000, told["seconds"]), abs=0.06)
    close(planned, rig.sync("--extents", extents, "--level", "3"))
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert plan(rig).last("plan.done")["bytes_changed"] == 0


def test_it_knows_the_rate_of_the_last_sync(rig: Rig) -> None:
    rig.disk.write_bytes(random.Random(4).randbytes(5 * MIB))
    done = rig.sync().last("sync.done")
    rig.disk.write_bytes(random.Random(5).randbytes(5 * MIB))
    told = plan(rig).last("plan.done")
    expected_s = max(told["bytes_to_send"] * done["seconds"] / done["bytes_sent"], told["seconds"])
    assert told["seconds_at_measured_rate"] == pytest.approx(expected_s, abs=0.1)
    assert told["rpo_seconds"] is None and told["rpo_holds"] is None


def test_it_leaves_what_a_dead_run_left(rig: Rig) -> None:
    """Another sync's journal and objects are for the next sync, not for a plan."""
    rig.sync()
    scribble(rig.disk, random.Random(3))
    journal = next(rig.state.rglob("run"))
    (journal / "run.json").write_bytes((journal.parent / "state.json").read_bytes())  # no record, but not nothing
    left = fingerprint(journal)
    plan(rig)
    assert fingerprint(journal) == left
    assert not list(rig.state.rglob("plan/*.pages")), "a plan left something"
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_usage_and_broken_sources(rig: Rig) -> None:
    assert command("plan", "--vm", "x").code == 2
    assert command("plan", rig.home / "none", "--vm", "x", "--repo", rig.repo).code == 3
