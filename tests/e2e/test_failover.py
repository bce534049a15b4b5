"""Failing over: a plan of three VMs, from what is staged to instances, and everything that can be in the way."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import random
import re
import shutil
import signal
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from botocore.session import get_session

import bootdisk
import recoverworld
from ec2front import Refused, Request
from readydisks import put
from recoverworld import SETTINGS, World, cut_off, hardware
from rig import MIB, command, overwrite
from rigs.host.forked import Forked
from rigs.paths import as_here
from servers import S3Server
from suite.remedies import ask_aws, obey, remedy
from warmspare.errors import LeaseError, RecoverError
from warmspare.format import restore_point
from warmspare.model.keyparts import encode_name
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.client import Aws
from warmspare.recover.aws.ec2_errors import DIED
from warmspare.recover.failover.launch import Launcher
from warmspare.recover.failover.plan import FAMILIES
from warmspare.store import layout

GIB = 1 << 30


@pytest.fixture
def world(tmp_path: Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with recoverworld.made(tmp_path, moto.endpoint_url, monkeypatch) as made:
        yield made


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, moto: S3Server) -> Iterator[World]:
    """Three VMs, protected and staged: a database, an application with two disks and two cards, a web server."""
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path_factory.mktemp("three"), moto.endpoint_url, patch) as world,
    ):
        world.protect("db", hardware("servers", firmware="efi", cpus=4, memory_mib=16384), 3 * MIB)
        world.protect("app", hardware("servers", "storage"), 2 * MIB, MIB + 4096)
        world.protect("web", hardware("dmz"))
        for vm in ("db", "app", "web"):
            world.stage(vm)
        yield world


@pytest.fixture
def lost(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Those three, and nothing started yet."""
    with recoverworld.again(staged, tmp_path, monkeypatch) as world:
        yield world


def test_a_vm_is_looked_for_everywhere_before_it_is_unknown(lost: World) -> None:
    """Also where there is no index, as in a repository of before."""
    shutil.rmtree(lost.repo / "index")
    assert lost.failover("--vm", "web", "--dry-run", code=5).last("failover.point")["vm"] == "web"
    refused = lost.failover("--vm", "wbe", "--dry-run", code=2)
    assert "there is no VM 'wbe' in this repository" in refused.stderr and "warmspare status" in refused.stderr


def three(world: World) -> Path:
    """The plan of the three."""
    (world.home / "web.sh").write_text("#!/bin/sh\necho up\n")
    addresses = [world.address() for _ in range(3)]
    return world.write_plan(
        world.networks(servers=0, storage=0, dmz=0)
        + f"""
[defaults]
key_pair = "ops"
tags = {{Owner = "ops", Drill = "no"}}

[vm.web]
order = 2
instance_type = "m5.large"
user_data = {{file = "web.sh"}}
tags = {{Drill = "never"}}
volumes = {{type = "gp3", iops = 3000, initialization_rate = 200, keep = false}}

[vm.app]
order = 2
instance_type = ["m5.large", "m5.xlarge"]
ips = {{servers = "{addresses[0]}", storage = "{addresses[1]}"}}

[vm.db]
instance_families = ["m5", "r5"]
ip = "{addresses[2]}"
"""
    )


def record(world: World, vm: str) -> Any:
    return json.loads((world.repo / layout.failover_key(encode_name(vm))).read_text())


def launched(world: World) -> dict[str, Request]:
    """RunInstances requests by the name of the VM."""
    return {request.tags("instance")["Name"]: request for request in world.front.made("RunInstances")}


def live(world: World) -> dict[str, list[str]]:
    """Instances that were started here and live, by VM."""
    out: dict[str, list[str]] = {}

    async def look() -> None:
        async with Aws(SETTINGS) as aws:
            async for each in aws.pages("ec2", "describe_instances", "Reservations", about=""):
                for instance in each["Instances"]:
                    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
                    ours = instance["InstanceId"] in world.front.instances
                    if ours and instance["State"]["Name"] not in ("terminated", "shutting-down"):
                        out.setdefault(tags["Name"], []).append(instance["InstanceId"])

    asyncio.run(look())
    return out


def demand_one_each(world: World) -> None:
    """One instance and one image for each VM, and nothing else; the records name them and are finished."""
    found = live(world)
    assert {name: len(ids) for name, ids in found.items()} == {"db": 1, "app": 1, "web": 1}
    assert len(world.front.images) == 3 and len(world.front.instances) == 3
    for vm, [instance] in found.items():
        said = record(world, vm)
        steps = {step["what"]: step["id"] for step in said["steps"]}
        assert said["state"] == "started" and steps["instance"] == instance and steps["image"] in world.front.images


def test_three_vms_start_in_order_as_the_plan_says(lost: World) -> None:
    world = lost
    plan = three(world)
    outcome = world.failover("--plan", plan, "--all")
    assert outcome.all("failover.vm")[0]["vm"] == "db"
    assert outcome.last("failover.done")["vms"] == 3
    asked = world.front.requests
    runs = [n for n, request in enumerate(asked) if request.action == "RunInstances"]
    registered = [n for n, request in enumerate(asked) if request.action == "RegisterImage"]
    checks = [n for n, request in enumerate(asked) if request.action == "DescribeInstanceStatus"]
    assert len(runs) == len(registered) == 3 and max(registered) < min(runs)
    assert runs[0] < checks[0] < runs[1], "the next order waits for the status checks of the one before"

    images = {request.parameters["Name"].split()[1]: request for request in world.front.made("RegisterImage")}
    assert images["db"].parameters["BootMode"] == "uefi" and images["web"].parameters["BootMode"] == "legacy-bios"
    for vm, request in images.items():
        said = request.parameters
        assert said["Architecture"] == "x86_64" and said["EnaSupport"] is True
        assert said["VirtualizationType"] == "hvm" and said["RootDeviceName"] == "/dev/sda1"
        assert request.tags("image")["warmspare:vm"] == vm
        mapped = {each["DeviceName"]: each["Ebs"] for each in said["BlockDeviceMappings"]}
        assert list(mapped) == ["/dev/sda1", "/dev/sdb"][: 2 if vm == "app" else 1]
        for number, ebs in enumerate(mapped.values()):
            snapshot = world.standin.snapshots[ebs["SnapshotId"]]
            assert snapshot.tags["warmspare:vm"] == vm and snapshot.tags["warmspare:disk-number"] == str(number)
            assert ebs["VolumeSize"] == snapshot.gib == 1 and ebs["VolumeType"] == "gp3"

    by = launched(world)
    fixed = tomllib.loads(plan.read_text())["vm"]
    nets = {vm: request.parameters["NetworkInterfaces"] for vm, request in by.items()}
    assert [each.get("PrivateIpAddress") for each in nets["app"]] == list(fixed["app"]["ips"].values())
    assert [each["DeviceIndex"] for each in nets["app"]] == [0, 1]
    assert nets["db"][0]["PrivateIpAddress"] == fixed["db"]["ip"] and "PrivateIpAddress" not in nets["web"][0]
    for cards in nets.values():
        for card in cards:
            assert card["SubnetId"] == world.subnets[0][0] and card["Groups"] == [world.groups[0]]
            assert card["DeleteOnTermination"] is True
    web, database = by["web"].parameters, by["db"].parameters
    assert base64.b64decode(web["UserData"]) == b"#!/bin/sh\necho up\n" and "UserData" not in database
    assert web["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/sda1",
            "Ebs": {"DeleteOnTermination": True, "VolumeType": "gp3", "Iops": 3000, "VolumeInitializationRate": 200},
        }
    ]
    assert all(each["Ebs"]["DeleteOnTermination"] is False for each in by["app"].parameters["BlockDeviceMappings"])
    assert web["InstanceType"] == "m5.large" and database["InstanceType"] == "m5.xlarge"  # 4 vCPUs, 16 GiB
    assert {request.parameters["KeyName"] for request in by.values()} == {"ops"}
    for kind in ("instance", "volume", "network-interface"):
        tags = by["web"].tags(kind)
        assert tags["Owner"] == "ops" and tags["Drill"] == "never" and tags["warmspare:point"] == "1"
        assert tags["warmspare:run"] == record(world, "web")["run"]
    demand_one_each(world)


def test_imdsv2_is_demanded_unless_the_plan_says_otherwise(lost: World) -> None:
    """And the tags are told, with keys that AWS takes for that."""
    world = lost
    plan = three(world)
    other = 'imds = "v1-and-v2"\nmetadata_tags = false\ntags = {"a b/c" = "1"}'
    plan.write_text(plan.read_text().replace('tags = {Drill = "never"}', other))
    world.run(plan)
    asked = {name: request.parameters["MetadataOptions"] for name, request in launched(world).items()}
    strict = {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 2,
        "InstanceMetadataTags": "enabled",
    }
    loose = {**strict, "HttpTokens": "optional", "InstanceMetadataTags": "disabled"}
    assert asked == {"db": strict, "app": strict, "web": loose}
    support = {said["Name"].split()[1]: said.get("ImdsSupport") for said in world.front.images.values()}
    assert support == {"db": "v2.0", "app": "v2.0", "web": None}


def test_tags_and_accounts_that_aws_refuses_are_told(lost: World) -> None:
    """The tag before AWS is asked, with its line; the account by AWS, in its own words, and the remedy is right."""
    world = lost
    plan = one_db(world)
    plan.write_text(plan.read_text() + 'tags = {"Cost Center" = "7"}\n')
    outcome = world.failover("--plan", plan, "--all", "--dry-run", code=2)
    assert f"{plan}, line 6" in outcome.stderr and "metadata_tags = false" in outcome.stderr
    assert not world.front.requests
    plan.write_text(plan.read_text().replace('tags = {"Cost Center" = "7"}', 'imds = "v1-and-v2"'))
    world.front.tokens_enforced = True
    outcome = world.failover("--plan", plan, "--all", code=8)
    assert "[UnsupportedOperation: You can't launch" in outcome.stderr
    assert "take `imds` out" in outcome.last("error")["hint"]
    plan.write_text(plan.read_text().replace('imds = "v1-and-v2"', ""))
    world.failover("--plan", plan, "--all")
    assert len(live(world)["db"]) == 1


@remedy(
    'take type = "gp3" in {…} of the recovery plan',
    "set iops = {…} or less in {…} of the recovery plan",
)
def test_volumes_that_no_type_takes_are_told_before_aws_is_asked(lost: World) -> None:
    """With the plan's line; and what the sentence says leads on."""
    world = lost
    plan = one_db(world)  # a disk of 1 GiB
    text = plan.read_text()
    plan.write_text(text + 'volumes = {type = "io1", iops = 100}\n')
    outcome = world.failover("--plan", plan, "--all", "--dry-run", code=2)
    [missing] = [event["message"] for event in outcome.all("failover.missing")]
    assert f'1 GiB, and a volume of type io1 has 4 to 16384; take type = "gp3" in volumes ({plan}, line 6' in missing
    plan.write_text(text + 'volumes = {type = "gp3", iops = 4000}\n')
    outcome = world.failover("--plan", plan, "--all", code=2)
    assert "at most 3000 IOPS; set iops = 3000 or less" in outcome.stderr and not world.front.changing()
    plan.write_text(text + 'volumes = {type = "gp3", iops = 3000}\n')
    world.failover("--plan", plan, "--all")
    assert len(live(world)["db"]) == 1


@remedy("once the right one of the two runs at home again, clear it with {…}")
def test_a_failed_over_vm_is_not_synced_until_it_is_cleared(world: World) -> None:
    world.protect("web", hardware("dmz"))
    world.stage("web")
    plan = world.write_plan('[vm.web]\ninstance_type = "m5.large"\n')
    world.failover("--plan", plan, "--vm", "web")
    arguments = ["sync", f"web-0={world.disk('web')}", "--vm", "web", "--repo", world.repo, "--state", world.home / "s"]
    before = sorted((world.repo / "vms" / "web" / "points").iterdir())
    refused = command(*arguments)
    assert refused.code == 2 and refused.last("error")["kind"] == "failed-over"
    assert live(world)["web"][0] in refused.stderr and "failback-done" in refused.stderr
    assert sorted((world.repo / "vms" / "web" / "points").iterdir()) == before

    assert command("audit", "repository", "--repo", world.repo).code == 0, "the record is no stranger"

    [done] = obey(refused.last("error")["hint"])
    assert done.last("failback.done")["instance"] == live(world)["web"][0]
    assert command(*arguments).code == 0
    assert command("failback-done", "--vm", "web", "--repo", world.repo).code == 2
    # Another failover is another run: the token of the first would give its instance again.
    world.failover("--plan", plan, "--vm", "web")
    assert len(live(world)["web"]) == 2
    tokens = {request.parameters["ClientToken"] for request in world.front.made("RunInstances")}
    assert len(tokens) == 2 and len(world.front.images) == 1, "the image of the same point is used again"


@remedy(
    "put back a version of it that the bucket still has (what runs in AWS carries the tag warmspare:vm), and run again"
)
def test_a_damaged_record_refuses_a_sync(world: World) -> None:
    world.protect("web", hardware("dmz"))
    key = world.repo / layout.failover_key("web")
    world.stage("web")
    world.failover("--vm", "web")
    command("failback-done", "--vm", "web", "--repo", world.repo)
    before = key.read_text()
    for text in ("{", "[]", '{"format": 1}', '{"format": 9, "flags": 0}', '{"format": 1, "flags": 0, "vm_id": "x"}'):
        key.write_text(text)
        outcome = command(
            "sync", f"web-0={world.disk('web')}", "--vm", "web", "--repo", world.repo, "--state", world.home / "s"
        )
        assert outcome.code == 5 and "failover" in outcome.stderr, (text, outcome)
    key.write_text(before)
    assert (
        command(
            "sync", f"web-0={world.disk('web')}", "--vm", "web", "--repo", world.repo, "--state", world.home / "s"
        ).code
        == 0
    )


def test_another_point_is_staged_than_the_repository_has(lost: World) -> None:
    """Under the same number: the repository was replaced, or rolled back and gone on with."""
    path = lost.repo / layout.point_key("web", 1)
    record = restore_point.decode(path.read_bytes(), str(path))
    overwrite(path, restore_point.encode(msgspec.structs.replace(record, created="2001-01-01T00:00:00Z")))
    plan = lost.write_plan('[vm.web]\ninstance_type = "m5.large"\n' + lost.networks(dmz=0))
    refused = lost.failover("--plan", plan, "--vm", "web", code=8)
    assert "what is staged of VM 'web' is restore point 1-" in refused.stderr and "under that number" in refused.stderr
    assert not lost.front.made("RunInstances")


def test_the_newest_staged_point_is_taken_and_newer_ones_are_named(world: World) -> None:
    known = hardware("dmz")
    world.protect("web", known)
    world.stage("web")
    world.change("web")
    world.sync("web", known)
    plan = world.write_plan('[vm.web]\ninstance_type = "m5.large"\n')
    event = world.failover("--plan", plan, "--all", "--dry-run", code=5).last("failover.point")
    assert event["point"].startswith("1-") and event["newer_unstaged"] == [2] and 0 <= event["age_seconds"] < 600
    missing = world.failover("--plan", plan, "--vm", "web", "--at", "2", code=8)
    assert "restore point 2" in missing.stderr and "1-" in missing.stderr and "warmspare stage" in missing.stderr
    world.stage("web")
    event = world.failover("--plan", plan, "--vm", "web", "--at", "1", "--dry-run", code=5).last("failover.point")
    assert event["point"].startswith("1-") and event["newer_unstaged"] == [2]
    # Once begun, it goes on to the same point whatever is staged meanwhile.
    world.failover("--plan", plan, "--vm", "web", "--at", "1")
    assert world.failover("--plan", plan, "--vm", "web").last("failover.vm")["point"].startswith("1-")
    other = world.failover("--plan", plan, "--vm", "web", "--at", "2", code=2)
    assert "is under way" in other.stderr
    assert len(live(world)["web"]) == 1


def test_a_point_with_a_disk_that_is_not_completed_is_no_point(world: World) -> None:
    known = hardware("dmz", "dmz")
    world.protect("app", known, 2 * MIB, MIB)
    world.stage("app")
    world.change("app", 1)
    world.sync("app", known, 2)
    world.stage("app")
    second = [each for each in world.standin.snapshots.values() if each.tags["warmspare:point"] == "2"]
    second[1].sealed = None  # pending
    plan = world.write_plan('[vm.app]\ninstance_type = "m5.large"\n')
    assert world.failover("--plan", plan, "--all", "--dry-run", code=5).last("failover.point")["point"].startswith("1-")
    for each in world.standin.snapshots.values():
        each.sealed = None
    assert "no restore point" in world.failover("--plan", plan, "--all", code=8).stderr


def test_a_dry_run_changes_nothing_and_says_what_it_would_do_and_what_is_missing(lost: World) -> None:
    world = lost
    plan = three(world)
    files = {path: path.read_bytes() for path in world.repo.rglob("*") if path.is_file()}
    outcome = world.failover("--plan", plan, "--all", "--dry-run", code=5)  # its disks hold no system
    would = [(event["vm"], event["action"]) for event in outcome.all("failover.would")]
    assert [vm for vm, action in would if action.startswith("register")] == ["web", "app", "db"]
    assert any(vm == "db" and "m5.xlarge" in action for vm, action in would)
    assert outcome.last("failover.planned")["missing"] == 0

    text = plan.read_text().replace('"ops"', '"gone"', 1).replace("m5.xlarge", "m5.gigantic")
    text = text.replace(world.subnets[0][0], "subnet-0123456789abcdef0", 1)
    broken = world.write_plan(text.replace("[network.dmz]", "[network.dmzz]"))
    outcome = world.failover("--plan", broken, "--all", "--dry-run", code=2)
    missing = " ".join(event["message"] for event in outcome.all("failover.missing"))
    for word in ("key pair 'gone'", "m5.gigantic", "subnet-0123456789abcdef0", "port group 'dmz'"):
        assert word in missing, missing
    refused = world.failover("--plan", broken, "--all", code=2)
    assert "nothing was started" in refused.stderr and "--dry-run" in refused.stderr
    assert world.front.changing() == []
    assert {path: path.read_bytes() for path in world.repo.rglob("*") if path.is_file()} == files


def test_a_dry_run_says_of_each_vm_whether_it_starts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as was seen; what stops it; or what is not known, where this host can't look. And of who asks the metadata
    service without tokens, unless the plan lets them."""
    disk, folder = bootdisk.build(world.disk("sound"), "bios"), "/usr/lib/python2.7/site-packages/cloudinit"
    parts = Path(f"{folder}/sources").parts
    made = "".join(f"mkdir {Path(*parts[:n])}\n" for n in range(2, len(parts) + 1)) + "mkdir /etc/cloud\n"
    bootdisk.run("debugfs", "-w", "-f", "-", f"{disk}?offset={MIB}", data=made.encode())
    put(disk, MIB, "/etc/cloud/cloud.cfg", b"users:\n")
    put(disk, MIB, f"{folder}/sources/DataSourceEc2.py", b"asks and has no token\n")
    world.sync("sound", hardware("dmz"))
    world.protect("app", hardware("dmz"))
    for vm in ("sound", "app"):
        world.stage(vm)
    plan = world.write_plan("".join(f'[vm.{vm}]\ninstance_type = "m5.large"\n' for vm in ("sound", "app")))
    outcome = world.failover("--plan", plan, "--all", "--dry-run", code=5)
    said = {event["vm"]: event for event in outcome.all("outlook")}
    assert said["sound"]["answer"] == "starts" and not said["sound"]["stops"] and not said["sound"]["not_known"]
    assert said["app"]["answer"] == "stops" and "app-0" in said["app"]["stops"][0]
    assert said["sound"]["runs"] == ["Linux"] and said["app"]["runs"] == []
    [note] = [event["message"] for event in outcome.all("failover.note") if "tokens" in event["message"]]
    assert "cloud-init of no known version" in note and 'imds = "v1-and-v2"' in note
    plan.write_text('[defaults]\nimds = "v1-and-v2"\n' + plan.read_text())
    lax = world.failover("--plan", plan, "--vm", "sound", "--dry-run")
    assert not any("tokens" in event["message"] for event in lax.all("failover.note"))
    planned = outcome.last("failover.planned")
    assert (planned["missing"], planned["stops"], planned["not_known"]) == (0, 1, 0)
    assert "1 of 2 VMs will not start" in outcome.stderr

    packs = [path for path in world.repo.rglob("packs/*/*") if "/sound/" in str(path)]
    for path in packs:
        path.unlink()
    damaged = world.failover("--plan", plan, "--vm", "sound", "--dry-run").last("outlook")
    helper = world.home / "tools/fusermount3"
    helper.parent.mkdir()
    helper.write_text("#!/bin/sh\nexit 1\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    unmounted = world.failover("--plan", plan, "--vm", "app", "--dry-run").last("outlook")
    assert packs
    for event in (damaged, unmounted):
        assert event["answer"] == "not known" and not event["stops"], event
        assert "could not be looked into" in event["not_known"][0]
    assert world.front.changing() == []


def test_the_region_of_the_environment_is_that_of_every_command(lost: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_REGION is what our own words name; the client by itself only looks at the other one."""
    plan = three(lost)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION")
    refused = lost.failover("--plan", plan, "--all", "--dry-run", code=8)
    assert "AWS_REGION" in refused.stderr
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert lost.failover("--plan", plan, "--all", "--dry-run", code=5).last("failover.planned")["vms"] == 3


def fresh(world: World) -> None:
    """As before the failover: nothing in AWS, no record."""
    for path in world.repo.rglob("failover.json"):
        path.unlink()

    async def end() -> None:
        async with Aws(SETTINGS) as aws:
            for ids in live_ids:
                await aws.call("ec2", "terminate_instances", about="", InstanceIds=ids)
            for image in list(world.front.images):
                await aws.call("ec2", "deregister_image", about=image, ImageId=image)

    live_ids = list(live(world).values())
    asyncio.run(end())
    world.front.instances.clear()
    world.front.forget()


def rounds(world: World, numbers: Iterable[int], after: bool) -> int:
    """Cut off at each of these requests, run again, look, begin anew. How many there were until a run got through."""
    count = 0
    for number in numbers:
        plan = three(world)
        through = not cut_off(world, plan, number, after)
        world.run(plan)
        demand_one_each(world)
        fresh(world)
        if through:
            break
        count += 1
    return count


@pytest.mark.parametrize("after", [False, True], ids=["before", "carried_out"])
def test_cut_off_at_some_requests_it_is_run_again(lost: World, after: bool) -> None:
    numbers = sorted(random.Random(7 + after).sample(range(13, 31), 5))  # from 13 on something is made
    assert rounds(lost, numbers, after) == 5


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("after", [False, True], ids=["before", "carried_out"])
def test_cut_off_at_each_request_in_turn_it_is_run_again(lost: World, after: bool) -> None:
    assert rounds(lost, itertools.count(1), after) >= 30, "a failover of three VMs has about thirty requests"


@pytest.mark.parametrize(
    ("number", "after"),
    [
        pytest.param(n, after, marks=() if (n, after) in ((15, True), (23, True), (27, False)) else pytest.mark.slow)
        for n in range(13, 31)
        for after in (False, True)
    ],
)
def test_killed_at_a_request_it_is_run_again(lost: World, number: int, after: bool) -> None:
    """The real command in a process of its own, by SIGKILL."""
    plan = three(lost)
    lost.front.kill = (number, after)
    arguments = ["failover", "--plan", plan, "--all", "--repo", lost.repo]
    process = Forked("-m", "warmspare", *arguments, environment=as_here(), folder=lost.home)
    lost.front.victim.set_result(process.pid)
    assert process.wait(120) == -signal.SIGKILL
    lost.front.kill = None
    lost.failover("--plan", plan, "--all")
    demand_one_each(lost)


def test_cut_off_again_and_again_while_new_things_are_not_listed_yet(lost: World) -> None:
    """Describing does not show what was just made: only tokens and names keep it from being made twice."""
    world = lost
    plan = three(world)
    world.front.hide = 6
    steps = 0
    for number in [1, 5, *range(12, 60, 2)]:
        steps += 1
        if not cut_off(world, plan, number, after=True):
            break
    world.front.hide = 0
    world.run(plan)
    demand_one_each(world)
    assert steps > 5


def test_answers_that_are_lost_are_asked_for_again(lost: World) -> None:
    world = lost
    plan = three(world)
    lost: set[str] = set()

    def lose(request: Request) -> bool:
        key = request.action + str(request.parameters.get("ClientToken", request.parameters.get("Name", "")))
        first = request.changes and key not in lost
        lost.add(key)
        return first

    world.front.lose = lose
    world.run(plan)
    assert len(lost) >= 6
    demand_one_each(world)


def test_another_type_where_aws_has_no_room(lost: World) -> None:
    world = lost
    plan = three(world)

    def full(request: Request) -> Refused | None:
        crowded = request.action == "RunInstances" and request.parameters["InstanceType"] == "m5.large"
        app = crowded and request.tags("instance")["Name"] == "app"
        return Refused("InsufficientInstanceCapacity", 500) if app else None

    world.front.refuse = full
    outcome = world.failover("--plan", plan, "--all")
    assert any("m5.large" in event["message"] for event in outcome.all("failover.note"))
    assert launched(world)["app"].parameters["InstanceType"] == "m5.xlarge"
    demand_one_each(world)
    # What was tried last is tried first by a run after it: with room for both there is one instance still.
    world.front.refuse = lambda request: None
    world.run(plan)
    demand_one_each(world)


def test_the_last_type_without_room_is_an_error_and_the_others_are_finished(lost: World) -> None:
    world = lost
    plan = three(world)
    world.front.refuse = lambda request: (
        Refused("InsufficientInstanceCapacity", 500)
        if request.action == "RunInstances" and request.tags("instance")["Name"] == "app"
        else None
    )
    outcome = world.failover("--plan", plan, "--all", code=8)
    assert "no machine free" in outcome.stderr and "m5.xlarge" in outcome.stderr
    assert sorted(live(world)) == ["db", "web"]
    world.front.refuse = lambda request: None
    world.run(plan)
    demand_one_each(world)


def test_a_later_order_does_not_begin_after_a_failure(lost: World) -> None:
    world = lost
    plan = three(world)
    world.front.refuse = lambda request: Refused("VcpuLimitExceeded") if request.action == "RunInstances" else None
    outcome = world.failover("--plan", plan, "--all", code=8)
    assert "vCPUs" in outcome.stderr and "Service Quotas" in outcome.stderr
    assert not live(world) and not launched(world)


@remedy("let that one go on, or end it and run this again: it goes on from there")
def test_two_at_work_on_one_failover(lost: World) -> None:
    """Another host moves the record while this one works: this one ends, and the instances are one each."""
    world = lost
    plan = three(world)
    touched: list[str] = []

    def meddle(request: Request) -> bool:
        if request.action == "RegisterImage" and not touched:
            path = world.repo / layout.failover_key("db")
            said = json.loads(path.read_text())
            path.unlink()
            path.write_text(json.dumps({**said, "steps": [{"at": "x", "what": "other", "id": "host"}]}))
            touched.append("db")
        return False

    world.front.lose = meddle
    with pytest.raises(LeaseError, match="another process works on the failover"):
        world.run(plan)
    world.run(plan)
    demand_one_each(world)


def test_an_instance_that_was_ended_is_not_started_again_in_silence(lost: World) -> None:
    world = lost
    plan = three(world)
    world.run(plan)
    instance = live(world)["web"][0]

    async def end() -> None:
        async with Aws(SETTINGS) as aws:
            await aws.call("ec2", "terminate_instances", about="", InstanceIds=[instance])

    asyncio.run(end())
    with pytest.raises(RecoverError, match="was ended") as caught:
        world.run(plan)
    assert instance in str(caught.value) and "failback-done" in str(caught.value)


LAUNCHES = [
    "Client.InternalError",
    "Client.InvalidKMSKey.InvalidState",
    "Client.InvalidKMSKey.Disabled",
    "Client.VolumeLimitExceeded",
    "Server.InternalError",
    "Server.InsufficientInstanceCapacity",
]
SEEN = [
    "Client.InstanceInitiatedShutdown",
    "Client.InstanceTerminated",
    "Client.UserInitiatedHibernate",
    "Client.UserInitiatedShutdown",
    "Server.ScheduledStop",
    "Server.SpotInstanceShutdown",
    "Server.SpotInstanceTermination",
    "Server.SomethingNew",
    "",
]
"""Of LAUNCHES the reason itself says that it never ran, of SEEN only that it was seen to start and not to run."""


def one_db(world: World, types: str = '"m5.large"') -> Path:
    return world.write_plan(world.networks(servers=0) + f"[vm.db]\ninstance_type = [{types}]\n")


def demand_one(world: World, *, tokens: int) -> None:
    """One instance lives, with its volumes and no others, and so many different requests were made for it."""
    [[instance]] = live(world).values()
    said = record(world, "db")
    steps = {step["what"]: step["id"] for step in said["steps"]}
    assert said["state"] == "started" and steps["instance"] == steps["running"] == instance
    assert {each["instance"] for each in world.front.volumes.values()} == {instance}
    assert len({request.parameters["ClientToken"] for request in world.front.made("RunInstances")}) == tokens


@pytest.mark.parametrize("reason", LAUNCHES)
def test_an_instance_that_died_before_it_ran_is_no_instance(lost: World, reason: str) -> None:
    """What is wrong is mended, the same is run again: another attempt, and nothing is left of the first."""
    world, plan = lost, one_db(lost)
    world.front.deaths = [reason]
    outcome = world.failover("--plan", plan, "--vm", "db", code=8)
    assert "run again" in outcome.last("error")["hint"] and not live(world) and world.front.volumes
    again = world.failover("--plan", plan, "--vm", "db")
    assert "before it ran" in " ".join(event["message"] for event in again.all("failover.note"))
    demand_one(world, tokens=2)
    world.failover("--plan", plan, "--vm", "db")
    demand_one(world, tokens=2)


@pytest.mark.parametrize("reason", SEEN, ids=lambda reason: reason or "no reason")
def test_nor_is_one_that_was_seen_to_start_and_never_to_run(lost: World, reason: str) -> None:
    """Whatever AWS says of why."""
    world, plan = lost, one_db(lost)
    world.front.deaths = [reason]
    with pytest.raises(RecoverError) as caught:
        world.run(plan)
    assert f"[{reason and f'{reason}: '}why it ended]" in caught.value.what
    assert "run again" in caught.value.hint and not live(world)
    world.run(plan)
    demand_one(world, tokens=2)


def test_all_reasons_that_aws_documents_are_tried() -> None:
    """AWS's own model of EC2 lists them."""
    model = get_session().get_service_model("ec2").shape_for("StateReason").members["Message"].documentation
    documented = set(re.findall(r"((?:Client|Server)\.[A-Za-z.]+)</code>", model))
    assert len(documented) >= 12 and documented <= {*LAUNCHES, *SEEN, "Client.InvalidSnapshot.NotFound"}
    assert documented <= {*DIED}


def test_an_instance_that_may_have_run_is_not_started_again(lost: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that started it was cut off, and somebody ended it: what it wrote is not thrown away."""
    world, plan = lost, one_db(lost)

    async def cut_off(*_: object, **__: object) -> None:
        raise RecoverError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(Launcher, "running", cut_off)
        with pytest.raises(RecoverError, match="cut off"):
            world.run(plan)
    [instance] = live(world)["db"]

    async def end() -> None:
        async with Aws(SETTINGS) as aws:
            await aws.call("ec2", "terminate_instances", about="", InstanceIds=[instance])

    asyncio.run(end())
    assert "was ended" in world.failover("--plan", plan, "--vm", "db", code=8).stderr
    assert len(world.front.made("RunInstances")) == 1 and world.front.volumes


def test_of_an_instance_that_died_for_lack_of_room_the_next_type_is_started(lost: World) -> None:
    """In the same run; where there is no next one, with other types in the plan the next time."""
    world, plan = lost, one_db(lost, '"m5.large", "m5.xlarge"')
    world.front.deaths = ["Server.InsufficientInstanceCapacity"]
    assert world.failover("--plan", plan, "--vm", "db").last("failover.vm")["type"] == "m5.xlarge"
    demand_one(world, tokens=2)
    fresh(world)
    world.front.volumes.clear()
    world.front.deaths = ["Server.InsufficientInstanceCapacity"] * 2
    assert "no machine free" in world.failover("--plan", plan, "--vm", "db", code=8).stderr
    other = world.failover("--plan", one_db(world, '"r5.large"'), "--vm", "db")
    assert other.last("failover.vm")["type"] == "r5.large"
    demand_one(world, tokens=3)


def test_an_instance_that_died_and_is_not_shown_any_more(lost: World) -> None:
    """AWS knows its token still, and says that it was terminated."""
    world, plan = lost, one_db(lost)
    world.front.deaths = ["Server.InternalError"]
    world.failover("--plan", plan, "--vm", "db", code=8)
    first = world.front.made("RunInstances")[0].parameters["ClientToken"]
    [died] = world.front.instances
    world.front.conceal(died)
    world.front.refuse = lambda request: (
        Refused("IdempotentInstanceTerminated") if request.parameters.get("ClientToken") == first else None
    )
    world.failover("--plan", plan, "--vm", "db")
    demand_one(world, tokens=2)


@remedy(
    "clear this failover with `warmspare failback-done` and run this again: the newest point that is staged whole is "
    "taken"
)
def test_the_point_of_an_instance_that_died_is_gone(lost: World) -> None:
    """Its words lead on: the mark is cleared, and another point taken."""
    world, plan = lost, one_db(lost)
    world.front.deaths = ["Client.InvalidSnapshot.NotFound"]
    obey(world.failover("--plan", plan, "--vm", "db", code=8).last("error")["hint"])
    world.failover("--plan", plan, "--vm", "db")
    assert len(live(world)["db"]) == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "carried_out"])
@pytest.mark.parametrize("operation", ["run_instances", "delete_volume", "describe_volumes", "describe_instances"])
def test_cut_off_on_the_way_to_another_attempt(lost: World, operation: str, after: bool) -> None:
    world, plan = lost, one_db(lost)
    world.front.deaths = ["Server.InternalError"]
    world.failover("--plan", plan, "--vm", "db", code=8)
    assert cut_off(world, plan, 1, after, operation)
    world.run(plan)
    demand_one(world, tokens=2)


def test_volumes_of_an_instance_that_died_that_may_not_be_deleted_are_told(lost: World) -> None:
    world, plan = lost, one_db(lost)
    world.front.deaths = ["Server.InternalError"]
    world.failover("--plan", plan, "--vm", "db", code=8)
    before = set(world.front.volumes)
    refused = min(before)
    world.front.refuse = lambda request: (
        Refused("UnauthorizedOperation", 403)
        if request.action == "DeleteVolume" and request.parameters["VolumeId"] == refused
        else None
    )
    warning = world.failover("--plan", plan, "--vm", "db").last("housekeeping.warning")
    assert before & set(world.front.volumes) == {refused}, "the others are gone"
    assert warning["object"].startswith(refused) and warning["count"] == 1
    assert warning["right"] == "ec2:DeleteVolume" and "warmspare:run" in warning["object"]
    world.front.refuse = lambda request: None
    world.failover("--plan", plan, "--vm", "db")
    demand_one(world, tokens=2)


@remedy("deregister that, if nobody needs it, with `aws ec2 deregister-image --image-id ID`")
def test_an_image_that_keeps_an_old_snapshot_goes_as_it_says(lost: World) -> None:
    world, plan = lost, one_db(lost)
    world.failover("--plan", plan, "--vm", "db")
    assert command("failback-done", "--vm", "db", "--repo", world.repo).code == 0
    world.change("db")
    world.sync("db", hardware("servers"))
    stage = ["stage", "--vm", "db", "--repo", world.repo, "--state", world.home / "staging", "--keep", 1]
    done = command(*stage)
    [kept] = done.all("stage.kept")
    assert done.code == 0 and next(iter(world.front.images)) in kept["message"]
    assert not done.all("housekeeping.warning") and not done.all("stage.removed")
    ask_aws(kept["message"])
    assert [one["snapshot"] for one in command(*stage).all("stage.removed")] == [kept["snapshot"]]


@remedy(
    "look at its console output (`aws ec2 get-console-output --latest --instance-id {…}`), mend the guest, and run "
    "again to wait on"
)
def test_a_guest_that_never_passes_its_status_checks(lost: World) -> None:
    world = lost
    plan = world.write_plan(three(world).read_text().replace("[defaults]", '[defaults]\nready_within = "1s"'))
    world.front.checks = ["impaired"]
    with pytest.raises(RecoverError, match="does not pass its status checks after 1 s") as caught:
        world.run(plan)
    assert list(live(world)) == ["db"]
    ask_aws(caught.value.hint)
    world.front.checks = []
    world.run(plan)
    demand_one_each(world)


def test_a_plan_that_was_changed_half_way_is_told(lost: World) -> None:
    """The first request was carried out and is not listed yet; with another plan AWS refuses its token."""
    world = lost
    plan = three(world)
    world.front.hide = 6  # those of the other VMs' steps among them
    assert cut_off(world, plan, 1, after=True, operation="run_instances")
    changed = world.write_plan(plan.read_text().replace('Owner = "ops"', 'Owner = "others"'))
    with pytest.raises(AwsError) as caught:
        world.run(changed)
    assert caught.value.code == "IdempotentParameterMismatch" and "another recovery plan" in str(caught.value)


def test_an_image_that_was_deregistered_meanwhile_is_made_again(lost: World) -> None:
    world = lost
    plan = three(world)
    world.front.refuse = lambda request: Refused("VcpuLimitExceeded") if request.action == "RunInstances" else None
    with pytest.raises(AwsError):
        world.run(plan)
    gone = record(world, "db")["steps"][0]["id"]

    async def remove() -> None:
        async with Aws(SETTINGS) as aws:
            await aws.call("ec2", "deregister_image", about="", ImageId=gone)

    asyncio.run(remove())
    world.front.refuse = lambda request: None
    world.run(plan)
    demand_one_each(world)
    assert gone not in world.front.images


def test_without_a_plan_it_starts_in_the_default_network(world: World) -> None:
    world.protect("web", hardware("dmz", cpus=2, memory_mib=2048))
    world.stage("web")
    world.failover("--vm", "web")
    [request] = world.front.made("RunInstances")
    assert "NetworkInterfaces" not in request.parameters and "KeyName" not in request.parameters
    assert request.parameters["InstanceType"].partition(".")[0] in FAMILIES[:6]  # the newest


def test_raw_disks_of_which_nothing_is_known_need_a_plan(world: World) -> None:
    world.protect("raw", {})
    world.stage("raw")
    outcome = world.failover("--vm", "raw", "--dry-run", code=2)
    said = " ".join(event["message"] for event in outcome.all("failover.missing"))
    assert "firmware" in said and "instance_type" in said
    plan = world.write_plan(
        world.networks(any=0) + f'[vm.raw]\nfirmware = "uefi"\ninstance_type = "m5.large"\n'
        f'subnet = "{world.subnets[0][0]}"\nsecurity_groups = "{world.groups[0]}"\nroot_disk = "raw-0"\n'
    )
    world.failover("--plan", plan, "--vm", "raw")
    assert world.front.made("RegisterImage")[0].parameters["BootMode"] == "uefi"
    assert len(world.front.made("RunInstances")[0].parameters["NetworkInterfaces"]) == 1


def test_another_root_disk(world: World) -> None:
    world.protect("app", hardware("dmz"), 2 * MIB, MIB)
    world.stage("app")
    plan = world.write_plan('[vm.app]\ninstance_type = "m5.large"\nroot_disk = "app-1"\n')
    world.failover("--plan", plan, "--all")
    mapped = world.front.made("RegisterImage")[0].parameters["BlockDeviceMappings"]
    numbers = [world.standin.snapshots[each["Ebs"]["SnapshotId"]].tags["warmspare:disk-number"] for each in mapped]
    assert numbers == ["1", "0"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "which VMs"),
        (["--vm", "web", "--all"], "which VMs"),
        (["--all"], "none is given"),
        (["--vm", "a", "--vm", "b", "--at", "1"], "--at"),
        (["--vm", "web", "--via", "magic"], "register-image"),
        (["--vm", "web", "--plan", "/nowhere/plan.toml"], "no such recovery plan"),
    ],
)
def test_usage(lost: World, arguments: list[str], word: str) -> None:
    assert word in lost.failover(*arguments, code=2).stderr
    assert not lost.front.requests


def test_an_unknown_vm_is_named_with_the_nearest(lost: World) -> None:
    world = lost
    plan = three(world)
    assert "did you mean web" in world.failover("--plan", plan, "--vm", "wbe", code=2).stderr
