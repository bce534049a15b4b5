"""`warmspare audit replica`: a replica held against the restore point it is at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.cli.telling.audit_end import Html, Repair, Reports, Sample

if TYPE_CHECKING:
    from warmspare.observe.events import Events, Meter


def replica(
    vm: options.Vm,
    repo: options.Repo,
    target: Annotated[
        Path, typer.Option("--replica", metavar="PATH", help="The replica, as it was given to apply as --to.")
    ],
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="POINT", help="The restore point that it must be at."),
    ] = None,
    sample: Sample = None,
    repair: Repair = False,
    uncached: Annotated[
        bool, typer.Option("--uncached", help="Read the medium, and not what the page cache has of it.")
    ] = False,
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=0, max=64, help="How many hash (default: one a core).")
    ] = 0,
    state: options.ReplicaState = None,
    reports: Reports = None,
    html: Html = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Hold every block of a replica against its restore point."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.audit.expected.sample import parse_percent
        from warmspare.audit.replica.replica_audit import ReplicaAudit, ReplicaAuditSettings
        from warmspare.cli.telling.audit_end import conclude, demand_page
        from warmspare.store.opening import open_store

        demand_page(html)
        settings = ReplicaAuditSettings(
            at=at, percent=parse_percent(sample), repair=repair, state=state, uncached=uncached, threads=threads
        )
        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            audit = ReplicaAudit(
                store,
                vm,
                target,
                options.state_folder("tmp"),
                options.state_folder("audits", "unfinished"),
                events,
                settings,
                meter,
            )
            report = await audit.run()
        finally:
            await store.close()
        return conclude(report, events, reports=reports, html=html, as_json=json)

    return execute(work, as_json=json, debug=debug, names=("read",))
