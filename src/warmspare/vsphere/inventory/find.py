"""Finds VMs as the configuration names them: by path, instance UUID, name, folder or tag; owns what is said of none."""

from __future__ import annotations

from typing import Any

from pyVmomi import vim

from warmspare.config.settings import Find, suggest
from warmspare.errors import ConfigError
from warmspare.vsphere.api import faults
from warmspare.vsphere.api.properties import collect, every
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.inventory.tags import tagged
from warmspare.vsphere.inventory.vm_info import VmInfo, plain_name, read


async def find(session: VsphereSession, wanted: Find) -> list[VmInfo]:
    """The VMs that are meant, by path; one unless `wanted.several`. ConfigError where there is none, or where several
    have the name. Templates are found too."""
    with faults.told(f"looking for VM by {wanted}", session.where):
        if wanted.by == "tag":
            morefs = await tagged(session, wanted.value)
        else:
            morefs = await session.call(f"looking for VM by {wanted}", lambda: _search(session, wanted))
    found = await read(session, morefs)
    if not found:
        raise _missing(session, wanted)
    if len(found) > 1 and not wanted.several:
        raise ConfigError(
            f"{len(found)} VMs are meant by {wanted}: {', '.join(vm.path for vm in found[:5])}",
            where=session.where,
            hint="find it by path, or by instance_uuid where that is its alone",
        )
    return sorted(found, key=lambda vm: vm.path)


async def find_all(session: VsphereSession) -> list[VmInfo]:
    """Every VM that the user may see, by path."""
    with faults.told("listing VMs", session.where):
        morefs = await session.call("listing VMs", lambda: [m for m, _ in _all(session, session.content.rootFolder)])
    return sorted(await read(session, morefs), key=lambda vm: vm.path)


def _missing(session: VsphereSession, wanted: Find, hint: str = "") -> ConfigError:
    return ConfigError(
        f"there is no VM by {wanted}",
        where=session.where,
        hint=hint or "check the spelling, and that the user may see it; `warmspare vms` lists what can be seen",
    )


def _search(session: VsphereSession, wanted: Find) -> list[str]:
    content = session.content
    index = content.searchIndex
    if wanted.by == "instance_uuid":
        return _morefs(list(index.FindAllByUuid(None, wanted.value, True, True) or []))
    if wanted.by == "name":
        names = _all(session, content.rootFolder)
        same = [moref for moref, name in names if name == wanted.value]
        if not same:
            raise _missing(session, wanted, suggest(wanted.value, [name for _, name in names]))
        return same
    at = index.FindByInventoryPath(wanted.value.strip("/"))
    if wanted.by == "path":
        if at is not None and not isinstance(at, vim.VirtualMachine):
            raise _missing(session, wanted, "that path is not a VM's; use `folder` for all VMs in a folder")
        return _morefs([at])
    if at is None or not isinstance(at, vim.Folder | vim.Datacenter):
        raise _missing(session, wanted, "a folder's path is /DATACENTER/vm/FOLDER")
    return [moref for moref, _ in _all(session, at)]


def _morefs(objects: list[Any]) -> list[str]:
    return [one._GetMoId() for one in objects if one is not None]


def _all(session: VsphereSession, below: Any) -> list[tuple[str, str]]:
    """(moref, name) of every VM below."""
    with every(session.content, below, vim.VirtualMachine) as vms:
        found = collect(session.content, vms, vim.VirtualMachine, ["name"])
    return [(moref, plain_name(got.text("name"))) for moref, got in found.items()]
