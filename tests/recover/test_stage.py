"""Restore points staged as EBS snapshots and read back: byte-identical, frugal, resumable."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from recover.stagerig import StageRig
from rig import KIB, MIB, random_disk, scribble
from rigs.aws.ebsparts import BLOCK

GIB = 1 << 30


def change(disk: Path, rng: random.Random, step: int) -> None:
    """Scribble; zero a stretch of some EBS blocks, half of the times as a hole; grow now and then, over a GiB once."""
    scribble(disk, rng, pieces=6, most=300 * KIB)
    size = disk.stat().st_size
    start = rng.randrange(0, 20 * MIB) // 4096 * 4096
    length = rng.choice([4096, 64 * KIB, BLOCK, 3 * BLOCK + 4096])
    with disk.open("r+b") as file:
        file.seek(start)
        file.write(bytes(length))
        if step == 4:
            file.truncate(size + 3 * MIB + 512)
        if step == 7:
            file.truncate(GIB + 5 * MIB)
        if step in (4, 7):
            file.seek(-700, os.SEEK_END)
            file.write(rng.randbytes(700))


def round_trip(rig: StageRig, seed: int, *, kills: bool) -> Counter[str]:
    """A full staging and ten increments, each read back and held against what the manifests allow."""
    rng = random.Random(seed)
    account, met = rig.account, Counter[str]()
    random_disk(rig.disk, 24 * MIB + 5120, rng)
    moments: list[str] = []
    before: list[str] = []
    for step in range(11):
        if step:
            change(rig.disk, rng, step)
        rig.sync()
        account.faults.rng = random.Random(seed * 100 + step)
        account.faults.throttle, account.faults.server_error = 0.05, 0.05
        account.faults.lost = account.faults.cut = 0.01
        account.unseen_s, account.complete_s = rng.choice([0.0, 0.3]), rng.choice([0.0, 0.4])
        for _ in range(rng.choice([0, 1, 1, 2]) if kills and moments else 0):
            name = rng.choice(sorted(set(moments)))
            code = rig.victim("kill", name, rng.randrange(1, moments.count(name) + 1))
            assert code in (-9, 0), (name, code)
            met["killed" if code else "missed"] += 1
        if kills and not moments:
            moments = rig.moments()
        outcome = rig.stage()
        (made,) = rig.snapshots(outcome)
        assert account.state(made) == "completed" and made.tags["warmspare:point"] == str(step + 1)
        account.faults.throttle = account.faults.server_error = account.faults.lost = account.faults.cut = 0.0
        rig.demand_same(made.id)
        assert set(made.blocks) <= rig.touched(*range(1, step + 2))
        if step:
            assert made.parent == before[-1]
            assert set(made.blocks) == rig.touched(step + 1)
        before.append(made.id)
    pending = [each.id for each in account.snapshots.values() if account.state(each) != "completed"]
    assert not pending
    assert len(account.snapshots) == 3, "older ones expire"
    return met


def test_a_full_and_ten_increments(rig: StageRig) -> None:
    round_trip(rig, 1, kills=False)
    assert rig.account.answers["RequestThrottledException"] and rig.account.answers["InternalServerException"]


def test_the_same_killed_at_random(rig: StageRig) -> None:
    assert round_trip(rig, 2, kills=True)["killed"] >= 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 40))
def test_the_same_killed_at_random_again_and_again(rig: StageRig, seed: int) -> None:
    met = round_trip(rig, seed, kills=True)
    assert met["killed"] >= 2, met
