"""`warmspare init`: makes repositories, which no other command does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from warmspare.cli import options
from warmspare.cli.command_parser import Option
from warmspare.cli.run import act
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.engine.repository_place import RepositoryPlace


class InitOptions(options.Told):
    places: Annotated[
        list[str],
        Option(
            metavar="URI|NAME",
            help="Where: s3://BUCKET/PREFIX, file:///PATH or a path. With --config: names of its repositories, or all.",
            complete="folder",
        ),
    ] = []  # noqa: RUF012 (never changed)
    repo: Annotated[str | None, Option("--repo", "-r", metavar="URI", help="The same, by its option.")] = None
    config: options.Config = None
    endpoint_url: options.Endpoint = None
    profile: options.Profile = None
    region: options.Region = None
    s3: options.S3 = []  # noqa: RUF012
    single_sender: options.SingleSender = False
    dry_run: options.DryRun = False

    def idle(self) -> set[str]:
        return {"config"} if self.config is None and (self.places or self.repo) else {"endpoint_url"}


def init(given: InitOptions) -> int:
    """Make a repository, where `sync` and `copy` put restore points. One that is there stays as it is."""
    from warmspare.engine.requests.repository_requests import InitRequest

    def request() -> InitRequest:
        return InitRequest(repositories=tuple(_places(given)), dry_run=given.dry_run)

    return act(request, given)


def _places(given: InitOptions) -> list[RepositoryPlace]:
    from warmspare.engine.repository_place import RepositoryPlace
    from warmspare.engine.requests.sync_requests import loaded

    places = [*given.places, *([given.repo] if given.repo else [])]
    if given.config is None and places:
        url, site = options.endpoint(given.endpoint_url), options.site(given.s3)
        return [RepositoryPlace(uri, url, given.profile, given.region, site, given.single_sender) for uri in places]
    if given.endpoint_url or given.profile or given.region or given.s3 or given.single_sender:
        raise ConfigError(
            "--endpoint-url, --profile, --region, --s3 and --single-sender go with a URI, and none was given",
            hint="the configuration has them for its repositories; see `warmspare config example`",
        )
    if given.repo:
        raise ConfigError("--repo and --config exclude each other", hint="name repositories of the configuration alone")
    settings = loaded(options.config_file(given.config))
    chosen = [settings.repository(name) for name in given.places] if given.places else settings.repositories
    return [RepositoryPlace.of(one) for one in chosen]
