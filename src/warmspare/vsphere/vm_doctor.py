"""Looks whether a VM can be protected, before its first run; owns the checks, changes nothing, refuses to print.

The VDDK and the repository have checks of their own (vddk_doctor.py); these are vCenter, the VM and its host.
"""

from __future__ import annotations

import asyncio
import socket

from warmspare.config.settings import Policy
from warmspare.observe.quantities import told
from warmspare.source.vddk.vddk_doctor import Check
from warmspare.vsphere.api import faults
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.inventory.protectable import judge, refusal
from warmspare.vsphere.inventory.vm_info import VmInfo
from warmspare.vsphere.privileges import missing
from warmspare.vsphere.snapshots.marker import parse
from warmspare.vsphere.snapshots.snapshot import CHAIN_MOST, CHAIN_WARN

_NOT_UNDERSTOOD = "vCenter is newer than what this version knows; recovery takes it for not known, nothing is guessed"
NFC_PORT = 902
NFC_TIMEOUT_S = 3.0


async def examine(session: VsphereSession, vm: VmInfo, policy: Policy, *, nfc_port: int = NFC_PORT) -> list[Check]:
    """Every check of one VM. SourceError where vCenter stays away meanwhile."""
    checks = [Check("vCenter", "ok", f"{session.about}, as {session.server.user}")]
    checks.append(_vm(vm, policy))
    if vm.unknown:
        checks.append(Check("hardware", "note", f"not understood: {told(vm.unknown)}", _NOT_UNDERSTOOD))
    with faults.told("reading privileges", session.where):
        checks.append(await _privileges(session, vm))
    checks += [_tracking(vm), _snapshots(vm), _consolidation(vm)]
    checks.append(await _host(vm, nfc_port))
    return checks


def _vm(vm: VmInfo, policy: Policy) -> Check:
    judged = judge(vm, policy.disks)
    why, hint = refusal(vm, judged)
    if why:
        return Check("VM", "wrong", why, hint)
    found = f"{vm.path}, hardware version {vm.version}, {len(judged.disks)} of {len(vm.disks)} disks"
    if judged.others:
        return Check("VM", "note", found, "; ".join(f"{disk.label}: {reason}" for disk, reason in judged.others))
    if judged.unmatched:
        return Check("VM", "note", found, f"no disk is meant by {', '.join(map(str, judged.unmatched))}")
    return Check("VM", "ok", found)


async def _privileges(session: VsphereSession, vm: VmInfo) -> Check:
    lacking = await session.call("reading privileges", lambda: missing(session, vm.moref))
    must = [privilege for privilege in lacking if not privilege.without]
    names = ", ".join(privilege.id for privilege in lacking)
    if must:
        return Check("privileges", "wrong", f"without {names}", "; ".join(f"{p.id}: {p.what_for}" for p in must))
    if lacking:
        return Check("privileges", "note", f"without {names}", "; ".join(sorted({p.without for p in lacking})))
    return Check("privileges", "ok", "all that are needed")


def _tracking(vm: VmInfo) -> Check:
    if not vm.change_tracking:
        if vm.tree.nodes:
            meaning = "it can't be switched on while there are snapshots; until then disks are compared in full"
            return Check("change tracking", "note", "off", meaning)
        return Check("change tracking", "note", "off", "the first run switches it on")
    without = [disk.label for disk in vm.disks if not disk.change_id and not disk.mode.startswith("independent")]
    if without:
        return Check("change tracking", "note", f"on, not yet on {', '.join(without)}", "it starts with a snapshot")
    return Check("change tracking", "ok", "on")


def _snapshots(vm: VmInfo) -> Check:
    ours = [node.moref for node in vm.tree.nodes if parse(node.description)]
    found = f"{len(vm.tree.nodes)}" + (f", {len(ours)} of them of warmspare" if ours else "")
    deep = len(vm.tree.chain())
    if deep >= CHAIN_MOST:
        return Check("snapshots", "wrong", found, "there is no room for one more: remove old ones")
    if deep >= CHAIN_WARN:
        return Check("snapshots", "note", found, f"at {CHAIN_MOST} in a chain it can't be protected any more")
    if ours:
        return Check("snapshots", "note", found, "a run is at work, or the next one removes what it left")
    if vm.tree.nodes:
        return Check("snapshots", "note", found, "they are left alone; old snapshots slow a VM down")
    return Check("snapshots", "ok", "none")


def _consolidation(vm: VmInfo) -> Check:
    if vm.consolidation_needed:
        return Check("consolidation", "note", "needed", "the next run consolidates the disks, which may take long")
    return Check("consolidation", "ok", "not needed")


async def _host(vm: VmInfo, port: int) -> Check:
    name = f"TCP {port} of its host"
    try:
        connection = await asyncio.to_thread(socket.create_connection, (vm.host, port), NFC_TIMEOUT_S)
    except socket.gaierror as error:
        reason = error.strerror or "not known"
        return Check(name, "wrong", f"{vm.host}: {reason}", "this machine must resolve the names of all ESXi hosts")
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or f"no answer in {NFC_TIMEOUT_S:.0f} s"
        return Check(name, "wrong", f"{vm.host}: {reason}", "disks are read there by nbd and nbdssl: open the port")
    connection.close()
    return Check(name, "ok", vm.host)
