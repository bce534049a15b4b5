"""The way back: what a failed-over VM wrote in AWS, and replicas, to files that were read back."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from botocore.session import get_session

import recoverworld
from ec2front import Refused
from recoverworld import SETTINGS, World, hardware
from rig import KIB, MIB, Outcome, command, fingerprint, flip_in_place, same
from rigs.aws import ebsstandin
from rigs.aws.ebsparts import Refusal
from rigs.host.media import ext4, fill
from rigs.images.vmdkreaders import read_by_all
from rigs.links.proxy import Flip, Proxy
from servers import S3Server
from suite.remedies import ask_aws, obey, remedy
from warmspare.model.ids import PointId
from warmspare.observe.events import Events, Meter
from warmspare.recover.aws.client import Aws
from warmspare.recover.failback.export import Export, ExportSettings
from warmspare.repository.chain import open_repository
from warmspare.state.local_files import read_record, write_record
from warmspare.state.replica_record import STATE, ReplicaRecord
from warmspare.store import layout
from warmspare.store.opening import open_store

BLOCK = 512 * KIB
SIZE = 5 * MIB + 12 * KIB  # neither whole EBS blocks nor whole blocks of ours


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, moto: S3Server) -> Iterator[World]:
    """A VM with two disks, protected and staged."""
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path_factory.mktemp("app"), moto.endpoint_url, patch) as world,
    ):
        world.protect("app", hardware("dmz"), SIZE, MIB)
        world.stage("app")
        yield world


@pytest.fixture
def world(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with recoverworld.again(staged, tmp_path, monkeypatch) as again:
        yield again


@pytest.fixture
def away(world: World) -> World:
    """It runs in AWS. Its volumes can be written to by `write`."""
    world.failover("--plan", world.write_plan('[vm.app]\ninstance_type = "m5.large"\n'), "--vm", "app")
    world.front.make_return = lambda volume, said, tags: make_return(world, volume, said, tags)
    return world


def make_return(world: World, volume_id: str, volume: Any, tags: dict[str, str]) -> str:
    """What EC2 makes of CreateSnapshot: an increment on what the volume came from, with what was written."""
    first = world.standin.snapshots[volume["Ebs"]["SnapshotId"]]
    gib = volume["Ebs"]["VolumeSize"]
    made = replace(first, id=f"snap-{secrets.token_hex(8)}", parent=first.id, tags=tags, gib=gib, blocks={})
    for index, data in volume.get("written", {}).items():
        digest = hashlib.sha256(data).digest()
        with world.standin._lock:
            world.standin._data.seek(0, os.SEEK_END)
            world.standin._places[digest] = world.standin._data.tell()
            world.standin._data.write(data)
        made.blocks[index] = digest
    world.standin.snapshots[made.id] = made
    return made.id


def write(world: World, number: int, offset: int, data: bytes) -> None:
    """The guest writes to one of its disks; the file of the test follows."""
    path = world.disk("app", number)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    whole = path.read_bytes()
    volume = list(world.front.volumes.values())[number]
    written = volume.setdefault("written", {})
    for index in range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1):
        written[index] = whole[index * BLOCK : (index + 1) * BLOCK].ljust(BLOCK, b"\0")


def scribbles(world: World) -> None:
    rng = random.Random(5)
    write(world, 0, 700 * KIB + 13, rng.randbytes(90 * KIB))
    write(world, 0, 2 * MIB, bytes(BLOCK))  # a block that became zeros
    write(world, 0, SIZE - 100, rng.randbytes(100))  # in the last, short one
    write(world, 1, 0, rng.randbytes(512))


def export(world: World, *more: object, code: int = 0) -> Outcome:
    outcome = command("failback-export", "--vm", "app", "--repo", world.repo, "--to", world.home / "return", *more)
    assert outcome.code == code, outcome
    return outcome


def replica(world: World) -> Path:
    path = world.home / "replica"
    path.mkdir()
    assert command("apply", "--vm", "app", "--repo", world.repo, "--to", path).code == 0
    return path


def demand_returned(world: World, form: str) -> None:
    """Both disks are there as the guest left them, and nothing else is."""
    home = world.home / "return"
    assert sorted(path.name for path in home.iterdir()) == [f"app-0.{form}", f"app-1.{form}"]
    for number in (0, 1):
        path = home / f"app-{number}.{form}"
        if form == "vmdk":
            told = subprocess.run(["qemu-img", "info", path], capture_output=True, text=True, check=True).stdout
            assert "streamOptimized" in told
            raw = world.home / f"back-{number}"
            subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", path, raw], check=True)
            expected = world.disk("app", number).read_bytes()
            assert raw.read_bytes()[: len(expected)] == expected
            demand_read_elsewhere(path, expected)
        else:
            assert same(path, world.disk("app", number))
    left = [each for each in world.standin.snapshots.values() if "warmspare:export" in each.tags]
    assert not left, "the export's own snapshots are removed"


def demand_read_elsewhere(vmdk: Path, expected: bytes) -> None:
    """Readers that are not ours find the disk, its capacity and the file's own name."""
    reads = read_by_all(vmdk)[vmdk]
    assert len(reads) == 2
    for read in reads:
        assert (read.size, read.extents) == (len(expected), [(vmdk.name, len(expected))]), read
        assert read.sha256 == hashlib.sha256(expected).hexdigest(), read


@pytest.mark.parametrize("form", ["raw", "vmdk"])
@pytest.mark.parametrize("based", [True, False])
def test_what_changed_in_aws_comes_home(away: World, form: str, based: bool) -> None:
    base = ["--replica", replica(away)] if based else []
    before = dict(fingerprint(base[1])) if based else {}
    scribbles(away)
    got = away.standin.actions["ebs:GetSnapshotBlock"]
    outcome = export(away, "--format", form, *base)
    demand_returned(away, form)
    read = away.standin.actions["ebs:GetSnapshotBlock"] - got
    if based:
        assert read == 4, "only the blocks that changed are read"
        assert fingerprint(base[1]) == before, "the replica stays as it was"
    else:
        assert read > 4
    assert any("is running" in event["message"] for event in outcome.all("failover.note"))
    # Again, with another change: snapshots are taken anew.
    write(away, 1, 5000, b"later")
    export(away, "--format", form, *base)
    demand_returned(away, form)


def test_a_volume_that_grew_is_exported_as_large_as_it_is(away: World) -> None:
    for volume in list(away.front.volumes.values())[:1]:
        volume["Ebs"] = {**volume["Ebs"], "VolumeSize": 2}
    write(away, 0, 100, b"x")
    export(away, "--format", "raw", "--replica", replica(away))
    path = away.home / "return" / "app-0.raw"
    assert path.stat().st_size == 2 << 30
    with path.open("rb") as file:
        assert file.read(SIZE) == away.disk("app", 0).read_bytes()
        assert not file.read(MIB).strip(b"\0")


def test_snapshots_of_an_export_that_can_not_be_removed(away: World) -> None:
    """The files are there and right. The next export to that place removes them, and reads none of them."""
    scribbles(away)
    away.front.refuse = lambda request: Refused("OperationNotPermitted") if request.action == "DeleteSnapshot" else None
    outcome = export(away, "--format", "raw")
    left = {each.id for each in away.standin.snapshots.values() if "warmspare:export" in each.tags}
    assert len(left) == 2
    [warning] = outcome.all("housekeeping.warning")
    assert warning["action"] == "ec2:DeleteSnapshot" and set(warning["objects"]) == left and warning["count"] == 2
    assert all(each in warning["message"] for each in left) and "the sentence of Oper" in warning["message"]
    write(away, 0, 0, b"written after the first export" * 99)
    away.front.refuse = lambda request: None
    assert not export(away, "--format", "raw").all("housekeeping.warning")
    assert same(away.disk("app"), away.home / "return" / "app-0.raw")
    assert not left & set(away.standin.snapshots)
    assert not (away.home / "return" / ".warmspare-export.json").exists()


def test_an_export_that_was_cut_off_takes_the_same_snapshots(away: World) -> None:
    scribbles(away)

    class Cut(Exception):
        pass

    class Dying(Aws):
        left = 0

        async def call(self, *arguments: Any, **more: Any) -> Any:
            answer = await super().call(*arguments, **more)
            type(self).left -= 1
            if type(self).left == 0:
                raise Cut
            return answer

    async def run(number: int) -> None:
        Dying.left = number
        repository = await open_repository(open_store(str(away.repo)))
        settings = ExportSettings(away.home / "return", "raw", None, False)
        async with Dying(SETTINGS) as aws:
            await Export(repository, aws, "app", settings, Events(), Meter()).run()

    for number in range(2, 80, 3):
        try:
            asyncio.run(run(number))
        except (Cut, BaseExceptionGroup):
            continue
        break
    assert number > 20
    actions = [request.action for request in away.front.requests]
    before_cleaning = actions[: actions.index("DeleteSnapshot")]
    assert before_cleaning.count("CreateSnapshot") == 2
    demand_returned(away, "raw")


@remedy("run again: it is written anew; if it stays, look at the medium, or audit the replica")
def test_a_byte_that_changes_on_the_medium_is_found(away: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from warmspare.recover.failback import diskexport

    base = replica(away)
    scribbles(away)
    prove = diskexport.DiskExport.prove
    for place in (710 * KIB, 4 * MIB + 3):  # in a block of AWS; in one of the replica

        async def rotten(self: Any, at: int = place) -> None:
            flip_in_place(self.path, at)
            await prove(self)

        monkeypatch.setattr(diskexport.DiskExport, "prove", rotten)
        assert "does not read back" in export(away, "--format", "raw", "--replica", base, code=5).stderr
    monkeypatch.setattr(diskexport.DiskExport, "prove", prove)
    export(away, "--format", "raw", "--replica", base)
    demand_returned(away, "raw")
    flip_in_place(base / "app-0", 4 * MIB + 3)
    assert "does not read back" in export(away, "--format", "raw", "--replica", base, code=5).stderr
    auditing = ["audit", "replica", "--vm", "app", "--repo", away.repo, "--replica", base, "--repair"]
    assert command(*auditing).code == 5
    export(away, "--format", "raw", "--replica", base)
    demand_returned(away, "raw")


def test_an_export_finds_no_room(away: World) -> None:
    """On the file system that it writes to: the same EBS snapshots are read again once there is."""
    scribbles(away)
    with ext4(away.home / "return", 48 * MIB) as place:
        (place / "lost+found").rmdir()
        filler = fill(place, left_bytes=MIB)
        assert "No space left on device" in export(away, "--format", "raw", code=4).stderr
        filler.unlink()
        (place / "app-1.raw").write_text("mine")  # put there meanwhile
        filler = fill(place, left_bytes=12 * MIB)
        assert "a file that this program did not write" in export(away, "--format", "raw", code=2).stderr
        (place / "app-1.raw").unlink()
        export(away, "--format", "raw")
        filler.unlink()
        demand_returned(away, "raw")
    assert [request.action for request in away.front.requests].count("CreateSnapshot") == 2


@pytest.mark.parametrize(
    "times",
    [3, pytest.param(5, marks=remedy("run again; if it stays, see what is on the path to EBS (a proxy)"))],
)
def test_wrong_bytes_from_ebs_are_asked_for_again(away: World, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    scribbles(away)
    block, spoiled = away.standin.block, []

    def wrong(digest: bytes) -> bytes:
        data = block(digest)
        if len(spoiled) < times and (not spoiled or spoiled[0] == digest):
            spoiled.append(digest)
            return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        return data

    monkeypatch.setattr(away.standin, "block", wrong)
    outcome = export(away, "--format", "raw", code=0 if times < 5 else 8)
    if times < 5:
        demand_returned(away, "raw")
    else:
        assert "as its checksum says" in outcome.stderr and not (away.home / "return" / "app-0.raw").exists()
        export(away, "--format", "raw")
        demand_returned(away, "raw")
    assert len(spoiled) == times


@pytest.mark.parametrize("times", [1, 3])
def test_bytes_that_change_on_the_way_home(away: World, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    scribbles(away)
    got = away.standin.actions["ebs:GetSnapshotBlock"]
    export(away, "--format", "raw")
    blocks = away.standin.actions["ebs:GetSnapshotBlock"] - got
    with Proxy(urlsplit(away.front.behind).port or 0) as way:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EBS", way.url)
        way.faults.flips = [Flip("down", 100_000, times)]  # in the first block that comes over a connection
        export(away, "--format", "raw")
        assert way.counts["flipped"] == times
    assert away.standin.actions["ebs:GetSnapshotBlock"] - got == 2 * blocks + times, "each of them is asked for again"
    demand_returned(away, "raw")


def test_ebs_throttles_fails_and_cuts(away: World) -> None:
    scribbles(away)
    away.standin.faults = ebsstandin.Faults(throttle=0.05, server_error=0.05, cut=0.03, rng=random.Random(4))
    export(away, "--format", "raw")
    away.standin.faults = ebsstandin.Faults()
    demand_returned(away, "raw")


def test_snapshots_of_no_common_line_are_read_whole(away: World) -> None:
    """As after import-image, which makes snapshots of its own."""
    base = replica(away)
    scribbles(away)
    for volume in away.front.volumes.values():
        first = away.standin.snapshots[volume["Ebs"]["SnapshotId"]]
        copy = replace(
            first, id=f"snap-{secrets.token_hex(8)}", parent="", tags={}, blocks=dict(away.standin.content(first))
        )
        away.standin.snapshots[copy.id] = copy
        volume["Ebs"] = {**volume["Ebs"], "SnapshotId": copy.id}
    export(away, "--format", "raw", "--replica", base)
    demand_returned(away, "raw")


def test_a_replica_alone(world: World) -> None:
    path = replica(world)
    for form in ("raw", "vmdk"):
        export(world, "--format", form, "--replica", path, "--only-replica")
        demand_returned(world, form)
        for file in (world.home / "return").iterdir():
            file.unlink()
    assert not world.front.requests
    flip_in_place(path / "app-0", 100)
    assert "does not read back" in export(world, "--replica", path, "--only-replica", code=5).stderr


def test_refusals(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not failed over" in export(world, code=2).stderr
    assert "--format" in export(world, "--format", "vhd", code=2).stderr
    assert "--replica" in export(world, "--only-replica", code=2).stderr
    monkeypatch.setenv("PATH", "/nowhere")
    assert "qemu-utils" in export(world, code=2).stderr


@remedy("give --region {…} here")
def test_another_region_is_named(away: World) -> None:
    hint = export(away, "--region", "us-east-1", code=2).last("error")["hint"]
    export(away, "--format", "raw", *hint.removeprefix("give ").removesuffix(" here").split())


@remedy("export a replica of it, with --replica PATH --only-replica, or correct --vm")
def test_one_that_is_not_failed_over(world: World) -> None:
    export(world, code=2)
    export(world, "--replica", replica(world), "--only-replica", "--format", "raw")
    demand_returned(world, "raw")


@remedy("stage that point again with {…}, and run this again")
def test_what_it_was_started_from_is_gone(away: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warmspare.recover.staging.ebs.UNSEEN_S", 0.1)
    scribbles(away)
    behind = get_session().create_client("ec2", region_name="eu-central-1", endpoint_url=away.front.behind)
    for snapshot in list(away.standin.snapshots):
        behind.delete_snapshot(SnapshotId=snapshot)
    behind.close()
    for volume in away.front.volumes.values():  # EC2 keeps what a volume came from, and shows it to nobody
        first = away.standin._deleted[volume["Ebs"]["SnapshotId"]]
        kept = replace(
            first, id=f"snap-{secrets.token_hex(8)}", parent="", tags={}, blocks=dict(away.standin.content(first))
        )
        away.standin.snapshots[kept.id] = kept
        volume["Ebs"] = {**volume["Ebs"], "SnapshotId": kept.id}
    obey(export(away, "--format", "raw", code=8).last("error")["hint"])
    export(away, "--format", "raw")
    demand_returned(away, "raw")


@remedy(
    "take the tag warmspare:run from those that are not the VM's (`aws ec2 delete-tags --resources VOLUME --tags "
    "Key=warmspare:run`), and export again"
)
def test_a_volume_that_is_not_the_vms(away: World) -> None:
    """It has the tag, and nothing says of what a volume was made, as after import-image."""
    scribbles(away)
    for volume in away.front.volumes.values():
        first = away.standin.snapshots[volume["Ebs"]["SnapshotId"]]
        copy = replace(
            first, id=f"snap-{secrets.token_hex(8)}", parent="", tags={}, blocks=dict(away.standin.content(first))
        )
        away.standin.snapshots[copy.id] = copy
        volume["Ebs"] = {**volume["Ebs"], "SnapshotId": copy.id}
    one = next(iter(away.front.volumes.values()))
    away.front.volumes["vol-0123456789abcdef0"] = {**one, "tags": dict(one["tags"]), "DeviceName": "/dev/sda0"}
    ask_aws(export(away, "--format", "raw", code=8).last("error")["hint"], VOLUME="vol-0123456789abcdef0")
    export(away, "--format", "raw")
    demand_returned(away, "raw")


@remedy("run again: what is missing is made anew")
def test_a_snapshot_of_the_export_goes_while_it_is_read(away: World) -> None:
    """Somebody deletes it: the next run makes another."""
    scribbles(away)

    def refuse(action: str) -> Refusal | None:
        for each in [each for each in away.standin.snapshots.values() if "warmspare:export" in each.tags]:
            if action in ("ListChangedBlocks", "ListSnapshotBlocks"):
                away.standin.snapshots.pop(each.id)
        return None

    away.standin.faults.refuse = refuse
    export(away, "--format", "raw", code=8)
    away.standin.faults = ebsstandin.Faults()
    export(away, "--format", "raw")
    demand_returned(away, "raw")


@remedy("stop it with `aws ec2 stop-instances --instance-ids {…}`, and export again")
def test_one_that_still_runs(away: World) -> None:
    [note] = [each["message"] for each in export(away, "--format", "raw").all("failover.note")]
    ask_aws(note)
    assert not export(away, "--format", "raw").all("failover.note")


@remedy("correct --vm or --repo")
def test_a_replica_of_a_vm_that_is_not_there(world: World) -> None:
    base = replica(world)
    words = [
        "failback-export",
        "--repo",
        world.repo,
        "--to",
        world.home / "return",
        "--replica",
        base,
        "--only-replica",
        "--format",
        "raw",
    ]
    assert command(*words, "--vm", "nobody").code == 2
    assert command(*words, "--vm", "app").code == 0


@remedy("run {…}, and then this again")
def test_a_replica_between_two_points(world: World) -> None:
    base = replica(world)
    path = base / ".warmspare/replica.json"
    found = read_record(path, ReplicaRecord, STATE, Events())
    assert found is not None
    world.change("app")
    world.sync("app", hardware("dmz"), 2)
    sha256 = hashlib.sha256((world.repo / layout.point_key("app", 2)).read_bytes()).hexdigest()
    write_record(path, msgspec.structs.replace(found, moving=PointId(2, sha256)), STATE)
    more = ["--replica", base, "--only-replica", "--format", "raw"]
    obey(export(world, *more, code=2).last("error")["hint"])
    export(world, *more)
    demand_returned(world, "raw")


@pytest.mark.parametrize(
    ("command_", "code", "full"),
    [
        pytest.param("convert", 4, True, marks=remedy("make room for it in --to, and run again")),
        pytest.param("compare", 5, False, marks=remedy("run again: it is written anew")),
        pytest.param("compare", 4, False, marks=remedy("run again: it is written anew")),
        pytest.param("", 2, False, marks=remedy("give --format raw, or install qemu-utils")),
    ],
)
def test_qemu_img_fails(world: World, monkeypatch: pytest.MonkeyPatch, command_: str, code: int, full: bool) -> None:
    """Once: where there is no room, where it reads back otherwise, or not at all; or it is not there."""
    base, tools = replica(world), world.home / "tools"
    tools.mkdir()
    real = shutil.which("qemu-img")
    ends = {5: 1}.get(code, 2)
    (tools / "qemu-img").write_text(f'#!/bin/sh\n[ "$1" = "{command_}" ] && exit {ends}\nexec {real} "$@"\n')
    (tools / "qemu-img").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}" if command_ else "/nowhere")
    if full:
        monkeypatch.setattr("warmspare.recover.failback.convert._LITTLE_BYTES", 1 << 62)
    more = ["--replica", base, "--only-replica"]
    export(world, *more, code=code)
    if command_:
        (tools / "qemu-img").unlink()
        export(world, *more)
        demand_returned(world, "vmdk")
    else:
        export(world, *more, "--format", "raw")
        demand_returned(world, "raw")
