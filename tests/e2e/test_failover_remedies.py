"""What a failover's sentences say is to be done is done as they say it, and the same command run again: the trouble is
gone. tests/unit/test_remedies.py holds each sentence to one of these."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

import recoverworld
from ec2front import Refused, Request
from recoverworld import SETTINGS, World, cut_off, hardware
from rig import MIB, command
from servers import S3Server
from suite.remedies import ask_aws, commands_in, obey, remedy
from warmspare.engine.wiring.planfile import parse_plan
from warmspare.errors import WarmspareError
from warmspare.observe.events import Events
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.client import Aws
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.aws.ec2_errors import BY_GUEST, CODES, ENDED
from warmspare.recover.failover import launch
from warmspare.recover.failover.failover_run import Failover
from warmspare.recover.staging import ebs
from warmspare.repository.chain import open_repository
from warmspare.store.opening import open_store


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory, moto: S3Server) -> Iterator[World]:
    """A VM with two restore points, both staged."""
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.made(tmp_path_factory.mktemp("db"), moto.endpoint_url, patch) as world,
    ):
        world.protect("db", hardware("servers"), 2 * MIB)
        world.stage("db")
        world.change("db")
        world.sync("db", hardware("servers"))
        world.stage("db")
        world.protect("two", hardware("servers", "storage"))
        world.stage("two")
        yield world


@pytest.fixture
def lost(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with recoverworld.again(staged, tmp_path, monkeypatch) as world:
        yield world


def plan_of(world: World, text: str = "", **replaced: str) -> Path:
    """A plan for it that says much. replaced: what stands elsewhere instead."""
    plan = (
        world.networks(servers=0)
        + '[defaults]\nkey_pair = "ops"\nuser_data = {text = "#!/bin/sh"}\ntags = {Owner = "ops", Room = "4"}\n'
        + 'ready = "running"\nvolumes = {type = "gp3", iops = 3000, throughput = 250}\n'
        + '[vm.db]\ninstance_type = "m5.large"\n'
        + text
    )
    return world.write_plan(plan)


def edit(plan: Path, old: str, new: str) -> None:
    text = plan.read_text()
    assert old in text
    plan.write_text(text.replace(old, new))


def trouble(world: World, plan: Path) -> WarmspareError:
    """What stops it."""
    with pytest.raises(WarmspareError) as caught:
        world.run(plan)
    return caught.value


def live(world: World) -> list[str]:
    """Instances that were started here and live."""

    async def look() -> list[str]:
        async with Aws(SETTINGS) as aws:
            return [
                instance["InstanceId"]
                async for each in aws.pages("ec2", "describe_instances", "Reservations", about="")
                for instance in each["Instances"]
                if instance["InstanceId"] in world.front.instances
                and instance["State"]["Name"] not in ("terminated", "shutting-down")
            ]

    return asyncio.run(look())


def ask(operation: str, **parameters: Any) -> None:
    """A call to AWS that a sentence tells one to make."""

    async def work() -> None:
        async with Aws(SETTINGS) as aws:
            await aws.call("ec2", operation, about="", **parameters)

    asyncio.run(work())


IMAGE, START = "RegisterImage", "RunInstances"


@dataclass(frozen=True)
class Code:
    """A code that AWS refuses a request with. action: which request. wrong, right: what is changed in the plan; seen:
    AWS takes no request that says this, `wrong` if nothing else. Without them it passes: a quota was raised, a right
    given, a minute is over."""

    code: str
    action: str = START
    wrong: str = ""
    right: str = ""
    status: int = 400
    seen: str = ""


def types(code: str, status: int = 400) -> Code:
    return Code(code, START, '"m5.large"', '"m5.xlarge"', status)


def each(mark: pytest.MarkDecorator, *codes: Code) -> list[Any]:
    """The first one always, the others of its sentence in the long campaign."""
    marks = [[mark], *([mark, pytest.mark.slow] for _ in codes[1:])]
    return [pytest.param(code, id=code.code, marks=of) for code, of in zip(codes, marks, strict=True)]


CASES = [
    *each(
        remedy("have the quota raised (Service Quotas), or end something, and run again"),
        Code("AMIQuotaExceeded", IMAGE),
        Code("AddressLimitExceeded"),
        Code("InstanceLimitExceeded"),
        Code("MaxIOPSLimitExceeded"),
        Code("NetworkInterfaceLimitExceeded"),
        Code("ResourceLimitExceeded"),
        Code("VcpuLimitExceeded"),
        Code("VolumeLimitExceeded"),
        Code("MaxSpotInstanceCountExceeded"),
    ),
    *each(remedy("name a larger instance type in the recovery plan"), types("AttachmentLimitExceeded")),
    *each(
        remedy("name other instance types in the recovery plan, or a subnet in another zone, and run again"),
        types("InsufficientInstanceCapacity", 500),
        types("InsufficientReservedInstanceCapacity", 500),
    ),
    *each(
        remedy("name other instance types in the recovery plan and run again"),
        types("InsufficientCapacity", 500),
        types("InsufficientHostCapacity", 500),
    ),
    *each(
        remedy("name other instance types in the recovery plan: current ones on Nitro, with the VM's firmware"),
        types("Unsupported"),
    ),
    *each(remedy("correct instance_type in the recovery plan"), types("InvalidInstanceType")),
    *each(
        remedy(
            "check that the instance type takes the VM's firmware, network cards and volumes; correct the recovery "
            "plan and run again"
        ),
        types("InvalidParameterCombination"),
    ),
    *each(
        remedy("check addresses, instance profile, volume settings and tags; correct the recovery plan and run again"),
        Code("InvalidParameterValue", START, "throughput = 250", "throughput = 125", seen='"Throughput": 250'),
    ),
    *each(
        remedy("name a larger subnet in the recovery plan, or free some"),
        Code("InsufficientFreeAddressesInSubnet", START, "SUBNET", "ANOTHER"),
    ),
    *each(
        remedy("name one of this region and account in the recovery plan"),
        Code("InvalidSubnetID.NotFound", START, "SUBNET", "ANOTHER"),
        Code("InvalidKeyPair.NotFound", START, '"ops"', '"spare"'),
        Code("InvalidGroup.NotFound", START, "SUBNET", "ANOTHER"),
        Code("InvalidSecurityGroupID.NotFound", START, "SUBNET", "ANOTHER"),
    ),
    *each(
        remedy("correct the recovery plan and run again"),
        Code("InvalidGroupId.Malformed", START, "SUBNET", "ANOTHER"),
        Code("InvalidParameter", START, '"m5.large"', '"m5.xlarge"'),
        Code("InvalidSubnet", START, "SUBNET", "ANOTHER"),
        Code("PrivateIpAddressLimitExceeded", START, "SUBNET", "ANOTHER"),
        Code("SecurityGroupsPerInterfaceLimitExceeded", START, "SUBNET", "ANOTHER"),
        Code("UnsupportedOperation", START, '"m5.large"', '"m5.xlarge"'),
    ),
    *each(
        remedy("check volumes in the recovery plan (type, iops, throughput) and run again"),
        Code("InvalidBlockDeviceMapping", START, "throughput = 250", "throughput = 125", seen='"Throughput": 250'),
    ),
    *each(
        remedy("name another type of volumes in the recovery plan and run again"),
        Code("InsufficientVolumeCapacity", START, '"gp3", iops = 3000, throughput = 250', '"gp2"', seen='"gp3"'),
    ),
    *each(
        remedy("it may have 16 KiB; correct user_data in the recovery plan"),
        Code("InvalidUserData.Malformed", START, "#!/bin/sh", "#!/bin/bash", seen="IyEvYmluL3No"),
    ),
    *each(remedy("give fewer in the recovery plan"), Code("TagLimitExceeded", START, ', Room = "4"', "", seen="Room")),
    *each(
        remedy("free it, or give another in the recovery plan"),
        Code("InvalidIPAddress.InUse", START, "10.0.0.9", "10.0.0.10"),
    ),
    *each(
        remedy("run again in a minute"),
        Code("IncorrectState"),
        Code("InvalidAMIID.Unavailable"),
        Code("SnapshotCreationPerVolumeRateExceeded"),
    ),
    *each(remedy("run again later"), Code("InsufficientAddressCapacity")),
    *each(remedy("run again when some are completed"), Code("ConcurrentSnapshotLimitExceeded")),
    *each(remedy("run again, it is made anew"), Code("InvalidAMIID.NotFound")),
    *each(remedy("run again; if it stays, report it"), Code("InvalidAMIID.Malformed")),
    *each(
        remedy("check the region; run again"),
        Code("InvalidInstanceID.NotFound"),
        Code("InvalidVolume.NotFound"),
    ),
    *each(
        remedy("allow this role to use it (kms:CreateGrant, kms:Decrypt) and run again"),
        Code("KMSKeyNotAccessibleFault"),
    ),
    *each(
        remedy("enlarge it, or name other instance types in the recovery plan, and run again"),
        types("ReservationCapacityExceeded"),
    ),
    *each(
        remedy(
            "enable it (`aws kms enable-key --key-id KEY`; `aws kms cancel-key-deletion --key-id KEY`), and run again"
        ),
        Code("InvalidKMSKey"),
    ),
    *each(remedy("look at it in EC2 and run again"), Code("IncorrectInstanceState")),
    *each(remedy("look what that is, and run again"), Code("DependencyViolation")),
    *each(remedy("detach it, and run again"), Code("InvalidNetworkInterface.InUse")),
]
ELSEWHERE = {  # those that a person answers, and those with a test of their own
    "Blocked",
    "PendingVerification",
    "InvalidAMIName.Malformed",
    "MissingParameter",
    "OperationNotPermitted",
    "IdempotentInstanceTerminated",
    "IdempotentParameterMismatch",
    "InvalidSnapshot.NotFound",
}


VOLUMES = remedy("correct volumes in the recovery plan (docs/operations.md has what each type takes), and run again")


@dataclass(frozen=True)
class Sentence:
    """One of AWS's that says more than its code. wrong, right, seen: as of a code."""

    message: str
    wrong: str = '"m5.large"'
    right: str = '"m5.xlarge"'
    seen: str = ""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            Sentence("does not support an AMI with a boot mode of UEFI"),
            marks=remedy(
                "name an instance_type on Nitro in the recovery plan (`m7i.large`), or correct firmware there"
            ),
        ),
        pytest.param(
            Sentence("The architecture of the type does not match the architecture of the image"),
            marks=remedy("correct instance_type or architecture in the recovery plan"),
        ),
        pytest.param(
            Sentence("The virtualization type is wrong"),
            marks=remedy(
                "name another instance_type in the recovery plan: a current one of Intel's or AMD's, like m7i.large"
            ),
        ),
        pytest.param(
            Sentence("HttpTokensEnforced", 'imds = "v1-and-v2"', "", seen='"HttpTokens": "optional"'),
            marks=remedy(
                "take `imds` out of the recovery plan and run again; the guest's cloud-init and agents have to know "
                "IMDSv2"
            ),
        ),
        pytest.param(
            Sentence("'Owner' is not a valid tag key", "Owner", "Owned"),
            marks=remedy("rename the tag in the recovery plan, or write metadata_tags = false there, and run again"),
        ),
        pytest.param(
            Sentence(
                "'Owner' is not a valid tag key",
                'ready = "running"',
                'ready = "running"\nmetadata_tags = false',
                seen='"InstanceMetadataTags": "enabled"',
            ),
            marks=remedy("rename the tag in the recovery plan, or write metadata_tags = false there, and run again"),
        ),
        pytest.param(
            Sentence(
                "a metadata option is wrong", 'imds = "v1-and-v2"', 'imds = "v2"', seen='"HttpTokens": "optional"'
            ),
            marks=remedy(
                "correct imds and metadata_tags in the recovery plan; an organisation's policy may demand others"
            ),
        ),
        pytest.param(
            Sentence("Iops to volume size ratio of 1000 is too high", "= 250", "= 125", seen='"Throughput": 250'),
            marks=VOLUMES,
        ),
        pytest.param(
            Sentence("parameter iops is not supported for gp2", "= 250", "= 125", seen='"Throughput": 250'),
            marks=[VOLUMES, pytest.mark.slow],
        ),
    ],
)
def test_what_aws_refuses_in_words(anew: World, case: Sentence) -> None:
    world, plan = anew, plan_of(anew)
    if "imds" in case.wrong:
        edit(plan, 'ready = "running"', f'ready = "running"\n{case.wrong}')

    def refuse(request: Request) -> Refused | None:
        wrong = (case.seen or case.wrong) in json.dumps(request.parameters)
        return Refused("InvalidParameterValue", 400, case.message) if wrong and request.action == START else None

    world.front.refuse = refuse
    trouble(world, plan)
    edit(plan, case.wrong, case.right)
    world.run(plan)
    assert len(world.front.instances) == 1


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(
            "Enhanced networking with the Elastic Network Adapter (ENA) is required",
            marks=remedy(
                "clear this failover with `warmspare failback-done` and fail over with `--via register-image`, whose "
                "images say it; `warmspare recover check` looks for the driver in the guest"
            ),
        ),
        pytest.param(
            "NVMe is required",
            marks=remedy(
                "clear this failover with `warmspare failback-done` and fail over with `--via register-image`; "
                "`warmspare recover check` looks for the driver in the guest"
            ),
        ),
    ],
)
def test_an_imported_image_is_none_for_the_type(anew: World, message: str) -> None:
    world, plan = anew, plan_of(anew)
    world.front.import_messages = [("completed", "", "")]

    def refuse(request: Request) -> Refused | None:
        imported = request.action == START and "EnaSupport" not in world.front.images[request.parameters["ImageId"]]
        return Refused("InvalidParameterCombination", 400, message) if imported else None

    world.front.refuse = refuse
    hint = world.failover("--plan", plan, "--all", "--via", "import-image", code=8).last("error")["hint"]
    cleared, looks = hint.split("; ")
    obey(cleared)
    [words] = commands_in(looks)
    assert command(*words).code == 5  # its disk holds no system
    [via] = re.findall("`(--via [^`]+)`", cleared)
    world.failover("--plan", plan, "--all", *via.split())
    assert len(world.front.instances) == 1


@pytest.fixture(scope="module")
def shared(staged: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        pytest.MonkeyPatch.context() as patch,
        recoverworld.again(staged, tmp_path_factory.mktemp("shared"), patch) as world,
    ):
        ask("create_key_pair", KeyName="spare")
        yield world


@pytest.fixture
def anew(shared: World) -> Iterator[World]:
    """The world of all of these, and nothing done yet."""
    yield shared
    for path in shared.repo.rglob("failover.json"):
        path.unlink()
    shared.front.forget()
    shared.front.refuse = lambda request: None
    for gone in (shared.front.instances, shared.front.images, shared.front.volumes):
        gone.clear()


@pytest.mark.parametrize("case", CASES)
def test_what_aws_refuses(anew: World, case: Code) -> None:
    world, passed = anew, False
    places = {
        "SUBNET": world.subnets[0][0],
        "ANOTHER": world.subnets[1][0],
        "10.0.0.9": world.address(),
        "10.0.0.10": world.address(),
    }
    wrong, right = (places.get(each, each) for each in (case.wrong, case.right))
    plan = plan_of(world, f'ip = "{wrong}"\n' if case.wrong in places and case.wrong != "SUBNET" else "")

    def refuse(request: Request) -> Refused | None:
        refused = (case.seen or wrong) in json.dumps(request.parameters) if wrong else not passed
        return Refused(case.code, case.status) if refused and request.action == case.action else None

    world.front.refuse = refuse
    error = trouble(world, plan)
    assert isinstance(error, AwsError) and error.code == case.code and error.hint == CODES[case.code][1]
    if wrong:
        edit(plan, wrong, right)
    passed = True
    world.run(plan)
    assert len(world.front.instances) == 1


def test_every_code_has_a_case() -> None:
    assert {param.id for param in CASES} | ELSEWHERE == set(CODES)


def newest(world: World) -> list[str]:
    return [each.id for each in world.standin.snapshots.values() if each.tags["warmspare:point"] == "2"]


def delete(world: World, snapshots: list[str]) -> None:
    """Somebody deletes them; that they are not visible yet is waited for no longer than it takes here."""
    behind = get_session().create_client("ec2", region_name="eu-central-1", endpoint_url=world.front.behind)
    for each in snapshots:
        behind.delete_snapshot(SnapshotId=each)
    behind.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not visible is gone, and not too new."""
    monkeypatch.setattr(ebs, "UNSEEN_S", 0.1)


def lose_snapshots(world: World) -> None:
    """The EBS snapshots of the newest point are deleted at the moment that an image is made of them."""

    def refuse(request: Request) -> Refused | None:
        if request.action == "RegisterImage":
            world.front.refuse = lambda request: None
            delete(world, newest(world))
        return None

    world.front.refuse = refuse


def started(world: World, plan: Path) -> str:
    """Run the command to its end; the restore point of what is started."""
    return str(world.failover("--plan", plan, "--all").last("failover.vm")["point"]).partition("-")[0]


@remedy(
    "clear this failover with `warmspare failback-done` and run this again: the newest point that is staged whole is "
    "taken"
)
def test_the_snapshots_of_the_newest_point_are_gone(lost: World) -> None:
    world, plan = lost, plan_of(lost)
    lose_snapshots(world)
    hint = world.failover("--plan", plan, "--all", code=8).last("error")["hint"]
    obey(hint)
    assert started(world, plan) == "1" and len(live(world)) == 1


@remedy(
    "stage it with {…}, or clear this failover with {…} and run this again: the newest that is usable is taken",
)
@pytest.mark.parametrize("which", [0, 1], ids=["staged", "cleared"])
@pytest.mark.usefixtures("soon")
def test_the_point_of_a_failover_under_way_is_gone(lost: World, which: int) -> None:
    world, plan = lost, plan_of(lost)
    lose_snapshots(world)
    trouble(world, plan)
    hint = world.failover("--plan", plan, "--all", code=8).last("error")["hint"]
    first, second = hint.split(", or ")
    obey([first, second][which])
    assert started(world, plan) == ("2" if which == 0 else "1") and len(live(world)) == 1


@remedy("stage it with {…}, or name another region or point")
@pytest.mark.parametrize("which", ["staged", "another"])
@pytest.mark.usefixtures("soon")
def test_a_point_that_is_not_staged(lost: World, which: str) -> None:
    world, plan = lost, plan_of(lost)
    delete(world, newest(world))
    hint = world.failover("--plan", plan, "--vm", "db", "--at", 2, code=8).last("error")["hint"]
    if which == "staged":
        obey(hint)
        assert world.failover("--plan", plan, "--vm", "db", "--at", 2).last("failover.vm")["point"].startswith("2-")
    else:
        world.failover("--plan", plan, "--vm", "db", "--at", 1)
    assert len(live(world)) == 1


@remedy("clear it with `warmspare failback-done` and fail over anew")
def test_an_instance_that_was_ended_and_is_not_shown_any_more(lost: World) -> None:
    world, plan = lost, plan_of(lost)
    world.run(plan)
    [instance], [first] = live(world), world.front.made("RunInstances")
    ask("terminate_instances", InstanceIds=[instance])
    world.front.conceal(instance)
    token = first.parameters["ClientToken"]
    world.front.refuse = lambda request: (
        Refused("IdempotentInstanceTerminated") if request.parameters.get("ClientToken") == token else None
    )
    obey(world.failover("--plan", plan, "--all", code=8).last("error")["hint"])
    started(world, plan)
    assert len(live(world)) == 1


@remedy("clear it with {…} and run this again: it fails over anew")
def test_an_instance_that_was_ended(lost: World) -> None:
    world, plan = lost, plan_of(lost)
    world.run(plan)
    ask("terminate_instances", InstanceIds=live(world))
    obey(world.failover("--plan", plan, "--all", code=8).last("error")["hint"])
    started(world, plan)
    assert len(live(world)) == 1


@remedy("go on with it without --at, or clear it with {…} and run this again")
@pytest.mark.parametrize("which", ["go on", "clear"])
def test_another_point_than_the_one_under_way(lost: World, which: str) -> None:
    world, plan = lost, plan_of(lost)
    world.front.refuse = lambda request: Refused("VcpuLimitExceeded") if request.action == START else None
    trouble(world, plan)
    world.front.refuse = lambda request: None
    hint = world.failover("--plan", plan, "--vm", "db", "--at", 1, code=2).last("error")["hint"]
    if which == "clear":
        obey(hint)
    again = world.failover("--plan", plan, "--vm", "db", *(["--at", 1] if which == "clear" else []))
    assert again.last("failover.vm")["point"].startswith("1-" if which == "clear" else "2-")
    assert len(live(world)) == 1


@remedy("put the plan back as it was; or look for its instance, then `warmspare failback-done` and fail over anew")
@pytest.mark.parametrize("which", ["put back", "anew"])
def test_the_plan_was_changed_half_way(lost: World, which: str) -> None:
    """The first request was carried out, its answer lost, and the instance is not listed yet."""
    world, plan = lost, plan_of(lost)
    before = plan.read_text()
    assert cut_off(world, plan, 1, after=True, operation="run_instances")
    edit(plan, 'Owner = "ops"', 'Owner = "others"')
    [instance] = world.front.instances
    world.front.conceal(instance)
    error = trouble(world, plan)
    assert isinstance(error, AwsError) and error.code == "IdempotentParameterMismatch"
    if which == "put back":
        plan.write_text(before)
    else:
        ask("terminate_instances", InstanceIds=[instance])
        obey(error.hint)
    world.front._hidden.clear()
    started(world, plan)
    assert len(live(world)) == 1


OVER = remedy("clear this failover with `warmspare failback-done`, and fail over anew")
STARTED = remedy("start it again with `aws ec2 start-instances --instance-ids ID`, and run this again")


@pytest.mark.parametrize(
    ("reason", "how"),
    [
        pytest.param(
            BY_GUEST,
            "stop",
            marks=remedy(
                "look at its console output (`aws ec2 get-console-output --latest --instance-id ID`), start it again "
                "with `aws ec2 start-instances --instance-ids ID`, and run this again"
            ),
        ),
        pytest.param("Client.InstanceTerminated", "terminate", marks=[OVER, pytest.mark.slow]),
        pytest.param(
            "Client.UserInitiatedShutdown",
            "terminate",
            marks=remedy("ask who; then clear this failover with `warmspare failback-done`, and fail over anew"),
        ),
        pytest.param("Client.UserInitiatedHibernate", "stop", marks=STARTED),
        pytest.param("Server.ScheduledStop", "stop", marks=[STARTED, pytest.mark.slow]),
        pytest.param("Server.SpotInstanceShutdown", "terminate", marks=[OVER, pytest.mark.slow]),
        pytest.param("Server.SpotInstanceTermination", "terminate", marks=[OVER, pytest.mark.slow]),
        pytest.param("Server.SomethingNew", "terminate", marks=OVER),
    ],
)
def test_an_instance_ends_after_it_ran(lost: World, reason: str, how: str) -> None:
    world, plan = lost, plan_of(lost)
    edit(plan, 'ready = "running"', 'ready = "status-checks"')

    def refuse(request: Request) -> Refused | None:
        if request.action == "DescribeInstanceStatus":
            world.front.refuse = lambda request: None
            behind = get_session().create_client("ec2", region_name="eu-central-1", endpoint_url=world.front.behind)
            getattr(behind, f"{how}_instances")(InstanceIds=list(world.front.instances))
            behind.close()
        return None

    world.front.refuse, world.front.reason = refuse, reason
    hint = trouble(world, plan).hint
    if how == "stop":
        ask_aws(hint)
    else:
        obey(hint)
    world.run(plan)
    assert len(live(world)) == 1


def test_every_reason_of_an_end_is_one_of_these() -> None:
    [mark] = [each for each in test_an_instance_ends_after_it_ran.pytestmark if each.name == "parametrize"]  # type: ignore[attr-defined]
    assert {param.values[0] for param in mark.args[1]} == {*ENDED, "Server.SomethingNew"}


ANEW = remedy("run again: another instance is started")


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param(
            BY_GUEST,
            marks=remedy(
                "look at its console output (`aws ec2 get-console-output --latest --instance-id ID`), and run again: "
                "another instance is started"
            ),
        ),
        pytest.param(
            "Client.InternalError",
            marks=remedy(
                "allow this role to use the key (kms:CreateGrant, kms:Decrypt), and run again: another instance is "
                "started"
            ),
        ),
        pytest.param(
            "Client.InvalidKMSKey.Disabled",
            marks=remedy(
                "enable it (`aws kms enable-key --key-id KEY`; `aws kms cancel-key-deletion --key-id KEY`), and run "
                "again: another instance is started"
            ),
        ),
        pytest.param(
            "Client.UserInitiatedShutdown", marks=remedy("ask who and why, and run again: another instance is started")
        ),
        pytest.param(
            "Client.VolumeLimitExceeded",
            marks=remedy(
                "have the quota raised (Service Quotas), or delete volumes, and run again: another instance is started"
            ),
        ),
        pytest.param(
            "Server.InsufficientInstanceCapacity",
            marks=remedy(
                "run again: the next type is started; or name other types, or a subnet in another zone, in the "
                "recovery plan before"
            ),
        ),
        pytest.param("Server.InternalError", marks=ANEW),
    ],
)
def test_an_instance_dies(anew: World, reason: str) -> None:
    """Before it runs: one reason for each sentence; test_failover.py has all reasons. What a sentence names besides is
    done too: the key is one that was disabled and is to be deleted, the type is another."""
    world, plan = anew, plan_of(anew)
    world.front.deaths = [reason]
    hint = trouble(world, plan).hint
    if "`aws" in hint and "kms" in hint:
        kms = get_session().create_client("kms", region_name="eu-central-1", endpoint_url=world.standin.forward_to)
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.schedule_key_deletion(KeyId=key)
        ask_aws(";".join(reversed(hint.split(";"))), world.standin.forward_to, KEY=key)
        assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
        kms.close()
    elif "`aws" in hint:
        ask_aws(hint)
    if "name other types" in hint:
        edit(plan, "m5.large", "m5.xlarge")
    world.run(plan)
    assert len(live(world)) == 1


def missing(world: World, plan: Path) -> tuple[str, ...]:
    """What a dry run says is missing."""

    async def work() -> tuple[str, ...]:
        async with Aws(SETTINGS) as account:
            repository = await open_repository(open_store(str(world.repo)))
            run = Failover(repository, Ec2(account), parse_plan(plan.read_text(), plan).vms, Events())
            [one] = prepared = await run.prepare()
            run.show(prepared)
            return one.missing

    return asyncio.run(work())


@pytest.fixture
def places(shared: World) -> Iterator[dict[str, str]]:
    """What AWS has besides: another VPC with a subnet and a group, and a subnet that is full."""
    vpc, subnet, group = shared.isolated()
    behind = get_session().create_client("ec2", region_name="eu-central-1", endpoint_url=shared.front.behind)
    full = behind.create_subnet(VpcId=vpc, CidrBlock="10.99.2.0/28")["Subnet"]["SubnetId"]
    for _ in range(11):
        behind.create_network_interface(SubnetId=full)
    behind.close()
    yield {
        "SUBNET": shared.subnets[0][0],
        "GROUP": shared.groups[0],
        "OTHERSUBNET": subnet,
        "OTHERGROUP": group,
        "FULL": full,
        "NOSUBNET": "subnet-0123456789abcdef0",
        "NOGROUP": "sg-0123456789abcdef0",
    }


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        pytest.param('key_pair = "gone"', 'key_pair = "ops"', marks=remedy("correct key_pair in the recovery plan")),
        pytest.param(
            'instance_type = "m5.gigantic"',
            'instance_type = "m5.large"',
            marks=remedy("correct instance_type in the recovery plan"),
        ),
        pytest.param(
            'instance_type = "hpc6a.48xlarge"',
            'instance_type = "m5.large"',
            marks=remedy("name another one in the recovery plan"),
        ),
        pytest.param(
            'instance_type = "m6g.large"',
            'instance_type = "m5.large"',
            marks=remedy("name another instance_type in the recovery plan"),
        ),
        pytest.param(
            'instance_families = "t2"',
            'instance_families = "m5"',
            marks=remedy("set instance_type or instance_families in the recovery plan"),
        ),
        pytest.param(
            'instance_families = "t2"',
            'instance_type = "m5.large"',
            marks=remedy("set instance_type or instance_families in the recovery plan"),
        ),
        pytest.param(
            'subnet = "NOSUBNET"\nsecurity_groups = "GROUP"',
            'subnet = "SUBNET"\nsecurity_groups = "GROUP"',
            marks=remedy("correct subnet in the recovery plan"),
        ),
        pytest.param(
            'subnet = "SUBNET"\nsecurity_groups = "NOGROUP"',
            'subnet = "SUBNET"\nsecurity_groups = "GROUP"',
            marks=remedy("correct security_groups in the recovery plan"),
        ),
        pytest.param(
            'subnet = "SUBNET"\nsecurity_groups = "OTHERGROUP"',
            'subnet = "OTHERSUBNET"\nsecurity_groups = "OTHERGROUP"',
            marks=remedy("name both of one VPC in the recovery plan"),
        ),
        pytest.param(
            'subnet = "FULL"\nsecurity_groups = "OTHERGROUP"',
            'subnet = "OTHERSUBNET"\nsecurity_groups = "OTHERGROUP"',
            marks=remedy("name another in the recovery plan, or free some"),
        ),
    ],
)
def test_what_is_missing_in_aws(anew: World, places: dict[str, str], wrong: str, right: str) -> None:
    world = anew

    def plan(text: str) -> Path:
        for name, value in places.items():
            text = text.replace(f'"{name}"', f'"{value}"')
        return world.write_plan("[vm.db]\n" + text + "\n")

    assert len(missing(world, plan(wrong))) == 1
    assert not missing(world, plan(right))


@remedy("name subnets of one zone")
def test_cards_in_two_zones(anew: World) -> None:
    world = anew
    text = '[vm.two]\ninstance_type = "m5.large"\n'
    assert len(missing(world, world.write_plan(world.networks(servers=0, storage=1) + text))) == 1
    assert not missing(world, world.write_plan(world.networks(servers=0, storage=0) + text))


@remedy("run again to wait on; EC2 shows it under that ID")
def test_an_instance_that_takes_its_time(lost: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world, plan = lost, plan_of(lost)
    edit(plan, 'ready = "running"', 'ready = "running"\nready_within = "1s"')
    monkeypatch.setattr(launch, "UNSEEN_S", 0.1)
    world.front.lose = lambda request: any(map(world.front.conceal, world.front.instances))
    trouble(world, plan)
    world.front.lose = lambda request: False
    world.front._hidden.clear()
    world.run(plan)
    assert len(live(world)) == 1


@remedy("remove it (`aws ec2 {…}`) and run again: it is made anew")
def test_an_image_that_failed(lost: World) -> None:
    """It is found again by its name, until it is removed."""
    world, plan = lost, plan_of(lost)

    def fail(request: Request) -> bool:
        for image in world.front.images.values():
            image["State"] = "failed"
        return False

    world.front.lose = fail
    trouble(world, plan)
    world.front.lose = lambda request: False
    ask_aws(trouble(world, plan).hint)
    world.run(plan)
    assert len(live(world)) == 1
