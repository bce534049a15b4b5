"""`warmspare sync`: disks to a new restore point. `warmspare plan`: the same, looked at and not done."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from warmspare.cli import options
from warmspare.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from warmspare.model.extents import Extents
    from warmspare.model.ids import DiskId
    from warmspare.observe.events import Events, Meter
    from warmspare.source.given import GivenDisks
    from warmspare.source.ports import DiskInput, Source
    from warmspare.store.contract import Store
    from warmspare.sync.planning.rolling import Rolling
    from warmspare.sync.publishing.spool import SpoolPlace
    from warmspare.sync.sync_settings import SyncSettings

VDDK_SCHEME = "vddk://"


def sync(
    disks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DISK...",
            help="Disk images or devices, as PATH or NAME=PATH (NAME: the disk's ID); vddk:///PATH reads through VDDK. "
            "None: the VMs of the configuration.",
        ),
    ] = None,
    vm: options.Vms = None,
    all_vms: Annotated[bool, typer.Option("--all", help="Every VM of the configuration.")] = False,
    repo: options.DisksRepo = None,
    config: options.Config = None,
    extents: Annotated[
        list[Path] | None,
        typer.Option(
            "--extents",
            metavar="FILE",
            help="Lines of `offset length` in bytes: the only areas that may have changed. Once a disk, in order.",
        ),
    ] = None,
    state: options.SenderState = None,
    level: Annotated[
        str, typer.Option("--level", metavar="N|auto", help="zstd level 1 to 9, or follow the bottleneck.")
    ] = "",
    vddk: options.Vddk = None,
    limit: options.Limit = None,
    spool: Annotated[
        Path | None, typer.Option("--spool", metavar="DIR", help="Where what was read waits for a thin link.")
    ] = None,
    spool_size: Annotated[
        str | None, typer.Option("--spool-size", metavar="SIZE", help="The most that may wait there: 200GB, or 1.5TiB.")
    ] = None,
    audit_period: Annotated[
        str | None,
        typer.Option(
            "--audit-period",
            metavar="TIME",
            help="With --extents: read and compare a share of the rest too, all of it within this time: 7d.",
        ),
    ] = None,
    as_raw: Annotated[
        bool,
        typer.Option("--as-raw", help="The disks' bytes are meant as they are, though they look like an image file's."),
    ] = False,
    new: options.New = False,
    adopt: options.Adopt = False,
    endpoint_url: options.Endpoint = None,
    single_sender: options.SingleSender = False,
    s3: options.S3 = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Make a restore point of a VM: of given disks, or of VMs that the configuration names."""
    return _execute(**locals(), only_plan=False)


@functools.wraps(sync)
def plan(**arguments: Any) -> int:
    return _execute(**arguments, only_plan=True)


plan.__doc__ = "Say what a sync with the same arguments would send, and how long that takes; sends nothing."


def _execute(
    *,
    disks: list[str] | None,
    vm: list[str] | None,
    all_vms: bool,
    repo: str | None,
    config: Path | None,
    extents: list[Path] | None,
    state: Path | None,
    level: str,
    vddk: Path | None,
    limit: str | None,
    spool: Path | None,
    spool_size: str | None,
    audit_period: str | None,
    as_raw: bool,
    new: bool,
    adopt: bool,
    endpoint_url: str | None,
    s3: list[str] | None,
    single_sender: bool,
    json: bool,
    debug: bool,
    only_plan: bool,
) -> int:
    from warmspare.cli.run import execute, retrying

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.cli.wiring.rate_limit import kept, parse_limit

        if new and adopt:
            raise ConfigError("--new and --adopt exclude each other", hint="give one of them")
        number, bytes_s = parse_level(level or "auto"), parse_limit(limit)
        if not disks:
            given = (repo, extents, vddk, endpoint_url, s3, spool, spool_size, audit_period, single_sender, as_raw)
            if any(given):
                raise ConfigError(
                    "--repo, --extents, --vddk, --spool, --spool-size, --audit-period, --endpoint-url, --s3, --as-raw "
                    "and --single-sender go with disks, and none was given",
                    hint="the configuration has them for its VMs; see `warmspare config example`",
                )
            if bool(vm) == all_vms:
                raise ConfigError("which VMs is not said", hint="give --vm NAME, once or more, or --all, or disks")
            from warmspare.cli.wiring.configured import How, sync_configured
            from warmspare.config.load import load

            settings = load(options.config_path(config))
            how = How(state, number if level else "", bytes_s, only_plan, new, adopt)
            return await sync_configured(settings, vm or [], how, events, meter)
        if adopt:
            raise ConfigError("--adopt is for VMs of the configuration: of given disks nothing tells whose they are")
        if not vm or len(vm) != 1 or not repo or all_vms or config is not None:
            raise ConfigError(
                "disks are of one VM: give --vm NAME once, and --repo URI",
                hint="--all and --config are for VMs of the configuration, without disks",
            )
        from warmspare.model.ids import VmId
        from warmspare.source.given import GivenDisks
        from warmspare.store.opening import open_store
        from warmspare.sync.beginning import ChainStart
        from warmspare.sync.sync_settings import SyncSettings

        plain = SyncSettings(
            state or options.state_root(),
            number,
            spool_place(spool, spool_size),
            rolling=parse_audit_period(audit_period),
            start=ChainStart.NEW if new else ChainStart.GO_ON,
            single_sender=single_sender,
            host=options.state_root(),
        )
        store = open_store(
            repo, endpoint_url=options.check_endpoint(endpoint_url), site=options.site(s3), on_retry=retrying(events)
        )
        try:
            with kept(store, bytes_s) as target:
                machine = GivenDisks(VmId(vm[0]), await open_disks(disks, extents or [], vddk, events, as_raw=as_raw))
                if only_plan:
                    return await _plan(target, machine, plain, events, meter, bytes_s)
                return await sync_given(target, machine, plain, events, meter)
        finally:
            await store.close()

    return execute(work, as_json=json, debug=debug, names=("read", "changed", "sent"))


async def sync_given(
    store: Store,
    machine: GivenDisks,
    settings: SyncSettings,
    events: Events,
    meter: Meter,
    also: Mapping[DiskId, Extents] | None = None,
) -> int:
    """Sync given disks and close them; the exit code. The arguments are those of Sender."""
    from warmspare.cli.telling.sync_end import finished
    from warmspare.sync.sender import Sender

    try:
        result = await Sender(store, machine, settings, events, meter=meter, also=also).run()
    finally:
        await machine.close()
    return finished(machine, result, events)


async def _plan(
    store: Store,
    machine: GivenDisks,
    settings: SyncSettings,
    events: Events,
    meter: Meter,
    limit: float | None,
) -> int:
    from warmspare.cli.telling.sync_end import planned
    from warmspare.sync.sender import Sender

    try:
        found = await Sender(store, machine, settings, events, meter=meter).survey()
    finally:
        await machine.close()
    return planned(machine, found, events, limit=limit, rpo_s=None)


def parse_level(text: str) -> int | None:
    """1 to 9, or None for `auto`. ConfigError for anything else."""
    if text == "auto":
        return None
    if text in [str(n) for n in range(1, 10)]:
        return int(text)
    raise ConfigError(f"the level {text!r} is neither a number from 1 to 9 nor auto", where="--level")


def parse_audit_period(text: str | None) -> Rolling | None:
    """Of --audit-period. ConfigError for a time that is none."""
    from warmspare.config import values
    from warmspare.sync.planning.rolling import Rolling

    if text is None:
        return None
    try:
        return Rolling(values.duration(text))
    except ConfigError as error:
        raise ConfigError(error.what, where="--audit-period", hint=error.hint) from None


def spool_place(directory: Path | None, size: str | None) -> SpoolPlace | None:
    """Of --spool and --spool-size. ConfigError for a size that is none, or that nothing has."""
    from warmspare.config import values
    from warmspare.sync.publishing.spool import SpoolPlace

    if directory is None:
        if size is not None:
            raise ConfigError("--spool-size bounds a spool, and none is given", hint="name its directory with --spool")
        return None
    try:
        return SpoolPlace(directory.absolute(), None if size is None else values.size(size))
    except ConfigError as error:
        raise ConfigError(error.what, where="--spool-size", hint=error.hint) from None


def split_disk(text: str) -> tuple[DiskId, str]:
    """(ID, path or vddk:///path) of a DISK argument. A path that exists as it is written is never taken apart."""
    from warmspare.model.ids import DiskId

    name, equals, rest = text.partition("=")
    if equals and rest and "/" not in name and not Path(text).exists():
        return DiskId(name), rest
    return DiskId(Path(text).name), text


async def open_disks(
    disks: list[str], extents: list[Path], vddk: Path | None, events: Events, *, as_raw: bool = False
) -> list[DiskInput]:
    """Open the sources and read their extents. as_raw: of each. ConfigError, SourceError; nothing stays open then."""
    from contextlib import AsyncExitStack

    from warmspare.source.ports import DiskInput
    from warmspare.sync.planning.read_plan import parse_extents
    from warmspare.sync.preparing import check_disks

    if extents and len(extents) != len(disks):
        raise ConfigError(
            f"there are {len(disks)} disks and {len(extents)} --extents",
            hint="give --extents once a disk, in the order of the disks, or not at all",
        )
    async with AsyncExitStack() as stack:
        inputs: list[DiskInput] = []
        for index, text in enumerate(disks):
            source = await _open_disk(*split_disk(text), vddk, events)
            stack.push_async_callback(source.close)
            reported = parse_extents(extents[index], source.capacity_bytes) if extents else None
            inputs.append(DiskInput(source, reported, as_raw=as_raw))
        check_disks(inputs)
        stack.pop_all()
        return inputs


async def _open_disk(name: DiskId, place: str, vddk: Path | None, events: Events) -> Source:
    if not place.startswith(VDDK_SCHEME):
        from warmspare.source.raw import RawSource

        return RawSource(Path(place), name)
    from warmspare.source.vddk import vddk_install
    from warmspare.source.vddk.vddk_session import VddkSettings, VddkTarget
    from warmspare.source.vddk.vddk_source import VddkSource

    path = place.removeprefix(VDDK_SCHEME)
    if not path.startswith("/"):
        raise ConfigError("a disk to be read through VDDK needs a whole path", where=place, hint="write vddk:///PATH")
    if vddk is None:
        raise ConfigError(
            "a disk is to be read through VDDK, and no VDDK is given", where=place, hint="name its folder with --vddk"
        )
    return await VddkSource.open(
        vddk_install.find(vddk), VddkTarget(), path, name, settings=VddkSettings(), events=events
    )
