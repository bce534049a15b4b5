"""Audits of a repository whose points were let go: clean where it is, and where it was forged, that is said."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from retain.test_folded_chain import drop, past
from rig import Outcome, Rig, command, flip, scribble
from rigs.stores.retaining import retained_by
from warmspare.audit.repository.walk import PointWalk
from warmspare.format import tablefile
from warmspare.format.retained import retention
from warmspare.model.ids import VmId
from warmspare.store import layout
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.sync import diskrun


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


def notes(done: Outcome) -> str:
    return "\n".join(json.loads(Path(done.last("audit.done")["report"]).read_text())["notes"])


def kinds(done: Outcome) -> set[str]:
    return {each["kind"] for each in done.all("finding")}


@pytest.mark.parametrize("deep", [[], ["--deep"]])
def test_what_is_right_is_clean(folded: Rig, deep: list[str]) -> None:
    assert not audit(folded, *deep).all("finding")
    scribble(folded.disk, random.Random(2))
    folded.sync()
    drop(folded, [5, 10])  # also what the report of the first audit names as the newest
    assert not audit(folded, *deep).all("finding")


@pytest.mark.parametrize("wrong", [False, True])
def test_a_stored_table_of_a_point_that_was_let_go(rig: Rig, monkeypatch: pytest.MonkeyPatch, wrong: bool) -> None:
    """Later points go on from it, so it must have the root that its point had, whose manifests are gone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    monkeypatch.setattr(diskrun, "CHECKPOINT_POINTS", 2)
    encode = tablefile.encode

    def other(capacity: int, leaves: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        return encode(capacity, ((number, bytes([leaf[0] ^ wrong]) + leaf[1:]) for number, leaf in leaves))

    with monkeypatch.context() as patch:
        patch.setattr(tablefile, "encode", other)
        past(rig, 5)
    checkpoint = rig.point(5).disks[0].checkpoint
    assert checkpoint and 1 < checkpoint.sequence < 5
    drop(rig, [1, 5])
    found = audit(rig, code=5 if wrong else 0).all("finding")
    assert [(each["kind"], each["key"]) for each in found] == [("table-root", checkpoint.table.key)] * wrong


def test_a_copy_that_kept_other_points_is_clean(folded: Rig) -> None:
    """Its folds begin where it had points, and have manifests that say more than they must."""
    there = Rig(folded.home, folded.vm, str(folded.home / "there"))
    assert command("init", there.repo).code == 0
    copy = ["copy", "--from", folded.repo, "--to", there.repo]
    assert command(*copy).code == 0
    past(folded, 3, seed=6)
    assert command(*copy).code == 0
    past(folded, 3, seed=7)
    drop(folded, [5, 15])
    assert command(*copy).code == 0
    assert not audit(there, "--deep").all("finding")
    drop(there, [6, 11, 15])
    assert not audit(there, "--deep").all("finding")


def test_what_is_lost_below_a_fold_is_marked_and_sent_again(folded: Rig) -> None:
    max((folded.root / "packs").rglob("*.pack"), key=lambda one: one.stat().st_size).unlink()
    audit(folded, "--repair", code=5)
    folded.sync()
    folded.apply(to=folded.home / "new.raw")
    assert (folded.home / "new.raw").read_bytes() == folded.disk.read_bytes()
    assert "can't be restored in full at restore points 2-" in notes(audit(folded, code=5))
    drop(folded, [10])
    assert not audit(folded, "--deep").all("finding"), "the points that lacked it are gone"


def test_in_the_grace_time_what_went_is_no_orphan_and_what_is_one_is_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what stood for points before, and its packs; and whatever of it is damaged is nobody's loss."""
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    past(rig, 6)
    drop(rig, [1, 3, 5, 6], remove=False)
    drop(rig, [1, 5, 6], remove=False)
    assert not audit(rig, "--deep").all("finding")
    stray = rig.root / "manifests" / ("ab" * 16) / "000.manifest"
    stray.parent.mkdir()
    stray.write_bytes(b"nobody's")
    [found] = audit(rig, "--deep").all("finding")
    assert found["kind"] == "object-orphan" and found["key"].endswith("000.manifest")
    flip(Path(rig.repo) / rig.point(4).disks[0].manifest.key, 200)
    done = audit(rig)
    assert not done.all("finding") and "still name can't be read" in notes(done)
    (rig.root / "prune.json").write_bytes((rig.root / "lease.json").read_bytes())
    assert "may be at work" not in notes(audit(rig))
    (rig.root / "prune.json").write_bytes(b"held by whom nobody knows")
    assert "may be at work" in notes(audit(rig))


def test_what_is_lost_is_told_by_the_points_that_are_kept(folded: Rig) -> None:
    """All of them, as one stretch."""
    max((folded.root / "packs").rglob("*.pack"), key=lambda one: one.stat().st_size).unlink()
    first, last = (retention.identity(folded.point_path(number).read_bytes())[:8] for number in (2, 9))
    for deep in ([], ["--deep"]):
        assert f"at restore points 2-{first} to 9-{last}" in notes(audit(folded, *deep, code=5))


def test_an_audit_that_took_longer_than_the_grace_time_says_so(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it went by was removed meanwhile, so it can't tell what is wrong."""
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    past(rig, 5)
    run, steps = PointWalk.run, iter([[1, 3, 5], [3, 5]])

    async def slow(self: PointWalk) -> None:
        for keep in steps:
            await retained_by(DirectoryStore(rig.repo), VmId(rig.vm), keep, rig.home / "scratch", remove=True)
        await run(self)

    monkeypatch.setattr(PointWalk, "run", slow)
    done = audit(rig, code=6)
    assert "the grace time is over" in done.stderr
    assert not audit(rig).all("finding")


def test_a_point_that_is_held_and_was_let_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.home / "xdg"))
    past(rig, 4)
    hold = ["hold", "add", "--repo", rig.repo, "--vm", rig.vm, "--at", 2, "--reason", "evidence"]
    assert command(*hold).code == 0
    for remove in (False, True):
        drop(rig, [1, 4] if not remove else [4], remove=remove)
        [found] = [each for each in audit(rig, code=5).all("finding") if each["severity"] != "note"]
        assert found["kind"] == "point-rolled-back" and found["key"].startswith("vms/vm/holds/0000000002-")
        assert "let go" in found["message"]


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
