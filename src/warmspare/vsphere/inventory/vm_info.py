"""What a VM consists of, read from vCenter into plain values; refuses to search and to judge.

It is what recovery needs to know, so all of it is kept in each restore point (`VmInfo.hardware`). What of one VM can't
be read or understood is its own affair: it is named, and the others of the same answer are as good as without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyVmomi import vim, vmodl

from warmspare.vsphere.api import faults
from warmspare.vsphere.api.oddities import NotUnderstoodError
from warmspare.vsphere.api.properties import Properties, collect
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.inventory.snapshot_tree import SnapshotTree
from warmspare.vsphere.inventory.vm_devices import Nic, VmDisk, read_devices

PATHS = (
    "name",
    "parent",
    "network",
    "snapshot",
    "config.uuid",
    "config.instanceUuid",
    "config.firmware",
    "config.bootOptions",
    "config.hardware",
    "config.guestId",
    "config.guestFullName",
    "config.version",
    "config.template",
    "config.changeTrackingEnabled",
    "config.files.vmPathName",
    "runtime.host",
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.consolidationNeeded",
)
# A VM of which one of these can't be read is not protected: what it is would be guessed.
_NEEDED = (
    "name",
    "snapshot",
    "config.instanceUuid",
    "config.hardware",
    "config.version",
    "config.template",
    "runtime.connectionState",
)
_UNKNOWN_MOST = 50  # in a VM's record
_OFF = ("poweredOff", "suspended")
_ESCAPES = (("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\"), ("%25", "%"))


@dataclass(frozen=True, slots=True)
class VmInfo:
    """A VM as it was when it was read.

    moref: `vm-123`. path: in the inventory. version: of the hardware, 19 for vmx-19. host: its name, host_moref the
    object. connection: "connected", or why vCenter can't reach it. boot_disks: their UUIDs, as the VM
    tries them, empty where that is their own order. tree: its snapshots. unknown: what vCenter
    says of it that is not understood, or can't be read. unreadable: why it is not known what it is; "" where it is.
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
    disks: tuple[VmDisk, ...]
    boot_disks: tuple[str, ...]
    tree: SnapshotTree
    unknown: tuple[str, ...] = ()
    unreadable: str = ""

    @property
    def powered_on(self) -> bool:
        """Whether it may run: a state that is not known is no proof that it does not."""
        return self.power not in _OFF

    def disk(self, key: int) -> VmDisk | None:
        return next((disk for disk in self.disks if disk.key == key), None)

    def hardware(self) -> dict[str, Any]:
        """All of it but the snapshots, as JSON takes it. `unknown` is there where there is something."""
        out = asdict(self)
        del out["tree"], out["unreadable"]
        if not self.unknown:
            del out["unknown"]
        for disk in out["disks"]:
            if not disk["unknown"]:
                del disk["unknown"]
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
    entities = [one for one in beside if isinstance(one, vim.ManagedEntity)]
    names, paths = _around(content, entities, [p.get("parent") for p in found.values()])
    return [_info(moref, found[moref], names, paths) for moref in morefs if moref in found]


def _info(moref: str, got: Properties, names: dict[str, str], paths: dict[str, str]) -> VmInfo:
    hardware = got.get("config.hardware")
    devices = read_devices(hardware.device if hardware is not None else (), names)
    boot, host, parent = got.get("config.bootOptions"), got.get("runtime.host"), got.get("parent")
    version = got.text("config.version").removeprefix("vmx-")
    host_moref = host._GetMoId() if isinstance(host, vim.HostSystem) else ""
    unreadable = "; ".join(_unread({path: why for path, why in got.unread.items() if path in _NEEDED}))
    try:
        tree = SnapshotTree.of(got.get("snapshot"))
    except NotUnderstoodError as error:
        tree, unreadable = SnapshotTree(), unreadable or f"snapshot: {error.said}"
    return VmInfo(
        moref=moref,
        name=plain_name(got.text("name")) or moref,
        path=(paths.get(parent._GetMoId(), "") if isinstance(parent, vim.ManagedEntity) else "")
        + "/"
        + (got.text("name") or moref),
        instance_uuid=got.text("config.instanceUuid").lower(),
        bios_uuid=got.text("config.uuid").lower(),
        firmware=got.text("config.firmware"),
        secure_boot=getattr(boot, "efiSecureBootEnabled", None) is True,
        cpus=_number(hardware, "numCPU"),
        cores_per_socket=(_number(hardware, "numCoresPerSocket") or 1) if hardware is not None else 0,
        memory_mib=_number(hardware, "memoryMB"),
        guest_id=got.text("config.guestId"),
        guest_name=got.text("config.guestFullName"),
        version=int(version) if version.isdecimal() else 0,
        vmx_path=got.text("config.files.vmPathName"),
        template=got.get("config.template") is True,
        change_tracking=got.get("config.changeTrackingEnabled") is True,
        power=got.text("runtime.powerState"),
        connection=got.text("runtime.connectionState"),
        consolidation_needed=got.get("runtime.consolidationNeeded") is True,
        host=names.get(host_moref, ""),
        host_moref=host_moref,
        nics=devices.nics,
        disks=devices.disks,
        boot_disks=_boot_disks(boot, devices.disks),
        tree=tree,
        unknown=_unknown(got, devices.unknown),
        unreadable=unreadable,
    )


def _boot_disks(boot: Any, disks: Sequence[VmDisk]) -> tuple[str, ...]:
    """UUIDs of the disks that the VM tries to boot, the first one first; empty where its order names none."""
    keys = [_number(each, "deviceKey") for each in getattr(boot, "bootOrder", None) or ()]
    by_key = {disk.key: disk.uuid for disk in disks if disk.uuid}
    return tuple(by_key[key] for key in keys if key in by_key)


def _unknown(got: Properties, devices: Sequence[str]) -> tuple[str, ...]:
    """What of a VM is not understood, as clauses; not more than a record has room for."""
    found = _unread(got.unread)
    found += [odd for each in got.odd.values() for odd in each if not odd.startswith("config.hardware.device")]
    found += devices
    kept = found[:_UNKNOWN_MOST]
    return (*kept, f"and {len(found) - len(kept)} more") if len(found) > len(kept) else tuple(kept)


def _unread(unread: Mapping[str, str]) -> list[str]:
    """A clause for each reason, with all that it keeps from being read."""
    paths: dict[str, list[str]] = {}
    for path, why in unread.items():
        paths.setdefault(why, []).append(path)
    return [f"{', '.join(of)}: {why}" for why, of in paths.items()]


def _number(owner: Any, name: str) -> int:
    value = getattr(owner, name, None)
    return int(value) if isinstance(value, int) else 0


def _around(content: Any, beside: Sequence[Any], parents: Sequence[Any]) -> tuple[dict[str, str], dict[str, str]]:
    """By moref the names of hosts and networks, as people see them, and the paths of folders, as FindByInventoryPath
    takes them; a level of the tree a call."""
    known: dict[str, Properties] = {}
    others = {one._GetMoId() for one in beside}
    level = [one for one in (*beside, *parents) if one is not None]
    while level := list({one._GetMoId(): one for one in level if one._GetMoId() not in known}.values()):
        got = collect(content, level, vim.ManagedEntity, ["name", "parent"])
        known.update({one._GetMoId(): got.get(one._GetMoId(), Properties()) for one in level})
        above = (each.get("parent") for moref, each in got.items() if moref not in others)
        level = [parent for parent in above if parent is not None]

    def path(moref: str) -> str:
        parent = known[moref].get("parent") if moref in known else None
        if parent is None:  # the root has a name, and paths leave it out
            return ""
        return path(parent._GetMoId()) + "/" + known[moref].text("name")

    names = {moref: plain_name(known[moref].text("name")) for moref in others}
    return names, {moref: path(moref) for moref in known if moref not in others}
