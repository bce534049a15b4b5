"""Syncs of the VMs that the configuration names: found in vCenter, snapshot, published; owns what happens side by side.

One VM ends as a sync of given disks does. Several are run within the bounds of the configuration; one that fails stops
no other, and the worst exit code speaks for all.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warmspare.errors import WarmspareError

if TYPE_CHECKING:
    from warmspare.config.settings import Settings, VCenter, Vm
    from warmspare.model import Extents
    from warmspare.observe.events import Event, Events, Meter
    from warmspare.vsphere.inventory import VmInfo
    from warmspare.vsphere.reading import Vddk
    from warmspare.vsphere.session import VsphereSession


PROGRESS = ("read", "changed", "sent")
PERIOD_S = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """A VM to sync: what the configuration says of it, and what it is."""

    settings: Vm
    info: VmInfo
    session: VsphereSession
    vddk: Vddk


@dataclass(frozen=True, slots=True)
class How:
    """What the command line says of all VMs, instead of the configuration. level: "" for its own. limit: bytes a
    second. only_plan: look, and send nothing. new: the chain is to begin."""

    state: Path | None
    level: int | str | None
    limit: float | None
    only_plan: bool = False
    new: bool = False


async def sync_configured(settings: Settings, names: Sequence[str], how: How, events: Events, meter: Meter) -> int:
    """Sync the VMs of these `[vm.NAME]`, or all where there are none named; the exit code."""
    async with AsyncExitStack() as stack:
        found = await find_all(settings, names, events, stack)
        if len(found) == 1:
            return await sync_found(found[0], how, events, meter)
        return await _several(settings, found, how, events)


def chosen(settings: Settings, names: Sequence[str]) -> list[Vm]:
    """What the names mean, in the configuration's order; all of it where there are none. ConfigError."""
    from warmspare.errors import ConfigError

    wanted = [settings.vm(name) for name in names]
    if not names and not settings.vms:
        raise ConfigError("the configuration names no VM", where=str(settings.path), hint="add a [vm.NAME]")
    return [vm for vm in settings.vms if vm in wanted or not names]


async def find_all(settings: Settings, names: Sequence[str], events: Events, stack: AsyncExitStack) -> list[Found]:
    """Look them up; one login a vCenter, which ends with the stack. A VM that is meant twice comes once."""
    from warmspare.vsphere.find import find
    from warmspare.vsphere.reading import Vddk

    sessions: dict[str, VsphereSession] = {}
    found: list[Found] = []
    for vm in chosen(settings, names):
        session = sessions.get(vm.vcenter.name)
        if session is None:
            session = sessions[vm.vcenter.name] = await stack.enter_async_context(open_session(vm.vcenter, events))
        vddk = Vddk.of(vm.vcenter)
        for info in await find(session, vm.find):
            if not vm.find.several or not info.template:
                found.append(Found(vm, info, session, vddk))
    unique = {(one.settings.repository.name, one.settings.vcenter.name, one.info.moref): one for one in reversed(found)}
    return [one for one in found if one in unique.values()]


def open_session(vcenter: VCenter, events: Events) -> VsphereSession:
    """Not connected yet: enter it."""
    from warmspare.vsphere.session import Server, VsphereSession

    return VsphereSession(Server.of(vcenter), events)


async def sync_found(
    found: Found, how: How, events: Events, meter: Meter, also: Mapping[str, Extents] | None = None
) -> int:
    """Sync one VM; the exit code. also: see Sync."""
    from warmspare.cli import options
    from warmspare.cli.finished import finished, planned
    from warmspare.cli.limit import kept
    from warmspare.cli.opened import open_configured
    from warmspare.cli.run import retrying
    from warmspare.sync.beginning import Start
    from warmspare.sync.pipeline import Sync
    from warmspare.sync.rolling import Rolling
    from warmspare.sync.spool import SpoolPlace
    from warmspare.vsphere.protect import VsphereMachine

    policy, repository = found.settings.policy, found.settings.repository
    store = open_configured(repository, retrying(events))
    try:
        machine = VsphereMachine(
            found.session, found.info, policy, found.vddk, events, repository=repository.uri, run=secrets.token_hex(8)
        )
        root = how.state or policy.state or options.state_root()
        rolling = Rolling(policy.audit_period_s, policy.full_compare != "error")
        number = policy.level if isinstance(how.level, str) else how.level
        start = Start.NEW if how.new else Start.OWN
        if how.only_plan:
            sync = Sync(store, machine, root, events, level=number, meter=meter, rolling=rolling, start=start)
            looked = await sync.survey()
            limit = how.limit or repository.limit.rate(time.localtime())
            return planned(machine, looked, events, limit=limit, rpo_s=policy.rpo_s)
        with kept(store, how.limit, repository.limit) as target:
            spool = SpoolPlace(policy.spool, policy.spool_bytes) if policy.spool else None
            async with late(events, machine.vm_name, policy.rpo_s):
                sync = Sync(
                    target, machine, root, events, level=number, meter=meter, spool=spool,
                    max_snapshot_age_s=policy.max_snapshot_age_s, rolling=rolling, also=also, start=start,
                    single_sender=repository.single_sender,
                )  # fmt: skip
                result = await sync.run()
    finally:
        await store.close()
    return finished(machine, result, events)


@asynccontextmanager
async def late(events: Events, vm: str, rpo_s: int) -> AsyncIterator[None]:
    """Say so when what goes on here passes half the RPO: the next run may begin late."""

    def tell() -> None:
        events.emit("sync.late", vm=vm, seconds=rpo_s / 2, rpo_seconds=rpo_s)

    timer = asyncio.get_running_loop().call_later(rpo_s / 2, tell)
    try:
        yield
    finally:
        timer.cancel()


async def _several(settings: Settings, found: list[Found], how: How, events: Events) -> int:
    from warmspare.cli.run import leaves, telling, ticking
    from warmspare.observe.events import Events, Meter
    from warmspare.sync.fleet import Job, run_all, worst

    def job(one: Found) -> Job:
        name = one.info.name

        def tagged(event: Event) -> None:
            events.emit(event["event"], **{"vm_name": name, **{k: v for k, v in event.items() if k != "event"}})

        own = Events(tagged)

        async def run() -> int:
            own_meter = Meter()
            try:
                async with ticking(own, own_meter, PROGRESS, PERIOD_S):
                    return await sync_found(one, how, own, own_meter)
            except (WarmspareError, BaseExceptionGroup) as caught:
                if not any(leaves(caught)):
                    raise
                return one_failed(telling(caught), own)

        return Job(f"{one.settings.name}/{name}/{one.info.moref}", one.info.host, run)

    jobs = [job(one) for one in found]
    codes = await run_all(jobs, at_once=settings.limits.vms_at_once, per_host=settings.limits.per_host)
    failed = sum(code not in (0, 7) for code in codes.values())
    events.emit("sync.all", vms=len(codes), failed=failed, unprotected=sum(code == 7 for code in codes.values()))
    return worst(list(codes.values()))


def one_failed(error: BaseException, events: Events, **fields: str) -> int:
    """One of several failed: say so, and go on with the others. A bug ends them all. fields: of the event, too."""
    from warmspare.cli.output import complain, error_event

    if not isinstance(error, WarmspareError):
        raise error
    record: dict[str, Any] = error_event(error)
    record["event"] = "sync.failed"
    complain(error.sentence)
    events.emit(record.pop("event"), **fields, **record)
    return error.exit_code
