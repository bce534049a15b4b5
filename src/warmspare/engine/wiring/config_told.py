"""The configuration as an event: what it means, and of secrets only how they are read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.observe.kinds.setup_events import (
    ConfigOk,
    ConfiguredLimits,
    ConfiguredRepository,
    ConfiguredRetention,
    ConfiguredVcenter,
    ConfiguredVm,
)

if TYPE_CHECKING:
    from warmspare.config.settings import RepositorySettings, Settings, VCenter, Vm


def told(settings: Settings) -> ConfigOk:
    """The settings as an event; of secrets only how they are read."""
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
    return ConfiguredRepository(
        name=repository.name,
        uri=repository.uri,
        endpoint_url=repository.endpoint_url,
        region=repository.region,
        profile=repository.profile,
        limit=[str(period) for period in repository.limit.periods],
        s3=asdict(repository.s3),
        single_sender=repository.single_sender,
        staged_region=repository.staged.region if repository.staged else None,
        staged_profile=repository.staged.profile if repository.staged else None,
    )


def _vm(vm: Vm) -> ConfiguredVm:
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
        retention=ConfiguredRetention(**asdict(policy.retention)),
    )
