"""`warmspare config`: is the configuration right, and what does it mean; an example to begin with."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from warmspare.cli import options

if TYPE_CHECKING:
    from warmspare.config.problems import Problem
    from warmspare.config.settings import RepositorySettings, Settings, VCenter, Vm
    from warmspare.observe.events import Events, Meter
    from warmspare.observe.kinds.setup import ConfigOk, ConfiguredRepository, ConfiguredVcenter, ConfiguredVm

app = typer.Typer(
    help="Check the configuration, or print an example.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("example")
def example() -> int:
    """Print a configuration to begin with, every key explained."""
    from importlib.resources import files

    from warmspare.cli.telling.output import write_raw

    write_raw(files("warmspare.config").joinpath("example.toml").read_text(encoding="utf-8").rstrip("\n") + "\n")
    return 0


@app.command("check")
def check(config: options.Config = None, json: options.Json = False, debug: options.Debug = False) -> int:
    """Validate the configuration, read every secret it names, show what it means."""
    from warmspare.cli.run import execute

    async def work(events: Events, meter: Meter) -> int:
        from warmspare.cli.telling.output import complain
        from warmspare.config.load import load
        from warmspare.config.problems import SettingsError
        from warmspare.errors import ConfigError
        from warmspare.observe.kinds.setup import ConfigProblem

        path = options.config_path(config)
        try:
            settings = load(path)
            problems = await check_values(settings)
            if problems:
                raise SettingsError(problems)
        except SettingsError as error:
            if len(error.problems) == 1:
                raise error.problems[0] from None
            for problem in error.problems:
                if json:
                    place = problem.place
                    events.emit(ConfigProblem(path=place.file, line=place.line, key=place.key, message=str(problem)))
                else:
                    complain(problem.sentence)
            what = f"the configuration has {len(error.problems)} errors"
            raise ConfigError(what, where=str(path), hint="correct them and check again") from None
        if json:
            events.emit(told(settings))
        else:
            show(settings)
        return 0

    return execute(work, as_json=json, debug=debug)


async def check_values(settings: Settings) -> list[Problem]:
    """What only trying shows: that each secret can be read, and that each repository's URI is one."""
    import asyncio

    from warmspare.cli.wiring.opening_store import open_configured
    from warmspare.errors import ConfigError

    problems: list[Problem] = []
    for secret in settings.secrets():
        try:
            await asyncio.to_thread(secret.reveal)
        except ConfigError as error:
            problems.append(secret.place.problem(error.what, error.hint))
    for repository in settings.repositories:
        try:
            store = open_configured(repository)
        except ConfigError as error:
            problems.append(repository.place.problem(error.what, error.hint))
        else:
            await store.close()
    return problems


def told(settings: Settings) -> ConfigOk:
    """The settings as an event; of secrets only how they are read."""
    from warmspare.observe.kinds.setup import ConfigOk, ConfiguredLimits

    return ConfigOk(
        path=str(settings.path),
        vcenters=[_vcenter(vcenter) for vcenter in settings.vcenters],
        repositories=[_repository(repository) for repository in settings.repositories],
        vms=[_vm(vm) for vm in settings.vms],
        limits=ConfiguredLimits(vms_at_once=settings.limits.vms_at_once, per_host=settings.limits.per_host),
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _vcenter(vcenter: VCenter) -> ConfiguredVcenter:
    from warmspare.observe.kinds.setup import ConfiguredVcenter

    return ConfiguredVcenter(
        name=vcenter.name,
        host=vcenter.host,
        port=vcenter.port,
        user=vcenter.user,
        password=vcenter.password.origin,
        thumbprint=vcenter.thumbprint,
        ca_file=_text(vcenter.ca_file),
        vddk=str(vcenter.vddk),
        vddk_config=_text(vcenter.vddk_config),
        transport=list(vcenter.transport),
    )


def _repository(repository: RepositorySettings) -> ConfiguredRepository:
    from warmspare.observe.kinds.setup import ConfiguredRepository

    return ConfiguredRepository(
        name=repository.name,
        uri=repository.uri,
        endpoint_url=repository.endpoint_url,
        region=repository.region,
        profile=repository.profile,
        limit=[str(period) for period in repository.limit.periods],
        s3=asdict(repository.s3),
        single_sender=repository.single_sender,
    )


def _vm(vm: Vm) -> ConfiguredVm:
    from warmspare.observe.kinds.setup import ConfiguredVm

    policy = vm.policy
    include = policy.disks.include
    return ConfiguredVm(
        name=vm.name,
        vcenter=vm.vcenter.name,
        repository=vm.repository.name,
        find={vm.find.by: vm.find.value},
        several=vm.find.several,
        include=None if include is None else [pattern.written for pattern in include],
        exclude=[pattern.written for pattern in policy.disks.exclude],
        quiesce=policy.quiesce,
        full_compare=policy.full_compare,
        snapshot_name=policy.snapshot_name,
        level=policy.level,
        state=_text(policy.state),
        rpo_s=policy.rpo_s,
        max_snapshot_age_s=policy.max_snapshot_age_s,
        spool=_text(policy.spool),
        spool_bytes=policy.spool_bytes,
        audit_period_s=policy.audit_period_s,
    )


def show(settings: Settings) -> None:
    """One table of what is configured, and a last line that says that it is right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from warmspare.cli.telling.console import LOG_COLUMNS, PlainConsole, text

    console = PlainConsole(LOG_COLUMNS)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("", "name", "where", "how"):
        table.add_column(heading, overflow="fold")

    def row(*cells: str) -> None:
        table.add_row(*map(text, cells))

    for vcenter in settings.vcenters:
        row("vCenter", vcenter.name, f"{_address(vcenter)} as {vcenter.user}", _vcenter_words(vcenter))
    for repository in settings.repositories:
        row("repository", repository.name, repository.uri, _repository_words(repository))
    for vm in settings.vms:
        where = f"{vm.find} on {vm.vcenter.name} to {vm.repository.name}"
        row("VMs" if vm.find.several else "VM", vm.name, where, _policy_words(vm))
    limits = settings.limits
    row("limits", "", "", f"{limits.vms_at_once} VMs at once, {limits.per_host} on one ESXi host")
    console.print(table)
    console.print(text(f"{settings.path} is right; every secret could be read"), soft_wrap=True)


def _address(vcenter: VCenter) -> str:
    return f"[{vcenter.host}]:{vcenter.port}" if ":" in vcenter.host else f"{vcenter.host}:{vcenter.port}"


def _span(seconds: int) -> str:
    """As the file writes it: 1h30m."""
    parts = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("m", seconds // 60 % 60), ("s", seconds % 60))
    return "".join(f"{count}{unit}" for unit, count in parts if count)


def _vcenter_words(vcenter: VCenter) -> str:
    trust = "trusted by the system's CAs"
    if vcenter.thumbprint:
        trust = f"pinned to SHA-256 {vcenter.thumbprint[:16]}…"
    elif vcenter.ca_file:
        trust = f"trusted by {vcenter.ca_file}"
    tuned = f" with {vcenter.vddk_config}" if vcenter.vddk_config else ""
    transport = ":".join(vcenter.transport)
    return f"password by {vcenter.password.origin}; {trust}; {transport}, VDDK in {vcenter.vddk}{tuned}"


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _repository_words(repository: RepositorySettings) -> str:
    from warmspare.config.s3_settings import S3Settings

    named = {"server": repository.endpoint_url, "region": repository.region, "profile": repository.profile}
    parts = [f"{name} {value}" for name, value in named.items() if value]
    usual = S3Settings()
    demands = ((field.name, getattr(repository.s3, field.name)) for field in fields_of(usual))
    parts += [f"{name} {_value(value)}" for name, value in demands if value != getattr(usual, name)]
    if repository.limit.periods:
        parts.append("at most " + ", ".join(map(str, repository.limit.periods)))
    if repository.single_sender:
        parts.append("this host alone sends there")
    return "; ".join(parts)


def _policy_words(vm: Vm) -> str:
    policy = vm.policy
    disks = "all disks" if policy.disks.include is None else "disks " + ", ".join(map(str, policy.disks.include))
    if policy.disks.exclude:
        disks += " without " + ", ".join(map(str, policy.disks.exclude))
    parts = [
        f"RPO {_span(policy.rpo_s)}",
        disks,
        f"quiesce {policy.quiesce}",
        f"full compare {policy.full_compare}",
        f"audited every {_span(policy.audit_period_s)}" if policy.audit_period_s else "not audited",
        f"snapshot {policy.snapshot_name!r}",
        f"level {'auto' if policy.level is None else policy.level}",
    ]
    if policy.max_snapshot_age_s is not None:
        parts.append(f"snapshots at most {_span(policy.max_snapshot_age_s)} old")
    if policy.spool is not None:
        from warmspare.observe.quantities import size

        room = f"up to {size(policy.spool_bytes)} of packs" if policy.spool_bytes is not None else "packs"
        parts.append(f"{room} wait in {policy.spool}")
    if policy.state is not None:
        parts.append(f"state in {policy.state}")
    return ", ".join(parts)
