"""The least rights in S3 that the documents name: all that a command asks for, and no more."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.session import get_session

import recoverworld
from e2e.s3rights import BUCKET, PREFIX, Asked, Right, asked_of, lacking, policy, unused
from recoverworld import World, hardware
from rig import KIB, MIB, Rig, command, made, random_disk, scribble
from rigs.aws import ebsstandin
from rigs.kills.campaign import VICTIM
from rigs.paths import as_here
from rigs.stores.retaining import retain
from servers import S3Place, S3Server
from warmspare.store.directory.directory_store import DirectoryStore
from warmspare.store.s3.s3_store import S3Store


@pytest.fixture
def place(moto_place: S3Place) -> S3Place:
    return moto_place


@pytest.fixture
def client(place: S3Place) -> Iterator[Any]:
    """Of S3, for what the tests themselves do there."""
    made = get_session().create_client("s3", endpoint_url=place.server.endpoint_url, region_name="us-east-1")
    yield made
    made.close()


@pytest.fixture
def rig(place: S3Place, tmp_path: Path) -> Rig:
    """Two restore points in S3 and a replica of them."""
    rig, rng = Rig(tmp_path, repo=place.uri), random.Random(1)
    random_disk(rig.disk, 3 * MIB, rng)
    rig.sync()
    scribble(rig.disk, rng)
    rig.sync()
    rig.apply()
    return rig


@pytest.fixture
def asked(place: S3Place, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What is asked for from here on."""
    return asked_of(place.bucket, place.prefix, monkeypatch)


def demand_exact(name: str, asked: Asked) -> None:
    """The policy gives all of that, each of its lines is used, and nothing was asked for elsewhere."""
    statements = policy(name)
    assert asked.rights and not asked.others
    assert not lacking(statements, asked)
    assert not unused(statements, asked)


def keys(client: Any, place: S3Place, part: str) -> list[str]:
    found = client.list_objects_v2(Bucket=place.bucket, Prefix=f"{place.prefix}/vms/vm/{part}/")
    return [each["Key"] for each in found.get("Contents", [])]


def spoil(client: Any, place: S3Place, key: str) -> None:
    data = bytearray(client.get_object(Bucket=place.bucket, Key=key)["Body"].read())
    data[len(data) // 2] ^= 1
    client.put_object(Bucket=place.bucket, Key=key, Body=bytes(data))


def left(place: S3Place, kind: str) -> str:
    """The key of an object that no restore point names."""
    name = {"packs": "000000.pack", "manifests": "000.manifest", "tables": "000.table"}[kind]
    return f"{place.prefix}/vms/vm/{kind}/{'d' * 32}/{name}"


def ran(*arguments: object, code: int = 0) -> None:
    outcome = command(*arguments)
    assert outcome.code == code, outcome


def test_a_sender(place: S3Place, client: Any, tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an empty bucket on: a first sync, killed ones and what they leave, marks, lost local state, a checkpoint, a
    plan; and `prune`."""
    rig, rng = Rig(tmp_path, repo=place.uri), random.Random(1)
    random_disk(rig.disk, 3 * MIB, rng)
    for _ in range(2):
        ran("init", place.uri)
    demand_exact("init", asked)
    asked.rights.clear()
    rig.sync()
    for moment in ("before DiskRun.describe", "before Sender._commit"):
        for again in range(2):
            random_disk(rig.disk, 3 * MIB, rng)
            done = subprocess.run(
                [
                    sys.executable,
                    VICTIM,
                    "kill",
                    moment,
                    "1",
                    "sync",
                    str(rig.disk),
                    "--vm",
                    rig.vm,
                    "--repo",
                    rig.repo,
                    "--state",
                    str(rig.state),
                ],
                capture_output=True,
                check=False,
                env=as_here(),
            )
            assert done.returncode == -9, (moment, again, done.stderr)
        random_disk(rig.disk, 3 * MIB, rng)
        rig.sync()
    for kind in ("packs", "manifests", "tables"):
        client.create_multipart_upload(Bucket=place.bucket, Key=left(place, kind))
    monkeypatch.setattr("warmspare.sync.sender.ABANDONED_S", -60.0)
    monkeypatch.setattr("warmspare.sync.diskrun.CHECKPOINT_POINTS", 1)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "its usual place"))
    rig.sync(state=tmp_path / "another host")  # which tries the store
    for key in keys(client, place, "packs"):
        spoil(client, place, key)
    ran("audit", "repository", "--repo", rig.repo, "--deep", "--repair", code=5)
    asked.rights = {each for each in asked.rights if not (each.action == "s3:PutObject" and "/marks/" in each.resource)}
    assert keys(client, place, "marks")
    rig.sync()
    assert not keys(client, place, "marks")
    ran("plan", rig.disk, "--vm", rig.vm, "--repo", rig.repo, "--state", rig.state)
    for kind in ("packs", "manifests", "tables"):
        client.put_object(Bucket=place.bucket, Key=left(place, kind), Body=b"x")
        client.create_multipart_upload(Bucket=place.bucket, Key=left(place, kind))
    time.sleep(3)  # the store's clock has seconds, and what is as old as the newest point is kept
    rig.sync()
    time.sleep(3)
    ran("prune", "--repo", rig.repo, "--yes", "--older-than", "1s")
    assert not any(left(place, kind) in keys(client, place, kind) for kind in ("packs", "manifests", "tables"))
    demand_exact("sync", asked)


def test_the_target_of_a_copy_needs_no_more(place: S3Place, tmp_path: Path, asked: Asked) -> None:
    rig, rng = Rig(tmp_path), random.Random(1)
    random_disk(rig.disk, MIB, rng)
    for _ in range(2):
        rig.sync()
        ran("init", place.uri)
        asked.rights -= {Right("s3:PutObject", f"arn:aws:s3:::{BUCKET}/{PREFIX}/repository.json")}
        ran("copy", "--vm", rig.vm, "--from", rig.repo, "--to", place.uri)
        scribble(rig.disk, rng)
    assert any("/points/" in right.resource and right.action == "s3:PutObject" for right in asked.rights)
    assert not lacking(policy("sync"), asked) and not asked.others


def test_letting_points_go(
    place: S3Place, client: Any, tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prune` with a policy, also when the grace time is over; and a copy of what it left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "its usual place"))
    monkeypatch.setattr("warmspare.sync.diskrun.CHECKPOINT_POINTS", 1)
    rig, rng = Rig(tmp_path, repo=place.uri), random.Random(1)
    random_disk(rig.disk, MIB, rng)
    for _ in range(5):
        scribble(rig.disk, rng)
        rig.sync()
    for kind in ("packs", "manifests"):
        client.create_multipart_upload(Bucket=place.bucket, Key=left(place, kind))
    asked.rights.clear()
    again = ("prune", "--repo", rig.repo, "--yes")
    ran(*again, "--keep-last", 2)
    ran(*again, "--keep-last", 1)
    before = S3Store.now
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Store, "now", lambda self: ahead(before(self)))
        patch.setattr("warmspare.retain.vm_standing.host_now_s", lambda: time.time() + 2 * 86400)
        ran(*again, "--keep-last", 1)
    assert len(keys(client, place, "points")) == 1
    demand_exact("prune", asked)
    for name in ("sync", "audit", "apply", "hold", "hold-remove"):
        hides = [right for right in asked.rights if hides_points(right)]
        assert hides and not any(one.gives(right) for right in hides for one in policy(name)), name


def test_the_target_of_a_copy_of_what_was_let_go(place: S3Place, tmp_path: Path, asked: Asked) -> None:
    rig, rng = Rig(tmp_path), random.Random(1)
    random_disk(rig.disk, MIB, rng)
    for _ in range(4):
        rig.sync()
        scribble(rig.disk, rng)
    retain(DirectoryStore(rig.repo), rig.vm, [2, 4], tmp_path / "scratch")
    ran("init", place.uri)
    asked.rights.clear()
    ran("copy", "--vm", rig.vm, "--from", rig.repo, "--to", place.uri)
    assert not lacking([*policy("sync"), *policy("copy-folds")], asked) and not asked.others
    assert not unused(policy("copy-folds"), asked)


def hides_points(right: Right) -> bool:
    """Whether who has it may remove restore points, or say that they were let go."""
    below = right.resource.rsplit("/vms/", 1)[-1]
    return (right.action == "s3:DeleteObject" and "/points/" in below) or (
        right.action in ("s3:PutObject", "s3:DeleteObject") and ("/retention/" in below or "/folds/" in below)
    )


async def ahead(now: Awaitable[float]) -> float:
    return await now + 2 * 86400


def test_a_receiver(rig: Rig, place: S3Place, tmp_path: Path, asked: Asked) -> None:
    """`apply`, and all the others that only read."""
    rig.apply()
    ran("points", "--vm", rig.vm, "--repo", rig.repo)
    ran("status", "--repo", rig.repo)
    ran("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica)
    with rig.replica.open("r+b") as file:
        file.seek(100 * KIB)
        file.write(b"rotten" * 1000)
    ran("audit", "replica", "--vm", rig.vm, "--repo", rig.repo, "--replica", rig.replica, "--repair", code=5)
    made(tmp_path / "copy")
    ran("copy", "--vm", rig.vm, "--from", rig.repo, "--to", tmp_path / "copy")
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        ran("recover", "check", "--vm", rig.vm, "--repo", rig.repo, code=5)
    demand_exact("apply", asked)


def test_an_auditor(rig: Rig, place: S3Place, client: Any, asked: Asked) -> None:
    ran("audit", "repository", "--repo", rig.repo)
    for key in keys(client, place, "packs"):
        spoil(client, place, key)
    for found in client.list_objects_v2(Bucket=place.bucket, Prefix=f"{place.prefix}/index/")["Contents"]:
        client.delete_object(Bucket=place.bucket, Key=found["Key"])
    ran("audit", "repository", "--repo", rig.repo, "--deep", "--repair", code=5)
    ran("audit", "source", rig.disk, "--vm", rig.vm, "--repo", rig.repo)
    demand_exact("audit", asked)


def test_holding_and_letting_go(rig: Rig, place: S3Place, asked: Asked) -> None:
    where = ("--vm", rig.vm, "--repo", rig.repo)
    ran("hold", "add", *where, "--at", 1, "--reason", "why")
    ran("hold", "add", *where, "--at", "now", "--until", "1d")
    demand_exact("hold", asked)
    asked.rights.clear()
    ran("hold", "list", *where)
    assert not lacking(policy("apply"), asked)
    asked.rights.clear()
    ran("hold", "remove", *where, "--at", 1)
    demand_exact("hold-remove", asked)
    for name in ("sync", "audit", "apply", "hold"):
        assert not any(
            statement.gives(right) for right in asked.rights if "Delete" in right.action for statement in policy(name)
        )


def test_staging(rig: Rig, place: S3Place, tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    account = ebsstandin.Standin()
    with ebsstandin.serving(account) as url:
        for name, value in {**ebsstandin.environment(url), "AWS_ENDPOINT_URL_S3": place.server.endpoint_url}.items():
            monkeypatch.setenv(name, value)
        where = ("--vm", rig.vm, "--repo", rig.repo, "--state", tmp_path / "staging")
        ran("stage", *where, "--dry-run")
        ran("stage", *where, "--at", 1)
        ran("stage", *where, "--replica", rig.replica)
        assert len(account.snapshots) == 2 and not account.breaches
        demand_exact("stage", asked)
        asked.rights.clear()
        ran("status", "--repo", rig.repo, "--staged")
    demand_exact("status", asked)


def test_failing_over_and_the_way_back(
    place: S3Place, client: Any, tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recoverworld.made(tmp_path, moto.endpoint_url, monkeypatch) as world:
        world.protect("web", hardware("dmz"))
        world.stage("web")
        for path in [path for path in world.repo.rglob("*") if path.is_file()]:
            key = f"{place.prefix}/{path.relative_to(world.repo)}"
            client.put_object(Bucket=place.bucket, Key=key, Body=path.read_bytes())
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto.endpoint_url)
        plan = world.write_plan('[vm.web]\ninstance_type = "m5.large"\n')
        where = ("--vm", "web", "--repo", place.uri)

        def asking(run: Callable[[], None]) -> Asked:
            with pytest.MonkeyPatch.context() as patch:
                found = asked_of(place.bucket, place.prefix, patch)
                run()
            return found

        looked = asking(lambda: ran("failover", "--plan", plan, *where, "--dry-run", code=5))
        assert not lacking(policy("apply"), looked), "a rehearsal only reads"
        world.front.console = ["web login: "]
        _, subnet, group = world.isolated()
        network = ("--subnet", subnet, "--security-group", group, "--evidence", tmp_path / "evidence")
        demand_exact("drill", asking(lambda: ran("drill", "--ec2", *where, *network)))
        done = asking(lambda: ran("failover", "--plan", plan, *where))
        done.rights |= asking(lambda: ran("failover", "--plan", plan, *where)).rights
        returned = asking(lambda: export(world, place))
        demand_exact("failback-export", returned)
        done.rights |= asking(lambda: ran("failback-done", *where)).rights
        demand_exact("failover", done)


def export(world: World, place: S3Place) -> None:
    world.front.make_return = lambda volume, said, tags: said["Ebs"]["SnapshotId"]
    ran("failback-export", "--vm", "web", "--repo", place.uri, "--to", world.home / "return", "--format", "raw")


def test_what_is_noted_is_what_is_sent(rig: Rig, place: S3Place, asked: Asked) -> None:
    """The check itself: a right that is taken away, or one too many, is seen."""
    rig.apply(to=rig.home / "other")
    statements = policy("apply")
    assert not lacking(statements, asked) and not unused(statements, asked)
    for number in range(len(statements)):
        assert lacking(statements[:number] + statements[number + 1 :], asked)
    assert unused([*statements, *policy("sync")], asked)
    assert urlsplit(place.uri).netloc == asked.bucket
