"""How VMs stand: what repositories hold of them, and what this host has kept."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.engine.host_places import config_path
from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import Request, RunContext
from warmspare.errors import ConfigError, IntegrityError, WarmspareError
from warmspare.observe.kinds.repository_events import StatusDone, VmStatusTold

if TYPE_CHECKING:
    from warmspare.engine.wiring.fleet_expected import FleetExpected
    from warmspare.model.ids import VmKey
    from warmspare.recover.staging.staged import StagedPoint
    from warmspare.repository.chain import Repository
    from warmspare.repository.vm_heads import VmHead
    from warmspare.status.host_records import HostRecords, RecordPlaces
    from warmspare.store.contract import Store

ATTENTION = 7
CONNECTIONS = 48  # small requests, side by side


class StatusRequest(Request[list[VmStatusTold]], frozen=True, kw_only=True):
    """Say how VMs stand. Writes nothing, and takes no lease and no lock.

    repository: this one; None: those of the configuration. config: its VMs are looked for, and their RPOs count; None:
    no configuration beside a repository, without one the usual file. vms: only of these IDs or names. staged: ask EC2
    what is staged, in this region, by this profile. state: of this host's sender; records, reports: of its drills and
    audits; None: the usual places. strict: whether what needs somebody shows in the exit code. What can't be looked at
    is raised after everything else was told.
    """

    repository: RepositoryPlace | None = None
    config: Path | None = None
    vms: tuple[str, ...] = ()
    staged: bool = False
    region: str | None = None
    profile: str | None = None
    state: Path | None = None
    records: Path | None = None
    reports: Path | None = None
    strict: bool = False

    async def perform(self, run: RunContext) -> list[VmStatusTold]:
        told: list[VmStatusTold] = []
        failed: list[WarmspareError] = []
        for place, expected in self._repositories():
            try:
                statuses = await self._of(place, expected, run, failed)
            except WarmspareError as error:  # the others are told all the same
                failed.append(error)
                continue
            for status in statuses:
                run.events.emit(status)
            told += statuses
        if failed:
            raise failed[0]
        lacking = [name for name in self.vms if not any(_means(name, one) for one in told)]
        if lacking:
            raise ConfigError(f"there is no VM {lacking[0]!r} here", hint="`warmspare status` shows which there are")
        attention = sum(one.attention for one in told)
        damaged = sum(one.state == "damaged" for one in told)
        run.events.emit(StatusDone(vms=len(told), attention=attention, damaged=damaged))
        return told

    def exit_code(self, result: list[VmStatusTold]) -> int:
        if not self.strict:
            return 0
        if any(one.state == "damaged" for one in result):
            return IntegrityError.exit_code
        return ATTENTION if any(one.attention for one in result) else 0

    def _repositories(self) -> list[tuple[RepositoryPlace, FleetExpected]]:
        """Those that are meant, each with what the configuration expects there."""
        from warmspare.engine.wiring.fleet_expected import FleetExpected

        if self.repository is not None and self.config is None:
            return [(self.repository, FleetExpected())]
        from warmspare.config.load import load

        settings = load(config_path(self.config))
        if self.repository is not None:
            return [(self.repository, FleetExpected.of(settings, self.repository.uri, self.config))]
        return [
            (RepositoryPlace.of(one), FleetExpected.of(settings, one.uri, self.config)) for one in settings.repositories
        ]

    async def _of(
        self, place: RepositoryPlace, expected: FleetExpected, run: RunContext, failed: list[WarmspareError]
    ) -> list[VmStatusTold]:
        """The VMs of one repository, by their names."""
        from warmspare.repository.chain import open_repository
        from warmspare.status.host_records import records_of
        from warmspare.status.vm_status import StatusBoard
        from warmspare.threads import in_thread

        store = place.open(run.retrying, concurrency=CONNECTIONS)
        try:
            repository = await open_repository(store)
            kept = await in_thread(records_of, self._places(expected, run), repository.id, run.events)
            heads = await self._heads(repository, expected, kept)
            staged = await self._staged(repository, run, failed) if self.staged else None
            board = StatusBoard(store.uri, time.time(), kept, partial(_bare, store), staged)
        finally:
            await store.close()
        told = [board.told(head, one) for head, one in expected.matched(heads, kept.adopted)]
        meant = [one for one in told if not self.vms or any(_means(name, one) for name in self.vms)]
        return sorted(meant, key=lambda one: (one.vm_name.casefold(), one.vm))

    def _places(self, expected: FleetExpected, run: RunContext) -> RecordPlaces:
        from warmspare.status.host_records import RecordPlaces

        usual = self.state if self.state is not None else run.host.root
        return RecordPlaces(
            tuple(dict.fromkeys([usual, *expected.senders])),
            self.records if self.records is not None else run.host.folder("drill-records"),
            self.reports if self.reports is not None else run.host.folder("audits"),
        )

    async def _heads(self, repository: Repository, expected: FleetExpected, kept: HostRecords) -> list[VmHead]:
        """Of all, or of those that are asked for and there."""
        from warmspare.repository.vm_heads import all_heads, head_of
        from warmspare.repository.vm_lookup import find

        if not self.vms:
            known = [*kept.senders, *expected.ids(kept.adopted)]
            return await all_heads(repository, known=known, called=expected.names)
        found = [await find(repository, expected.called(name, kept.adopted)) for name in self.vms]
        return [
            await head_of(repository, vm) for vm in dict.fromkeys(one.id for one in found if one.newest is not None)
        ]

    async def _staged(
        self, repository: Repository, run: RunContext, failed: list[WarmspareError]
    ) -> dict[VmKey, StagedPoint] | None:
        """What EC2 has; None where it can't be asked, which is noted."""
        from warmspare.recover.aws.client import Aws, AwsSettings
        from warmspare.recover.staging.staged import newest_staged

        try:
            async with Aws(AwsSettings(self.region, self.profile), on_retry=run.retrying) as aws:
                return await newest_staged(aws, repository.id)
        except WarmspareError as error:
            failed.append(error)
            return None


def _bare(store: Store, name: str, vm: str, *more: str) -> str:
    """A command of ours, without the quotes that it has in a sentence."""
    from warmspare.repository.remedy_commands import command

    return command(store, name, vm, *more)[1:-1]


def _means(name: str, status: VmStatusTold) -> bool:
    return name in (status.vm, status.vm_name, status.configured)
