"""Syncs of the VMs that the configuration names: found in vCenter, snapshot, published; owns what happens side by side.

One VM ends as a sync of given disks does. Several are run within the bounds of the configuration; one that fails stops
no other, and the worst exit code speaks for all.
"""

from __future__ import annotations

import asyncio
import copy
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from warmspare.engine.error_groups import leaves, naming, telling
from warmspare.engine.overrides import Overrides
from warmspare.engine.repository_place import RepositoryPlace
from warmspare.engine.request import RunContext
from warmspare.engine.wiring.sync_end import published, surveyed, unless_unneeded
from warmspare.errors import SourceError, WarmspareError
from warmspare.observe.event import Event, FleetEvent
from warmspare.observe.kinds.run_events import Using
from warmspare.observe.kinds.sync_events import PlanDone, SyncDone, SyncFailed, SyncLate, SyncUnneeded

if TYPE_CHECKING:
    from warmspare.config.settings import Policy, Settings, VCenter, Vm
    from warmspare.engine.host_places import HostPlaces
    from warmspare.model.extents import Extents
    from warmspare.model.ids import DiskId
    from warmspare.observe.events import Events
    from warmspare.source.identity import HomePlace
    from warmspare.source.logins import Logins
    from warmspare.sync.sync_settings import SyncSettings
    from warmspare.vsphere.api.session import VsphereSession
    from warmspare.vsphere.inventory.neighbours import Neighbours
    from warmspare.vsphere.inventory.vm_info import VmInfo
    from warmspare.vsphere.vddk_access import Vddk
    from warmspare.vsphere.vsphere_machine import VsphereMachine

D = TypeVar("D")
PROGRESS = ("read", "changed", "sent")


@dataclass(frozen=True, slots=True)
class FoundVm:
    """A VM to sync: what the configuration says of it, and what it is. neighbours: where it may have lived before.
    twins: where the VMs live that are to be synced to the same repository and share its instance UUID, itself too."""

    settings: Vm
    info: VmInfo
    session: VsphereSession
    vddk: Vddk
    neighbours: Neighbours
    twins: tuple[HomePlace, ...] = ()


@dataclass(frozen=True, slots=True)
class Missed:
    """A `[vm.NAME]` that could not be looked up, and why."""

    settings: Vm
    error: WarmspareError


def only(found: list[FoundVm], missed: list[Missed]) -> FoundVm | None:
    """The one VM that is meant, None for several; raises why it was not found."""
    if missed and not found and len(missed) == 1:
        raise missed[0].error
    return found[0] if len(found) == 1 and not missed else None


def chosen(settings: Settings, names: Sequence[str]) -> list[Vm]:
    """What the names mean, in the configuration's order; all of it where there are none. ConfigError."""
    from warmspare.errors import ConfigError

    wanted = [settings.vm(name) for name in names]
    if not names and not settings.vms:
        raise ConfigError("the configuration names no VM", where=str(settings.path), hint="add a [vm.NAME]")
    return [vm for vm in settings.vms if vm in wanted or not names]


async def find_all(
    settings: Settings, names: Sequence[str], run: RunContext, stack: AsyncExitStack
) -> tuple[list[FoundVm], list[Missed]]:
    """Look them up; one login a vCenter, which ends with the stack. A VM that is meant twice comes once. What is wrong
    with one VM, or with one vCenter, is told of those VMs and keeps no other from being found."""
    from warmspare.source.identity import twins
    from warmspare.vsphere.inventory.find import find
    from warmspare.vsphere.inventory.neighbours import Neighbours, identity_of, vcenter_of
    from warmspare.vsphere.vddk_access import Vddk

    events, logins = run.events, run.host.logins(run.events)
    sessions: dict[str, VsphereSession] = {}
    closed: dict[str, WarmspareError] = {}
    met: list[tuple[Vm, VmInfo, VsphereSession, Vddk]] = []
    missed: list[Missed] = []
    for vm in chosen(settings, names):
        name = vm.vcenter.name
        try:
            if name in closed:
                raise copy.copy(closed[name])
            if name not in sessions:
                sessions[name] = await stack.enter_async_context(open_session(vm.vcenter, events, logins))
            session, vddk = sessions[name], Vddk.of(vm.vcenter)
            for info in await find(session, vm.find):
                if not vm.find.several or not info.template:
                    met.append((vm, info, session, vddk))
        except WarmspareError as error:
            if name not in sessions or (isinstance(error, SourceError) and error.retryable):
                closed.setdefault(name, copy.copy(error))  # it stays away, and is not waited for again
            error.about(vm.name)
            missed.append(Missed(vm, error))
    others = {
        vcenter.name: partial(open_session, vcenter, events, logins)
        for vcenter in settings.vcenters
        if vcenter.name not in sessions
    }
    neighbours = Neighbours(sessions, others, stack)
    unique = {(vm.repository.name, vcenter_of(session), info.moref): vm.name for vm, info, session, _ in reversed(met)}
    found = []
    for vm, info, session, vddk in met:
        if unique.pop((vm.repository.name, vcenter_of(session), info.moref), None) is not None:
            found.append(FoundVm(vm, info, session, vddk, neighbours))
    same = twins((one.settings.repository.uri, identity_of(one.session, one.info)) for one in found)
    return [
        replace(one, twins=tuple(same.get((one.settings.repository.uri, one.info.instance_uuid), ()))) for one in found
    ], missed


def open_session(vcenter: VCenter, events: Events, logins: Logins) -> VsphereSession:
    """Not connected yet: enter it."""
    from warmspare.vsphere.api.session import Server, VsphereSession

    return VsphereSession(Server.of(vcenter), events, logins=logins)


def refuse_twins(found: FoundVm) -> None:
    """ConfigError where another VM that is meant has its instance UUID."""
    from warmspare.repository.chain_owner import two_machines

    if found.twins:
        here = next((one for one in found.twins if one.moref == found.info.moref), found.twins[0])
        other = next(one for one in found.twins if one is not here)
        raise two_machines(found.info.instance_uuid, here, other, "the configuration means both of them")


async def sync_found(
    found: FoundVm, how: Overrides, run: RunContext, also: Mapping[DiskId, Extents] | None = None
) -> SyncDone | SyncUnneeded:
    """Sync one VM. also: see Sender."""
    from warmspare.engine.wiring.rate_limit import kept
    from warmspare.sync.sender import Sender

    refuse_twins(found)
    policy, repository = found.settings.policy, found.settings.repository
    _tell_used(found, how, run)
    store = RepositoryPlace.of(repository).open(run.retrying)
    try:
        machine = machine_of(found, policy, run.events)
        settings = _settings(found, how, run.host)
        with kept(store, how.limit, run.host, repository.limit) as target:
            async with late(run.events, machine.vm_name, policy.rpo_s):
                sender = Sender(target, machine, settings, run.events, meter=run.meter, also=also)
                result = await unless_unneeded(sender.run())
    finally:
        await store.close()
    return published(result, run.events)


async def plan_found(found: FoundVm, how: Overrides, run: RunContext) -> PlanDone | SyncUnneeded:
    """What a sync of one VM would do now."""
    from warmspare.sync.sender import Sender

    refuse_twins(found)
    policy, repository = found.settings.policy, found.settings.repository
    _tell_used(found, how, run)
    store = RepositoryPlace.of(repository).open(run.retrying)
    try:
        machine = machine_of(found, policy, run.events)
        sender = Sender(store, machine, _settings(found, how, run.host), run.events, meter=run.meter)
        looked = await unless_unneeded(sender.survey())
    finally:
        await store.close()
    limit = how.limit or repository.limit.rate(time.localtime())
    return surveyed(looked, run.events, limit=limit, rpo_s=policy.rpo_s)


def _tell_used(found: FoundVm, how: Overrides, run: RunContext) -> None:
    """Where the repository and the state of a VM come from; a state that was given is said by who gave it."""
    vm, file = found.settings, found.settings.place.file
    run.events.emit(
        Using(what="repository", value=vm.repository.uri, source=f"[repository.{vm.repository.name}] of {file}")
    )
    if how.state is None:
        state, source = (vm.policy.state, file) if vm.policy.state else (run.host.root, "the usual place")
        run.events.emit(Using(what="state", value=str(state), source=source))


def _settings(found: FoundVm, how: Overrides, host: HostPlaces) -> SyncSettings:
    """What the configuration says, and `how` instead of it."""
    from warmspare.model.ids import request_id
    from warmspare.sync.beginning import ChainStart
    from warmspare.sync.planning.rolling import Rolling
    from warmspare.sync.publishing.spool import SpoolPlace
    from warmspare.sync.sync_settings import SyncSettings

    policy = found.settings.policy
    return SyncSettings(
        how.state or policy.state or host.root,
        policy.level if isinstance(how.level, str) else how.level,
        SpoolPlace(policy.spool, policy.spool_bytes) if policy.spool else None,
        policy.max_snapshot_age_s,
        Rolling(policy.audit_period_s, policy.full_compare != "error"),
        ChainStart.NEW if how.new else ChainStart.ADOPT if how.adopt else ChainStart.OWN,
        found.settings.repository.single_sender,
        host.root,
        how.not_after,
        None if how.request_id is None else request_id(how.request_id),
    )


def machine_of(found: FoundVm, policy: Policy, events: Events, *, enable_tracking: bool = True) -> VsphereMachine:
    """A found VM as `sync` and audits read it, under a run of its own. enable_tracking: where it is off."""
    from warmspare.vsphere.vsphere_machine import VsphereMachine

    return VsphereMachine(
        found.session,
        found.info,
        policy,
        found.vddk,
        events,
        repository=found.settings.repository.uri,
        run=secrets.token_hex(8),
        enable_tracking=enable_tracking,
        neighbours=found.neighbours,
    )


@asynccontextmanager
async def late(events: Events, vm: str, rpo_s: int) -> AsyncIterator[None]:
    """Say so when what goes on here passes half the RPO: the next run may begin late."""

    def tell() -> None:
        events.emit(SyncLate(vm=vm, seconds=rpo_s / 2, rpo_seconds=rpo_s))

    timer = asyncio.get_running_loop().call_later(rpo_s / 2, tell)
    try:
        yield
    finally:
        timer.cancel()


async def each_found(
    settings: Settings,
    found: list[FoundVm],
    missed: list[Missed],
    work: Callable[[FoundVm, RunContext], Awaitable[D]],
    run: RunContext,
) -> list[D | SyncFailed]:
    """Several VMs at once, within the limits of the configuration; what became of each."""
    from warmspare.observe.events import Events, Meter
    from warmspare.sync.fleet import Job, run_all

    failed = [one_failed(one.error, run.events, one.settings.name) for one in missed]

    def job(one: FoundVm) -> Job[D | SyncFailed]:
        name = one.info.name

        def tagged(event: Event) -> None:
            run.events.emit(msgspec.structs.replace(event, vm_name=name) if isinstance(event, FleetEvent) else event)

        own = run.told(Events(tagged), Meter())

        async def alone() -> D | SyncFailed:
            try:
                with naming(name):
                    async with own.ticking(PROGRESS):
                        return await work(one, own)
            except (WarmspareError, BaseExceptionGroup) as caught:
                if not any(leaves(caught)):
                    raise
                return one_failed(telling(caught), own.events)

        return Job(f"{one.settings.name}/{name}/{one.info.moref}", one.info.host, alone)

    limits = settings.limits
    ran = await run_all([job(one) for one in found], at_once=limits.vms_at_once, per_host=limits.per_host)
    return [*failed, *ran.values()]


def one_failed(error: BaseException, events: Events, vm_name: str | UnsetType = UNSET) -> SyncFailed:
    """One of several failed: say so, and go on with the others. A bug ends them all. vm_name: where `events` are those
    of all."""
    if not isinstance(error, WarmspareError):
        raise error
    failed = SyncFailed.of(error, vm_name)
    events.emit(failed)
    return failed
