"""`warmspare audit source`: disks of a VM, read afresh and held against its newest restore point."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warmspare.cli import options
from warmspare.cli.telling.audit_end import Html, Repair, Reports, Sample, conclude, demand_page
from warmspare.errors import ConfigError, WarmspareError, worst

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from warmspare.audit.source.source_verdict import SourceAuditSettings, SourceVerdict
    from warmspare.cli.wiring.configured import FoundVm
    from warmspare.model.extents import Extents
    from warmspare.model.ids import DiskId, VmId
    from warmspare.observe.events import Events, Meter
    from warmspare.source.ports import Machine
    from warmspare.store.contract import Store
    from warmspare.vsphere.vsphere_machine import VsphereMachine


@dataclass(frozen=True, slots=True, eq=False)
class _How:
    """What the command line says of each audit."""

    settings: SourceAuditSettings
    repair: bool
    state: Path | None
    limit: float | None
    reports: Path | None
    html: Path | None
    as_json: bool


def source(
    disks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DISK...",
            help="Disk images or devices, as they are given to sync. None: the VMs of the configuration.",
        ),
    ] = None,
    vm: options.Vms = None,
    all_vms: Annotated[bool, typer.Option("--all", help="Every VM of the configuration, one after the other.")] = False,
    repo: options.DisksRepo = None,
    config: options.Config = None,
    extents: Annotated[
        list[Path] | None,
        typer.Option(
            "--extents",
            metavar="FILE",
            help="Lines of `offset length` in bytes: what is known to have changed since the newest restore point, and "
            "is not judged. Once a disk, in order.",
        ),
    ] = None,
    vddk: options.Vddk = None,
    sample: Sample = None,
    full: Annotated[bool, typer.Option("--full", help="Judge all blocks (the default).")] = False,
    repair: Repair = False,
    state: options.SenderState = None,
    limit: options.Limit = None,
    reports: Reports = None,
    html: Html = None,
    endpoint_url: options.Endpoint = None,
    s3: options.S3 = None,
    single_sender: options.SingleSender = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Prove that change tracking lost nothing: read a VM's disks again and compare."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.audit.expected.sample import parse_percent
        from warmspare.audit.source.source_verdict import SourceAuditSettings
        from warmspare.cli.wiring.rate_limit import parse_limit

        if full and sample is not None:
            raise ConfigError("--full and --sample exclude each other", hint="give one of them")
        demand_page(html)
        how = _How(SourceAuditSettings(parse_percent(sample)), repair, state, parse_limit(limit), reports, html, json)
        if disks:
            if not vm or len(vm) != 1 or not repo or all_vms or config is not None:
                raise ConfigError(
                    "disks are of one VM: give --vm NAME once, and --repo URI",
                    hint="--all and --config are for VMs of the configuration, without disks",
                )
            from warmspare.model.ids import VmId

            return await _given(
                disks, extents or [], VmId(vm[0]), repo, endpoint_url, s3, vddk, single_sender, how, events, meter
            )
        if repo or extents or vddk or endpoint_url or s3 or single_sender:
            raise ConfigError(
                "--repo, --extents, --vddk, --endpoint-url, --s3 and --single-sender go with disks, and none was given",
                hint="the configuration has them for its VMs; see `warmspare config example`",
            )
        if bool(vm) == all_vms:
            raise ConfigError("which VMs is not said", hint="give --vm NAME, once or more, or --all, or disks")
        return await _configured(config, vm or [], how, events, meter)

    return execute(work, as_json=json, debug=debug, names=("read",))


async def _given(
    disks: list[str],
    extents: list[Path],
    vm: VmId,
    repo: str,
    endpoint_url: str | None,
    s3: list[str] | None,
    vddk: Path | None,
    single_sender: bool,
    how: _How,
    events: Events,
    meter: Meter,
) -> int:
    """Disks that somebody else holds still."""
    from warmspare.cli.commands.sync import open_disks, sync_given
    from warmspare.cli.run import retrying
    from warmspare.cli.wiring.rate_limit import kept
    from warmspare.source.given import GivenDisks
    from warmspare.store.opening import open_store
    from warmspare.sync.sync_settings import SyncSettings

    store = open_store(
        repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
    )

    async def machine() -> GivenDisks:
        return GivenDisks(vm, await open_disks(disks, extents, vddk, events))

    async def heal(also: Mapping[DiskId, Extents]) -> None:
        from warmspare.observe.events import Meter

        with kept(store, how.limit) as target:
            host = options.state_root()
            settings = SyncSettings(how.state or host, single_sender=single_sender, host=host)
            await sync_given(target, await machine(), settings, events, Meter(), also)

    async def machine_after() -> GivenDisks:
        """After the repair's sync nothing has changed since the newest point: it was made of these very disks."""
        made = await open_disks(disks, [], vddk, events)
        return GivenDisks(vm, made)

    try:
        return await _audit(store, machine, machine_after, heal, how, events, meter)
    finally:
        await store.close()


async def _configured(config: Path | None, names: list[str], how: _How, events: Events, meter: Meter) -> int:
    """VMs of the configuration, one after the other: an audit must not crowd out the syncs. One that fails stops no
    other."""
    from warmspare.cli.wiring.configured import find_all, naming, one_failed, only
    from warmspare.config.load import load

    settings = load(options.config_path(config))
    async with AsyncExitStack() as stack:
        found, missed = await find_all(settings, names, events, stack)
        if (alone := only(found, missed)) is not None:
            with naming(alone.info.name):
                return await _found(alone, how, events, meter)
        codes = [one_failed(one.error, events, vm_name=one.settings.name) for one in missed]
        for one in found:
            try:
                meter.restart()
                with naming(one.info.name):
                    codes.append(await _found(one, how, events, meter))
            except WarmspareError as error:
                codes.append(one_failed(error, events, vm_name=one.info.name))
        return worst(codes)


async def _found(found: FoundVm, how: _How, events: Events, meter: Meter) -> int:
    """One VM, through a snapshot."""
    from warmspare.cli.run import retrying
    from warmspare.cli.wiring.configured import How, machine_of, refuse_twins, sync_found
    from warmspare.cli.wiring.opening_store import open_configured

    refuse_twins(found)
    # What may not be compared in full can't be judged, and that is said; and an audit changes no VM.
    policy, repository = replace(found.settings.policy, full_compare="auto"), found.settings.repository

    async def machine() -> VsphereMachine:
        return machine_of(found, policy, events, enable_tracking=False)

    async def heal(also: Mapping[DiskId, Extents]) -> None:
        from warmspare.observe.events import Meter

        await sync_found(found, How(how.state, "", how.limit), events, Meter(), also)

    store = open_configured(repository, retrying(events))
    try:
        return await _audit(store, machine, machine, heal, how, events, meter)
    finally:
        await store.close()


async def _audit(
    store: Store,
    machine: Callable[[], Awaitable[Machine]],
    machine_after: Callable[[], Awaitable[Machine]],
    heal: Callable[[Mapping[DiskId, Extents]], Awaitable[None]],
    how: _How,
    events: Events,
    meter: Meter,
) -> int:
    """Judge; then, if that was asked for, sync what differs and judge that again. machine: makes one for one use,
    machine_after: for the last."""
    from warmspare.audit.source.source_audit import SourceAudit
    from warmspare.audit.source.source_report import Repair, report
    from warmspare.audit.source.source_verdict import SourceAuditSettings

    scratch = options.state_folder("tmp")

    async def judged(make: Callable[[], Awaitable[Machine]], settings: SourceAuditSettings) -> SourceVerdict:
        used = await make()
        try:
            return await SourceAudit(store, used, events, scratch, settings, meter).run()
        finally:
            await used.close()

    verdict = await judged(machine, how.settings)
    repair = None
    if how.repair and (wrong := verdict.wrong):
        await heal(wrong)
        after = await judged(machine_after, SourceAuditSettings(only=wrong))
        repair = Repair(after.point.id.label, after)
    done = report(verdict, how.settings, meter.seconds, repair)
    return conclude(done, events, reports=how.reports, html=how.html, as_json=how.as_json)
