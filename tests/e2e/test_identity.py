"""Sync, change, sync, apply: the replica is the disk, byte for byte, for every kind of disk and change."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from rig import KIB, MIB, Rig, command, random_disk, same, scribble, write_extents
from rigs.images import data
from rigs.images.samples import CHANGES
from servers import S3Place


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_real_file_systems_through_all_changes(rig: Rig, image: Path) -> None:
    data.copy_sparse(image, rig.disk)
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    copies = [image]
    for name, change in CHANGES.items():
        before = rig.home / f"before-{name}.raw"
        data.copy_sparse(rig.disk, before)
        change(rig.disk)
        assert not same(before, rig.disk), "the change changed nothing"
        rig.sync()
        rig.apply()
        assert same(rig.disk, rig.replica), name
        copy = rig.home / f"after-{name}.raw"
        data.copy_sparse(rig.disk, copy)
        copies.append(copy)
    allocated = rig.replica.stat().st_blocks / rig.disk.stat().st_blocks
    assert allocated <= 1.01
    for sequence, copy in enumerate(copies, 1):
        target = rig.home / f"at-{sequence}.raw"
        rig.apply("--at", sequence, to=target)
        assert same(copy, target), f"restore point {sequence}"
        target.unlink()


@pytest.mark.parametrize("unit", [4 * KIB, 64 * KIB, MIB], ids=["fine", "64K", "1M"])
@pytest.mark.parametrize("name", list(CHANGES))
def test_extents_however_coarse(rig: Rig, image: Path, name: str, unit: int) -> None:
    data.copy_sparse(image, rig.disk)
    rig.sync()
    CHANGES[name](rig.disk)
    extents = rig.home / "extents"
    data.write_extents(extents, data.changed_extents(image, rig.disk, unit))
    done = rig.sync("--extents", extents).last("sync.done")
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert done["findings"] == 0
    # A block that became zero counts whole, everything else by the page.
    assert done["bytes_changed"] <= sum(length for _, length in data.changed_extents(image, rig.disk, 64 * KIB))


@pytest.mark.parametrize(
    "size",
    [1, 511, 4095, 4096, 4097, 65535, 65536, 65537, 3 * MIB + 12345, 16 * MIB, 17 * MIB + 1],
)
def test_odd_sizes(rig: Rig, size: int) -> None:
    rng = random.Random(size)
    random_disk(rig.disk, size, rng, most=min(size, 200 * KIB) + 1)
    for _ in range(3):
        rig.sync()
        rig.apply()
        assert same(rig.disk, rig.replica)
        scribble(rig.disk, rng, pieces=5, most=min(size, 50 * KIB) + 1)


def test_a_disk_of_zeros(rig: Rig) -> None:
    with rig.disk.open("wb") as file:
        file.truncate(50 * MIB + 777)
    assert rig.sync().last("sync.done")["bytes_changed"] == 0
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert rig.replica.stat().st_blocks == 0


def test_written_zeros_become_holes(rig: Rig) -> None:
    rig.disk.write_bytes(bytes(8 * MIB) + b"x" + bytes(4 * MIB))
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert rig.replica.stat().st_blocks * 512 <= 8 * KIB


@pytest.mark.parametrize("growth", [1, 100, 4096, 65536, 3 * MIB + 17])
@pytest.mark.parametrize("size", [65536 * 5, 65536 * 5 + 100, 65536 * 5 + 4096, 4096 * 3 + 5])
@pytest.mark.parametrize("tail", ["data", "zeros"])
def test_a_grown_disk(rig: Rig, size: int, growth: int, tail: str) -> None:
    rng = random.Random(size * growth)
    rig.disk.write_bytes(rng.randbytes(size) if tail == "data" else rng.randbytes(size - 10) + bytes(10))
    rig.sync()
    rig.apply()
    with rig.disk.open("r+b") as file:
        file.truncate(size + growth)
        if growth > 100:
            file.seek(size + growth - 50)
            file.write(rng.randbytes(50))
    (rig.home / "none").write_text("")
    rig.sync("--extents", rig.home / "none")  # no tracker needs to say that the new end was never seen
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_pages_that_became_zero_inside_a_kept_block(rig: Rig) -> None:
    rng = random.Random(9)
    rig.disk.write_bytes(rng.randbytes(4 * MIB))
    rig.sync()
    rig.apply()
    full = rig.replica.stat().st_blocks
    with rig.disk.open("r+b") as file:
        for block in range(0, 64, 2):
            for page in rng.sample(range(16), 7):
                file.seek(block * 65536 + page * 4096)
                file.write(bytes(4096))
    sent = rig.sync().last("sync.done")["bytes_sent"]
    rig.apply()
    assert same(rig.disk, rig.replica)
    extent_tree = 16  # sectors that the file system may need to describe the holes
    assert rig.replica.stat().st_blocks <= full - 32 * 7 * 8 + extent_tree, "zeroed pages were not punched out"
    assert sent < 8 * KIB, "pages of zeros were sent"


def test_punched_and_removed_ranges(rig: Rig) -> None:
    rng = random.Random(10)
    rig.disk.write_bytes(rng.randbytes(20 * MIB))
    rig.sync()
    rig.apply()
    with rig.disk.open("r+b") as file:
        file.seek(3 * MIB)
        file.write(bytes(9 * MIB))
    shutil.copy(rig.disk, rig.home / "dense")
    data.copy_sparse(rig.home / "dense", rig.disk)
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert rig.replica.stat().st_blocks * 512 <= 11 * MIB + 64 * KIB


def test_several_disks_that_come_and_go(rig: Rig) -> None:
    rng = random.Random(11)
    one, two, three = (rig.home / f"{name}.raw" for name in ("one", "two", "three"))
    for path in (one, two, three):
        random_disk(path, 3 * MIB + rng.randrange(MIB), rng)
    target = rig.home / "replica"
    extents = [rig.home / "e1", rig.home / "e2"]
    rig.sync(disks=[one, two])
    rig.apply(to=target)
    assert sorted(p.name for p in target.iterdir()) == [".warmspare", "one.raw", "two.raw"]
    assert same(one, target / "one.raw") and same(two, target / "two.raw")
    for path, file in zip((two, one), extents, strict=True):
        write_extents(file, scribble(path, rng), 64 * KIB, path.stat().st_size)
    rig.sync("--extents", extents[0], "--extents", extents[1], disks=[two, one])  # any order
    rig.apply(to=target)
    assert same(one, target / "one.raw") and same(two, target / "two.raw")
    rig.sync(disks=[one, two, three])  # one joins
    rig.apply(to=target)
    assert same(three, target / "three.raw")
    kept = (target / "two.raw").read_bytes()
    scribble(two, rng)
    gone = rig.sync(disks=[one, three], code=7)  # one leaves: reported, and never silently
    assert [e["disk"] for e in gone.all("unprotected")] == ["two.raw"]
    left = rig.apply(to=target)
    assert [e["disk"] for e in left.all("disk.left")] == ["two.raw"]
    assert (target / "two.raw").read_bytes() == kept
    scribble(two, rng)
    rig.sync(disks=[one, two, three])  # and comes back
    rig.apply(to=target)
    fresh = rig.home / "fresh"
    rig.apply(to=fresh)
    for name, path in (("one.raw", one), ("two.raw", two), ("three.raw", three)):
        assert same(path, target / name) and same(path, fresh / name)
    rig.apply("--at", 4, to=rig.home / "four")
    assert sorted(p.name for p in (rig.home / "four").iterdir()) == [".warmspare", "one.raw", "three.raw"]


def test_named_disks(rig: Rig) -> None:
    rng = random.Random(12)
    (rig.home / "a").mkdir()
    (rig.home / "b").mkdir()
    left, right = rig.home / "a" / "disk", rig.home / "b" / "disk"
    random_disk(left, MIB, rng)
    random_disk(right, MIB, rng)
    refused = rig.sync(disks=[left, right], code=2)
    assert "NAME=PATH" in refused.stderr
    rig.sync(disks=[f"system={left}", f"data disk={right}"])
    rig.apply(to=rig.home / "replica")
    assert same(left, rig.home / "replica" / "system")
    assert same(right, rig.home / "replica" / "data disk")
    odd = rig.home / "x=y.raw"  # a path that exists is never taken apart
    random_disk(odd, MIB, rng)
    other = Rig(rig.home, vm="other")
    other.sync(disks=[odd])
    other.apply()
    assert same(odd, other.replica)


@pytest.mark.parametrize("seed", range(4))
def test_random_histories(rig: Rig, seed: int) -> None:
    """Random writes, growth, extents or none, lost state, applies now and then; every point can be had again."""
    rng = random.Random(seed)
    size = rng.randrange(2 * MIB, 9 * MIB)
    random_disk(rig.disk, size, rng)
    copies: list[Path] = []
    written: list[tuple[int, int]] = []
    for number in range(8):
        extents: list[object] = []
        if number and rng.random() < 0.6:
            unit = rng.choice([4 * KIB, 64 * KIB, MIB])
            file = write_extents(rig.home / "extents", written, unit, rig.disk.stat().st_size)
            extents = ["--extents", file]
        rig.sync(*extents)
        copies.append(rig.home / f"copy-{number}")
        shutil.copy(rig.disk, copies[-1])
        if rng.random() < 0.4:
            rig.apply()
            assert same(rig.disk, rig.replica)
        if rng.random() < 0.2:
            shutil.rmtree(rig.state)
        if rng.random() < 0.3:
            os.truncate(rig.disk, rig.disk.stat().st_size + rng.randrange(1, MIB))
        written = scribble(rig.disk, rng)
    rig.apply()
    assert same(copies[-1], rig.replica)
    for number, copy in enumerate(copies, 1):
        target = rig.home / f"at-{number}"
        rig.apply("--at", number, to=target)
        assert same(copy, target)


def test_bytes_sent_are_the_bytes_in_the_store(rig: Rig) -> None:
    random_disk(rig.disk, 6 * MIB, random.Random(13))
    for besides in (4 * KIB, 2 * KIB):  # the first tries what the store keeps
        before = set(Path(rig.repo).rglob("*")) if Path(rig.repo).exists() else set()
        sent = rig.sync().last("sync.done")["bytes_sent"]
        new = [p for p in Path(rig.repo).rglob("*") if p.is_file() and p not in before and p.name != "lease.json"]
        stored = sum(p.stat().st_size for p in new)
        assert stored <= sent <= stored + besides, "more or less than the objects and the lease"
        scribble(rig.disk, random.Random(14))


def test_through_s3(rig: Rig, seaweed_place: S3Place) -> None:
    rng = random.Random(15)
    rig.repo, rig.more = seaweed_place.uri, ["--endpoint-url", seaweed_place.server.endpoint_url]
    rig.disk.write_bytes(rng.randbytes(30 * MIB) + bytes(3 * MIB) + b"end")  # several parts
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    for _ in range(3):
        file = write_extents(rig.home / "extents", scribble(rig.disk, rng), 64 * KIB, rig.disk.stat().st_size)
        rig.sync("--extents", file)
    shutil.rmtree(rig.state)
    scribble(rig.disk, rng)
    rig.sync()
    rig.apply()
    assert same(rig.disk, rig.replica)
    rig.apply("--at", "1", to=rig.home / "first")
    listed = command("points", "--repo", rig.repo, *rig.more)
    assert [e["sequence"] for e in listed.all("point")] == [1, 2, 3, 4, 5]
    assert seaweed_place.server.secret_key not in str(listed)
