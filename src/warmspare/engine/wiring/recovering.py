"""What a recovery works on: the repository, and EC2 of an account and region; as they are named, and by the recovery
plan where nothing names them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import RunContext
from warmspare.engine.wiring.usual_repository import settled
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.recover.aws.ec2 import Ec2
    from warmspare.recover.failover.plan import RecoveryPlan
    from warmspare.repository.chain import Repository


@asynccontextmanager
async def repository_of(
    plan: RecoveryPlan | None, place: RepositoryPlace | None, run: RunContext
) -> AsyncIterator[Repository]:
    """The repository alone, for as long as the block runs. place: its URI may be "" where only the rest of it is said.
    ConfigError if nothing names the repository, or there is none."""
    from warmspare.repository.chain import open_repository

    place = place or RepositoryPlace()
    uri = place.uri or (plan.repository if plan else None)
    if not uri:
        place = settled(place, [vm.vm for vm in plan.vms] if plan else (), run)
        uri = place.uri
    if not uri:
        raise ConfigError("the repository is not named", hint="give --repo URI, or set repository in the plan")
    url = place.endpoint_url or (plan.endpoint_url if plan else None)
    store = replace(place, uri=uri, endpoint_url=url).open(run.retrying, usual=plan.site if plan else None)
    try:
        yield await open_repository(store)
    finally:
        await store.close()


@asynccontextmanager
async def recovering(
    plan: RecoveryPlan | None, place: RepositoryPlace | None, region: str | None, run: RunContext
) -> AsyncIterator[tuple[Repository, Ec2]]:
    """Both, for as long as the block runs. ConfigError if nothing names the repository, or there is none."""
    from warmspare.recover.aws.client import Aws, AwsSettings
    from warmspare.recover.aws.ec2 import Ec2

    settings = AwsSettings(region or (plan.region if plan else None), plan.profile if plan else None)
    async with (
        repository_of(plan, place, run) as repository,
        Aws(settings, on_retry=run.retrying) as aws,
    ):
        yield repository, Ec2(aws)
