"""A site that was lost, for tests: VMs with restore points in a repository, staged, and an AWS to start them in."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import itertools
import os
import random
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

import ec2front
from ec2front import Front
from rig import MIB, Outcome, begin, command, random_disk, scribble
from rigs.aws import ebsstandin
from warmspare.engine.wiring.planfile import parse_plan
from warmspare.observe.events import Events
from warmspare.patience import Patience
from warmspare.recover.aws import ec2
from warmspare.recover.aws.client import Aws, AwsSettings
from warmspare.recover.aws.ec2 import Ec2, Pause
from warmspare.recover.failover.failover_run import Failover
from warmspare.recover.failover.instance_start import Recovered
from warmspare.repository.chain import open_repository
from warmspare.source.given import GivenDisks
from warmspare.source.ports import DiskInput, LastPoint, Opened
from warmspare.source.raw import RawSource
from warmspare.store.opening import open_store
from warmspare.sync.sender import Sender
from warmspare.sync.sync_settings import SyncSettings

_addresses = itertools.count(2000)  # moto gives those below by itself, one after the other
PAUSE = Pause(0.01, 0.05)
SETTINGS = AwsSettings(patience=Patience(pause_s=0.02, most_s=0.1, deadline_s=5.0, first_s=5.0))


class Machine(GivenDisks):
    """Given disks of a machine of which something is known."""

    def __init__(self, vm: str, disks: list[DiskInput], hardware: dict[str, Any]) -> None:
        super().__init__(vm, disks)
        self._hardware = hardware

    async def open(self, last: LastPoint | None) -> Opened:
        return Opened((await super().open(last)).disks, hardware=self._hardware)


def hardware(*port_groups: str, firmware: str = "bios", cpus: int = 2, memory_mib: int = 4096, **more: Any) -> Any:
    """What a restore point says of a VM of vSphere, as far as recovery looks at it."""
    nics = [{"network": name, "mac": f"00:50:56:00:00:{n:02x}"} for n, name in enumerate(port_groups)]
    return {
        "firmware": firmware,
        "cpus": cpus,
        "memory_mib": memory_mib,
        "guest_id": "debian12_64Guest",
        "nics": nics,
        **more,
    }


@dataclass
class World:
    """home: a directory of this world's own. subnets: (ID, zone, CIDR) of the default VPC, groups: IDs."""

    home: Path
    standin: ebsstandin.Standin
    front: Front
    subnets: list[tuple[str, str, str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    @property
    def repo(self) -> Path:
        return self.home / "repo"

    def disk(self, vm: str, number: int = 0) -> Path:
        return self.home / f"{vm}-{number}.raw"

    def protect(self, vm: str, known: Any, *sizes: int, seed: int = 1) -> None:
        """A restore point of a VM with new disks of these sizes (one of 2 MiB without)."""
        rng = random.Random(f"{vm} {seed}")
        for number, size in enumerate(sizes or (2 * MIB,)):
            random_disk(self.disk(vm, number), size, rng, pieces=6)
        self.sync(vm, known, len(sizes) or 1)

    def sync(self, vm: str, known: Any, disks: int = 1) -> None:
        """Another restore point of them as they are now."""

        async def work() -> None:
            inputs = [DiskInput(RawSource(self.disk(vm, n), f"{vm}-{n}"), None) for n in range(disks)]
            machine = Machine(vm, inputs, known)
            try:
                store = open_store(str(self.repo))
                await Sender(
                    store, machine, SyncSettings(self.home / "state", 1, start=await begin(store, vm)), Events()
                ).run()
            finally:
                await machine.close()

        self.repo.parent.mkdir(exist_ok=True)
        asyncio.run(work())

    def change(self, vm: str, number: int = 0, seed: int = 2) -> None:
        scribble(self.disk(vm, number), random.Random(seed), pieces=4)

    def stage(self, vm: str) -> None:
        outcome = command("stage", "--vm", vm, "--repo", self.repo, "--state", self.home / "staging")
        assert outcome.code == 0, outcome

    def address(self, number: int = 0) -> str:
        """An address of a subnet that no test was given before."""
        return str(ipaddress.ip_network(self.subnets[number][2])[next(_addresses)])

    def isolated(self) -> tuple[str, str, str]:
        """(VPC, subnet, security group) made anew, from which nothing goes out."""
        ec2 = get_session().create_client("ec2", region_name="eu-central-1")
        vpc = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.99.1.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="drill", Description="nothing goes out", VpcId=vpc)["GroupId"]
        everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
        ec2.revoke_security_group_egress(GroupId=group, IpPermissions=everything)
        ec2.close()
        self.front.forget()
        return vpc, subnet, group

    def write_plan(self, text: str) -> Path:
        path = self.home / "plan.toml"
        path.write_text(textwrap.dedent(text))
        return path

    def networks(self, **port_groups: int) -> str:
        """Tables of a plan: port groups to subnets by their numbers."""
        return "".join(
            f'[network.{name}]\nsubnet = "{self.subnets[number][0]}"\nsecurity_groups = ["{self.groups[0]}"]\n'
            for name, number in port_groups.items()
        )

    def failover(self, *arguments: object, code: int = 0) -> Outcome:
        outcome = command("failover", "--repo", self.repo, *arguments)
        assert not self.front.breaches, self.front.breaches
        assert outcome.code == code, outcome
        return outcome

    def run(self, plan: Path, *, aws: Aws | None = None, at: str | None = None) -> list[Recovered]:
        """The same without the command line, and with short pauses."""

        async def work() -> list[Recovered]:
            async with aws or Aws(SETTINGS) as account:
                repository = await open_repository(open_store(str(self.repo)))
                whole = parse_plan(plan.read_text(), plan)
                run = Failover(repository, Ec2(account, PAUSE), whole.vms, Events())
                return await run.run(await run.prepare(at))

        return asyncio.run(work())


class Cut(BaseException):
    """The process ends here: nothing catches it, as nothing catches SIGKILL."""


class Dying(Aws):
    """Ends at its number-th request, of one operation or of all: before it, or once it was carried out."""

    def __init__(self, number: int, after: bool, operation: str = "") -> None:
        super().__init__(SETTINGS)
        self.left, self.after, self.operation = number, after, operation

    async def call(self, service: str, operation: str, **more: Any) -> Any:
        self.left -= self.operation in ("", operation)
        mine = self.left == 0 and self.operation in ("", operation)
        if mine and not self.after:
            raise Cut
        answer = await super().call(service, operation, **more)
        if mine:
            raise Cut
        return answer


def cut_off(world: World, plan: Path, number: int, after: bool, operation: str = "") -> bool:
    """One run that dies at that request; False if it was done before it."""
    try:
        world.run(plan, aws=Dying(number, after, operation))
    except Cut:
        return True
    except BaseExceptionGroup as group:
        assert group.subgroup(Cut)
        return True
    return False


@contextlib.contextmanager
def again(world: World, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The same world at the moment of its loss: its repository copied, its snapshots as they are, nothing asked yet.
    Commands look at things more often than is right for AWS."""
    shutil.copytree(world.repo, home / "repo")  # not the state beside it: its files are sparse, their copies are not
    for disk in world.home.glob("*.raw"):
        shutil.copy(disk, home)
    front, snapshots = Front(world.front.behind), dict(world.standin.snapshots)
    monkeypatch.setattr(ec2, "Pause", lambda: PAUSE)
    with ec2front.serving(front) as url:
        for name, value in {**ebsstandin.environment(front.behind), "AWS_ENDPOINT_URL_EC2": url}.items():
            monkeypatch.setenv(name, value)
        try:
            yield World(home, world.standin, front, world.subnets, world.groups)
        finally:
            world.standin.snapshots, world.standin.faults = snapshots, ebsstandin.Faults()
    assert not front.breaches and not world.standin.breaches, (front.breaches, world.standin.breaches)


@contextlib.contextmanager
def made(home: Path, moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An empty world; the AWS environment of this process points there. Nothing may have been asked of AWS that breaks
    its rules."""
    standin = ebsstandin.Standin(forward_to=moto_url)
    with ebsstandin.serving(standin) as ebs_url:
        front = Front(ebs_url)
        with ec2front.serving(front) as ec2_url:
            for name in [name for name in os.environ if name.startswith("AWS_")]:
                monkeypatch.delenv(name)
            for name, value in {**ebsstandin.environment(ebs_url), "AWS_ENDPOINT_URL_EC2": ec2_url}.items():
                monkeypatch.setenv(name, value)
            client = get_session().create_client("ec2", region_name="eu-central-1")
            subnets = [
                (each["SubnetId"], each["AvailabilityZone"], each["CidrBlock"])
                for each in client.describe_subnets()["Subnets"]
            ]
            groups = [each["GroupId"] for each in client.describe_security_groups()["SecurityGroups"]]
            keys = [each["KeyName"] for each in client.describe_key_pairs()["KeyPairs"]]
            if "ops" not in keys:
                client.create_key_pair(KeyName="ops")
            client.close()
            front.requests.clear()
            world = World(home, standin, front, sorted(subnets, key=lambda each: each[1]), groups)
            yield world
    assert not front.breaches and not standin.breaches, (front.breaches, standin.breaches)
