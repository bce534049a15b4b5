"""Audits of the source: disks of a VM, read afresh and held against its newest restore point."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from warmspare.engine.given_disks import GivenDisksOf, demand_disks
from warmspare.engine.overrides import Overrides
from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.engine.requests.sync_requests import loaded
from warmspare.engine.wiring.audit_end import AuditEnd, conclude, demand_page
from warmspare.engine.wiring.usual_repository import RepositoryRequest
from warmspare.errors import WarmspareError, worst
from warmspare.observe.kinds.sync_events import SyncFailed

if TYPE_CHECKING:
    from warmspare.audit.source.source_verdict import SourceAuditSettings, SourceVerdict
    from warmspare.config.settings import Settings
    from warmspare.engine.wiring.configured import FoundVm
    from warmspare.model.extents import Extents
    from warmspare.model.ids import DiskId
    from warmspare.source.ports import Machine
    from warmspare.store.contract import Store
else:
    Settings = Any  # whoever has one has read its module

Heal = Callable[[RunContext, Mapping["DiskId", "Extents"]], Awaitable[object]]


class Judging(msgspec.Struct, frozen=True, kw_only=True):
    """How audits of a source go. percent: judge this share of the blocks only, drawn anew each time. repair: sync what
    differs and judge that again, with local state in `state` and at most `limit` bytes a second; dry_run: with it, only
    say what does. reports: where reports are kept, in a chain; None: the usual place. html: a page for a browser,
    too."""

    percent: float | None = None
    repair: bool = False
    dry_run: bool = False
    state: Path | None = None
    limit: float | None = None
    reports: Path | None = None
    html: Path | None = None

    async def audited(self, store: Store, machine: Machines, after: Machines, heal: Heal, run: RunContext) -> AuditEnd:
        """Judge; then, if that was asked for, sync what differs and judge that again. machine: makes one for one use,
        after: for the last."""
        from warmspare.audit.expected.sample import demand_percent
        from warmspare.audit.source.source_audit import SourceAudit
        from warmspare.audit.source.source_report import Repair, report
        from warmspare.audit.source.source_verdict import SourceAuditSettings
        from warmspare.observe.events import Meter

        scratch = run.host.folder("tmp")

        async def judged(make: Machines, settings: SourceAuditSettings) -> SourceVerdict:
            used = await make()
            try:
                return await SourceAudit(store, used, run.events, scratch, settings, run.meter).run()
            finally:
                await used.close()

        settings = SourceAuditSettings(demand_percent(self.percent))
        verdict = await judged(machine, settings)
        repair = None
        if self.repair and not self.dry_run and (wrong := verdict.wrong):
            await heal(run.told(run.events, Meter()), wrong)
            second = await judged(after, SourceAuditSettings(only=wrong))
            repair = Repair(second.point.id.label, second)
        done = report(verdict, settings, run.meter.seconds, repair)
        return conclude(done, run, reports=self.reports, html=self.html)


Machines = Callable[[], Awaitable["Machine"]]


class SourceAuditRequest(RepositoryRequest[AuditEnd], frozen=True, kw_only=True):
    """Prove that change tracking lost nothing: read given disks again and compare. Their extents are what is known to
    have changed since the newest restore point, and is not judged."""

    carried = AuditEnd
    progress = ("read",)

    disks: GivenDisksOf
    judging: Judging = Judging()

    def meant(self) -> tuple[str, ...]:
        return (self.disks.vm,)

    async def perform(self, run: RunContext) -> AuditEnd:
        from warmspare.engine.wiring.rate_limit import kept
        from warmspare.sync.sender import Sender
        from warmspare.sync.sync_settings import SyncSettings

        judging = self.judging
        demand_page(judging.html)
        demand_disks(self.disks.disks)
        store = self.repository.open(run.retrying)

        async def machine() -> Machine:
            return await self.disks.open(run.events)

        async def heal(own: RunContext, also: Mapping[DiskId, Extents]) -> None:
            from warmspare.engine.wiring.sync_end import published

            with kept(store, judging.limit, run.host, self.repository.limit) as target:
                root = run.host.root
                single = self.repository.single_sender
                settings = SyncSettings(judging.state or root, single_sender=single, host=root)
                given = await self.disks.open(own.events)
                try:
                    result = await Sender(target, given, settings, own.events, meter=own.meter, also=also).run()
                finally:
                    await given.close()
            published(result, own.events)

        async def after() -> Machine:
            """After the repair's sync nothing has changed since the newest point: it was made of these very disks."""
            return await self.disks.open(run.events, unchanged=False)

        try:
            return await judging.audited(store, machine, after, heal, run)
        finally:
            await store.close()


class SourceAudits(msgspec.Struct, frozen=True):
    """What became of each VM."""

    vms: tuple[AuditEnd | SyncFailed, ...]

    @property
    def exit_code(self) -> int:
        return worst(each.exit_code for each in self.vms)


class FleetAuditRequest(Request[SourceAudits], frozen=True, kw_only=True):
    """The same of VMs of the configuration, through a snapshot each; one after the other: an audit must not crowd out
    the syncs. vms: `[vm.NAME]`s; none: all. config: the file; None: the usual one. settings: instead of a file."""

    carried = SourceAudits
    progress = ("read",)

    vms: tuple[str, ...] = ()
    config: Path | None = None
    settings: Settings | None = None
    judging: Judging = Judging()

    async def perform(self, run: RunContext) -> SourceAudits:
        from warmspare.audit.expected.sample import demand_percent
        from warmspare.engine.error_groups import naming
        from warmspare.engine.wiring.configured import find_all, one_failed, only

        demand_page(self.judging.html)
        demand_percent(self.judging.percent)
        settings = self.settings or loaded(self.config)
        async with AsyncExitStack() as stack:
            found, missed = await find_all(settings, self.vms, run, stack)
            if (alone := only(found, missed)) is not None:
                with naming(alone.info.name):
                    return SourceAudits((await self._found(alone, run),))
            ends: list[AuditEnd | SyncFailed] = [one_failed(one.error, run.events, one.settings.name) for one in missed]
            for one in found:
                try:
                    run.meter.restart()
                    with naming(one.info.name):
                        ends.append(await self._found(one, run))
                except WarmspareError as error:
                    ends.append(one_failed(error, run.events, one.info.name))
            return SourceAudits(tuple(ends))

    async def _found(self, found: FoundVm, run: RunContext) -> AuditEnd:
        from warmspare.engine.wiring.configured import machine_of, refuse_twins, sync_found

        refuse_twins(found)
        # What may not be compared in full can't be judged, and that is said; and an audit changes no VM.
        policy = replace(found.settings.policy, full_compare="auto")

        async def machine() -> Machine:
            return machine_of(found, policy, run.events, enable_tracking=False)

        async def heal(own: RunContext, also: Mapping[DiskId, Extents]) -> None:
            await sync_found(found, Overrides(state=self.judging.state, limit=self.judging.limit), own, also)

        store = RepositoryPlace.of(found.settings.repository).open(run.retrying)
        try:
            return await self.judging.audited(store, machine, machine, heal, run)
        finally:
            await store.close()
