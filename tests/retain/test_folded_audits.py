"""Audits of a repository whose points were let go: clean where it is, and where it was forged, that is said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from retain.test_folded_chain import drop, past
from rig import Outcome, Rig, command, flip, scribble
from warmspare.store import layout


@pytest.fixture
def folded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Nine points of which four are left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    past(rig)
    drop(rig, [2, 5, 6, 9])
    return rig


def audit(rig: Rig, *more: object, code: int = 0) -> Outcome:
    done = command("audit", "repository", "--repo", rig.repo, *more)
    assert done.code == code, (done, done.all("finding"))
    return done


def kinds(done: Outcome) -> set[str]:
    return {each["kind"] for each in done.all("finding")}


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_what_is_right_is_clean(folded: Rig, deep: list[str]) -> None:
    assert not audit(folded, *deep).all("finding")
    scribble(folded.disk, random.Random(2))
    folded.sync()
    drop(folded, [5, 9, 10])
    assert not audit(folded, *deep).all("finding")


def test_in_the_grace_time_nothing_is_an_orphan(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    past(rig, 6)
    drop(rig, [1, 3, 6], remove=False)
    done = audit(rig, "--deep")
    assert not done.all("finding")


def test_a_report_of_a_point_that_was_dropped(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who saw it is told that it was let go, and notices a fork all the same."""
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    past(rig, 4)
    rig.apply()
    record = rig.home / "replica.raw.warmspare" / "replica.json"
    past(rig, 3, seed=4)
    drop(rig, [2, 7])
    assert not audit(rig, "--against", record).all("finding")
    (descent,) = list((rig.root / "folds").rglob("0000000007-*.descent"))
    descent.write_bytes(descent.read_bytes()[:-1])
    assert "fold-broken" in kinds(audit(rig, "--against", record, code=5))


@pytest.mark.parametrize("what", ["descent", "manifest", "retention", "pack", "gone-descent", "gone-manifest"])
def test_damage_is_found(folded: Rig, what: str) -> None:
    def find(pattern: str) -> Path:
        return sorted(folded.root.rglob(pattern))[-1]

    if what == "retention":
        flip(find("retention/*.json"), 1)
    elif what == "pack":
        path = max(folded.root.rglob("*.pack"), key=lambda one: one.stat().st_size)
        flip(path, path.stat().st_size // 2)
    else:
        path = find(f"folds/*/*.{what.removeprefix('gone-')}")
        path.unlink() if what.startswith("gone") else flip(path, path.stat().st_size // 2)
    found = kinds(audit(folded, "--deep", code=5))
    wanted = {"descent": "fold-broken", "gone-descent": "fold-broken", "manifest": "object-replayed",
              "gone-manifest": "object-missing", "pack": "object-content", "retention": "object-malformed"}  # fmt: skip
    assert wanted[what] in found, found


def test_a_fold_of_another_point_is_found(folded: Rig) -> None:
    """A forger takes what an older retention record said and gives it the newest number."""
    scribble(folded.disk, random.Random(2))
    folded.sync()
    older = (Path(folded.repo) / layout.retention_key(folded.vm, 1)).read_bytes()
    drop(folded, [5, 9, 10])
    (Path(folded.repo) / layout.retention_key(folded.vm, 3)).write_bytes(older)
    assert kinds(audit(folded, code=5)) & {"object-replayed", "point-missing"}


def test_a_replica_at_a_dropped_point(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    past(rig, 6)
    rig.apply("--at", 3)
    drop(rig, [2, 6])
    refused = command("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica)
    assert refused.code == 2 and "was dropped" in refused.stderr and "apply" in refused.stderr
    rig.apply()
    assert command("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica).code == 0
    flip(rig.replica, 300000)
    repair = ["audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica, "--repair"]
    assert command(*repair).last("audit.done")["repaired"] == 1
    assert rig.replica.read_bytes() == rig.disk.read_bytes()
