"""`diff` and `mount` of a chain from which points were let go: all that differs, the right bytes, no dropped point."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from e2e.test_diff import Truth, diff, truth
from e2e.test_mount import mounted, of
from retain.test_folded_chain import drop, past
from rig import Rig, command
from warmspare.model.units import BLOCK_BYTES


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


def held_against(rig: Rig, first: int, second: int, real: Truth, name: str = "disk.raw") -> None:
    """Blocks and, with --exact, pages are what differs; without, pages are all that differ at least."""
    for more in ([], ["--exact"]):
        (disk,) = [each for each in diff(rig, first, second, *more).all("diff.disk") if each["name"] == name]
        blocks = (disk["blocks_filled"], disk["blocks_emptied"], disk["blocks_changed"])
        assert blocks == (real.filled, real.emptied, real.changed)
        assert disk["pages"] == real.pages if more else real.pages <= disk["pages"] <= disk["blocks"] * 16


@pytest.mark.parametrize("remove", [True, False])
def test_what_differs_is_complete_over_folds(rig: Rig, remove: bool) -> None:
    images = past(rig)
    pages = diff(rig, 1, 9).last("diff.done")["pages"]
    drop(rig, [1, 3, 4, 7, 9])
    drop(rig, [1, 4, 9], remove=remove)
    pairs = [(1, 4), (9, 4), (1, 9)] if remove else [(1, 9)]
    for first, second in pairs:
        held_against(rig, first, second, truth(images[first], images[second]))
    assert diff(rig, 1, 9).last("diff.done")["pages"] == pages, "a fold names what its points did, and no more"


def test_a_disk_that_left_at_a_point_that_was_let_go(rig: Rig) -> None:
    """The fold says all of it, so of what it held before only the blocks tell; one that stayed is none the wiser."""
    rng, other = random.Random(6), rig.home / "other.raw"
    other.write_bytes(rng.randbytes(4 * BLOCK_BYTES))
    was = other.read_bytes()
    rig.sync(disks=[rig.disk, other])
    rig.sync(disks=[rig.disk], code=7)
    with other.open("r+b") as file:
        file.write(b"came back")
        file.seek(2 * BLOCK_BYTES)
        file.write(bytes(BLOCK_BYTES))  # which nothing names: it was zeros when the disk joined
    rig.sync(disks=[rig.disk, other])
    drop(rig, [1, 3])
    real = truth(was, other.read_bytes())
    assert (real.changed, real.emptied, real.pages) == (1, 1, 17)
    held_against(rig, 1, 3, real, "other.raw")
    told = {each["name"]: each for each in diff(rig, 1, 3).all("diff.disk")}
    assert told["other.raw"]["pages"] == 32 and not told["disk.raw"]["blocks"]


def test_points_that_were_dropped_are_refused(rig: Rig) -> None:
    past(rig, 5)
    drop(rig, [1, 4, 5], remove=False)
    folder = rig.home / "mounted"
    folder.mkdir()
    for words in (("diff", 3, 5), ("diff", 1, 2), ("mount", folder, "--at", 3)):
        refused = command(*words, "--vm", rig.vm, "--repo", rig.repo)
        assert refused.code == 2 and "was dropped by retention; the nearest that are kept are 1-" in refused.stderr


@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse can't be used here")
def test_a_mount_over_folds_has_the_right_bytes(rig: Rig) -> None:
    images = past(rig)
    drop(rig, [1, 4, 9])
    folder = rig.home / "mounted"
    folder.mkdir()
    for point in (4, 9):
        with mounted(folder, *of(rig, "--at", point)) as running:
            running.heard("mount.ready")
            if point == 9:  # what a mount needs stays for the grace time, whatever is let go meanwhile
                drop(rig, [1, 4, 9], remove=False)
            assert (folder / "disk.raw").read_bytes() == images[point]
            assert running.end() == 130
