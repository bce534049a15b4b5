"""The site's change tracking against an independent diff of the images: never less than what differs, never more
than the units that were written to."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakesite import Site
from rig import KIB, MIB
from rigs.sites.tracking import Tracker, UnknownChangeIdError
from vcenter.vimclient import Client

Extent = tuple[int, int]


def units(extents: list[Extent], granularity: int) -> set[int]:
    """The numbers of all units that extents touch."""
    return {at for offset, n in extents for at in range(offset // granularity, -(-(offset + n) // granularity)) if n}


def differing_units(before: Path, after: Path, granularity: int) -> set[int]:
    """The numbers of all units in which two images differ, by comparing every byte."""
    left, right = (np.frombuffer(path.read_bytes(), dtype=np.uint8) for path in (before, after))
    assert len(left) == len(right)
    return set((np.flatnonzero(left != right) // granularity).tolist())


@pytest.mark.parametrize("granularity", [64 * KIB, 256 * KIB, MIB])
def test_reported_extents_against_the_images(tmp_path: Path, granularity: int) -> None:
    rng = random.Random(granularity)
    capacities = [24 * MIB, 7 * MIB + 512 * 77]
    with Site(tmp_path, granularity=granularity, keep=True) as site:
        client = Client(site)
        vm = site.add_vm("db", capacities)
        seen: list[tuple[Any, dict[int, str]]] = []  # snapshot, change ID by disk
        written: list[dict[int, list[Extent]]] = [{}]  # in the interval that ended with each snapshot
        for _ in range(7):
            snapshot = client.snapshot(vm)
            seen.append((snapshot, {key: client.change_id(snapshot, key) for key in (2000, 2001)}))
            earlier = [*rng.sample(seen[:-1], min(2, len(seen) - 1)), seen[-1]]
            if len(seen) > 1:
                earlier.append(seen[-2])  # what a sync asks for
            for base, ids in earlier:
                since = written[seen.index((base, ids)) + 1 :]
                for key, change_id in ids.items():
                    disk = vm.disks[key - 2000]
                    extents = client.areas(vm, snapshot, change_id, key)
                    reported = units(extents, granularity)
                    differ = differing_units(
                        vm.frozen_file(base._moId, disk), vm.frozen_file(snapshot._moId, disk), granularity
                    )
                    touched = units([extent for interval in since for extent in interval.get(key, [])], granularity)
                    assert differ <= reported == touched
                    for start, length in extents:
                        assert start % granularity == 0 and length > 0
                        assert (start + length) % granularity == 0 or start + length == disk.capacity
                    for (start, length), (after, _) in itertools.pairwise(extents):
                        assert start + length < after, "extents that touch are one"
            client.remove(snapshot)
            written.append(vm.scribble(rng, pieces=rng.choice([0, 1, 12]), most=200 * KIB))
        assert any(interval.get(2001) for interval in written)


def test_writes_after_the_snapshot_are_not_in_it(tmp_path: Path) -> None:
    with Site(tmp_path, keep=True) as site:
        client = Client(site)
        vm = site.add_vm("db", [MIB])
        base = client.snapshot(vm)
        vm.write(0, 0, b"first")
        snapshot = client.snapshot(vm)
        vm.write(0, 512 * KIB, b"second")
        assert client.areas(vm, snapshot, client.change_id(base)) == [(0, 64 * KIB)]
        assert vm.frozen_file(snapshot._moId).read_bytes()[512 * KIB :][:6] == bytes(6)
        later = client.snapshot(vm)
        assert client.areas(vm, later, client.change_id(snapshot)) == [(512 * KIB, 64 * KIB)]
        assert client.areas(vm, later, client.change_id(base)) == [(0, 64 * KIB), (512 * KIB, 64 * KIB)]


def test_tracking_can_lie(tmp_path: Path) -> None:
    """Writes that tracking missed, and what it lost in a crash, differ and are not reported."""
    with Site(tmp_path, keep=True) as site:
        client = Client(site)
        vm = site.add_vm("db", [MIB])
        base = client.snapshot(vm)
        vm.write(0, 0, b"missed", unseen=True)
        vm.write(0, 128 * KIB, b"lost in the crash")
        vm.crash()
        vm.write(0, 512 * KIB, b"seen")
        snapshot = client.snapshot(vm)
        assert client.areas(vm, snapshot, client.change_id(base)) == [(512 * KIB, 64 * KIB)]
        differ = differing_units(vm.frozen_file(base._moId), vm.frozen_file(snapshot._moId), 64 * KIB)
        assert differ == {0, 2, 8}


def test_growing_reports_nothing_of_the_new_part(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        client = Client(site)
        vm = site.add_vm("db", [MIB + 512])
        base = client.snapshot(vm)
        change_id = client.change_id(base)
        client.remove(base)
        vm.grow(vm.disks[0], 3 * MIB)
        vm.write(0, 2 * MIB, b"x")
        snapshot = client.snapshot(vm)
        assert client.disks(snapshot)[2000].capacityInBytes == 3 * MIB
        assert client.areas(vm, snapshot, change_id) == [(2 * MIB, 64 * KIB)]


def test_an_existing_image_is_allocated_where_it_has_data(tmp_path: Path) -> None:
    image = tmp_path / "given.raw"
    with image.open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(b"y" * 100 * KIB)
    with Site(tmp_path) as site:
        client = Client(site)
        vm = site.add_vm("db", [])
        vm.add_disk(4 * MIB, image=image)
        assert client.areas(vm, client.snapshot(vm), "*") == [(MIB, 128 * KIB)]


def test_a_tracker_knows_its_own_change_ids_only() -> None:
    tracker = Tracker(MIB, 64 * KIB, random.Random(1))
    tracker.wrote(0, 1)
    frozen = tracker.freeze()
    assert tracker.changes(frozen, tracker.change_id(0)) == [(0, 64 * KIB)]
    assert tracker.changes(frozen, frozen.change_id) == []
    other = Tracker(MIB, 64 * KIB, random.Random(2))
    for unknown in (tracker.live_change_id, other.change_id(0), "", "/", "x/1", f"{tracker.uuid}/-1"):
        with pytest.raises(UnknownChangeIdError):
            tracker.changes(frozen, unknown)
