"""Change tracking: switches it on, and proves from what vSphere says afterwards that it took hold.

It starts at the next stun of the VM, which a snapshot that comes and goes is. The flag in the VM's configuration says
only that it was asked for; change IDs on the disks say that it is at work.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyVmomi import vim, vmodl

from warmspare.observe.events import Events
from warmspare.observe.kinds.source import SourceWarning, TrackingEnabled
from warmspare.vsphere.api import faults, tasks
from warmspare.vsphere.api.faults import AnswerLostError
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.api.tasks import TaskGoneError
from warmspare.vsphere.inventory.vm_info import VmInfo, read_one
from warmspare.vsphere.snapshots.snapshot import Snapshots

RECONFIGURE_S = 300.0


async def ensure(
    session: VsphereSession,
    vm: VmInfo,
    keys: Iterable[int],
    snapshots: Snapshots,
    snapshot_name: str,
    events: Events,
    *,
    allowed: bool = True,
) -> tuple[VmInfo, str]:
    """The VM as it is then, and why its changes are not tracked ("" where they are).

    keys: of the disks that matter. allowed: whether it may be switched on. Call it when nothing of ours is on the VM.
    """
    keys = list(keys)
    if vm.change_tracking:
        # Not yet at work: our own snapshot, which comes next, is the stun that starts it.
        return vm, "" if _at_work(vm, keys) else "change tracking is on and has not taken hold"
    if not allowed:
        return vm, "change tracking is off, and is not to be switched on"
    if vm.tree.nodes:
        # since 6.5 it can be switched on all the same, and then reports wrongly (KB 1020128)
        return vm, "change tracking is off, and can't be switched on while the VM has snapshots"
    if why := await _switch_on(session, vm):
        return await _told(session, vm, f"change tracking can't be switched on: {why}", events)
    vm = await read_one(session, vm.moref, vm.name)
    if not vm.change_tracking:
        return await _told(session, vm, "change tracking was switched on, and vSphere left it off", events)
    taken = await snapshots.take(snapshot_name, "never", powered_on=vm.powered_on)
    await snapshots.remove(taken.moref)
    vm = await read_one(session, vm.moref, vm.name)
    if not _at_work(vm, keys):
        return await _told(session, vm, "change tracking was switched on and has not taken hold", events)
    events.emit(TrackingEnabled(vm=vm.name))
    return vm, ""


def _at_work(vm: VmInfo, keys: list[int]) -> bool:
    return all(disk.change_id for disk in vm.disks if disk.key in keys)


async def _told(session: VsphereSession, vm: VmInfo, reason: str, events: Events) -> tuple[VmInfo, str]:
    events.emit(SourceWarning(message=f"VM {vm.name}: {reason}; its disks are compared in full"))
    return vm, reason


async def _switch_on(session: VsphereSession, vm: VmInfo) -> str:
    """Why it failed, if it did; where the answer was lost, the configuration read afterwards tells."""
    machine = session.bound(vim.VirtualMachine, vm.moref)
    spec = vim.vm.ConfigSpec(changeTrackingEnabled=True)
    try:
        # asked for twice it is the same, so it may be repeated
        task = await session.call("switching change tracking on", lambda: machine.ReconfigVM_Task(spec))
        await tasks.finished(session, task, "switching change tracking on", timeout_s=RECONFIGURE_S)
    except (AnswerLostError, TaskGoneError):
        return ""
    except vmodl.MethodFault as fault:
        return faults.text(fault)
    return ""
