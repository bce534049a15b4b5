"""Readers of a chain from which points were dropped: replicas from everywhere, senders, copies, staging."""

from __future__ import annotations

import random
import shutil

import pytest

from rig import Rig, command, flip, scribble
from rigs.stores.retaining import retain
from warmspare.store.directory.directory_store import DirectoryStore

POINTS = 9


def past(rig: Rig, points: int = POINTS, seed: int = 5) -> dict[int, bytes]:
    """Make points; what the disk held at each, by sequence."""
    rng = random.Random(seed)
    images = {}
    for number in range(1, points + 1):
        if number > 1:
            scribble(rig.disk, rng, pieces=6)
        rig.sync()
        images[number] = rig.disk.read_bytes()
    return images


def drop(rig: Rig, keep: list[int], *, remove: bool = True) -> None:
    retain(DirectoryStore(rig.repo), rig.vm, keep, rig.home / "scratch", remove=remove)


@pytest.mark.parametrize("remove", [True, False])
def test_a_new_replica_at_every_point_that_is_left(rig: Rig, remove: bool) -> None:
    images = past(rig)
    keep = [1, 4, 5, 9]
    drop(rig, keep, remove=remove)
    for number in keep:
        target = rig.home / f"new-{number}.raw"
        rig.apply("--at", number, to=target)
        assert target.read_bytes() == images[number]


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("start", range(1, POINTS + 1))
def test_a_replica_at_any_point_goes_on(rig: Rig, start: int, remove: bool) -> None:
    images = past(rig)
    rig.apply("--at", start)
    drop(rig, [2, 6, 9], remove=remove)
    done = rig.apply().last("apply.done")
    assert rig.replica.read_bytes() == images[POINTS] and done["point"].startswith(f"{POINTS}-")
    rig.sync()
    rig.apply()


def test_what_is_older_than_all_that_is_kept_goes_on(rig: Rig) -> None:
    """Also where blocks became zeros that the fold from nothing does not name."""
    rig.sync()
    first = rig.disk.read_bytes()
    rig.apply()
    rig.disk.write_bytes(bytes(len(first) // 2) + first[len(first) // 2 :])
    for _ in range(3):
        rig.sync()
    drop(rig, [4])
    done = rig.apply().last("apply.done")
    assert rig.replica.read_bytes() == rig.disk.read_bytes()
    assert done["bytes_read"] < 64 << 10, "what the replica had was fetched again"


def test_retained_again_and_again(rig: Rig) -> None:
    images = past(rig, 6)
    replica = rig.home / "old.raw"
    rig.apply("--at", 3, to=replica)
    drop(rig, [1, 2, 4, 6])
    drop(rig, [1, 4, 6])
    drop(rig, [4, 6])
    images |= {number + 6: image for number, image in past(rig, 4, seed=9).items()}
    drop(rig, [4, 8, 10])
    for number in (4, 8, 10):
        rig.apply("--at", number, to=rig.home / f"new-{number}.raw")
        assert (rig.home / f"new-{number}.raw").read_bytes() == images[number]
    rig.apply(to=replica)
    assert replica.read_bytes() == images[10]


@pytest.mark.parametrize("state", ["there", "lost", "old"])
def test_a_sender_goes_on(rig: Rig, state: str) -> None:
    past(rig, 5)
    other = rig.home / "elsewhere"
    shutil.copytree(rig.state, other)
    if state == "old":  # another host went on meanwhile, and what this one remembers was dropped
        past(rig, 4, seed=8)
        drop(rig, [2, 9])
        shutil.rmtree(rig.state)
        shutil.copytree(other, rig.state)
    else:
        drop(rig, [2, 5])
    if state == "lost":
        shutil.rmtree(rig.state)
    scribble(rig.disk, random.Random(1), pieces=4)
    rig.sync()
    rig.apply()
    assert rig.replica.read_bytes() == rig.disk.read_bytes()


def test_a_point_that_was_dropped_is_refused(rig: Rig) -> None:
    past(rig, 5)
    drop(rig, [1, 4, 5], remove=False)
    refused = rig.apply("--at", 3, code=2)
    assert "was dropped" in refused.stderr and "1-" in refused.stderr and "4-" in refused.stderr


def test_a_forged_fold_is_noticed(rig: Rig) -> None:
    """Its descent says another history than the point that it leads to."""
    past(rig, 6)
    rig.apply("--at", 3)
    drop(rig, [1, 6])
    (path,) = (rig.root / "folds").rglob("*.descent")
    flip(path, path.stat().st_size // 2)
    assert "damaged" in rig.apply(code=5).stderr


@pytest.mark.parametrize("way", ["there", "back"])
def test_copies_that_kept_other_points(rig: Rig, way: str) -> None:
    images = past(rig, 6)
    there = Rig(rig.home, rig.vm, str(rig.home / "there"))
    assert command("init", there.repo).code == 0
    copy = ["copy", "--from", rig.repo, "--to", there.repo]
    assert command(*copy).code == 0
    drop(there, [2, 6])
    images |= {number + 6: image for number, image in past(rig, 4, seed=6).items()}
    drop(rig, [1, 3, 9, 10])
    outcome = command(*copy)
    assert outcome.code == 0, outcome
    kept = [2, 6, 9, 10]
    if way == "back":
        drop(there, [6, 9, 10])
        kept = [6, 9, 10]
        again = Rig(rig.home, rig.vm, str(rig.home / "again"))
        assert command("init", again.repo).code == 0
        assert command("copy", "--from", there.repo, "--to", again.repo).code == 0
        assert not command("copy", "--from", there.repo, "--to", rig.repo).all("copy.point")
        there = again
    for number in kept:
        there.apply("--at", number, to=rig.home / f"copy-{number}.raw")
        assert (rig.home / f"copy-{number}.raw").read_bytes() == images[number]
