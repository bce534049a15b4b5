"""Volumes of instances that died before they ran: they outlive an instance, and cost money; refuses those of any other.
"""

from __future__ import annotations

from functools import partial

from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.ec2 import Ec2, Json, tag_filters, tags_in
from warmspare.recover.failover.launch import ATTEMPT, TERMINATED_S


async def clear(ec2: Ec2, run: str, attempt: int, about: str) -> None:
    """Delete the volumes of attempts of a run before this one, which died. AwsError, RecoverError."""
    found = ec2.pages("describe_volumes", "Volumes", about=about, Filters=tag_filters(run=run))
    older = [str(item["VolumeId"]) async for item in found if _attempt(item) < attempt]
    for each in older:
        what = "the volume of an instance that died is still in use"
        await ec2.until(partial(_gone, ec2, each), most_s=TERMINATED_S, what=what, where=each)


async def _gone(ec2: Ec2, volume: str) -> bool | None:
    try:
        await ec2.ask("delete_volume", about=volume, VolumeId=volume)
    except AwsError as error:
        if error.code == "VolumeInUse":  # of an instance that is still being ended
            return None
        if error.code != "InvalidVolume.NotFound":
            raise
    return True


def _attempt(volume: Json) -> int:
    """Of which attempt a volume is; what can't be told is of none that died."""
    said = tags_in(volume).get(ATTEMPT, "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 1 << 30
