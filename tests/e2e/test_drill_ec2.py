"""Drills in EC2: what is staged starts where it reaches nothing, is judged, and is gone again however it went."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.session import get_session

import recoverworld
from ec2front import Refused, Request
from recoverworld import PAUSE, SETTINGS, World, hardware
from rig import MIB, Outcome, command
from rigs.host.hearing import heard
from rigs.paths import as_here
from servers import S3Server
from suite.remedies import ask_aws, obey, remedy
from warmspare.observe.events import Events
from warmspare.recover.aws import client
from warmspare.recover.aws import ec2 as ec2_module
from warmspare.recover.aws.client import Aws
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.drills.ec2 import ec2_drill, trial
from warmspare.recover.drills.ec2.ec2_drill import Ec2Drill
from warmspare.recover.drills.evidence import DrillVerdict
from warmspare.recover.drills.rules import Rules
from warmspare.recover.failover.plan import Network, VmPlan
from warmspare.repository.chain import open_repository
from warmspare.store.opening import open_store

BOOTING = "[    0.000000] Linux version 6.1.0\r\n"
UP = BOOTING + "Debian GNU/Linux 12 app ttyS0\r\n\r\napp login: "
ENDS = {"TerminateInstances", "DeregisterImage"}
NO_ROOT = BOOTING + "Gave up waiting for root file system device.\r\n(initramfs) "


@dataclass(frozen=True)
class Place:
    """A subnet with no route out, and a security group that lets nothing out."""

    vpc: str
    subnet: str
    group: str

    @property
    def options(self) -> list[str]:
        return ["--subnet", self.subnet, "--security-group", self.group]

    @property
    def network(self) -> Network:
        return Network("drill", self.subnet, (self.group,))


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, moto: S3Server) -> Iterator[World]:
    """A VM with two disks and two network cards, protected and staged."""
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path_factory.mktemp("app"), moto.endpoint_url, patch) as world,
    ):
        world.protect("app", hardware("servers", "storage", firmware="efi"), 2 * MIB, MIB + 4096)
        world.stage("app")
        yield world


@pytest.fixture
def world(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with recoverworld.again(staged, tmp_path, monkeypatch) as again:
        monkeypatch.setattr(ec2_module, "Pause", lambda: PAUSE)
        yield again


def asking() -> Any:
    return get_session().create_client("ec2", region_name="eu-central-1")


@pytest.fixture
def place(world: World) -> Place:
    return Place(*world.isolated())


def drill(world: World, place: Place, *more: object, code: int = 0) -> Outcome:
    where = ["--vm", "app", "--repo", world.repo, "--evidence", world.home / "evidence", *place.options]
    outcome = command("drill", "--ec2", *where, *more)
    assert outcome.code == code, outcome
    return outcome


def clean(world: World) -> str:
    """End what one drill left; what that was."""
    outcome = command("drill", "--ec2", "--clean", "--vm", "app", "--repo", world.repo)
    assert outcome.code == 0 and outcome.last("drill.clean")["ended"] == 1, outcome
    return str(outcome.last("drill.cleaned")["what"])


def verdict(world: World) -> dict[str, Any]:
    out: dict[str, Any] = json.loads((world.home / "evidence" / "verdict.json").read_text())
    return out


def states(world: World) -> dict[str, str]:
    """Every instance that was started here, and its state."""
    ec2 = asking()
    pages = ec2.get_paginator("describe_instances").paginate()  # others were started here, too: over a hundred
    found = [each for page in pages for made in page["Reservations"] for each in made["Instances"]]
    ec2.close()
    return {each["InstanceId"]: each["State"]["Name"] for each in found if each["InstanceId"] in world.front.instances}


def demand_nothing_left(world: World, instances: int = 1) -> None:
    found = states(world)
    assert len(found) == instances and set(found.values()) <= {"terminated"}, found
    assert not world.front.images and not world.front.volumes


def roots(world: World) -> dict[str, str]:
    """Of the hash tables of the newest restore point, by disk."""

    async def work() -> dict[str, str]:
        repository = await open_repository(open_store(str(world.repo)))
        point = await repository.load("app", 1)
        return {disk.id: disk.root for disk in point.record.disks}

    return asyncio.run(work())


def tree(root: Path) -> dict[str, str]:
    return {
        str(each.relative_to(root)): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(root.rglob("*"))
        if each.is_file()
    }


def test_it_comes_up_and_nothing_of_it_stays(world: World, place: Place) -> None:
    before = tree(world.repo)
    world.front.console, world.front.checks = ["", BOOTING, UP], ["initializing"]
    outcome = drill(world, place)
    assert outcome.last("drill.done")["passed"] and outcome.last("drill.done")["untouched"] is None
    demand_nothing_left(world)
    assert tree(world.repo) == before
    assert set(world.front.changing()) == {
        "RegisterImage",
        "RunInstances",
        "TerminateInstances",
        "DeregisterImage",
    }
    [run], [image] = world.front.made("RunInstances"), world.front.made("RegisterImage")
    said = run.parameters
    assert [card["SubnetId"] for card in said["NetworkInterfaces"]] == [place.subnet] * 2
    assert [card["Groups"] for card in said["NetworkInterfaces"]] == [[place.group]] * 2
    assert not any("PrivateIpAddress" in card for card in said["NetworkInterfaces"])
    assert said["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert not {"KeyName", "UserData", "IamInstanceProfile"} & set(said)
    assert [each["Ebs"]["DeleteOnTermination"] for each in said["BlockDeviceMappings"]] == [True, True]
    assert image.parameters["BootMode"] == "uefi" and image.parameters["Architecture"] == "x86_64"
    tags = run.tags("instance")
    assert tags["warmspare:drill"] == tags["warmspare:run"] and tags["Name"] == "drill of app"
    assert {**run.tags("volume")} == tags and image.tags("image")["warmspare:drill"] == tags["warmspare:drill"]


def test_the_evidence(world: World, place: Place) -> None:
    world.front.console, world.front.checks = [UP], ["initializing"]
    point = drill(world, place).last("drill.start")["point"]
    folder, said = world.home / "evidence", verdict(world)
    assert said["passed"] and "'login:' came on the serial port" in said["reason"]
    assert said["judged_by"] == "serial or status checks" and said["boot_seconds"] is not None
    assert said["point"]["label"] == point and said["untouched"] is None
    assert (folder / "serial.log").read_bytes().decode() == UP
    assert (folder / "screenshot.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    for name, told in said["files"].items():
        data = (folder / name).read_bytes()
        assert told == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert set(said["files"]) == {"serial.log", "screenshot.jpg"}
    [instance] = world.front.instances
    assert said["machine"]["instance"] == instance and said["machine"]["subnet"] == place.subnet
    assert said["machine"]["security_groups"] == [place.group] and said["machine"]["firmware"] == "uefi"
    snapshots = [
        each["Ebs"]["SnapshotId"] for each in world.front.made("RegisterImage")[0].parameters["BlockDeviceMappings"]
    ]
    assert [each["snapshot"] for each in said["disks"]] == snapshots and len(set(snapshots)) == 2
    assert {each["id"]: each["root"] for each in said["disks"]} == roots(world)


def test_a_silent_guest_is_up_once_both_status_checks_pass(world: World, place: Place) -> None:
    world.front.checks = ["initializing", "initializing", "ok"]
    drill(world, place)
    said = verdict(world)
    assert "status checks pass" in said["reason"] and said["guest"] == {"system-status": "ok", "instance-status": "ok"}
    assert (world.home / "evidence" / "serial.log").read_bytes() == b""
    demand_nothing_left(world)


def test_a_type_that_gives_no_latest_output_is_asked_for_what_there_is(world: World, place: Place) -> None:
    world.front.console, world.front.checks, world.front.nitro = [BOOTING, UP], ["initializing"], False
    drill(world, place)
    assert "'login:' came on the serial port" in verdict(world)["reason"]
    demand_nothing_left(world)


def test_an_expected_text_is_waited_for_whatever_the_checks_say(world: World, place: Place) -> None:
    world.front.console = [UP, UP, UP + "\r\napp: ready for work\r\n"]
    outcome = drill(world, place, "--expect", "ready for work")
    assert outcome.last("drill.done")["reason"] == "'ready for work' came on the serial port"
    assert len(world.front.made("GetConsoleOutput")) == 3


@pytest.mark.parametrize(
    ("console", "checks", "why"),
    [
        ([BOOTING, NO_ROOT], ["initializing"], "root device does not appear"),
        ([UP + "Kernel panic - not syncing: Fatal exception"], ["ok"], "panicked"),
        ([BOOTING], ["initializing", "impaired"], "(system impaired, instance impaired)"),
        ([], ["initializing"], "silent"),
    ],
)
def test_one_that_does_not_come_up_is_judged_failed(
    world: World, place: Place, console: list[str], checks: list[str], why: str
) -> None:
    world.front.console, world.front.checks = list(console), checks
    outcome = drill(world, place, "--timeout", 2, code=5)
    said = verdict(world)
    assert not said["passed"] and why in said["reason"] and said["boot_seconds"] is None
    assert why in outcome.last("error")["message"]
    assert (world.home / "evidence" / "serial.log").read_bytes().decode() == (console[-1] if console else "")
    demand_nothing_left(world)


def end_at_the_second_look(world: World, reason: str) -> None:
    """The instance ends by itself, and AWS gives this reason."""

    def end(request: Request) -> None:
        if request.action == "GetConsoleOutput" and len(world.front.made("GetConsoleOutput")) == 2:
            behind = get_session().create_client("ec2", region_name="eu-central-1", endpoint_url=world.front.behind)
            behind.terminate_instances(InstanceIds=list(world.front.instances))
            behind.close()

    world.front.console, world.front.checks = [BOOTING], ["initializing"]
    world.front.refuse, world.front.reason = end, reason


def test_a_guest_that_shuts_itself_down_is_judged_failed(world: World, place: Place) -> None:
    end_at_the_second_look(world, "Client.InstanceInitiatedShutdown")
    drill(world, place, "--timeout", 60, code=5)
    assert "terminated: it ended by itself" in verdict(world)["reason"]


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("Client.UserInitiatedShutdown", "somebody shut it down"),  # another's `--clean`, for one
        ("Client.InternalError", "the key of an encrypted volume"),
        ("Server.InternalError", "EC2 failed while starting it"),
    ],
)
@remedy("mend that, where there is anything to mend, and drill again")
def test_one_that_ends_for_a_reason_that_is_not_its_guests_is_not_judged(
    world: World, place: Place, reason: str, why: str
) -> None:
    end_at_the_second_look(world, reason)
    message = drill(world, place, "--timeout", 60, code=8).last("error")["message"]
    assert why in message and "nothing was judged" in message and "failback-done" not in message
    assert not (world.home / "evidence" / "verdict.json").exists() and not world.front.images
    world.front.refuse, world.front.console = lambda request: None, [UP]
    (world.home / "evidence").rmdir()
    drill(world, place)


def test_of_one_that_died_for_lack_of_a_machine_the_next_type_is_drilled(world: World, place: Place) -> None:
    """By another token; where all die there is no verdict, and nothing stays."""
    world.front.console, world.front.deaths = ["", UP], ["Server.InsufficientInstanceCapacity"]
    outcome = drill(world, place)
    assert any("before it ran" in event["message"] for event in outcome.all("drill.note"))
    first, second = world.front.made("RunInstances")
    assert first.parameters["InstanceType"] != second.parameters["InstanceType"]
    assert first.parameters["ClientToken"] != second.parameters["ClientToken"]
    assert verdict(world)["machine"]["instance_type"] == second.parameters["InstanceType"]
    assert not world.front.images and not world.front.volumes
    world.front.console, world.front.deaths = [], ["Server.InsufficientInstanceCapacity"] * 4
    where = ["--vm", "app", "--repo", world.repo, "--evidence", world.home / "again", *place.options]
    again = command("drill", "--ec2", *where)
    assert again.code == 8 and "nothing was judged" in again.last("error")["message"], again
    assert not world.front.images and not world.front.volumes


@remedy("give it a route table without one", "take its outbound rules away, or name another")
def test_a_network_with_a_way_out_is_refused(world: World, place: Place) -> None:
    ec2 = asking()
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=place.vpc)
    main = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [place.vpc]}])["RouteTables"][0]
    ec2.create_route(RouteTableId=main["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    world.front.forget()
    outcome = drill(world, place, code=2)
    assert f"has a route to 0.0.0.0/0 ({gateway})" in outcome.last("error")["message"]
    # A table of its own goes before the main one.
    own = ec2.create_route_table(VpcId=place.vpc)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=own, SubnetId=place.subnet)
    world.front.forget()
    assert world.front.changing() == []
    drill(world, place)
    # And the other way round: a group that lets something out, if only to its neighbours.
    near = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "10.99.0.0/16"}]}
    ec2.authorize_security_group_egress(GroupId=place.group, IpPermissions=[near])
    ec2.close()
    world.front.forget()
    outcome = command("drill", "--ec2", "--vm", "app", "--repo", world.repo, *place.options)
    assert outcome.code == 2 and f"{place.group} lets traffic out to 10.99.0.0/16" in outcome.last("error")["message"]
    assert world.front.changing() == []
    ec2 = asking()
    ec2.revoke_security_group_egress(GroupId=place.group, IpPermissions=[near])
    ec2.close()
    (world.home / "evidence").rename(world.home / "evidence of the first")
    drill(world, place)


def test_everything_that_is_missing_is_said_before_anything_is_made(world: World, place: Place) -> None:
    elsewhere = Place(place.vpc, "subnet-0123456789abcdef0", "sg-0123456789abcdef0")
    outcome = drill(world, elsewhere, code=2)
    told = [each["message"] for each in outcome.all("drill.missing")]
    assert len(told) >= 1 and "no subnet subnet-0123456789abcdef0" in told[0]
    assert "nothing was started" in outcome.last("error")["message"] and world.front.changing() == []


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--ec2"], "give --subnet and --security-group"),
        (["--ec2", "--subnet", "subnet-01234567"], "goes with a security group"),
        (["--ec2", "--subnet", "vpc-01234567", "--security-group", "sg-01234567"], "--subnet"),
        (["--ec2", "--subnet", "subnet-01234567", "--security-group", "mine"], "--security-group"),
        (["--ec2", "--replica", "x"], "--replica goes without --ec2"),
        (["--ec2", "--agent"], "--agent goes without --ec2"),
        (["--ec2", "--firmware", "efi"], "bios, uefi"),
        (["--subnet", "subnet-01234567", "--replica", "x"], "--subnet goes with --ec2"),
        (["--clean"], "--clean goes with --ec2"),
    ],
)
def test_what_does_not_go_together_is_refused(world: World, options: list[str], word: str) -> None:
    outcome = command("drill", "--vm", "app", "--repo", world.repo, *options)
    assert outcome.code == 2 and word in outcome.last("error")["message"], outcome
    assert not world.front.requests


def test_the_plan_says_where_and_what_as(world: World, place: Place) -> None:
    world.front.console = [UP]
    plan = world.write_plan(
        f'repository = "{world.repo}"\n[drill]\nsubnet = "{place.subnet}"\nsecurity_groups = ["{place.group}"]\n'
        + world.networks(servers=0, storage=0)
        + '[defaults]\nkey_pair = "ops"\ninstance_profile = "db"\nuser_data = {text = "#!/bin/sh"}\n'
        + '[vm.app]\ninstance_type = "m5.xlarge"\nip = "10.20.0.15"\nroot_disk = "app-1"\nfirmware = "bios"\n'
        + 'tags = {Owner = "ops"}\nvolumes = {iops = 3000, keep = true}\nvia = "import-image"\nplatform = "windows"\n'
        + "metadata_tags = false\n"
    )
    where = ["--vm", "app", "--plan", plan, "--evidence", world.home / "evidence"]
    outcome = command("drill", "--ec2", *where)
    assert outcome.code == 0, outcome
    assert outcome.last("outlook")["answer"] == "stops", "its disks hold no system; the drill judges by itself"
    [run], [image] = world.front.made("RunInstances"), world.front.made("RegisterImage")
    said = run.parameters
    assert said["InstanceType"] == "m5.xlarge" and run.tags("instance")["Owner"] == "ops"
    assert {card["SubnetId"] for card in said["NetworkInterfaces"]} == {place.subnet}
    assert not {"KeyName", "UserData", "IamInstanceProfile"} & set(said)
    assert all(
        each["Ebs"]["DeleteOnTermination"] and each["Ebs"]["Iops"] == 3000 for each in said["BlockDeviceMappings"]
    )
    assert image.parameters["BootMode"] == "legacy-bios" and image.parameters["ImdsSupport"] == "v2.0"
    assert said["MetadataOptions"]["HttpTokens"] == "required"
    assert said["MetadataOptions"]["InstanceMetadataTags"] == "disabled"
    assert any("get-password-data" in event["message"] for event in outcome.all("drill.note"))
    assert [each["id"] for each in verdict(world)["disks"]] == ["app-1", "app-0"]


def test_an_older_point_can_be_tried(world: World, place: Place) -> None:
    world.front.console = [UP]
    outcome = drill(world, place, "--at", 1)
    assert outcome.last("drill.done")["point"].startswith("1-")
    refused = command("drill", "--ec2", "--vm", "app", "--repo", world.repo, "--at", 7, *place.options)
    assert refused.code in (2, 8) and "7" in refused.last("error")["message"]


def test_where_aws_has_no_room_the_next_type_is_taken(world: World, place: Place) -> None:
    world.front.console = [UP]
    refused: list[str] = []

    def full(request: Request) -> Refused | None:
        if request.action == "RunInstances" and not refused:
            refused.append(request.parameters["InstanceType"])
            return Refused("InsufficientInstanceCapacity", 500)
        return None

    world.front.refuse = full
    drill(world, place)
    said = verdict(world)
    assert said["machine"]["instance_type"] != refused[0] and any(refused[0] in note for note in said["notes"])
    demand_nothing_left(world)


def test_an_instance_that_aws_does_not_start_leaves_no_image(world: World, place: Place) -> None:
    world.front.refuse = lambda request: Refused("VcpuLimitExceeded") if request.action == "RunInstances" else None
    outcome = drill(world, place, code=8)
    assert "vCPUs" in outcome.last("error")["message"]
    assert not world.front.images and not world.front.instances
    assert not (world.home / "evidence" / "verdict.json").exists()


def test_lost_answers_make_nothing_twice_and_leave_nothing(world: World, place: Place) -> None:
    world.front.console, world.front.hide = [UP], 4
    lost: set[str] = set()

    def lose(request: Request) -> bool:
        first = request.action not in lost and request.changes
        lost.add(request.action)
        return first

    world.front.lose = lose
    drill(world, place)
    assert {"RegisterImage", "RunInstances", "TerminateInstances", "DeregisterImage"} <= lost
    demand_nothing_left(world)


def not_known(action: str, code: str) -> Callable[[Request], Refused | None]:
    """AWS does not know what it has just made, the first three times."""
    asked: list[Request] = []

    def refuse(request: Request) -> Refused | None:
        asked.extend([request] if request.action == action else [])
        return Refused(code) if request.action == action and len(asked) <= 3 else None

    return refuse


def test_an_instance_that_aws_does_not_know_yet_is_ended_all_the_same(world: World, place: Place) -> None:
    world.front.console = [UP]
    world.front.refuse = not_known("TerminateInstances", "InvalidInstanceID.NotFound")
    drill(world, place)
    demand_nothing_left(world)


def test_an_image_that_aws_does_not_know_yet_is_removed_all_the_same(world: World, place: Place) -> None:
    hidden = not_known("DeregisterImage", "InvalidAMIID.NotFound")

    def refuse(request: Request) -> Refused | None:
        if request.action == "DescribeImages" and world.front.images:
            return Refused("UnauthorizedOperation", 403)
        return hidden(request)

    world.front.refuse = refuse
    drill(world, place, code=8)
    assert not world.front.images


def test_what_a_lost_answer_made_is_ended_also_if_the_next_try_is_refused(world: World, place: Place) -> None:
    tries: list[Request] = []

    def refuse(request: Request) -> Refused | None:
        tries.extend([request] if request.action == "RunInstances" else [])
        return Refused("UnauthorizedOperation", 403) if request.action == "RunInstances" and len(tries) > 1 else None

    world.front.refuse = refuse
    world.front.lose = lambda request: request.action == "RunInstances"
    drill(world, place, code=8)
    demand_nothing_left(world)


@remedy(
    "take that away (`aws ec2 modify-instance-attribute --instance-id ID --no-disable-api-termination`) and run again",
    "{…}; or end it with {…}",
)
def test_one_that_can_not_be_ended_is_named(world: World, place: Place) -> None:
    world.front.console = [UP]
    world.front.refuse = lambda request: (
        Refused("OperationNotPermitted")
        if request.action == "TerminateInstances" and not world.front.made("ModifyInstanceAttribute")
        else None
    )
    outcome = drill(world, place, code=8)
    [instance] = world.front.instances
    message = outcome.last("error")["message"]
    assert instance in message and "costs money" in message and "--clean" in message
    said = verdict(world)
    assert said["passed"] and any(instance in note for note in said["notes"])
    assert not world.front.images  # the rest was ended all the same
    hint = outcome.last("error")["hint"]
    ask_aws(hint)
    [cleaned] = obey(hint)
    assert instance in cleaned.last("drill.cleaned")["what"]
    demand_nothing_left(world)
    again = command("drill", "--ec2", "--clean", "--vm", "app", "--repo", world.repo)
    assert again.code == 0 and again.last("drill.clean")["ended"] == 0


@pytest.mark.parametrize(
    ("refusal", "right", "says"),
    [
        (Refused("UnauthorizedOperation", 403), "ec2:DeregisterImage", "does not allow"),
        (Refused("OperationNotPermitted", message="The AMI is protected from deregistration."), "", "is protected"),
        (Refused("InvalidParameterValue", message="This AMI is managed by the AWS Backup service"), "", "AWS Backup"),
    ],
    ids=["right", "protection", "backup"],
)
def test_an_image_that_can_not_be_deregistered_changes_no_verdict(
    world: World, place: Place, refusal: Refused, right: str, says: str
) -> None:
    world.front.console = [UP]
    world.front.refuse = lambda request: refusal if request.action == "DeregisterImage" else None
    outcome = drill(world, place)
    [image] = world.front.images
    warning = outcome.last("housekeeping.warning")
    assert warning["action"] == "ec2:DeregisterImage" and warning["right"] == right and warning["object"] == image
    assert says in warning["message"] and refusal.message in warning["message"]
    assert outcome.last("drill.done")["passed"] and verdict(world)["passed"]
    world.front.refuse = lambda request: None
    assert image in clean(world)
    demand_nothing_left(world)


@remedy("take that away with `aws ec2 disable-image-deregistration-protection --image-id ID`")
def test_an_image_that_is_protected_goes_as_it_says(world: World, place: Place) -> None:
    world.front.console, world.front.protects = [UP], True
    warning = drill(world, place).last("housekeeping.warning")
    assert list(world.front.images) == [warning["object"]]
    refused = command("drill", "--ec2", "--clean", "--vm", "app", "--repo", world.repo)
    assert refused.code == 8 and refused.last("error")["hint"] in warning["message"]
    ask_aws(warning["message"])
    assert warning["object"] in clean(world)
    demand_nothing_left(world)


def test_what_an_earlier_drill_left_and_can_not_be_ended(
    world: World, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and this drill takes place all the same."""
    world.front.console = [UP]
    world.front.refuse = lambda request: (
        Refused("OperationNotPermitted") if request.action == "TerminateInstances" else None
    )
    drill(world, place, code=8)
    [left] = world.front.instances
    monkeypatch.setattr(trial.Remains, "over", lambda self, now: True)
    world.front.refuse = lambda request: (
        Refused("OperationNotPermitted")
        if request.action == "TerminateInstances" and left in request.parameters["InstanceIds"]
        else None
    )
    (world.home / "evidence").rename(world.home / "evidence of the first")
    outcome = drill(world, place)
    assert outcome.last("drill.done")["passed"]
    [warning] = outcome.all("housekeeping.warning")
    assert warning["action"] == "ec2:TerminateInstances" and left in warning["object"] and not warning["right"]
    assert any(left in note and "could not be ended" in note for note in verdict(world)["notes"])
    world.front.refuse = lambda request: None
    assert left in clean(world)
    demand_nothing_left(world, 2)


class Cut(BaseException):
    """The process ends here: nothing catches it, and nothing is sent any more."""


class Dying(Aws):
    """Dies at its number-th request that changes something: before it, or once it was carried out."""

    def __init__(self, number: int, after: bool) -> None:
        super().__init__(SETTINGS)
        self.left, self.after, self.dead = number, after, False

    async def call(self, service: str, operation: str, **more: Any) -> Any:
        if self.dead:
            raise Cut
        if operation.startswith(("describe", "get")):
            return await super().call(service, operation, **more)
        self.left -= 1
        self.dead = self.left == 0
        if not self.dead or self.after:
            answer = await super().call(service, operation, **more)
        if self.dead:
            raise Cut
        return answer


def in_process(world: World, place: Place, aws: Aws, folder: Path) -> DrillVerdict:
    """A drill without the command line."""

    async def work() -> DrillVerdict:
        async with aws:
            repository = await open_repository(open_store(str(world.repo)))
            run = Ec2Drill(repository, Ec2(aws, PAUSE), Events())
            folder.mkdir()
            return await run.run(VmPlan("app", "app"), place.network, None, Rules(), folder)

    return asyncio.run(work())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_a_killed_drill_left_is_ended_by_a_later_one(
    world: World, place: Place, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    world.front.console = [UP]
    with pytest.raises(BaseException) as caught:
        in_process(world, place, Dying(number, after), world.home / "killed")
    assert caught.group_contains(Cut) if isinstance(caught.value, BaseExceptionGroup) else caught.type is Cut
    left = len(world.front.images) + sum(state == "running" for state in states(world).values())
    assert (left > 0) == ((number, after) not in ((1, False), (4, True)))
    # While it may still be under way, another one leaves it alone and says so.
    said = in_process(world, place, Aws(SETTINGS), world.home / "beside")
    assert said.passed and any("another drill" in note for note in said.notes) == (left > 0)
    assert len(world.front.images) + sum(state == "running" for state in states(world).values()) == left
    # Once its time is over, it is ended.
    monkeypatch.setattr(trial.Remains, "over", lambda self, now: True)
    said = in_process(world, place, Aws(SETTINGS), world.home / "later")
    assert said.passed and any("cut off" in note for note in said.notes) == (left > 0)
    assert not world.front.images and not world.front.volumes and set(states(world).values()) == {"terminated"}


@pytest.mark.parametrize("days", [-1, 1])
def test_a_host_whose_clock_is_a_day_off_ends_no_drill_of_another(
    world: World, place: Place, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """Neither one that is behind and says until when its own goes on, nor one ahead that looks whether it does."""

    class Wrong(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Wrong:  # type: ignore[override]
            return cls.fromtimestamp(time.time() + days * 86400, tz)

    world.front.console = [UP]
    off = SimpleNamespace(datetime=Wrong, timedelta=datetime.timedelta, UTC=datetime.UTC, tzinfo=datetime.tzinfo)
    for number, wrong in enumerate([days < 0, days > 0]):
        with monkeypatch.context() as patch:
            for module in (trial, ec2_drill, client) if wrong else ():
                patch.setattr(module, "datetime", off, raising=False)
            if not number:
                with pytest.raises(BaseException) as caught:
                    in_process(world, place, Dying(3, False), world.home / "killed")
                assert caught.type is Cut or caught.group_contains(Cut)  # type: ignore[attr-defined]
                continue
            said = in_process(world, place, Aws(SETTINGS), world.home / "beside")
            assert said.passed and any("another drill" in note for note in said.notes)


def test_when_a_drill_counts_as_over() -> None:
    now = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    assert trial.Remains("run", "2026-01-01T23:59:59+00:00", (), ()).over(now)
    assert not trial.Remains("run", "2026-01-02T00:00:01+00:00", (), ()).over(now)
    for odd in ("", "soon", "2026-01-01"):  # changed by hand: nobody knows
        assert not trial.Remains("run", odd, (), ()).over(now)


def test_a_failover_of_the_same_vm_is_never_touched(world: World, place: Place) -> None:
    world.failover("--vm", "app")
    [instance], [image] = world.front.instances, world.front.images
    world.front.console = [UP]
    command("drill", "--ec2", "--clean", "--vm", "app", "--repo", world.repo)  # of tests before, in one account
    drill(world, place)
    cleaned = command("drill", "--ec2", "--clean", "--vm", "app", "--repo", world.repo)
    assert cleaned.last("drill.clean")["ended"] == 0
    assert states(world)[instance] == "running" and set(world.front.images) == {image}


def start(world: World, place: Place, **more: str) -> subprocess.Popen[bytes]:
    where = ["--vm", "app", "--repo", str(world.repo), "--evidence", str(world.home / "evidence"), *place.options]
    environment = as_here() | more
    return subprocess.Popen(
        [sys.executable, "-m", "warmspare", "drill", "--ec2", "--json", *where],
        env=environment,
        cwd=world.home,
        stdout=subprocess.PIPE,
    )


def test_the_serial_port_is_kept_whatever_the_language_of_this_host(world: World, place: Place) -> None:
    world.front.console = ["\u2502 GNU GRUB \u2502\r\n" + UP]
    process = start(world, place, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0, out
    assert (world.home / "evidence" / "serial.log").read_bytes().decode() == world.front.console[0]


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_what_it_made(world: World, place: Place, number: int) -> None:
    world.front.console, world.front.checks = [BOOTING], ["initializing"]
    process = start(world, place)
    wait_for(lambda: bool(world.front.made("GetConsoleOutput")))
    process.send_signal(number)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 130, out
    assert heard(out.splitlines()[-1])["kind"] == "interrupted"
    demand_nothing_left(world)
    assert not (world.home / "evidence" / "verdict.json").exists()


@pytest.mark.parametrize("signals", [1, 2])
def test_interrupted_while_it_ends_what_it_made(world: World, place: Place, signals: int) -> None:
    """It ends all of it all the same; only a second signal leaves it."""
    world.front.console = [UP]
    asked: list[str] = []
    go = threading.Event()

    def refuse(request: Request) -> Refused | None:
        if request.action not in ENDS:
            return None
        asked.append(request.action)
        return None if go.is_set() else Refused("RequestLimitExceeded", 503)

    world.front.refuse = refuse
    process = start(world, place)
    wait_for(lambda: set(asked) == ENDS)
    for _ in range(signals):
        seen = len(asked)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: len(asked) > seen + 2 or process.poll() is not None)  # noqa: B023
    go.set()
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 130, out
    assert not (world.home / "evidence" / "verdict.json").exists()
    if signals == 2:
        assert set(states(world).values()) == {"running"}
        clean(world)
    demand_nothing_left(world)


@remedy("if nobody works on it any more, {…} ends it")
def test_killed_for_real_and_cleaned(world: World, place: Place) -> None:
    world.front.console, world.front.checks = [BOOTING], ["initializing"]
    process = start(world, place)
    wait_for(lambda: bool(world.front.made("GetConsoleOutput")))
    process.kill()
    process.communicate(timeout=60)
    assert set(states(world).values()) == {"running"} and world.front.images
    world.front.console = [UP]
    (world.home / "evidence").rename(world.home / "evidence of the first")
    [instance] = world.front.instances
    [note] = [each["message"] for each in drill(world, place).all("drill.note") if instance in each["message"]]
    obey(note)
    demand_nothing_left(world, instances=2)


def test_two_at_once_do_not_touch_one_another(world: World, place: Place) -> None:
    world.front.console, world.front.checks = [""], ["initializing"]

    async def work() -> list[DrillVerdict]:
        async with Aws(SETTINGS) as aws:
            repository = await open_repository(open_store(str(world.repo)))
            run = Ec2Drill(repository, Ec2(aws, PAUSE), Events())

            async def one(name: str) -> DrillVerdict:
                (world.home / name).mkdir()
                return await run.run(VmPlan("app", "app"), place.network, None, Rules(timeout_s=20), world.home / name)

            tasks = [asyncio.ensure_future(one(name)) for name in ("one", "two")]
            await asyncio.to_thread(wait_for, lambda: len(world.front.instances) == 2)
            world.front.console = [UP]
            return await asyncio.gather(*tasks)

    verdicts = asyncio.run(work())
    assert [each.passed for each in verdicts] == [True, True]
    for kind in ("instance", "image"):
        assert len({each.machine[kind] for each in verdicts}) == 2
    demand_nothing_left(world, instances=2)


def test_ending_what_has_ended_is_no_error(world: World) -> None:
    async def work() -> None:
        async with Aws(SETTINGS) as aws:
            ec2 = Ec2(aws, PAUSE)
            gone = trial.Remains("run", "", ("ami-0123456789abcdef0",), ("i-0123456789abcdef0",))
            await trial.remove(ec2, gone)

    asyncio.run(work())
    assert sorted(world.front.changing()) == ["DeregisterImage", "TerminateInstances"]  # asked once, and refused
