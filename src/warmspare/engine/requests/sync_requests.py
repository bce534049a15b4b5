"""Syncs and looks at them: of given disks, or of VMs of the configuration."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from warmspare.engine.budget import Share
from warmspare.engine.given_disks import GivenDisksOf, demand_disks
from warmspare.engine.overrides import Overrides
from warmspare.engine.request import Request, RunContext
from warmspare.engine.wiring.usual_repository import RepositoryRequest
from warmspare.errors import ConfigError, worst
from warmspare.observe.kinds.sync_events import PlanDone, SyncAll, SyncDone, SyncFailed, SyncUnneeded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from warmspare.config.settings import Settings
    from warmspare.engine.wiring.configured import FoundVm
    from warmspare.source.given import GivenDisks
    from warmspare.store.contract import Store
    from warmspare.sync.sync_settings import SyncSettings
else:
    Settings = Any  # whoever has one has read its module

D = TypeVar("D", bound=SyncDone | PlanDone | SyncUnneeded)
T = TypeVar("T")
UNPROTECTED = 7
PROGRESS = ("read", "changed", "sent")
FULL = Share(160 << 20, 8, 24)  # of a sync of a disk of any size
SMALL_BYTES = 8 << 20  # what it takes besides buffers of blocks


class _DisksRequest(RepositoryRequest[T], frozen=True, kw_only=True):
    """What a sync of given disks, and a look at one, are told.

    state: where the sender keeps its local state; None: the usual place. level: of zstd, 1 to 9; None follows the
    bottleneck. limit: bytes a second, for all syncs of this host together. spool: where what was read waits for a thin
    link; spool_bytes: the most that may wait there. audit_period_s: with extents, the time in which all of the rest is
    read and compared too. new: the chain is to begin. not_after: a restore point by number or label; where the chain
    has a newer one already, nothing is done. request_id: what the restore point is made for; where one of the chain's
    newest was made for it, nothing is done.
    """

    progress = PROGRESS

    disks: GivenDisksOf
    state: Path | None = None
    level: int | None = None
    limit: float | None = None
    spool: Path | None = None
    spool_bytes: int | None = None
    audit_period_s: int | None = None
    new: bool = False
    not_after: str | None = None
    request_id: str | None = None

    def meant(self) -> tuple[str, ...]:
        return (self.disks.vm,)

    def share(self) -> Share:
        """Buffers are as large as the disks at most."""
        return Share(min(FULL.memory_bytes, SMALL_BYTES + 2 * self.disks.bytes_known()), FULL.threads, FULL.connections)

    def settings(self, run: RunContext) -> SyncSettings:
        """As the sender takes them. ConfigError."""
        from warmspare.model.ids import request_id
        from warmspare.sync.beginning import ChainStart
        from warmspare.sync.planning.rolling import Rolling
        from warmspare.sync.publishing.spool import SpoolPlace
        from warmspare.sync.sync_settings import SyncSettings

        demand_disks(self.disks.disks)
        if self.spool is None and self.spool_bytes is not None:
            raise ConfigError("--spool-size bounds a spool, and none is given", hint="name its directory with --spool")
        return SyncSettings(
            self.state or run.host.root,
            self.level,
            None if self.spool is None else SpoolPlace(self.spool.absolute(), self.spool_bytes),
            rolling=None if self.audit_period_s is None else Rolling(self.audit_period_s),
            start=ChainStart.NEW if self.new else ChainStart.GO_ON,
            single_sender=self.repository.single_sender,
            host=run.host.root,
            not_after=self.not_after,
            request=None if self.request_id is None else request_id(self.request_id),
        )

    @asynccontextmanager
    async def opened(self, run: RunContext) -> AsyncIterator[tuple[Store, GivenDisks, SyncSettings]]:
        """All that a sender takes, for as long as the block lasts."""
        from warmspare.engine.wiring.rate_limit import kept

        settings = self.settings(run)
        store = self.repository.open(run.retrying)
        try:
            with kept(store, self.limit, run.host, self.repository.limit) as target:
                machine = await self.disks.open(run.events)
                try:
                    yield target, machine, settings
                finally:
                    await machine.close()
        finally:
            await store.close()


class SyncRequest(_DisksRequest[SyncDone | SyncUnneeded], frozen=True, kw_only=True):
    """Make a restore point of given disks."""

    async def perform(self, run: RunContext) -> SyncDone | SyncUnneeded:
        from warmspare.engine.wiring.sync_end import published, unless_unneeded
        from warmspare.sync.sender import Sender

        async with self.opened(run) as (store, machine, settings):
            result = await unless_unneeded(Sender(store, machine, settings, run.events, meter=run.meter).run())
        return published(result, run.events)

    def exit_code(self, result: SyncDone | SyncUnneeded) -> int:
        return code_of(result)


class PlanRequest(_DisksRequest[PlanDone | SyncUnneeded], frozen=True, kw_only=True):
    """Say what a sync with the same values would send, and how long that takes; sends nothing."""

    async def perform(self, run: RunContext) -> PlanDone | SyncUnneeded:
        from warmspare.engine.wiring.sync_end import surveyed, unless_unneeded
        from warmspare.sync.sender import Sender

        async with self.opened(run) as (store, machine, settings):
            found = await unless_unneeded(Sender(store, machine, settings, run.events, meter=run.meter).survey())
        limits = self.repository.limit
        limit = self.limit if self.limit or limits is None else limits.rate(time.localtime())
        return surveyed(found, run.events, limit=limit, rpo_s=None)

    def exit_code(self, result: PlanDone | SyncUnneeded) -> int:
        return code_of(result)


class FleetEnd(msgspec.Struct, Generic[D], frozen=True):
    """What became of each VM, in no order; exit_code is what speaks for all."""

    vms: tuple[D | SyncFailed, ...]

    @property
    def exit_code(self) -> int:
        return worst(code_of(end) for end in self.vms)


def code_of(end: SyncDone | PlanDone | SyncUnneeded | SyncFailed) -> int:
    """The exit code of one VM."""
    match end:
        case SyncDone(unprotected=count):
            return UNPROTECTED if count else 0
        case PlanDone(rpo_holds=holds):
            return UNPROTECTED if holds is False else 0
        case SyncFailed(exit_code=code):
            return code
        case SyncUnneeded():
            return 0


class _FleetRequest(Request[FleetEnd[D]], Generic[D], frozen=True, kw_only=True):
    """What syncs of VMs of the configuration, and looks at them, are told.

    vms: `[vm.NAME]`s; none: all. config: the file; None: the usual one. settings: instead of a file, what a program
    has. overrides: what is said instead of what the configuration has.
    """

    progress = PROGRESS

    vms: tuple[str, ...] = ()
    config: Path | None = None
    settings: Settings | None = None
    overrides: Overrides = Overrides()

    def share(self) -> Share:
        """Of several at once; it is not known yet how many there are."""
        return FULL.plus(FULL)

    async def _each(
        self, run: RunContext, work: Callable[[FoundVm, Overrides, RunContext], Awaitable[D]]
    ) -> FleetEnd[D]:
        from warmspare.engine.error_groups import naming
        from warmspare.engine.wiring.configured import each_found, find_all, only
        from warmspare.model.ids import request_id

        how = self.overrides

        if how.new and how.adopt:
            raise ConfigError("--new and --adopt exclude each other", hint="give one of them")
        if how.request_id is not None:
            request_id(how.request_id)  # before a vCenter is asked
        settings = self.settings or loaded(self.config)
        async with AsyncExitStack() as stack:
            found, missed = await find_all(settings, self.vms, run, stack)
            if (one := only(found, missed)) is not None:
                with naming(one.info.name):
                    return FleetEnd((await work(one, how, run),))
            if how.not_after is not None:
                raise ConfigError("--not-after names a restore point of one VM", hint="give --vm NAME once")
            ends = await each_found(settings, found, missed, lambda vm, own: work(vm, how, own), run)
        end = FleetEnd(tuple(ends))
        codes = [code_of(each) for each in ends]
        failed = sum(code not in (0, UNPROTECTED) for code in codes)
        run.events.emit(SyncAll(vms=len(codes), failed=failed, unprotected=codes.count(UNPROTECTED)))
        return end


class FleetSyncRequest(_FleetRequest[SyncDone | SyncUnneeded], frozen=True, kw_only=True):
    """Make a restore point of each of these VMs of the configuration."""

    async def perform(self, run: RunContext) -> FleetEnd[SyncDone | SyncUnneeded]:
        from warmspare.engine.wiring.configured import sync_found

        return await self._each(run, sync_found)


class FleetPlanRequest(_FleetRequest[PlanDone | SyncUnneeded], frozen=True, kw_only=True):
    """Say what a sync of each of these VMs would send; sends nothing."""

    async def perform(self, run: RunContext) -> FleetEnd[PlanDone | SyncUnneeded]:
        from warmspare.engine.wiring.configured import plan_found

        return await self._each(run, plan_found)


def loaded(config: Path | None) -> Settings:
    """The configuration of that file, or of the usual one. ConfigError."""
    from warmspare.config.load import load
    from warmspare.engine.host_places import config_path

    return load(config_path(config))
