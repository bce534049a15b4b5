"""Who can write to a repository whose points were let go forges what stands for them: audits say which object lies."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import xxhash
from msgspec import structs

from retain.test_folded_chain import drop, past
from rig import MIB, Outcome, Rig, command, random_disk, scribble
from rigs.stores.forging import Forger
from warmspare.format.chunk import Chunk, ChunkFrames
from warmspare.format.retained import retention
from warmspare.format.retained.retention import FoldedDisk
from warmspare.model.block_records import PlacedRecords
from warmspare.model.ids import DiskId, PointId

FORGED = "ab" * 32
KEPT = [2, 5, 6, 9]


def _built(home: Path, *, remove: bool) -> Rig:
    rig = Rig(home)
    random_disk(rig.disk, 8 * MIB + 5 * 4096, random.Random(3))
    past(rig)
    drop(rig, KEPT, remove=remove)
    return rig


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Nine points of which four are left: after the grace time (True), and in it."""
    homes = {remove: tmp_path_factory.mktemp("gone" if remove else "going") for remove in (True, False)}
    for remove, home in homes.items():
        _built(home, remove=remove)
    return homes


@pytest.fixture
def gone(built: dict[bool, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return _copied(built[True], tmp_path, monkeypatch)


@pytest.fixture
def going(built: dict[bool, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return _copied(built[False], tmp_path, monkeypatch)


def _copied(home: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("XDG_STATE_HOME", str(to / "xdg"))
    shutil.copytree(home, to, dirs_exist_ok=True)
    return Rig(to)


def audit(rig: Rig, *more: object) -> Outcome:
    return command("audit", "repository", "--repo", rig.repo, *more)


def told(done: Outcome) -> set[tuple[str, str]]:
    """(kind, key) of each finding, which all say what they mean and what to do."""
    assert all(each["message"] and each["remedy"] for each in done.all("finding"))
    return {(each["kind"], each["key"]) for each in done.all("finding")}


def notes(done: Outcome) -> str:
    return "\n".join(json.loads(Path(done.last("audit.done")["report"]).read_text())["notes"])


def key(rig: Rig, sequence: int) -> str:
    return str(rig.point_path(sequence).relative_to(rig.repo))


def forge_point(rig: Rig, sequence: int) -> None:
    """Another record in the place of a point."""
    path = rig.point_path(sequence)
    path.write_bytes(path.read_bytes().replace(b'"vm_name": "', b'"vm_name": "x', 1))


@pytest.mark.parametrize("which", ["target", "base"])
def test_a_fold_that_names_another_point(gone: Rig, which: str) -> None:
    """The records tell which of the two lies, and no other is accused."""
    forger = Forger(gone)
    fold = forger.fold(5)
    stated = fold.target if which == "target" else fold.base
    assert stated
    forger.refold(5, **{which: structs.replace(stated, sha256=FORGED)})
    assert told(audit(gone)) == {("fold-broken", forger.key)}
    gone.apply(code=5)


def test_a_fold_that_names_another_newest_point(gone: Rig) -> None:
    """Nothing tells which of the two was changed, so both are named."""
    forger = Forger(gone)
    forger.refold(9, target=PointId(9, FORGED))
    assert told(audit(gone)) == {("fold-broken", forger.key), ("point-forked", key(gone, 9))}


@pytest.mark.parametrize("what", ["other", "few", "many", "shifted", "stranger"])
def test_a_descent_of_other_points(gone: Rig, what: str, tmp_path: Path) -> None:
    forger = Forger(gone)
    stored = forger.dropped(9)
    assert len(stored) == 2
    first = 0
    if what == "other":  # one chain in itself, from the base on
        stored[0] = stored[0].replace(b'"vm_name": "', b'"vm_name": "x', 1)
    elif what == "few":
        stored = stored[:1]
    elif what == "many":
        stored += [gone.point_path(9).read_bytes()]
    elif what == "shifted":
        first = 8
    else:
        stored = [record.replace(b'"vm_id": "vm"', b'"vm_id": "no"', 1) for record in stored]
    lies = forger.redescend(9, stored, first)
    assert told(audit(gone)) == {("fold-broken", lies)}
    gone.apply("--at", 6)
    gone.apply(code=5)  # it would be brought on by what proves nothing


def test_a_record_of_another_vm_or_number(gone: Rig) -> None:
    forger = Forger(gone)
    good = forger.path.read_bytes()
    for fields in ({"vm_id": "other"}, {"generation": 2, "previous": FORGED}):
        forger.path.write_bytes(retention.encode(structs.replace(retention.decode(good, "test"), **fields)))
        found = told(audit(gone))
        assert found == {("object-replayed", forger.key)}, "points were called missing that may have been let go"
    forger.path.write_bytes(b"{}")
    assert told(audit(gone)) == {("object-malformed", forger.key)}
    forger.path.unlink()
    assert told(audit(gone)) >= {("point-missing", key(gone, number)) for number in (1, 3, 4, 7, 8)}


def test_a_record_that_does_not_follow_the_one_before(going: Rig) -> None:
    drop(going, [2, 6, 9], remove=False)
    forger = Forger(going)
    assert not audit(going).all("finding")
    forger.say(previous=FORGED)
    assert told(audit(going)) == {("fold-broken", forger.key)}


@pytest.mark.parametrize("what", ["forgotten", "stranger"])
def test_a_fold_of_other_disks(gone: Rig, what: str) -> None:
    forger = Forger(gone)
    [disk] = forger.fold(9).disks
    other = FoldedDisk(DiskId("other"), disk.manifest, disk.from_nothing, disk.changed_blocks)
    forger.refold(9, disks=[other] if what == "forgotten" else [disk, other])
    assert ("fold-broken", forger.key) in told(audit(gone))


def _without_a_block(chunk: Chunk) -> Chunk:
    return Chunk(chunk.frames, chunk.records.take(chunk.records.block != chunk.records.block[0]), chunk.zeros)


def _with_other_hashes(chunk: Chunk) -> Chunk:
    records = chunk.records
    return Chunk(
        chunk.frames,
        PlacedRecords(records.block, records.carried, records.zero, records.hashes ^ 1, records.frame),
        chunk.zeros,
    )


def _with_frames_that_move(chunk: Chunk) -> Chunk:
    """The hashes are right, and so is the root; the bytes are others'."""
    return Chunk(
        ChunkFrames(np.roll(chunk.frames.pack, 1), np.roll(chunk.frames.offset, 1), np.roll(chunk.frames.size, 1)),
        chunk.records,
        chunk.zeros,
    )


def test_a_folded_manifest_that_lies_of_hashes(gone: Rig) -> None:
    for number, change in enumerate((_without_a_block, _with_other_hashes)):
        forger = Forger(gone)
        kept = forger.path.read_bytes(), {path: path.read_bytes() for path in (gone.root / "folds").rglob("*.manifest")}
        forger.rewrite(5, change)
        assert ("table-root", key(gone, 5)) in told(audit(gone)), number
        gone.apply(to=gone.home / f"refused-{number}.raw", code=5)
        forger.path.write_bytes(kept[0])
        for path, data in kept[1].items():
            path.write_bytes(data)


def test_a_folded_manifest_that_lies_of_bytes(gone: Rig) -> None:
    """Its hashes have the root; only who reads the blocks sees it."""
    Forger(gone).rewrite(5, _with_frames_that_move)
    assert not audit(gone).all("finding")
    found = [each for each in audit(gone, "--deep").all("finding") if each["kind"] == "block-unrecoverable"]
    assert found and found[0]["point"].startswith("5-")


def test_a_manifest_of_one_point_in_the_place_of_a_fold(going: Rig) -> None:
    forger = Forger(going)
    [disk] = forger.fold(5).disks
    forger.refold(5, disks=[structs.replace(disk, manifest=going.point(5).disks[0].manifest)])
    assert ("object-malformed", going.point(5).disks[0].manifest.key) in told(audit(going))


def test_a_point_that_a_fold_leads_to_was_replaced(gone: Rig) -> None:
    """It is named, and none of those that the fold stands for is called missing."""
    forge_point(gone, 5)
    assert told(audit(gone)) == {("point-forked", key(gone, 5))}
    gone.point_path(5).unlink()
    assert told(audit(gone)) == {("point-missing", key(gone, 5))}


def test_the_newest_point_was_replaced(gone: Rig) -> None:
    forge_point(gone, 9)
    assert told(audit(gone)) == {("point-forked", key(gone, 9)), ("fold-broken", Forger(gone).key)}


def test_a_dropped_record_was_replaced_in_the_grace_time(going: Rig) -> None:
    for number in (3, 8):
        kept = going.point_path(number).read_bytes()
        forge_point(going, number)
        assert told(audit(going)) == {("point-forked", key(going, number))}
        going.point_path(number).write_bytes(kept)


def test_folds_of_absurd_numbers(gone: Rig) -> None:
    """They are refused before anything is counted one by one."""
    forger = Forger(gone)
    [*others, last] = forger.record.folds
    far = [
        structs.replace(last, base=PointId(9, FORGED), target=PointId(9 + 1001, FORGED), dropped=1000),
        structs.replace(last, base=PointId(10**9, FORGED), target=PointId(2 * 10**9, FORGED), dropped=10**9 - 1),
        structs.replace(last, base=PointId(2 * 10**9, FORGED), target=PointId(2 * 10**9 + 2, FORGED), dropped=1),
    ]
    forger.say(folds=[*others, last, *far])
    done = audit(gone)
    assert done.code == 5 and "restore points are missing" in done.stderr
    forger.say(folds=[*others, last, far[0]])
    done = audit(gone)
    assert done.code == 0 and "counts for nothing" in notes(done)


def test_points_that_are_rolled_back_behind_a_fold(gone: Rig) -> None:
    """Who did not see them gets a hint, who did a finding."""
    gone.apply()
    gone.point_path(9).unlink()
    unaware = audit(gone)
    assert unaware.code == 0 and "up to 9-" in notes(unaware) and "the newest points are gone" in notes(unaware)
    record = gone.home / "replica.raw.warmspare" / "replica.json"
    assert ("point-rolled-back", key(gone, 9)) in told(audit(gone, "--against", record))


def test_a_point_that_was_seen_and_let_go(gone: Rig) -> None:
    """It is proved by what stands for it; another in its place is a fork, and so it is in a report of the audit."""
    known = json.loads(next(gone.state.rglob("state.json")).read_bytes().split(b"\n", 1)[1])
    sha256 = retention.identity(Forger(gone).dropped(9)[0])
    file = gone.home / "seen.json"
    for stated, wanted in ((sha256, set()), (FORGED, {("point-forked", key(gone, 7))})):
        body = json.dumps({**known, "sequence": 7, "sha256": stated}).encode()
        file.write_bytes(b"%016x\n%s\n" % (xxhash.xxh3_64_intdigest(body), body))
        done = audit(gone, "--against", file)
        assert told(done) == wanted and all("seen.json" in each["message"] for each in done.all("finding"))


def test_another_history_below_a_fold(gone: Rig, tmp_path: Path) -> None:
    """Everything of another repository of the same VM: one chain in itself, and not the one that was seen."""
    gone.apply()
    record = gone.home / "replica.raw.warmspare" / "replica.json"
    other = Rig(tmp_path / "other-home")
    other.home.mkdir()
    random_disk(other.disk, 8 * MIB, random.Random(8))
    past(other, 4, seed=8)
    drop(other, [1, 4])
    shutil.rmtree(gone.root)
    shutil.copytree(other.root, gone.root)
    assert ("point-rolled-back", key(gone, 9)) in told(audit(gone, "--against", record))


def test_a_copy_that_died_before_it_published(gone: Rig) -> None:
    """Its fold leads nowhere, and a sync went on: no finding, and readers go on."""
    forger = Forger(gone)
    base = PointId(9, retention.identity(gone.point_path(9).read_bytes()))
    last = forger.fold(9)
    dead = structs.replace(last, target=PointId(12, FORGED), base=base)
    forger.say(folds=[*forger.record.folds, dead])
    assert audit(gone).code == 0
    for number in range(3):
        scribble(gone.disk, random.Random(number))
        gone.sync()
        done = audit(gone, "--deep")
        assert done.code == 0 and not [each for each in done.all("finding") if each["severity"] != "note"], number
    gone.apply()
    assert gone.replica.read_bytes() == gone.disk.read_bytes()
