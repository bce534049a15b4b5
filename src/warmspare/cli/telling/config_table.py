"""What a configuration means, as a table for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from warmspare.cli.telling.console import LOG_COLUMNS, PlainConsole, text
from warmspare.observe.quantities import size

if TYPE_CHECKING:
    from warmspare.observe.kinds.setup_events import (
        ConfigOk,
        ConfiguredRepository,
        ConfiguredRetention,
        ConfiguredVcenter,
        ConfiguredVm,
    )

_USUAL = {
    "encryption": None,
    "kms_key": None,
    "bucket_key": None,
    "checksum": "auto",
    "addressing": "auto",
    "requester_pays": False,
    "sign_payload": None,
}

_RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def show(settings: ConfigOk) -> None:
    """One table of what is configured, and a last line that says that it is right."""
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
        ((by, value),) = vm.find.items()
        where = f"{by} {value} on {vm.vcenter} to {vm.repository}"
        row("VMs" if vm.several else "VM", vm.name, where, _policy_words(vm))
    limits = settings.limits
    row("limits", "", "", f"{limits.vms_at_once} VMs at once, {limits.per_host} on one ESXi host")
    console.print(table)
    console.print(text(f"{settings.path} is right; every secret could be read"), soft_wrap=True)


def _address(vcenter: ConfiguredVcenter) -> str:
    return f"[{vcenter.host}]:{vcenter.port}" if ":" in vcenter.host else f"{vcenter.host}:{vcenter.port}"


def _span(seconds: int) -> str:
    """As the file writes it: 1h30m."""
    parts = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("m", seconds // 60 % 60), ("s", seconds % 60))
    return "".join(f"{count}{unit}" for unit, count in parts if count)


def _vcenter_words(vcenter: ConfiguredVcenter) -> str:
    trust = "trusted by the system's CAs"
    if vcenter.thumbprint:
        trust = f"pinned to SHA-256 {vcenter.thumbprint[:16]}…"
    elif vcenter.ca_file:
        trust = f"trusted by {vcenter.ca_file}"
    tuned = f" with {vcenter.vddk_config}" if vcenter.vddk_config else ""
    transport = ":".join(vcenter.transport)
    return f"password by {vcenter.password}; {trust}; {transport}, VDDK in {vcenter.vddk}{tuned}"


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _repository_words(repository: ConfiguredRepository) -> str:
    named = {"server": repository.endpoint_url, "region": repository.region, "profile": repository.profile}
    parts = [f"{name} {value}" for name, value in named.items() if value]
    parts += [f"{name} {_value(value)}" for name, value in repository.s3.items() if value != _USUAL[name]]
    if repository.limit:
        parts.append("at most " + ", ".join(repository.limit))
    if repository.single_sender:
        parts.append("this host alone sends there")
    return "; ".join(parts)


def _policy_words(vm: ConfiguredVm) -> str:
    disks = "all disks" if vm.include is None else "disks " + ", ".join(map(str, vm.include))
    if vm.exclude:
        disks += " without " + ", ".join(map(str, vm.exclude))
    parts = [
        f"RPO {_span(vm.rpo_s)}",
        disks,
        f"quiesce {vm.quiesce}",
        f"full compare {vm.full_compare}",
        f"audited every {_span(vm.audit_period_s)}" if vm.audit_period_s else "not audited",
        f"snapshot {vm.snapshot_name!r}",
        f"level {'auto' if vm.level is None else vm.level}",
    ]
    if vm.max_snapshot_age_s is not None:
        parts.append(f"snapshots at most {_span(vm.max_snapshot_age_s)} old")
    if vm.spool is not None:
        room = f"up to {size(vm.spool_bytes)} of packs" if vm.spool_bytes is not None else "packs"
        parts.append(f"{room} wait in {vm.spool}")
    if vm.state is not None:
        parts.append(f"state in {vm.state}")
    parts.append(_kept_words(vm.retention))
    return ", ".join(parts)


def _kept_words(kept: ConfiguredRetention) -> str:
    counts = {word: getattr(kept, f"keep_{word}") for word in _RULES}
    parts = [f"{word} {count}" for word, count in counts.items() if count]
    if kept.keep_within_s:
        parts.append(f"within {_span(kept.keep_within_s)}")
    if not parts:
        return "every restore point is kept"
    trust = ", their own times believed" if kept.trust_created else ""
    return f"kept are {', '.join(parts)} ({kept.time_zone}{trust})"
