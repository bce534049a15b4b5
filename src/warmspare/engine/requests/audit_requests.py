"""Audits of a replica and of a repository, and of the kept reports themselves."""

from __future__ import annotations

from pathlib import Path

from warmspare.engine.request import Request, RunContext
from warmspare.engine.wiring.audit_end import (
    FINDINGS,
    AuditEnd,
    conclude,
    demand_page,
    reports_directory,
    seen_before,
)
from warmspare.engine.wiring.usual_repository import RepositoryRequest
from warmspare.observe.kinds.audit_events import AuditStart, ReportsVerified, ReportWrong


class ReplicaAuditRequest(RepositoryRequest[AuditEnd], frozen=True, kw_only=True):
    """Hold every block of a replica against its restore point.

    replica: as it was given to apply. at: the restore point that it must be at. percent: judge this share of the blocks
    only, drawn anew each time. repair: put right what is found wrong; dry_run: with it, only say what is. uncached:
    read the medium, and not what the page cache has of it. threads: how many hash; 0: one a core. state: where the
    replica's state is; None: beside it. reports: where reports are kept, in a chain; None: the usual place. html: a
    page for a browser, too.
    """

    carried = AuditEnd
    progress = ("read",)

    vm: str
    replica: Path
    at: str | None = None
    percent: float | None = None
    repair: bool = False
    dry_run: bool = False
    uncached: bool = False
    threads: int = 0
    state: Path | None = None
    reports: Path | None = None
    html: Path | None = None

    async def perform(self, run: RunContext) -> AuditEnd:
        from warmspare.audit.expected.sample import demand_percent
        from warmspare.audit.replica.replica_audit import ReplicaAudit, ReplicaAuditSettings

        demand_page(self.html)
        settings = ReplicaAuditSettings(
            at=self.at,
            percent=demand_percent(self.percent),
            repair=self.repair and not self.dry_run,
            state=self.state,
            uncached=self.uncached,
            threads=self.threads,
        )
        store = self.repository.open(run.retrying)
        try:
            report = await ReplicaAudit(
                store,
                self.vm,
                self.replica,
                run.host.folder("tmp"),
                run.host.folder("audits", "unfinished"),
                run.events,
                settings,
                run.meter,
            ).run()
        finally:
            await store.close()
        return conclude(report, run, reports=self.reports, html=self.html)


class RepositoryAuditRequest(RepositoryRequest[AuditEnd], frozen=True, kw_only=True):
    """Check that a repository is whole.

    vm: its ID or name; None: all. deep: download everything and hash every block of every restore point. repair: put
    right what is found wrong; dry_run: with it, only say what is. against: files that tell what was seen of the
    repository before. scratch: where working files go; None: with the state. reports, html: as of an audit of a
    replica.
    """

    carried = AuditEnd
    progress = ("read",)

    vm: str | None = None
    deep: bool = False
    repair: bool = False
    dry_run: bool = False
    against: tuple[Path, ...] = ()
    scratch: Path | None = None
    reports: Path | None = None
    html: Path | None = None

    async def perform(self, run: RunContext) -> AuditEnd:
        from warmspare.audit.repository.repository_audit import RepositoryAudit

        uri = self.repository.uri
        demand_page(self.html)
        repair = self.repair and not self.dry_run
        known = seen_before(self.against, self.reports, uri, self.vm, run.host)
        run.events.emit(
            AuditStart(
                kind="repository",
                vm=self.vm or "",
                repository=uri,
                subject=uri,
                point=None,
                bytes_total=0,
                repair=repair,
                resumed=None,
            )
        )
        store = self.repository.open(run.retrying)
        try:
            report = await RepositoryAudit(
                store,
                self.scratch or run.host.folder("audit"),
                known,
                run.events,
                vm=self.vm,
                deep=self.deep,
                repair=repair,
                meter=run.meter,
            ).run()
        finally:
            await store.close()
        return conclude(report, run, reports=self.reports, html=self.html)


class ReportsRequest(Request[ReportsVerified], frozen=True, kw_only=True):
    """Check that no kept report of an audit is missing or was edited. head: the SHA-256 of one that must be among them,
    as noted elsewhere."""

    reports: Path | None = None
    head: str | None = None

    async def perform(self, run: RunContext) -> ReportsVerified:
        from warmspare.audit.reports import archive
        from warmspare.threads import in_thread

        directory = reports_directory(self.reports, run.host)
        head = self.head.lower() if self.head else None
        found = await in_thread(archive.of(directory).verify, head=head)
        for subject, what in found.wrong:
            run.events.emit(ReportWrong(report=subject, message=what))
        done = ReportsVerified(
            directory=str(directory),
            count=found.count,
            wrong=len(found.wrong),
            head=str(found.head.path) if found.head else None,
            sha256=found.head.sha256 if found.head else None,
        )
        run.events.emit(done)
        return done

    def exit_code(self, result: ReportsVerified) -> int:
        return FINDINGS if result.wrong else 0
