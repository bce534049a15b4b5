"""The privileges that a user of vCenter needs, and what for: the one list that documents and checks are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyVmomi import vim

from warmspare.vsphere.api.session import VsphereSession


@dataclass(frozen=True, slots=True)
class Privilege:
    """id: as the API names it. label: as vCenter's roles show it. where: on the VM, or at the root of the inventory.
    without: what is lost without it; "" where nothing works then."""

    id: str
    label: str
    where: Literal["vm", "root"]
    what_for: str
    without: str = ""


PRIVILEGES = (
    Privilege(
        "VirtualMachine.State.CreateSnapshot",
        "Virtual machine > Snapshot management > Create snapshot",
        "vm",
        "the moment that is read",
    ),
    Privilege(
        "VirtualMachine.State.RemoveSnapshot",
        "Virtual machine > Snapshot management > Remove snapshot",
        "vm",
        "leaving the VM as it was; consolidating its disks",
    ),
    Privilege(
        "VirtualMachine.Provisioning.DiskRandomRead",
        "Virtual machine > Provisioning > Allow read-only disk access",
        "vm",
        "reading disks through VDDK; asking what changed",
    ),
    Privilege(
        "VirtualMachine.Provisioning.GetVmFiles",
        "Virtual machine > Provisioning > Allow virtual machine download",
        "vm",
        "reading disks through VDDK",
    ),
    Privilege(
        "VirtualMachine.Config.ChangeTracking",
        "Virtual machine > Change configuration > Toggle disk change tracking",
        "vm",
        "switching change tracking on",
        "a VM without change tracking is compared in full each time",
    ),
    Privilege(
        "VirtualMachine.Config.DiskLease",
        "Virtual machine > Change configuration > Acquire disk lease",
        "vm",
        "keeping a disk from being changed while VDDK reads it",
        "VDDK may refuse to open a disk",
    ),
    Privilege(
        "Global.DisableMethods",
        "Global > Disable methods",
        "root",
        "keeping the VM from moving while it is read",
        "the VM may move while it is read, which costs a new connection",
    ),
    Privilege(
        "Global.EnableMethods",
        "Global > Enable methods",
        "root",
        "letting it move again",
        "a VM that was kept from moving may stay so",
    ),
    Privilege(
        "Global.Licenses",
        "Global > Licenses",
        "root",
        "VDDK looks whether the host's licence allows reading",
        "VDDK may refuse to open a disk",
    ),
    Privilege(
        "System.Read",
        "Read-only, on the VM's hosts and at the root, propagating",
        "root",
        "names of hosts and networks; events of hosts that failed",
        "where events can't be read, every disk is compared in full",
    ),
)


def missing(session: VsphereSession, moref: str) -> list[Privilege]:
    """Those that the session's user lacks for a VM. A step for the session's threads."""
    content = session.content
    key = content.sessionManager.currentSession.key
    places = {"vm": session.bound(vim.VirtualMachine, moref), "root": content.rootFolder}
    lacking = []
    for where, entity in places.items():
        wanted = [privilege for privilege in PRIVILEGES if privilege.where == where]
        granted = content.authorizationManager.HasPrivilegeOnEntity(entity, key, [p.id for p in wanted])
        lacking += [privilege for privilege, has in zip(wanted, granted, strict=True) if not has]
    return lacking
