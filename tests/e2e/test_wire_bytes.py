"""How coarsely a tracker reports a real change makes no difference to what is sent, and that is little more than the
changed pages themselves, compressed; metadata included. At size: bench/wire.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rig import KIB, MIB, Rig, same
from rigs.images import data

GRANULARITIES = (64 * KIB, 256 * KIB, MIB)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, image: Path) -> Rig:
    """One restore point of the image, to be copied."""
    rig = Rig(tmp_path_factory.mktemp("begun"))
    data.copy_sparse(image, rig.disk)
    rig.sync("--level", "3")
    return rig


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("database", lambda disk: data.database_run(disk, seconds=60, tps=20, seed=3)),
        ("scattered", lambda disk: data.scattered(disk, writes=500, seed=3)),
    ],
)
def test_reported_coarsely_or_finely(
    tmp_path: Path, begun: Rig, image: Path, name: str, change: Callable[[Path], object]
) -> None:
    rig = Rig(tmp_path)
    data.copy_sparse(image, rig.disk)
    change(rig.disk)
    reference = data.changed_pages_zstd(image, rig.disk, 3)
    sent, reported = [], []
    for granularity in GRANULARITIES:
        for left, right in ((begun.repo, rig.repo), (begun.state, rig.state)):
            shutil.rmtree(right, ignore_errors=True)
            shutil.copytree(left, right)
        extents = data.changed_extents(image, rig.disk, granularity)
        data.write_extents(tmp_path / "extents", extents)
        done = rig.sync("--level", "3", "--extents", tmp_path / "extents")
        sent.append(done.last("sync.done")["bytes_sent"])
        reported.append(sum(length for _, length in extents))
    rig.apply()
    assert same(rig.disk, rig.replica)
    print(f"\n{name}: {reference} bytes of changed pages at zstd 3; sent {sent}, where {reported} were reported")
    assert reported[-1] > reported[0] > 4 * reference, "the reports are not coarse"
    assert max(sent) < 1.05 * min(sent)
    assert max(sent) <= 1.1 * reference
