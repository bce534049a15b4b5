"""What a recovery works on: the repository, and EC2 of an account and region; by the options, and by the recovery plan
where these say nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events
    from warmspare.recover.aws.ec2 import Ec2
    from warmspare.recover.failover.plan import RecoveryPlan
    from warmspare.repository.chain import Repository


@asynccontextmanager
async def repository_of(
    plan: RecoveryPlan | None,
    events: Events,
    *,
    repo: str | None,
    endpoint_url: str | None,
    s3: list[str] | None = None,
) -> AsyncIterator[Repository]:
    """The repository alone, for as long as the block runs. ConfigError if nothing names it, or there is none."""
    from warmspare.cli.run import retrying
    from warmspare.repository.chain import open_repository
    from warmspare.store.opening import open_store

    uri = repo or (plan.repository if plan else None)
    if uri is None:
        raise ConfigError("the repository is not named", hint="give --repo URI, or set repository in the plan")
    url = options.check_endpoint(endpoint_url or (plan.endpoint_url if plan else None))
    site = options.site(s3) or (plan.site if plan else None)
    store = open_store(uri, endpoint_url=url, site=site, on_retry=retrying(events))
    try:
        yield await open_repository(store)
    finally:
        await store.close()


@asynccontextmanager
async def recovering(
    plan: RecoveryPlan | None,
    events: Events,
    *,
    repo: str | None,
    region: str | None,
    endpoint_url: str | None,
    s3: list[str] | None = None,
) -> AsyncIterator[tuple[Repository, Ec2]]:
    """Both, for as long as the block runs. ConfigError if nothing names the repository, or there is none."""
    from warmspare.cli.run import retrying
    from warmspare.recover.aws.client import Aws, AwsSettings
    from warmspare.recover.aws.ec2 import Ec2

    made = repository_of(plan, events, repo=repo, endpoint_url=endpoint_url, s3=s3)
    settings = AwsSettings(region or (plan.region if plan else None), plan.profile if plan else None)
    async with made as repository, Aws(settings, on_retry=retrying(events)) as aws:
        yield repository, Ec2(aws)
