"""`warmspare audit repository`: whether the restore points, and all that they name, are what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.cli.telling.audit_end import Html, Repair, Reports, conclude, demand_page, reports_directory

if TYPE_CHECKING:
    from warmspare.audit.repository.seen import KnownRepository
    from warmspare.observe.events import Events, Meter

Against = Annotated[
    list[Path] | None,
    typer.Option(
        "--against",
        metavar="FILE",
        help="What saw the repository before: a kept report, a sync's state.json, a replica's replica.json.",
    ),
]


def seen_before(against: list[Path] | None, reports: Path | None, uri: str, vm: str | None) -> KnownRepository:
    """What the files tell, and the newest kept reports of this repository."""
    from warmspare.audit.repository import seen as known

    found = known.of_kept(reports_directory(reports), uri, vm or "")
    for path in against or []:
        known.read(path, found)
    return found


def repository(
    repo: options.Repo,
    vm: options.OneVm = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Download everything and hash every block of every restore point.")
    ] = False,
    repair: Repair = False,
    against: Against = None,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", metavar="DIR", help="Where working files go (default: with the state)."),
    ] = None,
    reports: Reports = None,
    html: Html = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Check that a repository is whole; --deep reads all of it."""
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.audit.repository.repository_audit import RepositoryAudit
        from warmspare.observe.kinds.audit import AuditStart
        from warmspare.store.opening import open_store

        demand_page(html)
        known = seen_before(against, reports, repo, vm)
        events.emit(
            AuditStart(
                kind="repository",
                vm=vm or "",
                repository=repo,
                subject=repo,
                point=None,
                bytes_total=0,
                repair=repair,
                resumed=None,
            )
        )
        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            audit = RepositoryAudit(
                store,
                scratch or options.state_folder("audit"),
                known,
                events,
                vm=vm,
                deep=deep,
                repair=repair,
                meter=meter,
            )
            report = await audit.run()
        finally:
            await store.close()
        return conclude(report, events, reports=reports, html=html, as_json=json)

    return execute(work, as_json=json, debug=debug, names=("read",))
