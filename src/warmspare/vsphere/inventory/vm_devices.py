"""Disks, network cards and what is not understood out of a VM's list of devices, as plain values; does no I/O.

What is not known is never read as something else: a device that may be a disk is one that can't be protected, and says
why; a kind of controller or card is "unknown".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from warmspare.model.ids import DiskId
from warmspare.vsphere.api.garbled import clean
from warmspare.vsphere.api.oddities import NotUnderstoodError, UnreadValue, laid_aside, oddities, unknown_type

UNKNOWN = "unknown"
_device = vim.vm.device
_DISK = _device.VirtualDisk
_CARD = _device.VirtualEthernetCard
# No device is one of these and nothing more; vCenter tells so much to a client that is older than the device.
_BASES = (_device.VirtualDevice, _device.VirtualController, _CARD)
_BACKINGS = (
    _DISK.FlatVer2BackingInfo,
    _DISK.FlatVer1BackingInfo,
    _DISK.SparseVer2BackingInfo,
    _DISK.SparseVer1BackingInfo,
    _DISK.SeSparseBackingInfo,
    _DISK.RawDiskMappingVer1BackingInfo,
    _DISK.RawDiskVer2BackingInfo,
    _DISK.LocalPMemBackingInfo,
)
_STORAGE = (
    _device.VirtualSCSIController,
    _device.VirtualNVMEController,
    _device.VirtualSATAController,
    _device.VirtualIDEController,
)
_CONTROLLERS: tuple[tuple[Any, str], ...] = (
    (_device.ParaVirtualSCSIController, "pvscsi"),
    (_device.VirtualLsiLogicSASController, "lsisas"),
    (_device.VirtualLsiLogicController, "lsilogic"),
    (_device.VirtualBusLogicController, "buslogic"),
    (_device.VirtualSCSIController, "scsi"),
    (_device.VirtualNVMEController, "nvme"),
    (_device.VirtualSATAController, "sata"),
    (_device.VirtualIDEController, "ide"),
)
_CARDS: tuple[tuple[Any, str], ...] = (
    (_device.VirtualVmxnet3Vrdma, "vmxnet3vrdma"),
    (_device.VirtualVmxnet3, "vmxnet3"),
    (_device.VirtualVmxnet2, "vmxnet2"),
    (_device.VirtualVmxnet, "vmxnet"),
    (_device.VirtualE1000e, "e1000e"),
    (_device.VirtualE1000, "e1000"),
    (_device.VirtualPCNet32, "pcnet32"),
    (_device.VirtualSriovEthernetCard, "sriov"),
)


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card. kind: "unknown" where that is not understood. network: the port group's name, or its ID where the
    name can't be read; "" where vCenter's word for it is not understood."""

    key: int
    label: str
    kind: str
    mac: str
    network: str
    connected: bool


@dataclass(frozen=True, slots=True)
class VmDisk:
    """A disk as one state of the VM has it (the running one, or a snapshot's).

    controller: pvscsi, lsisas, lsilogic, buslogic, nvme, sata, ide, unknown. path: of the file that is written to,
    base_path: of the chain's oldest. chain: how many files it is in. rdm: "", physical or virtual, unknown. change_id:
    None where change tracking is not at work. unknown: what of it is not understood, so that nothing else of it is to
    be believed; "" for nothing.
    """

    key: int
    label: str
    controller: str
    bus: int
    unit: int
    capacity_bytes: int
    uuid: DiskId
    path: str
    base_path: str
    chain: int
    mode: str
    thin: bool
    rdm: str
    sharing: str
    bus_sharing: str
    change_id: str | None
    unknown: str = ""

    @property
    def datastore(self) -> str:
        """Its name, of the path."""
        return self.path[1:].partition("]")[0] if self.path.startswith("[") else ""


@dataclass(frozen=True, slots=True)
class VmDevices:
    """unknown: what is not understood, each as a clause that names the device."""

    disks: tuple[VmDisk, ...]
    nics: tuple[Nic, ...]
    unknown: tuple[str, ...]


def read_devices(devices: Iterable[Any], networks: dict[str, str]) -> VmDevices:
    """In the order of the VM's devices. networks: names by moref."""
    every = list(devices)
    by_key = {int(one.key): one for one in every if not isinstance(one, UnreadValue) and isinstance(one.key, int)}
    disks, nics, unknown = [], [], []
    for number, device in enumerate(every, 1):
        if isinstance(device, UnreadValue):
            unknown.append(f"device {number}: {device.what}")
            disks.append(_odd_disk(None, f"device {number}", device.what))
            continue
        label = _label(device)
        why, odd = _why_not(device), oddities(device)
        if why and not unknown_type(device):
            unknown.append(f"{label}: {why}")
            odd = tuple(each for each in odd if each.path)  # its own fields are those of what it really is
        unknown += [f"{label}: {each if each.path else f'device {each.text}'}" for each in odd]
        if isinstance(device, _DISK) and not why:
            disks.append(_disk(device, label, by_key.get(_number(device, "controllerKey"))))
        elif isinstance(device, _CARD) or (why and _like_card(device)):
            nics.append(_nic(device, label, networks))
        elif isinstance(device, _DISK) or (why and _like_disk(device, by_key)):
            disks.append(_odd_disk(device, label, why))
    return VmDevices(tuple(disks), tuple(nics), tuple(unknown))


def read_disks(devices: Iterable[Any]) -> tuple[VmDisk, ...]:
    """All disks, and what may be one, in the order of the VM's devices."""
    return read_devices(devices, {}).disks


def _why_not(device: Any) -> str:
    """Why it is not understood what a device is; "" where it is."""
    if name := unknown_type(device):
        return f"its device type {name} is not known"
    return f"vCenter says no more of it than {type(device)._wsdlName}" if type(device) in _BASES else ""


def _like_card(device: Any) -> bool:
    backings = (_CARD.NetworkBackingInfo, _CARD.DistributedVirtualPortBackingInfo, _CARD.OpaqueNetworkBackingInfo)
    return "macAddress" in laid_aside(device) or isinstance(device.backing, backings)


def _like_disk(device: Any, by_key: dict[int, Any]) -> bool:
    """Whether it may be a disk: a wrong yes costs a word about it, a wrong no a disk that nobody hears of."""
    aside, backing = laid_aside(device), device.backing
    if "busNumber" in aside or isinstance(device, _device.VirtualController):
        return False
    if {"capacityInKB", "capacityInBytes", "diskObjectId"} & aside.keys() or isinstance(backing, _BACKINGS):
        return True
    names = f"{unknown_type(device)} {unknown_type(backing)} {_text(backing, 'fileName')}".lower()
    controller = by_key.get(_number(device, "controllerKey"))
    stored = controller is not None and (isinstance(controller, _STORAGE) or bool(_why_not(controller)))
    return stored or "disk" in names or ".vmdk" in names


def _odd_disk(device: Any, label: str, why: str) -> VmDisk:
    """What may be a disk, and is not understood."""
    backing = getattr(device, "backing", None)
    path = _text(backing, "fileName")
    return VmDisk(
        key=_number(device, "key"),
        label=label,
        controller=UNKNOWN,
        bus=0,
        unit=_number(device, "unitNumber"),
        capacity_bytes=0,
        uuid=DiskId(_text(backing, "uuid")),
        path=path,
        base_path=path,
        chain=1,
        mode="",
        thin=False,
        rdm="",
        sharing="",
        bus_sharing="",
        change_id=None,
        unknown=why,
    )


def _disk(device: Any, label: str, controller: Any) -> VmDisk:
    backing = device.backing
    if not isinstance(backing, _BACKINGS) or unknown_type(backing):
        name = unknown_type(backing) or getattr(type(backing), "_wsdlName", "")
        known = "is not known" if unknown_type(backing) else "is not a disk's"
        why = f"its backing type {name} {known}" if name else "vCenter does not say what it lies on"
        return _odd_disk(device, label, why)
    base: Any = backing
    chain = 1
    while isinstance(getattr(base, "parent", None), _BACKINGS):
        base, chain = base.parent, chain + 1
    mapping = isinstance(backing, _DISK.RawDiskMappingVer1BackingInfo)
    try:
        # pyVmomi has a long of its own
        capacity_bytes = int(device.capacityInBytes or device.capacityInKB * 1024)
    except NotUnderstoodError as error:
        return _odd_disk(device, label, f"its capacity is not known ({error.said})")
    return VmDisk(
        key=_number(device, "key"),
        label=label,
        controller=_kind(controller, _CONTROLLERS),
        bus=_number(controller, "busNumber"),
        unit=_number(device, "unitNumber"),
        capacity_bytes=capacity_bytes,
        uuid=DiskId(_text(backing, "uuid")),
        path=_text(backing, "fileName"),
        base_path=_text(base, "fileName"),
        chain=chain,
        mode=_text(backing, "diskMode"),
        thin=getattr(backing, "thinProvisioned", None) is True,
        rdm=_text(backing, "compatibilityMode").removesuffix("Mode") or UNKNOWN if mapping else "",
        sharing=_text(backing, "sharing"),
        bus_sharing=UNKNOWN if _missing(controller, "sharedBus") else _text(controller, "sharedBus"),
        change_id=_text(backing, "changeId") or None,
    )


def _nic(device: Any, label: str, networks: dict[str, str]) -> Nic:
    backing, connectable = device.backing, device.connectable
    if unknown_type(backing) or isinstance(backing, UnreadValue):
        name = ""
    else:
        port, network = getattr(backing, "port", None), getattr(backing, "network", None)
        at = network._GetMoId() if isinstance(network, vim.Network) else ""
        if port is not None:
            at = _text(port, "portgroupKey")
        other = _text(backing, "opaqueNetworkId") or _text(backing, "deviceName") or at
        name = networks.get(at) or other
    return Nic(
        key=_number(device, "key"),
        label=label,
        kind=_kind(device, _CARDS),
        mac=_text(device, "macAddress").lower(),
        network=name,
        connected=connectable is not None and getattr(connectable, "connected", None) is True,
    )


def _kind(device: Any, table: Sequence[tuple[Any, str]]) -> str:
    if device is None:
        return ""
    if _why_not(device):
        return UNKNOWN
    known = next((word for kind, word in table if isinstance(device, kind)), "")
    return known or type(device).__name__.rpartition(".")[2]


def _label(device: Any) -> str:
    word = "disk" if isinstance(device, _DISK) else "network card" if isinstance(device, _CARD) else "device"
    return clean(_text(device.deviceInfo, "label"), 100) or f"{word} {_number(device, 'key')}"


def _text(owner: Any, name: str) -> str:
    """A text of an object, also where its type is not known; "" where there is none."""
    value = None if owner is None or isinstance(owner, UnreadValue) else getattr(owner, name, None)
    return str(value) if isinstance(value, str) else laid_aside(owner).get(name, "") if unknown_type(owner) else ""


def _missing(owner: Any, name: str) -> bool:
    """Whether a field that must be there can't be read."""
    return isinstance(getattr(owner, name, None), UnreadValue)


def _number(owner: Any, name: str) -> int:
    value = None if owner is None or isinstance(owner, UnreadValue) else getattr(owner, name, None)
    return int(value) if isinstance(value, int) else 0
