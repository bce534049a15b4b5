"""Whether a machine still lives where a restore point says it did, asked of that place's own vCenter; owns the sessions
with vCenters that nobody needed before. Refuses to judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from pyVmomi import vim

from warmspare.errors import ConfigError, SourceError
from warmspare.source.identity import HomePlace, Identity
from warmspare.vsphere.api import faults
from warmspare.vsphere.api.properties import collect
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.inventory.protectable import unprotectable
from warmspare.vsphere.inventory.vm_info import VmInfo


def vcenter_of(session: VsphereSession) -> str:
    """What tells this vCenter from others: its own UUID; a host without one by how it is reached."""
    return session.instance_uuid.lower() or f"host {session.where}"


def identity_of(session: VsphereSession, vm: VmInfo) -> Identity:
    """Of a VM as it was read. Disks that snapshots leave out count for nothing: they may be several VMs'."""
    disks = frozenset(disk.uuid.lower() for disk in vm.disks if not unprotectable(disk))
    place = HomePlace(vcenter_of(session), vm.moref, session.where, vm.path)
    return Identity(vm.instance_uuid, vm.bios_uuid, disks, place)


class Neighbours:
    """The vCenters that can be asked. sessions: open already, by name; others: those that are opened where they are
    asked, which end with the stack."""

    def __init__(
        self,
        sessions: Mapping[str, VsphereSession],
        others: Mapping[str, Callable[[], VsphereSession]],
        stack: AsyncExitStack,
    ) -> None:
        self._sessions, self._others, self._stack = dict(sessions), dict(others), stack
        self._lock = asyncio.Lock()

    async def lives(self, before: Identity) -> bool:
        """Whether the machine lives there. False where none of them is the place's vCenter. SourceError where one that
        may be can't be asked."""
        async with self._lock:
            for session in self._sessions.values():
                if vcenter_of(session) == before.place.vcenter:
                    return await lives_at(session, before)
            unasked: list[str] = []
            for name in list(self._others):
                session = self._others[name]()
                try:
                    await self._stack.enter_async_context(session)
                except (SourceError, ConfigError) as error:
                    unasked.append(f"{name}: {error.what}")
                    continue
                del self._others[name]
                self._sessions[name] = session
                if vcenter_of(session) == before.place.vcenter:
                    return await lives_at(session, before)
        if unasked:
            raise cannot_ask(before, unasked)
        return False


async def lives_at(session: VsphereSession, before: Identity) -> bool:
    """Whether a vCenter has the machine under its old moref still, switched on or not, as a template too."""
    what = f"looking whether {before.place} is there still"

    def step() -> bool:
        vm = session.bound(vim.VirtualMachine, before.place.moref)
        found = collect(session.content, [vm], vim.VirtualMachine, ["config.instanceUuid", "name"])
        if before.place.moref not in found:
            return False
        uuid = found[before.place.moref].get("config.instanceUuid")
        return uuid is None or str(uuid).lower() == before.instance_uuid  # None: a host out of reach hides it

    with faults.told(what, session.where):
        return await session.call(what, step)


def cannot_ask(before: Identity, unasked: Sequence[str]) -> SourceError:
    """The error of a place whose vCenter is known, or may be, and does not answer."""
    return SourceError(
        f"the newest restore point is of {before.place}, and whether that VM still lives there can't be asked "
        f"({'; '.join(unasked)})",
        hint="run again when it answers; `sync --adopt` goes on with this VM in its place",
        retryable=True,
    )
