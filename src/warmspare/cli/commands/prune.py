"""`warmspare prune`: remove what no restore point names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.cli.commands.audits.audit_repository import Against
from warmspare.cli.telling.audit_end import Reports

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter


def prune(
    repo: options.Repo,
    vm: Annotated[str | None, typer.Option("--vm", metavar="ID", help="Only this VM; otherwise all there are.")] = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Only what the store has had for longer: 7d, 36h.")
    ] = "7d",
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; otherwise only say what would be removed.")] = False,
    against: Against = None,
    reports: Reports = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Remove objects and uploads that no restore point names and no sync can use any more."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.audit.repository.removal import Prune
        from warmspare.cli.commands.audits.audit_repository import seen_before
        from warmspare.config.values import duration
        from warmspare.errors import StoreError
        from warmspare.model.ids import VmId
        from warmspare.observe.kinds.repository import PruneDone
        from warmspare.store.opening import open_store

        older_s = duration(older_than)
        known = seen_before(against, reports, repo, vm)
        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            run = Prune(
                store,
                options.state_folder("tmp"),
                known,
                events,
                vm=None if vm is None else VmId(vm),
                older_s=older_s,
                remove=yes,
            )
            done = await run.run()
        finally:
            await store.close()
        events.emit(
            PruneDone(
                repository=repo,
                removed=yes,
                objects=done.objects,
                bytes=done.bytes,
                uploads=done.uploads,
                objects_kept=done.kept,
                objects_left=done.objects_left,
                uploads_left=done.uploads_left,
            )
        )
        if done.objects_left or done.uploads_left:
            raise StoreError(
                f"{done.objects_left} objects and {done.uploads_left} uploads could not be removed, all others were",
                where=repo,
                hint="see the warnings for why, and run again",
            )
        return 0

    return execute(work, as_json=json, debug=debug)
