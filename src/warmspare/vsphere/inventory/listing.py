"""Which VMs of a vCenter are protected, which could be, and why the others can't; values, refuses to print.

"Protected" means that the configuration names it. What restore points there are, the repository knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from warmspare.config.disks import DiskSelection
from warmspare.config.settings import Vm
from warmspare.errors import ConfigError
from warmspare.source.identity import Identity, twins
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.inventory.find import find, find_all
from warmspare.vsphere.inventory.neighbours import identity_of
from warmspare.vsphere.inventory.protectable import judge, refusal
from warmspare.vsphere.inventory.vm_info import VmInfo

State = Literal["protected", "possible", "impossible"]


@dataclass(frozen=True, slots=True)
class ListedVm:
    """A VM. names: of the `[vm.NAME]` that mean it. reason: why it can't be protected. disks: how many are or would
    be; left_out: (label, reason) of the others. repositories: URIs that it is synced to. twins: where others live that
    have its instance UUID."""

    vm: VmInfo
    state: State
    names: tuple[str, ...]
    reason: str
    disks: int
    left_out: tuple[tuple[str, str], ...]
    identity: Identity
    repositories: frozenset[str]
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """vms: every VM that can be seen, by path. missing: `[vm.NAME]`s that mean none, with the reason."""

    vms: tuple[ListedVm, ...]
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
    vms = [_listed(session, vm, meant.get(vm.moref, [])) for vm in await find_all(session)]
    return Listing(tuple(vms), tuple(missing))


def _listed(session: VsphereSession, vm: VmInfo, entries: list[Vm]) -> ListedVm:
    judged = judge(vm, entries[0].policy.disks if entries else DiskSelection())
    reason, _ = refusal(vm, judged)
    state: State = "impossible" if reason else "protected" if entries else "possible"
    left_out = tuple((disk.label, why) for disk, why in judged.others)
    names, repositories = tuple(entry.name for entry in entries), frozenset(entry.repository.uri for entry in entries)
    identity = identity_of(session, vm)
    return ListedVm(vm, state, names, reason, len(judged.disks), left_out, identity, repositories)


def with_twins(listings: Sequence[Listing]) -> list[Listing]:
    """The same, of all vCenters, with what is told of VMs that share an instance UUID. Those that are synced to one
    repository can't be protected."""
    every = [one for listing in listings for one in listing.vms]
    anywhere = twins(("", one.identity) for one in every)
    together = twins((uri, one.identity) for one in every for uri in one.repositories)

    def told(one: ListedVm) -> ListedVm:
        uuid = one.identity.instance_uuid
        others = tuple(str(place) for place in anywhere.get(("", uuid), ()) if not place.same(one.identity.place))
        if not others:
            return one
        same = any((uri, uuid) in together for uri in one.repositories)
        text = f"its instance UUID {uuid} is that of {' and '.join(others)} too"
        if same:
            reason = one.reason or f"{text}, and the configuration syncs both to one repository"
            return replace(one, twins=others, state="impossible", reason=reason)
        return replace(one, twins=others, reason=one.reason or text)

    return [replace(listing, vms=tuple(told(one) for one in listing.vms)) for listing in listings]
