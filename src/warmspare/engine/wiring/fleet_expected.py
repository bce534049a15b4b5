"""What a configuration expects of a repository's VMs: which are to be there, and how old their newest point may be.

vCenter is not asked, so a VM is known by its instance UUID, or by its name. Which VMs a folder or a tag means is not
known: the strictest RPO of these counts for each VM that nothing else names.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from warmspare.model.ids import VmId, VmKey, vm_key
from warmspare.repository.vm_heads import VmHead
from warmspare.status.vm_status import ExpectedVm

if TYPE_CHECKING:
    from warmspare.config.retention_settings import RetentionSettings
    from warmspare.config.settings import RepositorySettings, Settings, Vm


@dataclass(frozen=True, slots=True)
class FleetExpected:
    """Of one repository. vms: of the configuration. config: its file, where a command has to name it."""

    vms: tuple[Vm, ...] = ()
    config: Path | None = None

    @classmethod
    def of(cls, settings: Settings, uri: str, config: Path | None) -> FleetExpected:
        """The VMs that are synced to the repository at that URI."""
        same = tuple(vm for vm in settings.vms if is_at(vm.repository, uri))
        return cls(same, config)

    @property
    def alone(self) -> list[Vm]:
        """Those that mean one VM."""
        return [vm for vm in self.vms if not vm.find.several]

    def ids(self, adopted: Mapping[VmKey, VmId]) -> list[VmId]:
        """The chains of those that are meant by their UUID. adopted: see HostRecords."""
        return [_chain(vm, adopted) for vm in self.alone if _by_id(vm)]

    @property
    def names(self) -> list[str]:
        return [_name(vm) for vm in self.alone if vm.find.by != "instance_uuid"]

    @property
    def senders(self) -> list[Path]:
        """State directories that are named there."""
        return [vm.policy.state for vm in self.vms if vm.policy.state is not None]

    def matched(self, heads: list[VmHead], adopted: Mapping[VmKey, VmId]) -> list[tuple[VmHead, ExpectedVm]]:
        """Each VM with what is expected of it; and those that are expected and not there."""
        by_id = {_chain(vm, adopted): vm for vm in self.alone if _by_id(vm)}
        by_name = {_name(vm): vm for vm in self.alone if not _by_id(vm)}
        several = [vm for vm in self.vms if vm.find.several]
        strictest = min(several, key=lambda vm: vm.policy.rpo_s, default=None)
        found: list[tuple[VmHead, ExpectedVm]] = []
        met: set[str] = set()
        for head in heads:
            vm = by_id.get(head.id) or by_name.get(head.name)
            if vm is not None:
                met.add(vm.name)
                found.append((head, self._expected(vm)))
            else:
                found.append((head, ExpectedVm(rpo_s=strictest.policy.rpo_s) if strictest else ExpectedVm()))
        for vm in self.alone:
            if vm.name not in met:
                found.append((VmHead(_chain(vm, adopted) if _by_id(vm) else VmId(""), vm.name), self._expected(vm)))
        return found

    def meaning(self, vm: VmId, name: str, adopted: Mapping[VmKey, VmId]) -> Vm | None:
        """What means the VM of that ID and name, and no other; None where that can't be told. adopted: see
        HostRecords."""
        by_id = next((one for one in self.alone if _by_id(one) and _chain(one, adopted) == vm), None)
        return by_id or next((one for one in self.alone if not _by_id(one) and _name(one) == name), None)

    def retention(self, vm: VmId, name: str) -> RetentionSettings | None:
        """What is kept of the VM of that ID and name; None where nothing means it, or may. Whom a folder or a tag means
        vCenter knows; so they count for a VM that nothing else means if they agree."""
        meant = self.meaning(vm, name, {})
        if meant is not None:
            return meant.policy.retention
        several = {one.policy.retention for one in self.vms if one.find.several}
        return several.pop() if len(several) == 1 else None

    def called(self, name: str, adopted: Mapping[VmKey, VmId]) -> str:
        """What the repository calls the VM that is asked for by that name: of the configuration, or of the
        repository."""
        vm = next((one for one in self.alone if one.name == name), None)
        if vm is None:
            return name
        return _chain(vm, adopted) if _by_id(vm) else _name(vm)

    def _expected(self, vm: Vm) -> ExpectedVm:
        config = ["--config", str(self.config)] if self.config is not None else []
        return ExpectedVm(vm.name, vm.policy.rpo_s, shlex.join(["warmspare", "sync", *config, "--vm", vm.name]))


def is_at(repository: RepositorySettings, uri: str) -> bool:
    """Whether it is the one at that URI."""
    return repository.uri.rstrip("/") == uri.rstrip("/")


def _by_id(vm: Vm) -> bool:
    return vm.find.by == "instance_uuid"


def _chain(vm: Vm, adopted: Mapping[VmKey, VmId]) -> VmId:
    own = VmId(vm.find.value)
    return adopted.get(vm_key(own), own)


def _name(vm: Vm) -> str:
    """What vCenter calls it: of a path the last part, in which it writes a slash as an escape."""
    return unquote(vm.find.value.rpartition("/")[2]) if vm.find.by == "path" else vm.find.value
