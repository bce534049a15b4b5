"""What each type of EBS volume takes: sizes, IOPS, throughput, and whether it starts an instance; owns the limits, and
refuses to ask AWS.

AWS documents: "Amazon EBS volume types", and "EbsBlockDevice" of EC2's API. An account's quotas are another matter, and
so are Local Zones and Outposts, which have lower limits. Of gp3 any disk can be one that can be a restore point's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from warmspare.recover.failover.plan import VolumeSettings


@dataclass(frozen=True, slots=True)
class Limits:
    """gib: of its size. iops: None where it takes none. iops_a_gib: at most, but for the least of `iops`. throughput:
    in MiB/s, None where it takes none. starts: whether an instance can start from it. demands_iops: whether they must
    be given."""

    gib: tuple[int, int]
    iops: tuple[int, int] | None = None
    iops_a_gib: int = 0
    throughput: tuple[int, int] | None = None
    starts: bool = True
    demands_iops: bool = False


LIMITS: Final[dict[str, Limits]] = {
    "gp3": Limits((1, 65_536), (3_000, 80_000), 500, (125, 2_000)),
    "gp2": Limits((1, 16_384)),
    "io1": Limits((4, 16_384), (100, 64_000), 50, demands_iops=True),
    "io2": Limits((4, 65_536), (100, 256_000), 1_000, demands_iops=True),
    "st1": Limits((125, 16_384), starts=False),
    "sc1": Limits((125, 16_384), starts=False),
    "standard": Limits((1, 1_024)),
}
IOPS_A_MIB_S: Final = 4  # of gp3: so many for each MiB/s


@dataclass(frozen=True, slots=True)
class Wrong:
    """key: of the plan's `volumes`, which may be the default's. what, hint: clauses."""

    key: str
    what: str
    hint: str


def wrong_by_itself(volumes: VolumeSettings) -> Iterator[Wrong]:
    """What no volume of that type takes, whatever its size."""
    limits, kind = LIMITS[volumes.type], volumes.type
    if not limits.starts:
        yield Wrong(
            "type",
            f"no instance starts from a volume of type {kind}, and all of a VM's are of one type",
            "take gp3, and change the others' type when it runs",
        )
        return
    if limits.iops is None and volumes.iops is not None:
        yield Wrong("iops", f"volumes of type {kind} take no iops", "take iops out, or take gp3 or io2")
    elif limits.demands_iops and volumes.iops is None:
        yield Wrong("type", f"volumes of type {kind} have as many IOPS as are asked for", "set iops too")
    elif limits.iops and volumes.iops is not None and not limits.iops[0] <= volumes.iops <= limits.iops[1]:
        yield Wrong(
            "iops",
            f"volumes of type {kind} take {limits.iops[0]} to {limits.iops[1]} IOPS",
            "set iops to one of these, or take io2, which has up to 256000",
        )
    if volumes.throughput_mib_s is None:
        return
    if limits.throughput is None:
        yield Wrong("throughput", f"volumes of type {kind} take no throughput", "take throughput out, or take gp3")
    elif limits.iops and volumes.throughput_mib_s * IOPS_A_MIB_S > (volumes.iops or limits.iops[0]):
        least = volumes.throughput_mib_s * IOPS_A_MIB_S
        yield Wrong(
            "throughput",
            f"{volumes.throughput_mib_s} MiB/s need {least} IOPS of a volume of type {kind}",
            f"set iops = {least}, or less throughput",
        )


def wrong_for(volumes: VolumeSettings, disks: Iterable[tuple[str, int]]) -> list[str]:
    """What disks of these names and GiB can't be as volumes of that type, a sentence each with what to do."""
    limits, kind = LIMITS[volumes.type], volumes.type
    where = f"volumes ({volumes.place})" if volumes.place else "volumes"
    out = []
    for name, gib in disks:
        if not limits.gib[0] <= gib <= limits.gib[1]:
            out.append(
                f"disk {name} is {gib} GiB, and a volume of type {kind} has {limits.gib[0]} to {limits.gib[1]}; take "
                f'type = "gp3" in {where} of the recovery plan'
            )
        elif volumes.iops and limits.iops and volumes.iops > (most := max(limits.iops_a_gib * gib, limits.iops[0])):
            out.append(
                f"disk {name} is {gib} GiB, and a volume of type {kind} of that size has at most {most} IOPS; set "
                f"iops = {most} or less in {where} of the recovery plan"
            )
    return out
