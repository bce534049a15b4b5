"""A chain of more restore points than the process may have files open."""

from __future__ import annotations

import random
import resource
import subprocess
import sys

from recover.stagerig import StageRig
from rig import KIB, MIB, random_disk
from rigs.paths import as_here

POINTS, FILES = 55, 48


def test_a_chain_longer_than_the_files_that_may_be_open(rig: StageRig) -> None:
    rng = random.Random(6)
    random_disk(rig.disk, MIB, rng, pieces=4)
    rig.sync()
    with rig.disk.open("r+b") as file:
        for number in range(1, POINTS):
            file.seek(number % 200 * 4 * KIB)
            file.write(rng.randbytes(4 * KIB))
            file.flush()
            rig.sync()
    done = subprocess.run(
        [sys.executable, "-m", "warmspare", *rig.arguments(), "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=as_here(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
    )
    assert done.returncode == 0, done.stderr
    (made,) = rig.account.snapshots.values()
    assert made.tags["warmspare:point"] == str(POINTS)
    rig.demand_same(made.id)
    assert not list((rig.home / "stage-state").rglob(".fetched-*"))
