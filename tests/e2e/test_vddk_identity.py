"""Through a VDDK: the replica is the disk, byte for byte, for every kind of disk, change and transport."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from rig import KIB, MIB, VddkRig, random_disk, same, scribble, write_extents
from rigs.images import data
from rigs.images.samples import CHANGES

SECTOR = 512


@pytest.fixture(params=["nbdssl", "nbd", "san", "hotadd", "file"])
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> VddkRig:
    return VddkRig(tmp_path, transport=request.param)


@pytest.fixture
def nbd(tmp_path: Path) -> VddkRig:
    return VddkRig(tmp_path)


def test_real_file_systems_through_all_changes(nbd: VddkRig, image: Path) -> None:
    data.copy_sparse(image, nbd.disk)
    first = nbd.sync()
    assert first.last("source.open")["transport"] == "nbdssl"
    # Gaps below a megabyte are read, being cheaper to read than to skip; how many there are is the image's business.
    allocated, capacity = nbd.disk.stat().st_blocks * SECTOR, nbd.disk.stat().st_size
    read = first.last("sync.done")["bytes_read"]
    assert read < allocated + 0.1 * (capacity - allocated), "unallocated areas were read"
    nbd.apply()
    assert same(nbd.disk, nbd.replica)
    for name, change in CHANGES.items():
        before = nbd.home / f"before-{name}.raw"
        data.copy_sparse(nbd.disk, before)
        change(nbd.disk)
        extents = nbd.home / "extents"
        unit = {"upgrade": MIB, "database": 64 * KIB, "scattered": 256 * KIB}.get(name, 4 * KIB)
        data.write_extents(extents, data.changed_extents(before, nbd.disk, unit))
        nbd.sync("--extents", extents)
        nbd.apply()
        assert same(nbd.disk, nbd.replica), name
    assert nbd.replica.stat().st_blocks / nbd.disk.stat().st_blocks <= 1.01
    full = nbd.sync().last("sync.done")  # a full compare finds nothing more
    assert full["bytes_changed"] == 0


@pytest.mark.parametrize("size", [SECTOR, 4096, 65536 - SECTOR, 65536, 65536 + SECTOR, 3 * MIB + 5 * SECTOR, 33 * MIB])
def test_odd_sizes(rig: VddkRig, size: int) -> None:
    rng = random.Random(size)
    random_disk(rig.disk, size, rng, most=min(size, 200 * KIB) + 1)
    for _ in range(2):
        rig.sync()
        rig.apply()
        assert same(rig.disk, rig.replica)
        scribble(rig.disk, rng, pieces=5, most=min(size, 50 * KIB) + 1)


def test_a_disk_of_zeros(rig: VddkRig) -> None:
    with rig.disk.open("wb") as file:
        file.truncate(50 * MIB + SECTOR)
    done = rig.sync().last("sync.done")
    assert done["bytes_changed"] == 0
    assert done["bytes_read"] <= MIB, "what is not allocated was read"
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert rig.replica.stat().st_blocks == 0


def test_a_grown_disk_and_zeroed_ranges(rig: VddkRig) -> None:
    rng = random.Random(5)
    rig.disk.write_bytes(rng.randbytes(20 * MIB + 3 * SECTOR))
    rig.sync()
    rig.apply()
    with rig.disk.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(bytes(9 * MIB))
        file.truncate(26 * MIB + SECTOR)
        file.seek(26 * MIB)
        file.write(rng.randbytes(SECTOR))
    extents = write_extents(rig.home / "extents", [(3 * MIB, 9 * MIB)], 64 * KIB, 26 * MIB + SECTOR)
    rig.sync("--extents", extents)
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_several_disks(nbd: VddkRig) -> None:
    rng = random.Random(11)
    disks = [nbd.home / f"{name}.raw" for name in ("one", "two", "three")]
    for path in disks:
        random_disk(path, 3 * MIB + rng.randrange(2048) * SECTOR, rng)
    target = nbd.home / "replica"
    for _ in range(2):
        nbd.sync(disks=list(disks))
        nbd.apply(to=target)
        for path in disks:
            assert same(path, target / path.name)
            scribble(path, rng)


@pytest.mark.parametrize("seed", range(4))
def test_random_histories(nbd: VddkRig, seed: int) -> None:
    """Random writes, extents or none, lost state; sparse disks larger than what is asked about at once."""
    rng = random.Random(seed)
    nbd.standin.modes(rng.choice(["nbdssl", "nbd", "san"]))
    random_disk(nbd.disk, rng.randrange(40, 90) * MIB, rng, pieces=60)
    written: list[tuple[int, int]] = []
    for number in range(5):
        extents: list[object] = []
        if number and rng.random() < 0.6:
            unit = rng.choice([4 * KIB, 64 * KIB, MIB])
            extents = ["--extents", write_extents(nbd.home / "e", written, unit, nbd.disk.stat().st_size)]
        nbd.sync(*extents)
        nbd.apply()
        assert same(nbd.disk, nbd.replica)
        if rng.random() < 0.3:
            shutil.rmtree(nbd.state)
        written = scribble(nbd.disk, rng)


def test_a_library_of_vddk_6_5(tmp_path: Path) -> None:
    """No asynchronous reads, no allocated blocks: slower, and exact all the same."""
    rig = VddkRig(tmp_path, old=True)
    random_disk(rig.disk, 40 * MIB, random.Random(6))
    done = rig.sync()
    assert done.last("source.open")["vddk"].startswith("6")
    assert done.last("sync.done")["bytes_read"] == 40 * MIB
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert rig.standin.counts()["ReadAsync"] == 0 < rig.standin.counts()["Read"]
