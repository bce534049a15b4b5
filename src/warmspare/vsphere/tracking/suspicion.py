"""Whether a VM's change tracking may be believed: asks vCenter around a snapshot, has `trust` judge what it says, and
notes where the next run goes on. Takes no snapshot.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import Any

from warmspare.observe.events import Events
from warmspare.observe.kinds.source import VsphereHistory
from warmspare.source.ports import LastPoint
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.inventory.vm_devices import VmDisk
from warmspare.vsphere.inventory.vm_info import VmInfo
from warmspare.vsphere.tracking import distrust, history
from warmspare.vsphere.tracking.distrust import LastSeen
from warmspare.vsphere.tracking.eventmark import EventMark, Newest
from warmspare.vsphere.tracking.history import History

NOTHING = History(())


@dataclass(frozen=True, slots=True)
class Before:
    """vCenter right before a snapshot is taken. vcenter: its instance UUID. taken: by its clock. newest: its newest
    event, or why it isn't known: nothing that happens after the snapshot has a lower key."""

    vcenter: str
    taken: datetime.datetime
    newest: Newest | str


async def look(session: VsphereSession) -> Before:
    """Call it before the snapshot is asked for. SourceError."""
    taken = await history.now(session)
    return Before(session.instance_uuid, taken, await history.newest(session))


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Of one run. of_vm: why no disk's tracking is to be believed, "" where nothing speaks against it. mark: where
    vCenter's events stood; None where that isn't known, so that the next run believes nothing."""

    before: Before
    mark: EventMark | None
    of_vm: str = ""
    left: LastSeen | None = None
    known: History = NOTHING

    def of_disk(self, disk: VmDisk, last: LastPoint) -> str:
        """Why this disk's is not, the VM's included."""
        reason = self.of_vm if disk.uuid in last.disks else ""
        return reason or distrust.of_disk(disk, last, self.left, self.known)

    def record(self) -> dict[str, Any]:
        """What the restore point's hardware is to hold."""
        return {
            distrust.TAKEN: self.before.taken.isoformat(),
            distrust.EVENTS: self.mark.as_json() if self.mark else None,
        }


async def since(
    session: VsphereSession, vm: VmInfo, last: LastPoint | None, before: Before, events: Events
) -> Suspicion:
    """What speaks against the tracking since the last point; call it when the snapshot is there. last: None where all
    is read anyway. SourceError."""
    fresh = None if isinstance(before.newest, str) else EventMark.at(before.vcenter, before.newest)
    if last is None:
        return Suspicion(before, fresh)
    left = LastSeen.of(last.hardware)
    why = distrust.before_asking(last, left, before.vcenter, before.taken, before.newest)
    if why:
        return Suspicion(before, fresh, why, left)
    assert left is not None and left.mark is not None and isinstance(before.newest, Newest)
    began = time.monotonic()
    known = await history.since(session, vm.moref, {vm.host_moref, left.host}, left.mark, left.taken, before.newest)
    events.emit(
        VsphereHistory(
            vm=vm.name,
            events=known.looked_at,
            since=left.mark.newest.event.key,
            seconds=round(time.monotonic() - began, 3),
        )
    )
    mark = fresh
    if not known.gap:
        mark = left.mark.going_on(before.newest, known.witness, distrust.judged(known.happenings))
    return Suspicion(before, mark, distrust.of_vm(left, vm.tree, known), left, known)
