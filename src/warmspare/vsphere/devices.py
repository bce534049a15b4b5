"""Disks and network cards out of a VM's list of devices, as plain values; does no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

_device = vim.vm.device
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
    """A network card. network: the port group's name, or its ID where the name can't be read."""

    key: int
    label: str
    kind: str
    mac: str
    network: str
    connected: bool


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as one state of the VM has it (the running one, or a snapshot's).

    controller: pvscsi, lsisas, lsilogic, buslogic, nvme, sata, ide. path: of the file that is written to, base_path: of
    the chain's oldest. chain: how many files it is in. rdm: "", physical or virtual. change_id: None where change
    tracking is not at work.
    """

    key: int
    label: str
    controller: str
    bus: int
    unit: int
    capacity_bytes: int
    uuid: str
    path: str
    base_path: str
    chain: int
    mode: str
    thin: bool
    rdm: str
    sharing: str
    bus_sharing: str
    change_id: str | None

    @property
    def datastore(self) -> str:
        """Its name, of the path."""
        return self.path[1:].partition("]")[0] if self.path.startswith("[") else ""


def read_disks(devices: Iterable[Any]) -> tuple[Disk, ...]:
    """All disks, in the order of the VM's devices."""
    by_key = {device.key: device for device in devices}
    return tuple(_disk(one, by_key.get(one.controllerKey)) for one in by_key.values() if _is(one, _device.VirtualDisk))


def read_nics(devices: Iterable[Any], networks: dict[str, str]) -> tuple[Nic, ...]:
    """All network cards. networks: names by moref."""
    return tuple(_nic(one, networks) for one in devices if _is(one, _device.VirtualEthernetCard))


def _is(device: Any, kind: Any) -> bool:
    return isinstance(device, kind)


def _kind(device: Any, table: tuple[tuple[Any, str], ...]) -> str:
    known = next((word for kind, word in table if isinstance(device, kind)), "")
    return known or (type(device).__name__.rpartition(".")[2] if device is not None else "")


def _disk(device: Any, controller: Any) -> Disk:
    backing = device.backing
    base, chain = backing, 1
    while getattr(base, "parent", None) is not None:
        base, chain = base.parent, chain + 1
    mapping = _is(backing, _device.VirtualDisk.RawDiskMappingVer1BackingInfo)
    return Disk(
        key=device.key,
        label=device.deviceInfo.label if device.deviceInfo else f"disk {device.key}",
        controller=_kind(controller, _CONTROLLERS),
        bus=getattr(controller, "busNumber", None) or 0,
        unit=device.unitNumber or 0,
        capacity_bytes=int(device.capacityInBytes or device.capacityInKB * 1024),  # pyVmomi has a long of its own
        uuid=getattr(backing, "uuid", None) or "",
        path=getattr(backing, "fileName", None) or "",
        base_path=getattr(base, "fileName", None) or "",
        chain=chain,
        mode=getattr(backing, "diskMode", None) or "",
        thin=bool(getattr(backing, "thinProvisioned", False)),
        rdm=str(backing.compatibilityMode or "").removesuffix("Mode") if mapping else "",
        sharing=getattr(backing, "sharing", None) or "",
        bus_sharing=getattr(controller, "sharedBus", None) or "",
        change_id=getattr(backing, "changeId", None) or None,
    )


def _nic(device: Any, networks: dict[str, str]) -> Nic:
    backing = device.backing
    port, network = getattr(backing, "port", None), getattr(backing, "network", None)
    at = network._GetMoId() if network is not None else ""
    if port is not None:
        at = port.portgroupKey or ""
    other = getattr(backing, "opaqueNetworkId", None) or getattr(backing, "deviceName", None) or at
    return Nic(
        key=device.key,
        label=device.deviceInfo.label if device.deviceInfo else f"network card {device.key}",
        kind=_kind(device, _CARDS),
        mac=(device.macAddress or "").lower(),
        network=networks.get(at) or other,
        connected=bool(device.connectable and device.connectable.connected),
    )
