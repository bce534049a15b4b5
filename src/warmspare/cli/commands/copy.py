"""`warmspare copy`: restore points from one repository to another."""

from __future__ import annotations

from typing import Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act


class CopyOptions(options.Told):
    source: Annotated[
        str,
        Option(
            "--from",
            metavar="URI",
            help="The repository to copy from: s3://BUCKET/PREFIX or a path.",
            complete="folder",
        ),
    ]
    destination: Annotated[
        str, Option("--to", metavar="URI", help="The one to copy to; `warmspare init` makes it.", complete="folder")
    ]
    vm: options.OneVm = None
    limit: options.Limit = None
    endpoint_url: Annotated[
        str | None, Option("--endpoint-url", metavar="URL", help="The S3 server of --to, where it is not Amazon's own.")
    ] = None
    from_endpoint_url: Annotated[
        str | None, Option("--from-endpoint-url", metavar="URL", help="The S3 server of --from, likewise.")
    ] = None
    profile: Annotated[str | None, Option("--profile", metavar="NAME", help="The AWS profile for --to.")] = None
    from_profile: Annotated[
        str | None, Option("--from-profile", metavar="NAME", help="The AWS profile for --from.")
    ] = None
    s3: Annotated[
        list[str],
        Option("--s3", metavar="KEY=VALUE", help="What the site of --to demands; see the configuration's keys."),
    ] = []  # noqa: RUF012 (never changed)
    from_s3: Annotated[
        list[str], Option("--from-s3", metavar="KEY=VALUE", help="What the site of --from demands.")
    ] = []  # noqa: RUF012
    region: Annotated[str | None, Option("--region", metavar="NAME", help="The AWS region of --to.")] = None
    from_region: Annotated[str | None, Option("--from-region", metavar="NAME", help="The AWS region of --from.")] = None
    single_sender: options.SingleSender = False
    dry_run: options.DryRun = False


def copy(given: CopyOptions) -> int:
    """Copy restore points to another repository: what is missing there, verified."""
    from warmspare.engine.repository_place import RepositoryPlace
    from warmspare.engine.requests.replica_requests import CopyRequest

    def request() -> CopyRequest:
        limit = options.rate(given.limit)
        source_url, url = options.endpoint(given.from_endpoint_url), options.endpoint(given.endpoint_url)
        source_site, site = options.site(given.from_s3), options.site(given.s3)
        return CopyRequest(
            source=RepositoryPlace(given.source, source_url, given.from_profile, given.from_region, source_site),
            destination=RepositoryPlace(given.destination, url, given.profile, given.region, site, given.single_sender),
            vm=given.vm,
            limit=limit,
            dry_run=given.dry_run,
        )

    return act(request, given)
