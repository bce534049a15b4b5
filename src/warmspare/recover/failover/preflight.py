"""What is there in AWS for a plan: subnets, security groups, key pairs, instance types; finds out, and changes nothing.

What is asked for several VMs is asked once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.ec2 import Ec2
from warmspare.recover.failover.ec2_machine import Ec2Machine
from warmspare.recover.failover.instancetype import choose, described, offered
from warmspare.recover.failover.plan import VmPlan


@dataclass(frozen=True, slots=True)
class Subnet:
    """zone: its availability zone. free: addresses that are left."""

    id: str
    vpc: str
    zone: str
    free: int


class Preflight:
    """Answers for one run, kept as long as it lasts."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2
        self._subnets: dict[str, Subnet | None] = {}
        self._groups: dict[str, str | None] = {}
        self._keys: dict[str, bool] = {}
        self._asking = asyncio.Lock()

    async def look(self, machine: Ec2Machine, plan: VmPlan) -> tuple[list[str], list[str]]:
        """The instance types to try, the best first, and all that is missing for this VM. AwsError."""
        async with self._asking:
            zone, missing = await self._network(machine)
            if plan.key_pair and not await self._key(plan.key_pair):
                missing.append(f"there is no key pair {plan.key_pair!r} here; correct key_pair in the recovery plan")
            types = list(plan.types)
            if types:
                missing += await self._types(machine, types, zone)
            elif machine.cpus and machine.memory_mib:
                types, lacking = await choose(self._ec2, machine, plan.families, zone)
                missing += [lacking] if lacking else []
            return types, missing

    async def _types(self, machine: Ec2Machine, names: list[str], zone: str) -> list[str]:
        known = await described(self._ec2, tuple(names))
        here = await offered(self._ec2, zone, tuple(names))
        missing = []
        for name in names:
            if name not in known:
                missing.append(
                    f"there is no instance type {name} in this region; correct instance_type in the recovery plan"
                )
            elif name not in here:
                missing.append(f"{name} can't be had in {zone or 'this region'}; name another one in the recovery plan")
            elif why := known[name].suits(machine):
                missing.append(f"{why}; name another instance_type in the recovery plan")
        return missing

    async def _network(self, machine: Ec2Machine) -> tuple[str, list[str]]:
        """The zone of the cards' subnets, "" if there are none, and what is missing."""
        missing = []
        subnets: list[Subnet] = []
        for card in machine.cards:
            subnet = await self._subnet(card.subnet)
            if subnet is None:
                missing.append(f"there is no subnet {card.subnet} here; correct subnet in the recovery plan")
                continue
            subnets.append(subnet)
            if not subnet.free and not card.ip:
                missing.append(
                    f"subnet {subnet.id} has no free address left; name another in the recovery plan, or free some"
                )
            for group in card.security_groups:
                vpc = await self._group(group)
                if vpc is None:
                    missing.append(
                        f"there is no security group {group} here; correct security_groups in the recovery plan"
                    )
                elif vpc != subnet.vpc:
                    missing.append(
                        f"security group {group} is of {vpc} and subnet {subnet.id} of {subnet.vpc}; "
                        "name both of one VPC in the recovery plan"
                    )
        zones = sorted({subnet.zone for subnet in subnets})
        if len(zones) > 1:
            missing.append(f"the subnets of its cards lie in {' and '.join(zones)}; name subnets of one zone")
        return (zones[0] if zones else ""), missing

    async def _subnet(self, subnet_id: str) -> Subnet | None:
        if subnet_id not in self._subnets:
            found = await self._one("describe_subnets", "Subnets", "subnet-id", subnet_id)
            self._subnets[subnet_id] = found and Subnet(
                subnet_id, found["VpcId"], found["AvailabilityZone"], int(found["AvailableIpAddressCount"])
            )
        return self._subnets[subnet_id]

    async def _group(self, group_id: str) -> str | None:
        """The VPC of a security group."""
        if group_id not in self._groups:
            found = await self._one("describe_security_groups", "SecurityGroups", "group-id", group_id)
            self._groups[group_id] = found and str(found["VpcId"])
        return self._groups[group_id]

    async def _one(self, operation: str, key: str, by: str, value: str) -> Any:
        answer = await self._ec2.ask(operation, about=value, Filters=[{"Name": by, "Values": [value]}])
        return next(iter(answer.get(key, [])), None)

    async def _key(self, name: str) -> bool:
        if name not in self._keys:
            try:
                await self._ec2.ask("describe_key_pairs", about=name, KeyNames=[name])
                self._keys[name] = True
            except AwsError as error:
                if error.code != "InvalidKeyPair.NotFound":
                    raise
                self._keys[name] = False
        return self._keys[name]
