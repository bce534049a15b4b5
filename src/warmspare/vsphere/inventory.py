"""What a VM consists of, read from vCenter into plain values; refuses to search and to judge.

It is what recovery needs to know, so all of it is kept in each restore point (`VmInfo.hardware`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyVmomi import vim, vmodl

from warmspare.vsphere import faults
from warmspare.vsphere.devices import Disk, Nic, read_disks, read_nics
from warmspare.vsphere.properties import Properties, collect
from warmspare.vsphere.session import VsphereSession
from warmspare.vsphere.tree import Tree

PATHS = (
    "name", "parent", "network", "snapshot", "config.uuid", "config.instanceUuid", "config.firmware",
    "config.bootOptions", "config.hardware", "config.guestId", "config.guestFullName", "config.version",
    "config.template", "config.changeTrackingEnabled", "config.files.vmPathName", "runtime.host",
    "runtime.powerState", "runtime.connectionState", "runtime.consolidationNeeded",
)  # fmt: skip
_ESCAPES = (("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\"), ("%25", "%"))


@dataclass(frozen=True, slots=True)
class VmInfo:
    """A VM as it was when it was read.

    moref: `vm-123`. path: in the inventory. version: of the hardware, 19 for vmx-19. host: its name, host_moref the
    object. connection: "connected", or why vCenter can't reach it. tree: its snapshots.
    """

    moref: str
    name: str
    path: str
    instance_uuid: str
    bios_uuid: str
    firmware: str
    secure_boot: bool
    cpus: int
    cores_per_socket: int
    memory_mib: int
    guest_id: str
    guest_name: str
    version: int
    vmx_path: str
    template: bool
    change_tracking: bool
    power: str
    connection: str
    consolidation_needed: bool
    host: str
    host_moref: str
    nics: tuple[Nic, ...]
    disks: tuple[Disk, ...]
    tree: Tree

    def disk(self, key: int) -> Disk | None:
        return next((disk for disk in self.disks if disk.key == key), None)

    def hardware(self) -> dict[str, Any]:
        """All of it but the snapshots, as JSON takes it."""
        out = asdict(self)
        del out["tree"]
        return {name: _plain(value) for name, value in out.items()}


def _plain(value: Any) -> Any:
    """Without pyVmomi's own kinds of numbers and texts, which only look like Python's."""
    match value:
        case bool() | None:
            return value
        case int():
            return int(value)
        case str():
            return str(value)
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    raise TypeError(f"{type(value).__name__} has no place in JSON")


async def read(session: VsphereSession, morefs: Sequence[str]) -> list[VmInfo]:
    """The VMs by their morefs, in that order; those that are gone are left out."""
    with faults.told("reading VMs from vCenter", session.where):
        return await session.call("reading VMs from vCenter", lambda: _read(session, morefs))


async def read_one(session: VsphereSession, moref: str, name: str) -> VmInfo:
    """The VM as it is now. SourceError where it is no more."""
    found = await read(session, [moref])
    if not found:
        raise faults.as_error(f"reading VM {name!r}", vmodl.fault.ManagedObjectNotFound(), session.where)
    return found[0]


def plain_name(name: str) -> str:
    """A name as people see it: the API escapes slashes, backslashes and percent signs."""
    for escape, character in _ESCAPES:
        name = name.replace(escape, character)
    return name


def _read(session: VsphereSession, morefs: Sequence[str]) -> list[VmInfo]:
    content = session.content
    vms = [session.bound(vim.VirtualMachine, moref) for moref in morefs]
    found = collect(content, vms, vim.VirtualMachine, PATHS)
    beside = [
        *(p.get("runtime.host") for p in found.values()),
        *(n for p in found.values() for n in p.get("network") or ()),
    ]
    names, paths = _around(content, beside, [p.get("parent") for p in found.values()])
    return [_info(moref, found[moref], names, paths) for moref in morefs if moref in found]


def _info(moref: str, got: Properties, names: dict[str, str], paths: dict[str, str]) -> VmInfo:
    hardware = got.get("config.hardware")
    devices = list(hardware.device) if hardware else []
    boot, host, parent = got.get("config.bootOptions"), got.get("runtime.host"), got.get("parent")
    version = str(got.get("config.version") or "").removeprefix("vmx-")
    host_moref = host._GetMoId() if host else ""
    return VmInfo(
        moref=moref,
        name=plain_name(got.get("name", "")),
        path=(paths.get(parent._GetMoId(), "") if parent else "") + "/" + got.get("name", ""),
        instance_uuid=str(got.get("config.instanceUuid") or "").lower(),
        bios_uuid=str(got.get("config.uuid") or "").lower(),
        firmware=str(got.get("config.firmware") or ""),
        secure_boot=bool(boot and boot.efiSecureBootEnabled),
        cpus=int(hardware.numCPU) if hardware else 0,
        cores_per_socket=int(hardware.numCoresPerSocket or 1) if hardware else 0,
        memory_mib=int(hardware.memoryMB) if hardware else 0,
        guest_id=str(got.get("config.guestId") or ""),
        guest_name=str(got.get("config.guestFullName") or ""),
        version=int(version) if version.isdecimal() else 0,
        vmx_path=str(got.get("config.files.vmPathName") or ""),
        template=bool(got.get("config.template")),
        change_tracking=bool(got.get("config.changeTrackingEnabled")),
        power=str(got.get("runtime.powerState") or ""),
        connection=str(got.get("runtime.connectionState") or ""),
        consolidation_needed=bool(got.get("runtime.consolidationNeeded")),
        host=names.get(host_moref, ""),
        host_moref=host_moref,
        nics=read_nics(devices, names),
        disks=read_disks(devices),
        tree=Tree.of(got.get("snapshot")),
    )


def _around(content: Any, beside: Sequence[Any], parents: Sequence[Any]) -> tuple[dict[str, str], dict[str, str]]:
    """By moref the names of hosts and networks, as people see them, and the paths of folders, as FindByInventoryPath
    takes them; a level of the tree a call."""
    known: dict[str, Properties] = {}
    others = {one._GetMoId() for one in beside if one is not None}
    level = [one for one in (*beside, *parents) if one is not None]
    while level := list({one._GetMoId(): one for one in level if one._GetMoId() not in known}.values()):
        got = collect(content, level, vim.ManagedEntity, ["name", "parent"])
        known.update({one._GetMoId(): got.get(one._GetMoId(), {}) for one in level})
        above = (each.get("parent") for moref, each in got.items() if moref not in others)
        level = [parent for parent in above if parent is not None]

    def path(moref: str) -> str:
        parent = known.get(moref, {}).get("parent")
        if parent is None:  # the root has a name, and paths leave it out
            return ""
        return path(parent._GetMoId()) + "/" + str(known[moref].get("name", ""))

    names = {moref: plain_name(known.get(moref, {}).get("name", "")) for moref in others}
    return names, {moref: path(moref) for moref in known if moref not in others}
