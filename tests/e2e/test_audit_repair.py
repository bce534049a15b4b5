"""Damaged packs from the finding to a sound replica: audit, mark, sync, apply from nothing; older points are named."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rig import KIB, MIB, Outcome, Rig, command, flip, overwrite, random_disk, same, scribble
from warmspare.format.mark import LossMark
from warmspare.format.mark import encode as encode_mark
from warmspare.model.units import BLOCK_BYTES

POINTS = 4


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """Four restore points, each with pages that later ones inherit; the disk as it was at each."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return chain(Rig(tmp_path), random.Random(5))


def chain(rig: Rig, rng: random.Random) -> Rig:
    random_disk(rig.disk, 6 * MIB + 300, rng, pieces=15)
    for number in range(1, POINTS + 1):
        rig.sync()
        shutil.copy(rig.disk, rig.home / f"was-{number}")
        if number < POINTS:
            scribble(rig.disk, rng, pieces=6, most=40 * KIB)
    return rig


def audit(rig: Rig, *more: object, code: int = 0) -> Outcome:
    done = command("audit", "repository", "--repo", rig.repo, *more)
    assert done.code == code, done
    return done


def lost_blocks(done: Outcome) -> set[int]:
    """Blocks that the audit says some point lacks."""
    return {
        block
        for each in done.all("finding")
        if each["kind"] == "block-unrecoverable"
        for block in range(each["offset"] // BLOCK_BYTES, -(-(each["offset"] + each["length"]) // BLOCK_BYTES))
    }


def marks(rig: Rig) -> list[Path]:
    return sorted((rig.root / "marks").glob("*")) if (rig.root / "marks").exists() else []


def without_extents(rig: Rig, *more: object, code: int = 0) -> Outcome:
    """A sync whose tracker says that nothing changed."""
    nothing = rig.home / "nothing"
    nothing.write_text("")
    return rig.sync("--extents", nothing, *more, code=code)


HARM: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "flipped": lambda path: flip(path, path.stat().st_size // 2),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
}


@pytest.mark.parametrize(("harm", "number"), [("missing", 0), ("flipped", 1), ("cut", 2), ("flipped", POINTS - 1)])
def test_from_damage_to_a_sound_replica(rig: Rig, harm: str, number: int) -> None:
    damaged = rig.objects("packs")[number]
    HARM[harm](damaged)
    found = audit(rig, "--deep", code=5)
    named = {each.get("key") for each in found.all("finding")}
    assert str(damaged.relative_to(rig.repo)) in named
    blocks = lost_blocks(found)
    fresh = rig.home / "fresh.raw"
    rig.apply(to=fresh, code=5)
    wrong = [at for at in range(0, fresh.stat().st_size, BLOCK_BYTES) if differ(fresh, rig.disk, at)]
    assert {at // BLOCK_BYTES for at in wrong} <= blocks, "a block that can't be had was not named"
    assert not marks(rig)
    repaired = audit(rig, "--deep", "--repair", code=5)
    assert len(marks(rig)) == 1, repaired
    audit(rig, "--deep", "--repair", code=5)
    assert len(marks(rig)) == 1, "marked twice"
    done = without_extents(rig)
    assert done.last("sync.anew")["bytes"] > 0 and not done.all("finding")
    assert not marks(rig)
    again = rig.home / "again.raw"
    rig.apply(to=again)
    assert same(rig.disk, again)
    after = audit(rig, "--deep", "--repair", code=5)
    assert not marks(rig), "the newest point is whole"
    assert lost_blocks(after) == blocks, "older points are as damaged as they were"
    assert any(f"{number + 1}-" in text for text in notes(after)), notes(after)
    without_extents(rig)
    assert rig.point(POINTS + 2).bytes_read == 0


def differ(left: Path, right: Path, at: int) -> bool:
    with left.open("rb") as a, right.open("rb") as b:
        a.seek(at)
        b.seek(at)
        return a.read(BLOCK_BYTES) != b.read(BLOCK_BYTES)


def notes(done: Outcome) -> list[str]:
    report = json.loads(Path(done.last("audit.done")["report"]).read_text())
    return [str(note) for note in report["notes"]]


def test_what_the_store_tells_is_enough_to_mark(rig: Rig) -> None:
    rig.objects("packs")[0].unlink()
    audit(rig, "--repair", code=5)
    assert len(marks(rig)) == 1
    without_extents(rig)
    rig.apply()
    assert same(rig.disk, rig.replica)


@pytest.mark.parametrize("seed", range(4))
def test_what_apply_can_not_give_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Any number of packs damaged at once, in frames or as a whole."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    rng = random.Random(seed)
    rig = chain(Rig(tmp_path), rng)
    for path in rng.sample(rig.objects("packs"), rng.randrange(1, POINTS)):
        rng.choice(list(HARM.values()))(path)
    found = audit(rig, "--deep", "--repair", code=5)
    fresh = rig.home / "fresh.raw"
    outcome = rig.apply(to=fresh, code=5)
    wrong = {at // BLOCK_BYTES for at in range(0, fresh.stat().st_size, BLOCK_BYTES) if differ(fresh, rig.disk, at)}
    assert wrong <= lost_blocks(found), outcome
    scribble(rig.disk, rng, pieces=4, most=20 * KIB)
    rig.sync()
    again = rig.home / "again.raw"
    rig.apply(to=again)
    assert same(rig.disk, again)


def test_a_sync_from_another_host_heals_too(rig: Rig) -> None:
    """The mark lies in the repository; local state is not asked for."""
    rig.objects("packs")[1].unlink()
    audit(rig, "--repair", code=5)
    rig.sync("--extents", _empty(rig), state=rig.home / "elsewhere")
    rig.apply()
    assert same(rig.disk, rig.replica)


def _empty(rig: Rig) -> Path:
    path = rig.home / "empty"
    path.write_text("")
    return path


def test_damaged_marks_stop_no_sync(rig: Rig) -> None:
    place = rig.root / "marks" / f"{POINTS:010d}-0123456789abcdef.json"
    place.parent.mkdir()
    wrong = LossMark(1, 0, "vm", POINTS, "0" * 64, "", "", {"disk.raw": [(5, 2), (6, 1)]})
    foreign = LossMark(1, 0, "another", POINTS, "0" * 64, "", "", {"disk.raw": [(1, 1)]})
    for data in (b"", b"{}", encode_mark(wrong), encode_mark(foreign), b"\xff" * 100):
        place.write_bytes(data)
        done = without_extents(rig)
        assert done.last("finding")["kind"] == "damaged-object" and place.exists()
        assert not done.all("sync.anew")
        overwrite(place, b"")


def test_a_mark_beyond_the_disk_is_cut(rig: Rig) -> None:
    place = rig.root / "marks" / f"{POINTS:010d}-0123456789abcdef.json"
    place.parent.mkdir()
    place.write_bytes(encode_mark(LossMark(1, 0, "vm", POINTS, "0" * 64, "", "", {"disk.raw": [(90, 1 << 20)]})))
    done = without_extents(rig)
    assert done.last("sync.anew")["bytes"] == rig.disk.stat().st_size - 90 * BLOCK_BYTES
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_a_mark_for_a_disk_that_is_not_given_stays(rig: Rig) -> None:
    place = rig.root / "marks" / f"{POINTS:010d}-0123456789abcdef.json"
    place.parent.mkdir()
    place.write_bytes(
        encode_mark(LossMark(1, 0, "vm", POINTS, "0" * 64, "", "", {"disk.raw": [(0, 1)], "gone": [(0, 9)]}))
    )
    without_extents(rig)
    assert place.exists()


def test_a_damaged_manifest_can_not_be_healed(rig: Rig) -> None:
    path = Path(rig.repo) / rig.point(2).disks[0].manifest.key
    flip(path, 90)
    found = audit(rig, "--deep", "--repair", code=5)
    assert not marks(rig)
    assert any("does not tell what disk" in text for text in notes(found))
