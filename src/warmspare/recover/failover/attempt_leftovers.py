"""Volumes of instances that died before they ran: they outlive these, and cost money; refuses those of any other."""

from __future__ import annotations

import asyncio
from functools import partial

from warmspare.observe.housekeeping import Housekeeping
from warmspare.recover.aws.aws_errors import denied_by_aws
from warmspare.recover.aws.ec2 import Ec2, Json, tag_filters, tags_in
from warmspare.recover.aws.refused_deletion import delete
from warmspare.recover.failover.launch import ATTEMPT, TERMINATED_S


async def clear(ec2: Ec2, run: str, attempt: int, about: str, housekeeping: Housekeeping) -> None:
    """Delete the volumes of attempts of a run before this one, which died. Each that stays is told: it costs money."""
    tag = f"(tag warmspare:run = {run})"
    older: list[str] = []
    with housekeeping.trying("ec2:DescribeVolumes", f"volumes {tag}", denied=denied_by_aws):
        found = ec2.pages("describe_volumes", "Volumes", about=about, Filters=tag_filters(run=run))
        older = [str(item["VolumeId"]) async for item in found if _attempt(item) < attempt]
    await asyncio.gather(*(_clear(ec2, each, tag, housekeeping) for each in older))


async def _clear(ec2: Ec2, volume: str, tag: str, housekeeping: Housekeeping) -> None:
    what = "the volume of an instance that died is still in use"
    with housekeeping.trying("ec2:DeleteVolume", f"{volume} {tag}", denied=denied_by_aws):
        await ec2.until(partial(_gone, ec2, volume), most_s=TERMINATED_S, what=what, where=volume)


async def _gone(ec2: Ec2, volume: str) -> bool | None:
    refusal = await delete(ec2.aws, "delete_volume", volume, VolumeId=volume)
    if refusal is not None and refusal.code == "VolumeInUse":  # of an instance that is still being ended
        return None
    if refusal is not None:
        raise refusal
    return True


def _attempt(volume: Json) -> int:
    """Of which attempt a volume is; what can't be told is of none that died."""
    said = tags_in(volume).get(ATTEMPT, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 1 << 30
