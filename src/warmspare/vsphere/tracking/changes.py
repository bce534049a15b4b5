"""What vSphere says has changed on a disk since a change ID; refuses to believe an answer that does not add up.

VMware's reference: QueryChangedDiskAreas. An empty page is an answer ("nothing changed in this stretch"), a missing or
odd one is not: then everything of the disk is read.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyVmomi import vim, vmodl

from warmspare.errors import SourceError
from warmspare.model.extents import Extents, normalise
from warmspare.vsphere.api import faults
from warmspare.vsphere.api.oddities import NotUnderstoodError, oddities
from warmspare.vsphere.api.session import VsphereSession


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """extents: where something may have changed; None: anywhere, and reason says why."""

    extents: Extents | None
    reason: str = ""


def no_base(last: str | None, now: str | None) -> str:
    """Why two change IDs are not of one unbroken tracking; "" where they are.

    last: of the last restore point. now: of the snapshot. Their part before the slash is compared, and nothing else
    is ever made of them.
    """
    if not now:
        return "change tracking is not at work on this disk"
    if not last:
        return "the last restore point has no change ID of this disk"
    if last.rpartition("/")[0] != now.rpartition("/")[0] or "/" not in last:
        return "change tracking began anew since the last restore point"
    return ""


async def changed_areas(
    session: VsphereSession, vm: str, snapshot: str, key: int, capacity_bytes: int, change_id: str, where: str
) -> Changed:
    """The areas that changed between a change ID and a snapshot. vm, snapshot: morefs. key: the disk's.

    SourceError where the snapshot is gone, ConfigError where a privilege is missing. Memory: 16 bytes an extent.
    """
    machine = session.bound(vim.VirtualMachine, vm)
    at_snapshot = session.bound(vim.vm.Snapshot, snapshot)
    starts, lengths = array("q"), array("q")
    offset = 0
    while offset < capacity_bytes:  # never asked at the capacity: that is an error
        begin = offset
        try:
            page = await session.call(
                "asking for changed areas",
                lambda begin=begin: machine.QueryChangedDiskAreas(at_snapshot, key, begin, change_id),  # type: ignore[misc]
            )
        except vim.fault.FileFault as fault:
            return Changed(None, f"change tracking was off or reset when the snapshot was taken ({faults.text(fault)})")
        except (vim.fault.NoPermission, vmodl.fault.ManagedObjectNotFound) as fault:
            raise faults.as_error("asking for changed areas", fault, where) from None
        except vmodl.MethodFault as fault:
            return Changed(None, f"vSphere can't tell what changed: {faults.text(fault)}")
        except NotUnderstoodError as error:
            return Changed(None, f"vSphere's answer about changes can't be understood: {error.said}")
        try:
            odd = _take(page, offset, capacity_bytes, starts, lengths)
        except NotUnderstoodError as error:
            odd = error.said
        if odd:
            return Changed(None, f"vSphere's answer about changes does not add up: {odd}")
        offset += page.length
    return Changed(normalise(np.frombuffer(starts, np.int64), np.frombuffer(lengths, np.int64)))


def _take(page: Any, offset: int, capacity_bytes: int, starts: array[int], lengths: array[int]) -> str:
    """Add a page's areas; what is odd about it, if anything."""
    if unknown := oddities(page):
        return f"at offset {offset} it holds what is not known here ({unknown[0]})"
    if page is None or page.startOffset != offset:
        return f"asked at offset {offset}, it begins at {page.startOffset if page else 'nothing'}"
    if page.length <= 0 or offset + page.length > capacity_bytes:
        return f"at offset {offset} it covers {page.length} bytes of a disk of {capacity_bytes}"
    end = offset
    for area in page.changedArea or ():
        if area.start < end or area.length <= 0 or area.start + area.length > offset + page.length:
            return f"an area of {area.length} bytes at {area.start} after {end}, in a page up to {offset + page.length}"
        end = area.start + area.length
        starts.append(area.start)
        lengths.append(area.length)
    return ""


async def snapshot_devices(session: VsphereSession, snapshot: str, where: str) -> list[Any]:
    """The devices as a snapshot has them. SourceError where it is gone."""
    at_snapshot = session.bound(vim.vm.Snapshot, snapshot)
    with faults.told("reading the snapshot", where):
        config = await session.call("reading the snapshot", lambda: at_snapshot.config)
    if config is None or config.hardware is None:
        raise SourceError("vCenter says nothing of the snapshot's disks", where=where, hint="run again", retryable=True)
    return list(config.hardware.device)
