"""Staging and recovery from staged points that were let go of the repository."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import recoverworld
from e2e.test_failback import demand_returned, export, make_return, write
from recover.stagerig import StageRig
from recoverworld import World, hardware
from rig import KIB, MIB, command, random_disk, scribble
from rigs.stores.retaining import retain
from servers import S3Server
from warmspare.store.directory.directory_store import DirectoryStore


def drop(repo: object, vm: str, keep: list[int], home: Path) -> None:
    retain(DirectoryStore(str(repo)), vm, keep, home / "scratch")


@pytest.mark.parametrize("keep", [[1, 6], [3, 6], [6]])
def test_what_is_staged_goes_on(rig: StageRig, keep: list[int]) -> None:
    """By an increment on the staged point, which was dropped; where the fold says all, by one more full one."""
    rng = random.Random(7)
    random_disk(rig.disk, 8 * MIB, rng)
    rig.sync()
    scribble(rig.disk, rng, pieces=3)
    rig.sync()
    (before,) = rig.snapshots(rig.stage())
    for _ in range(4):
        scribble(rig.disk, rng, pieces=2)
        rig.sync()
    drop(rig.repo, rig.vm, keep, rig.home)
    (made,) = rig.snapshots(rig.stage())
    rig.demand_same(made.id)
    assert made.parent == (before.id if keep[0] == 1 else "")
    scribble(rig.disk, rng, pieces=2)
    rig.sync()
    (then,) = rig.snapshots(rig.stage())
    rig.demand_same(then.id)
    assert then.parent == made.id


def test_a_half_staged_point_that_was_dropped_is_given_up(rig: StageRig) -> None:
    rng = random.Random(7)
    random_disk(rig.disk, 4 * MIB, rng)
    rig.sync()
    assert rig.victim("kill", "before Ebs.put", 2) == -9
    assert [each.sealed for each in rig.account.snapshots.values()] == [None]
    for _ in range(3):
        scribble(rig.disk, rng, pieces=2)
        rig.sync()
    drop(rig.repo, rig.vm, [4], rig.home)
    (made,) = rig.snapshots(rig.stage())
    rig.demand_same(made.id)
    assert [each.id for each in rig.account.snapshots.values()] == [made.id]


@pytest.mark.parametrize("said", ["by an option", "by the configuration"])
def test_staged_points_are_kept_where_it_is_asked(
    rig: StageRig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str
) -> None:
    rng = random.Random(7)
    random_disk(rig.disk, 2 * MIB, rng)
    rig.sync()
    rig.stage()
    for _ in range(3):
        scribble(rig.disk, rng, pieces=2)
        rig.sync()
    words = ["prune", "--repo", rig.repo, "--keep-last", 1, "--staged"]
    if said == "by the configuration":
        config = tmp_path / "c.toml"
        config.write_text(f'[repository.r]\nuri = "{rig.repo}"\nstaged_region = "eu-central-1"\n')
        words[-1:] = ["--config", config, "--vm", rig.vm]
    told = {each["sequence"]: each for each in command(*words).all("prune.point")}
    assert [number for number, each in told.items() if each["goes"]] == [2, 3]
    assert told[1]["reasons"] == ["staged in EC2"]
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    refused = command(*words, "--yes")
    assert refused.code == 0 and "staged" in refused.last("prune.refused")["message"]
    assert not list(rig.root.glob("retention/*"))


@pytest.fixture
def world(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A VM of two disks; its first point is staged, and was dropped after two more."""
    with recoverworld.made(tmp_path, moto.endpoint_url, monkeypatch) as world:
        world.protect("app", hardware("dmz"), 5 * MIB + 12 * KIB, MIB)
        world.stage("app")
        kept = [world.disk("app", number).read_bytes() for number in (0, 1)]
        for seed in (5, 6):
            world.change("app", seed=seed)
            world.sync("app", hardware("dmz"), 2)
        for number, data in enumerate(kept):
            world.disk("app", number).write_bytes(data)
        drop(world.repo, "app", [3], world.home)
        yield world


@pytest.mark.parametrize("at", [[], ["--at", "1"]])
def test_a_failover_and_the_way_back(world: World, at: list[str]) -> None:
    plan = world.write_plan('[vm.app]\ninstance_type = "m5.large"\n')
    world.failover("--plan", plan, "--vm", "app", *at, "--dry-run")
    done = world.failover("--plan", plan, "--vm", "app", *at)
    assert done.all("failover.point")[-1]["point"].startswith("1-")
    world.front.make_return = lambda volume, said, tags: make_return(world, volume, said, tags)
    write(world, 0, 700, b"in AWS")
    export(world, "--format", "raw")
    demand_returned(world, "raw")
    assert (
        "failed over"
        in command("prune", "--repo", world.repo, "--keep-last", 1, "--yes").last("prune.refused")["message"]
    )
