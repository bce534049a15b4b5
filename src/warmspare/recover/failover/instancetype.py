"""Which instance type a VM gets, where the plan names none; owns the rule, which docs/operations.md states.

Among the types of the plan's families that exist in the zone, run on Nitro, and take the VM's firmware, architecture
and network cards: those with at least the VM's vCPUs and memory, fewest vCPUs first, then least memory, then the order
of the families. EC2 does not tell prices, and within a generation this is their order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from warmspare.recover.aws.ec2 import Ec2, Json
from warmspare.recover.failover.ec2_machine import Ec2Machine

LOOKED_AT = 50  # of those that will do, whether they can be had in the zone
MOST_CANDIDATES = 4  # that are tried where AWS has no room


@dataclass(frozen=True, slots=True)
class InstanceType:
    """What EC2 says of a type. attachments: volumes it takes, network cards counted in where `shared`; 0 if unknown."""

    name: str
    vcpus: int
    memory_mib: int
    cards: int
    attachments: int
    shared: bool
    boot_modes: tuple[str, ...]
    architectures: tuple[str, ...]
    nitro: bool

    def suits(self, machine: Ec2Machine) -> str:
        """Why it can't be this machine; "" if it can. Its size is the plan's affair."""
        if machine.architecture not in self.architectures:
            return f"{self.name} is not for {machine.architecture}"
        if self.boot_modes and machine.boot_mode and machine.boot_mode not in self.boot_modes:
            return f"{self.name} does not start with {machine.boot_mode}"
        if self.cards and len(machine.cards) > self.cards:
            return f"{self.name} takes {self.cards} network cards and the VM has {len(machine.cards)}"
        used = len(machine.disks) + (max(len(machine.cards), 1) if self.shared else 0)
        if self.attachments and used > self.attachments:
            return f"{self.name} takes {self.attachments} volumes and network cards and the VM needs {used}"
        return ""

    def holds(self, machine: Ec2Machine) -> bool:
        """Whether it is as large as the VM was."""
        return self.vcpus >= machine.cpus and self.memory_mib >= machine.memory_mib


def parse(item: Json) -> InstanceType:
    """One entry of DescribeInstanceTypes."""
    ebs: dict[str, Any] = item.get("EbsInfo", {})
    return InstanceType(
        name=item["InstanceType"],
        vcpus=int(item.get("VCpuInfo", {}).get("DefaultVCpus", 0)),
        memory_mib=int(item.get("MemoryInfo", {}).get("SizeInMiB", 0)),
        cards=int(item.get("NetworkInfo", {}).get("MaximumNetworkInterfaces", 0)),
        attachments=int(ebs.get("MaximumEbsAttachments", 0)),
        shared=ebs.get("AttachmentLimitType") == "shared",
        boot_modes=tuple(item.get("SupportedBootModes", [])),
        architectures=tuple(item.get("ProcessorInfo", {}).get("SupportedArchitectures", [])),
        nitro=item.get("Hypervisor") == "nitro" and not item.get("BareMetal"),
    )


def ranked(types: Iterable[InstanceType], machine: Ec2Machine, families: tuple[str, ...]) -> list[InstanceType]:
    """Those that will do, the best first."""

    def key(one: InstanceType) -> tuple[int, int, int, str]:
        family = one.name.partition(".")[0]
        return one.vcpus, one.memory_mib, families.index(family) if family in families else len(families), one.name

    return sorted((one for one in types if one.nitro and one.holds(machine) and not one.suits(machine)), key=key)


async def described(ec2: Ec2, names: tuple[str, ...]) -> dict[str, InstanceType]:
    """What EC2 says of types; patterns (`m7i.*`) are fine, what it does not know is left out. AwsError."""
    filters = [{"Name": "instance-type", "Values": list(names)}]
    found = ec2.pages("describe_instance_types", "InstanceTypes", about="instance types", Filters=filters)
    return {one.name: one async for item in found if (one := parse(item))}


async def offered(ec2: Ec2, zone: str, names: tuple[str, ...]) -> set[str]:
    """Which of the types can be had in an availability zone; of a region for "". AwsError."""
    filters = [{"Name": "instance-type", "Values": list(names)}]
    if zone:
        filters.append({"Name": "location", "Values": [zone]})
    found = ec2.pages(
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        about=zone or "the region",
        LocationType="availability-zone" if zone else "region",
        Filters=filters,
    )
    return {item["InstanceType"] async for item in found}


async def choose(ec2: Ec2, machine: Ec2Machine, families: tuple[str, ...], zone: str) -> tuple[list[str], str]:
    """The types to try, the best first, and what is missing if there are none. AwsError."""
    known = await described(ec2, tuple(f"{family}.*" for family in families))
    names = tuple(one.name for one in ranked(known.values(), machine, families))[:LOOKED_AT]
    here = await offered(ec2, zone, names) if names else set()
    good = [name for name in names if name in here]
    if good:
        return good[:MOST_CANDIDATES], ""
    needs = f"{machine.cpus} vCPUs and {machine.memory_mib} MiB"
    return [], (
        f"no instance type of {', '.join(families)} in {zone or 'the region'} has {needs} and takes this VM; set "
        "instance_type or instance_families in the recovery plan"
    )
