"""`warmspare copy`: restore points from one repository to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter


def copy(
    source: Annotated[
        str, typer.Option("--from", metavar="URI", help="The repository to copy from: s3://BUCKET/PREFIX or a path.")
    ],
    destination: Annotated[
        str, typer.Option("--to", metavar="URI", help="The one to copy to; `warmspare init` makes it.")
    ],
    vm: options.OneVm = None,
    limit: options.Limit = None,
    endpoint_url: Annotated[
        str | None,
        typer.Option("--endpoint-url", metavar="URL", help="The S3 server of --to, where it is not Amazon's own."),
    ] = None,
    from_endpoint_url: Annotated[
        str | None,
        typer.Option("--from-endpoint-url", metavar="URL", help="The S3 server of --from, likewise."),
    ] = None,
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="The AWS profile for --to.")] = None,
    from_profile: Annotated[
        str | None, typer.Option("--from-profile", metavar="NAME", help="The AWS profile for --from.")
    ] = None,
    s3: Annotated[
        list[str] | None,
        typer.Option("--s3", metavar="KEY=VALUE", help="What the site of --to demands; see the configuration's keys."),
    ] = None,
    from_s3: Annotated[
        list[str] | None, typer.Option("--from-s3", metavar="KEY=VALUE", help="What the site of --from demands.")
    ] = None,
    region: Annotated[str | None, typer.Option("--region", metavar="NAME", help="The AWS region of --to.")] = None,
    from_region: Annotated[
        str | None, typer.Option("--from-region", metavar="NAME", help="The AWS region of --from.")
    ] = None,
    single_sender: options.SingleSender = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Copy restore points to another repository: what is missing there, verified."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from contextlib import AsyncExitStack

        from warmspare.cli.wiring.rate_limit import kept, parse_limit
        from warmspare.copy.copier import Copier
        from warmspare.observe.kinds.apply import CopyDone
        from warmspare.store.opening import open_store, same_place

        bytes_s = parse_limit(limit)
        ends = [
            (source, options.check_endpoint(from_endpoint_url)),
            (destination, options.check_endpoint(endpoint_url)),
        ]
        accounts = [(from_profile, from_region, options.site(from_s3)), (profile, region, options.site(s3))]
        async with AsyncExitStack() as stack:
            stores = []
            for (uri, url), (account, place, site) in zip(ends, accounts, strict=True):
                told = retrying(events)
                stores.append(
                    open_store(uri, endpoint_url=url, profile=account, region=place, site=site, on_retry=told)
                )
                stack.push_async_callback(stores[-1].close)
            if same_place(*ends):
                raise ConfigError("--from and --to are the same repository", where=destination, hint="name another")
            target = stack.enter_context(kept(stores[1], bytes_s))
            done = await Copier(
                stores[0], target, options.state_root(), events, meter=meter, single_sender=single_sender
            ).run(vm)
        events.emit(
            CopyDone(
                vms=done.vms,
                points=done.points,
                objects=done.objects,
                objects_there=done.there,
                bytes_read=done.bytes_read,
                bytes_sent=done.bytes_sent,
                seconds=round(done.seconds, 3),
            )
        )
        return 0

    return execute(work, as_json=json, debug=debug, names=("read", "sent"))
