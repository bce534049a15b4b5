"""Requests to EC2 with its errors in words, and waiting for what it does on its own time; refuses to know why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from warmspare.errors import RecoverError
from warmspare.recover.aws.aws_errors import AwsError
from warmspare.recover.aws.client import Aws
from warmspare.recover.aws.ec2_errors import explained

T = TypeVar("T")
Json = dict[str, Any]

POLL_S, POLL_MOST_S = 2.0, 15.0
UNSEEN_S = 120.0  # how long AWS may take to show what it has just made


@dataclass(frozen=True, slots=True)
class Pause:
    """The time between two looks: first_s, half as much again each time, up to most_s."""

    first_s: float = POLL_S
    most_s: float = POLL_MOST_S


class Ec2:
    """One account in one region. pause: between two looks at something that takes its time."""

    def __init__(self, aws: Aws, pause: Pause | None = None) -> None:
        self.aws, self.pause = aws, pause or Pause()

    async def ask(self, operation: str, *, about: str, **parameters: Any) -> Json:
        """One request (`run_instances`). AwsError in words."""
        try:
            return await self.aws.call("ec2", operation, about=about, **parameters)
        except AwsError as error:
            raise explained(error) from error

    async def pages(self, operation: str, key: str, *, about: str, **parameters: Any) -> AsyncIterator[Json]:
        """The items of all pages of a listing. AwsError in words."""
        try:
            async for item in self.aws.pages("ec2", operation, key, about=about, **parameters):
                yield item
        except AwsError as error:
            raise explained(error) from error

    async def until(self, look: Callable[[], Awaitable[T | None]], *, most_s: float, what: str, where: str) -> T:
        """What `look` finds at last. RecoverError (`what` is the clause for it) after most_s; what it raises."""
        deadline, pause_s = time.monotonic() + most_s, self.pause.first_s
        while True:
            found = await look()
            if found is not None:
                return found
            if time.monotonic() >= deadline:
                hint = "run again to wait on; EC2 shows it under that ID"
                raise RecoverError(what, where=where, hint=hint, retryable=True)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, self.pause.most_s)


def tag_list(tags: dict[str, str]) -> list[Json]:
    """As AWS takes them, sorted."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def tagged(kind: str, tags: dict[str, str]) -> Json:
    """One entry of TagSpecifications."""
    return {"ResourceType": kind, "Tags": tag_list(tags)}


def tags_in(item: Json) -> dict[str, str]:
    """The tags of a thing as AWS describes it."""
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}


def tag_filters(**tags: str) -> list[Json]:
    """Filters for our tags: `tag_filters(vm="x")` is `tag:warmspare:vm`."""
    return [{"Name": f"tag:warmspare:{key}", "Values": [value]} for key, value in tags.items()]
