"""Damaged, missing, swapped and foreign objects; rolled-back and forked repositories; each noticed, named, healed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest

from rig import MIB, Outcome, Rig, command, flip, overwrite, random_disk, same, scribble
from warmspare.format import flags, pack
from warmspare.format.manifest import HEADER
from warmspare.format.restore_point import encode, identity
from warmspare.model.units import BLOCK_BYTES

BLOCKS = 64


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Three restore points of a disk of 4 MiB; a replica at the second; the disk as it was at each."""
    rig = Rig(tmp_path)
    rng = random.Random(21)
    rig.disk.write_bytes(rng.randbytes(BLOCKS * BLOCK_BYTES))
    for number in (1, 2, 3):
        rig.sync()
        shutil.copy(rig.disk, tmp_path / f"was-{number}")
        if number == 2:
            rig.apply()
        if number < 3:
            for block in range(0, BLOCKS, 5):
                with rig.disk.open("r+b") as file:
                    file.seek(block * BLOCK_BYTES + rng.randrange(15) * 4096)
                    file.write(rng.randbytes(5000))
    return rig


def was(rig: Rig, number: int) -> Path:
    return rig.home / f"was-{number}"


def message(outcome: Outcome) -> str:
    return str(outcome.last("error")["message"])


def damaged_blocks(target: Path) -> set[int]:
    """What the replica's own record calls inconsistent."""
    text = (Path(f"{target}.warmspare") / "replica.json").read_text()
    record = json.loads(text.partition("\n")[2])
    return {
        block for disk in record["disks"] for start, count in disk["damaged"] for block in range(start, start + count)
    }


def wrong_blocks(target: Path, truth: Path) -> set[int]:
    a, b = target.read_bytes(), truth.read_bytes()
    assert len(a) == len(b)
    return {at // BLOCK_BYTES for at in range(0, len(b), BLOCK_BYTES) if a[at:][:BLOCK_BYTES] != b[at:][:BLOCK_BYTES]}


def swap(one: Path, other: Path) -> None:
    left, right = one.read_bytes(), other.read_bytes()
    assert left != right
    overwrite(one, right)
    overwrite(other, left)


PACK_DAMAGE = {
    "a bit of the first frame's payload": lambda packs: flip(packs[0], 5000),
    "a bit in the middle": lambda packs: flip(packs[0], packs[0].stat().st_size // 2),
    "a bit of a frame's header": lambda packs: flip(packs[0], pack.HEADER.size + 9),
    "cut off": lambda packs: os.truncate(packs[0], packs[0].stat().st_size - 100),
    "cut to nothing": lambda packs: os.truncate(packs[0], 0),
    "longer": lambda packs: overwrite(packs[0], packs[0].read_bytes() + b"more"),
    "missing": lambda packs: packs[0].unlink(),
    "another's bytes": lambda packs: overwrite(packs[0], packs[1].read_bytes()),
    "swapped": lambda packs: swap(packs[0], packs[1]),
    "zeros": lambda packs: overwrite(packs[0], bytes(packs[0].stat().st_size)),
}


@pytest.mark.parametrize("name", list(PACK_DAMAGE))
def test_a_damaged_pack(rig: Rig, name: str) -> None:
    """From nothing: what can be had is right, what can't is named and marked; put back, the same command heals it."""
    packs = rig.objects("packs")
    kept = {path: path.read_bytes() for path in packs}
    PACK_DAMAGE[name](packs)
    assert any(not p.exists() or p.read_bytes() != data for p, data in kept.items()), "nothing was damaged"
    target = rig.home / "fresh.raw"
    if name == "longer":
        # Nothing that is read differs; only an audit of whole objects can see it.
        rig.apply(to=target)
        assert same(was(rig, 3), target)
        return
    outcome = rig.apply(to=target, code=5)
    wrong, marked = wrong_blocks(target, was(rig, 3)), damaged_blocks(target)
    assert marked and wrong <= marked, "a wrong block is not marked"
    assert "inconsistent" in message(outcome) and str(min(marked)) in message(outcome)
    assert any("pack" in event["message"] or "frame" in event["message"] for event in outcome.all("finding"))
    again = rig.apply(to=target, code=5)  # marked until it is healed
    assert damaged_blocks(target) == marked and "inconsistent" in message(again)
    for path, data in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data) if not path.exists() else overwrite(path, data)
    healed = rig.apply(to=target)
    assert same(was(rig, 3), target) and not damaged_blocks(target)
    assert healed.last("apply.done")["blocks_rebuilt"] == len(wrong)


def test_a_later_point_heals_what_it_covers(rig: Rig) -> None:
    kept = rig.objects("packs")[0].read_bytes()
    flip(rig.objects("packs")[0], 5000)
    target = rig.home / "fresh.raw"
    rig.apply(to=target, code=5)
    marked = damaged_blocks(target)
    with rig.disk.open("r+b") as file:
        for block in marked:
            file.seek(block * BLOCK_BYTES)
            file.write(random.Random(block).randbytes(BLOCK_BYTES))
    rig.sync()
    rig.apply(to=target)
    assert same(rig.disk, target) and not damaged_blocks(target)
    assert rig.objects("packs")[0].read_bytes() != kept, "the damage is still there"


def test_damage_to_the_replica_itself_is_repaired_where_it_is_met(rig: Rig) -> None:
    with rig.replica.open("r+b") as file:
        for block in (0, 5, 10, 7):  # the next point touches the first three
            file.seek(block * BLOCK_BYTES + 60000)
            file.write(b"rot" * 100)
    assert wrong_blocks(rig.replica, was(rig, 2)) == {0, 5, 7, 10}
    done = rig.apply()
    assert done.last("apply.done")["blocks_rebuilt"] == 3
    assert wrong_blocks(rig.replica, was(rig, 3)) == {7}, "what no record touches is the audit's to find"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_manifest(rig: Rig, number: int) -> None:
    path = Path(rig.repo) / rig.point(number).disks[0].manifest.key
    kept, rng = path.read_bytes(), random.Random(number)
    replica = rig.replica.read_bytes()
    harm = [lambda: path.unlink(), lambda: os.truncate(path, len(kept) - 1), lambda: os.truncate(path, 0)]
    harm += [lambda at=at: flip(path, at) for at in (0, HEADER.size + 3, *(rng.randrange(len(kept)) for _ in range(4)))]
    for act in harm:
        act()
        assert not path.exists() or path.read_bytes() != kept
        target = rig.home / "fresh.raw"
        outcome = rig.apply(to=target, code=5)
        assert "manifest" in message(outcome) and path.name in message(outcome)
        if number == 3:
            rig.apply(code=5)
            assert rig.replica.read_bytes() == replica, "touched though the manifest is bad"
        shutil.rmtree(f"{target}.warmspare", ignore_errors=True)
        target.unlink(missing_ok=True)
        if not path.exists():
            path.write_bytes(kept)
        overwrite(path, kept)
    rig.apply()
    assert same(was(rig, 3), rig.replica)


def test_swapped_manifests(rig: Rig) -> None:
    paths = [Path(rig.repo) / rig.point(n).disks[0].manifest.key for n in (2, 3)]
    swap(*paths)
    rig.apply(code=5)
    assert same(was(rig, 2), rig.replica)
    swap(*paths)
    rig.apply()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_restore_point(rig: Rig, number: int) -> None:
    path = rig.point_path(number)
    kept, rng = path.read_bytes(), random.Random(number)
    replica = rig.replica.read_bytes()
    harm = [lambda: os.truncate(path, len(kept) // 2), lambda: os.truncate(path, 0), lambda: path.unlink()]
    harm += [lambda at=at: flip(path, at) for at in (0, 60, *(rng.randrange(len(kept)) for _ in range(5)))]
    for act in harm:
        act()
        assert not path.exists() or path.read_bytes() != kept
        # The replica is at 2: it needs that one and the next. That a next one was there once it can't know.
        rig.apply(code=5 if number == 2 or (number == 3 and path.exists()) else 0)
        if number > 1:
            assert rig.replica.read_bytes() == replica
        fresh = rig.home / "fresh.raw"
        rig.apply(to=fresh, code=5 if number < 3 or path.exists() else 0)
        if number == 3:
            before = rig.snapshot()
            rig.sync(code=5)
            assert rig.snapshot() == before
        if path.exists() and number == 3:
            assert command("points", "--repo", rig.repo).code in (0, 5)
        shutil.rmtree(f"{fresh}.warmspare", ignore_errors=True)
        fresh.unlink(missing_ok=True)
        if path.exists():
            overwrite(path, kept)
        else:
            path.write_bytes(kept)
    scribble(rig.disk, random.Random(1))
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_the_repository_s_own_record(rig: Rig) -> None:
    path = Path(rig.repo) / "repository.json"
    kept = path.read_bytes()
    for bad in (b"", b"{}", kept[:30], kept.replace(b'"id"', b'"di"')):
        overwrite(path, bad)
        assert rig.sync(code=5) and rig.apply(code=5) and command("points", "--repo", rig.repo).code == 5
    path.unlink()
    rig.sync(code=5)
    rig.apply(code=5)
    assert command("init", rig.repo).code == 5 and not path.exists()
    path.write_bytes(kept)
    rig.sync()
    rig.apply()


def reseal(rig: Rig, number: int, change: dict[str, object]) -> bytes:
    """Rewrite a restore point's record with other fields, as another version's writer would have."""
    path = rig.point_path(number)
    before = path.read_bytes()
    data = json.dumps({**json.loads(before), **change}).encode()
    assert data != before
    overwrite(path, data)
    return before


@pytest.mark.parametrize("change", [{"format": 2}, {"flags": 1}, {"format": 99, "flags": 7, "new": []}])
def test_unknown_versions_are_refused_with_both_named(rig: Rig, change: dict[str, object]) -> None:
    rig.sync()
    before = reseal(rig, 4, change)
    replica = rig.replica.read_bytes()
    shutil.rmtree(rig.state)
    for outcome in (rig.sync(code=5), rig.apply(code=5)):
        text = message(outcome)
        assert re.search(rf"\bversion {flags.VERSION}\b", text), text
        assert f"format version {change['format']} " in text if "format" in change else "encryption" in text
    assert rig.replica.read_bytes() == replica
    overwrite(rig.point_path(4), before)
    rig.apply()


def test_unknown_versions_of_manifest_and_pack(rig: Rig) -> None:
    """With everything above them sealed anew, so that only the version itself is wrong."""
    path = Path(rig.repo) / rig.point(3).disks[0].manifest.key
    data = bytearray(path.read_bytes())
    data[8] = 9  # the version
    overwrite(path, bytes(data))
    record = json.loads(rig.point_path(3).read_bytes())
    import hashlib

    record["disks"][0]["manifest"]["sha256"] = hashlib.sha256(data).hexdigest()
    overwrite(rig.point_path(3), json.dumps(record).encode())
    replica = rig.replica.read_bytes()
    text = message(rig.apply(code=5))
    assert "format version 9 and this program reads version 1" in text
    assert rig.replica.read_bytes() == replica


def test_a_record_that_lies_about_its_root(rig: Rig) -> None:
    record = json.loads(rig.point_path(3).read_bytes())
    record["disks"][0]["root"] = "0" * 64
    overwrite(rig.point_path(3), json.dumps(record).encode())
    replica = rig.replica.read_bytes()
    assert "hash table" in message(rig.apply(code=5))
    assert rig.replica.read_bytes() == replica


# rolled back, forked, replaced


def test_the_newest_point_removed(rig: Rig) -> None:
    rig.apply()
    replica, kept = rig.replica.read_bytes(), rig.point_path(3).read_bytes()
    rig.point_path(3).unlink()
    before = rig.snapshot()
    for outcome in (rig.sync(code=5), rig.apply(code=5)):
        assert "rolled back" in message(outcome) and "3-" in message(outcome)
    assert rig.snapshot() == before and rig.replica.read_bytes() == replica
    rig.point_path(3).write_bytes(kept)
    rig.sync()
    rig.apply()


def test_all_points_removed(rig: Rig) -> None:
    shutil.rmtree(rig.root / "points")
    for outcome in (rig.sync(code=5), rig.apply(code=2)):
        assert "restore point" in message(outcome), outcome


@pytest.mark.parametrize("number", [2, 3])
def test_a_point_replaced_by_another_history(rig: Rig, number: int) -> None:
    """The same sequence, the right parent, other content: a fork made by whoever can write here."""
    rig.apply()
    replica = rig.replica.read_bytes()
    record = rig.point(number)
    fields = {f: getattr(record, f) for f in record.__struct_fields__}
    forged = encode(type(record)(**fields | {"created": "2020-01-01T00:00:00Z"}))
    assert identity(forged) != identity(rig.point_path(number).read_bytes())
    overwrite(rig.point_path(number), forged)
    before = rig.snapshot()
    if number == 3:
        for outcome in (rig.sync(code=5), rig.apply(code=5)):
            assert "forked" in message(outcome)
    rig.apply(to=rig.home / "fresh.raw", code=5 if number == 2 else 0)
    assert rig.snapshot() == before and rig.replica.read_bytes() == replica


def test_a_fork_that_went_on(rig: Rig) -> None:
    """Someone restored an old copy of the repository and a sender without memory went on from there."""
    rig.apply()
    shutil.copytree(rig.repo, rig.home / "copy")
    scribble(rig.disk, random.Random(31))
    rig.sync()
    rig.apply()
    replica = rig.replica.read_bytes()
    shutil.rmtree(rig.repo)
    shutil.copytree(rig.home / "copy", rig.repo)
    for seed in (32, 33):
        scribble(rig.disk, random.Random(seed))
        rig.sync(state=rig.home / "without-memory")
    before = rig.snapshot()
    for outcome in (rig.sync(code=5), rig.apply(code=5)):
        assert "forked" in message(outcome)
    assert rig.snapshot() == before and rig.replica.read_bytes() == replica
    rig.apply(to=rig.home / "fresh.raw")
    assert same(rig.disk, rig.home / "fresh.raw")


def test_a_gap(rig: Rig) -> None:
    rig.point_path(2).unlink()
    assert "restore point 2 of VM 'vm' is missing" in message(rig.apply(to=rig.home / "fresh.raw", code=5))
    rig.sync()  # a sender that saw the newest needs nothing older


def test_a_record_moved_to_another_place(rig: Rig) -> None:
    other = Rig(rig.home, vm="other", repo=rig.repo)
    other.sync(state=rig.home / "other-state")
    rig.apply()
    overwrite(other.point_path(1), rig.point_path(1).read_bytes())
    assert "stands where" in message(other.apply(to=rig.home / "other.raw", code=5))
    rig.point_path(4).write_bytes(rig.point_path(3).read_bytes())
    assert "stands where" in message(rig.apply(code=5))
    rig.sync(code=5)


def test_another_repository_at_the_same_place(rig: Rig) -> None:
    rig.apply()
    shutil.rmtree(rig.repo)
    rig.sync(state=rig.home / "someone-else")
    before = rig.snapshot()
    for outcome in (rig.sync(code=5), rig.apply(code=5)):
        assert "replaced" in message(outcome)
    assert rig.snapshot() == before


def test_a_replica_of_another_repository(rig: Rig) -> None:
    other = Rig(rig.home, repo=str(rig.home / "other-repo"))
    other.sync(state=rig.home / "other-state")
    assert "another repository" in message(other.apply(code=2))


def test_a_replica_on_its_way_keeps_to_its_way(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while moving to a point that is then gone: going on would mix two states."""
    from warmspare.apply.merge import Merge

    async def die(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Merge, "run", die)
        assert command("apply", "--vm", "vm", "--repo", rig.repo, "--to", rig.replica).code == 130
    kept = rig.point_path(3).read_bytes()
    rig.point_path(3).unlink()
    assert "rolled back" in message(rig.apply(code=5))
    assert "on its way" in message(rig.apply("--at", "2", code=2))
    shutil.rmtree(rig.state)
    scribble(rig.disk, random.Random(41))
    rig.sync()  # another third point
    assert "on its way" in message(rig.apply(code=5))
    overwrite(rig.point_path(3), kept)
    rig.apply()
    assert same(was(rig, 3), rig.replica)


def test_points_lists_what_it_can(rig: Rig) -> None:
    flip(rig.point_path(2), 0)
    outcome = command("points", "--repo", rig.repo)
    assert outcome.code == 5 and [e["sequence"] for e in outcome.all("point")] == [1, 3]
    assert rig.point_path(2).name in message(outcome)


def test_large_random_damage_never_passes(tmp_path: Path) -> None:
    """Any byte of any object: the replica from nothing is exact, or the command ends with 5 and says what is wrong."""
    rig = Rig(tmp_path)
    rng = random.Random(51)
    random_disk(rig.disk, 3 * MIB, rng, pieces=25)
    rig.sync()
    scribble(rig.disk, rng, pieces=10)
    rig.sync()
    objects = [Path(rig.repo) / name for name in rig.snapshot()]
    target = tmp_path / "fresh.raw"
    seen = {0: 0, 5: 0}
    for _ in range(60):
        path = rng.choice(objects)
        kept = flip(path, rng.randrange(path.stat().st_size), 1 << rng.randrange(8))
        code = command("apply", "--vm", "vm", "--repo", rig.repo, "--to", target).code
        seen[code] += 1
        if code == 0:
            assert same(rig.disk, target)
        elif Path(f"{target}.warmspare/replica.json").exists():
            record = json.loads(Path(f"{target}.warmspare/replica.json").read_text().partition("\n")[2])
            if record["at"] and record["at"]["sequence"] == 2 and record["moving"] is None:
                assert wrong_blocks(target, rig.disk) <= damaged_blocks(target)
        overwrite(path, kept)
        shutil.rmtree(f"{target}.warmspare", ignore_errors=True)
        target.unlink(missing_ok=True)
    assert seen[5] > 30, seen
