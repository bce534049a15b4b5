"""`warmspare init`: makes repositories, which no other command does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter
    from warmspare.store.contract import Store


def init(
    places: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="URI|NAME...",
            help="Where: s3://BUCKET/PREFIX, file:///PATH or a path. With --config: names of its repositories, or all.",
        ),
    ] = None,
    config: options.Config = None,
    endpoint_url: options.Endpoint = None,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="The AWS profile.")] = None,
    region: options.Region = None,
    s3: options.S3 = None,
    single_sender: options.SingleSender = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Make a repository, where `sync` and `copy` put restore points. One that is there stays as it is."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.cli.wiring.opening_store import open_configured
        from warmspare.config.load import load
        from warmspare.store.opening import open_store

        if config is None and places:
            url, site = options.check_endpoint(endpoint_url), options.site(s3)
            for uri in places:
                told = retrying(events)
                store = open_store(uri, endpoint_url=url, profile=profile, region=region, site=site, on_retry=told)
                await _make(store, events, single_sender=single_sender)
            return 0
        if endpoint_url or profile or region or s3 or single_sender:
            raise ConfigError(
                "--endpoint-url, --profile, --region, --s3 and --single-sender go with a URI, and none was given",
                hint="the configuration has them for its repositories; see `warmspare config example`",
            )
        settings = load(options.config_path(config))
        for one in [settings.repository(name) for name in places] if places else settings.repositories:
            await _make(open_configured(one, retrying(events)), events, single_sender=one.single_sender)
        return 0

    return execute(work, as_json=json, debug=debug)


async def _make(store: Store, events: Events, *, single_sender: bool) -> None:
    from warmspare.observe.kinds.repository import InitDone
    from warmspare.repository.making import make_repository

    try:
        made = await make_repository(store, events, single_sender=single_sender, host=options.state_root())
    finally:
        await store.close()
    events.emit(InitDone(repository=store.uri, id=made.record.id, created=made.record.created, made=made.anew))
