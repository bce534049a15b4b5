"""What a failover's sentences say is to be done is done as they say it, and the same command run again: the trouble is
gone. tests/unit/test_remedies.py holds each sentence to one of these."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import recoverworld
from ec2front import Refused, Request
from recoverworld import SETTINGS, World, hardware
from remedies import obey, remedy
from rig import MIB, command
from servers import S3Server
from warmspare.errors import RecoverError, WarmspareError
from warmspare.recover.aws.client import Aws
from warmspare.recover.aws.ec2_errors import CODES
from warmspare.recover.aws.errors import AwsError


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
        yield world


@pytest.fixture
def lost(staged: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with recoverworld.again(staged, tmp_path, monkeypatch) as world:
        yield world


def plan_of(world: World, text: str = "", **replaced: str) -> Path:
    """A plan for it that says much. replaced: what stands elsewhere instead."""
    plan = (
        world.networks(servers=0)
        + '[defaults]\nkey_pair = "ops"\nuser_data = {text = "#!/bin/sh"}\ntags = {Owner = "ops", Room = "4"}\nready = "running"\n'
        + 'volumes = {type = "gp3", iops = 4000}\n[vm.db]\ninstance_type = "m5.large"\n' + text
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
    return [pytest.param(code, id=code.code, marks=mark) for code in codes]


CASES = [
    *each(
        remedy("have the quota raised (Service Quotas), or end something, and run again"),
        Code("AMIQuotaExceeded", IMAGE), Code("AddressLimitExceeded"), Code("InstanceLimitExceeded"),
        Code("MaxIOPSLimitExceeded"), Code("NetworkInterfaceLimitExceeded"), Code("ResourceLimitExceeded"),
        Code("VcpuLimitExceeded"), Code("VolumeLimitExceeded"),
    ),
    *each(remedy("name a larger instance type in the recovery plan"), types("AttachmentLimitExceeded")),
    *each(
        remedy("name other instance types in the recovery plan, or a subnet in another zone, and run again"),
        types("InsufficientInstanceCapacity", 500),
    ),
    *each(
        remedy("name others in the recovery plan"),
        types("InsufficientCapacity", 500), types("InsufficientHostCapacity", 500),
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
        remedy(
            "check addresses, instance profile, volume settings and tags; correct the recovery plan and run again"
        ),
        Code("InvalidParameterValue", START, "iops = 4000", "iops = 3000", seen="4000"),
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
        remedy("check volume_type, iops and throughput in the recovery plan"),
        Code("InvalidBlockDeviceMapping", START, "iops = 4000", "iops = 3000", seen="4000"),
    ),
    *each(remedy("name another volume type"), Code("InsufficientVolumeCapacity", START, '"gp3"', '"gp2"')),
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
        Code("IncorrectState"), Code("InvalidAMIID.Unavailable"), Code("SnapshotCreationPerVolumeRateExceeded"),
    ),
    *each(remedy("run again later"), Code("InsufficientAddressCapacity")),
    *each(remedy("run again when some are completed"), Code("ConcurrentSnapshotLimitExceeded")),
    *each(remedy("run again, it is made anew"), Code("InvalidAMIID.NotFound")),
    *each(remedy("run again; if it stays, report it"), Code("InvalidAMIID.Malformed")),
    *each(
        remedy("check the region; run again"),
        Code("InvalidInstanceID.NotFound"), Code("InvalidVolume.NotFound"),
    ),
    *each(
        remedy("allow this role to use it: kms:CreateGrant, kms:Decrypt"), Code("KMSKeyNotAccessibleFault")
    ),
    *each(remedy("look at it in EC2 and run again"), Code("IncorrectInstanceState")),
    *each(remedy("look what that is, and run again"), Code("DependencyViolation")),
    *each(remedy("take that away and run again"), Code("OperationNotPermitted")),
    *each(remedy("detach it, or give another"), Code("InvalidNetworkInterface.InUse")),
]
ELSEWHERE = {  # those that a person answers, and those with a test of their own
    "Blocked", "PendingVerification", "InvalidAMIName.Malformed", "MissingParameter", "InvalidInstanceID.Malformed",
    "IdempotentInstanceTerminated", "IdempotentParameterMismatch", "InvalidSnapshot.NotFound", "InvalidAMIName.Duplicate",
}  # fmt: skip


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
    places = {"SUBNET": world.subnets[0][0], "ANOTHER": world.subnets[1][0],
              "10.0.0.9": world.address(), "10.0.0.10": world.address()}  # fmt: skip
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
    assert len(live(world)) == 1


def test_every_code_has_a_case() -> None:
    assert {param.id for param in CASES} | ELSEWHERE == set(CODES)
