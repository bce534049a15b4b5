"""Which VMs of a vCenter are protected, which could be, and why the others can't; values, refuses to print.

"Protected" means that the configuration names it. What restore points there are, the repository knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from warmspare.config.disks import DiskSelection
from warmspare.config.settings import Vm
from warmspare.errors import ConfigError
from warmspare.vsphere.find import find, find_all
from warmspare.vsphere.inventory import VmInfo
from warmspare.vsphere.protectable import judge, refusal
from warmspare.vsphere.session import VsphereSession

State = Literal["protected", "possible", "impossible"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A VM. names: of the `[vm.NAME]` that mean it. reason: why it can't be protected. disks: how many are or would
    be; left_out: (label, reason) of the others."""

    vm: VmInfo
    state: State
    names: tuple[str, ...]
    reason: str
    disks: int
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """vms: every VM that can be seen, by path. missing: `[vm.NAME]`s that mean none, with the reason."""

    vms: tuple[Listed, ...]
    missing: tuple[tuple[str, str], ...]


async def listing(session: VsphereSession, configured: Sequence[Vm]) -> Listing:
    """Of one vCenter. configured: what the configuration protects there."""
    meant: dict[str, list[Vm]] = {}
    missing = []
    for entry in configured:
        try:
            for vm in await find(session, entry.find):
                meant.setdefault(vm.moref, []).append(entry)
        except ConfigError as error:
            missing.append((entry.name, error.sentence))
    vms = [_listed(vm, meant.get(vm.moref, [])) for vm in await find_all(session)]
    return Listing(tuple(vms), tuple(missing))


def _listed(vm: VmInfo, entries: list[Vm]) -> Listed:
    judged = judge(vm, entries[0].policy.disks if entries else DiskSelection())
    reason, _ = refusal(vm, judged)
    state: State = "impossible" if reason else "protected" if entries else "possible"
    left_out = tuple((disk.label, why) for disk, why in judged.others)
    return Listed(vm, state, tuple(entry.name for entry in entries), reason, len(judged.disks), left_out)
