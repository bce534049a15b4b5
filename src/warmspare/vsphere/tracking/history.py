"""What vCenter's event history tells of a VM since a mark, and whether all of it is there; judges nothing.

vCenter can be asked for events by entity, kind and date, and not by key; which order its answers have is not said
where it matters. So it is asked twice of the VM: for everything from a while before the last restore point on, and for
the kinds that matter whatever their date, since a host whose clock is wrong dates them anyhow. Keys then tell what is
new.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim, vmodl

from warmspare.vsphere.api import faults
from warmspare.vsphere.api.oddities import NotUnderstoodError, type_name
from warmspare.vsphere.api.session import VsphereSession
from warmspare.vsphere.tracking import eventkinds
from warmspare.vsphere.tracking.eventmark import EventMark, Newest, SeenEvent

PAGE = 1000  # events that vCenter gives at once
MOST_EVENTS, MOST_S = 10_000, 60.0  # that are looked at of a VM or host
BEFORE = datetime.timedelta(hours=1)  # how far before the last restore point all kinds are asked for


@dataclass(frozen=True, slots=True)
class Happening:
    """An event. kind: a class of the API, the ID of an EventEx, or the description ID of a task. devices: disks
    (keys) that were added or removed; moved: from one datastore to another."""

    key: int
    kind: str
    time: str
    devices: tuple[int, ...] = ()
    moved: bool = False

    @property
    def seen(self) -> SeenEvent:
        return SeenEvent(self.key, self.time, self.kind)


@dataclass(frozen=True, slots=True)
class History:
    """happenings: of the VM and of the hosts that it ran on, in vCenter's order, that the mark has not judged. gap: why
    it may not be all, "" if it is. witness: see Mark. looked_at: so many events."""

    happenings: tuple[Happening, ...]
    gap: str = ""
    witness: SeenEvent | None = None
    looked_at: int = 0


class _CutError(Exception):
    """There is more than is looked at; says what."""


async def now(session: VsphereSession) -> datetime.datetime:
    """The time by vCenter's clock."""
    clock = session.bound(vim.ServiceInstance, "ServiceInstance")
    at: datetime.datetime = await session.call("asking the time", clock.CurrentTime)
    return at.astimezone(datetime.UTC)


async def newest(session: VsphereSession) -> Newest | str:
    """vCenter's newest event, or why it isn't known; only SourceError of a vCenter that stays away is raised."""
    try:
        return await session.call("reading the newest event", lambda: _newest(session))
    except vmodl.MethodFault as fault:
        return f"vCenter's newest event can't be read: {faults.text(fault)}"
    except NotUnderstoodError as error:
        return f"vCenter's newest event can't be understood: {error.said}"


def _newest(session: VsphereSession) -> Newest | str:
    event = session.content.eventManager.latestEvent
    if event is None:
        return "vCenter names no newest event"
    return Newest(_happening(event).seen, int(event.chainId))


async def since(
    session: VsphereSession, vm: str, hosts: set[str], mark: EventMark, begin: datetime.datetime, end: Newest
) -> History:
    """All that happened since a mark. vm, hosts: morefs; hosts that the VM's events name are looked at too. begin: the
    time of the mark, by vCenter's clock. end: the newest event before the VM's latest snapshot.

    A history that can't be read has a gap that says so; only SourceError of a vCenter that stays away is raised.
    """
    try:
        return await session.call("reading events", lambda: _since(session, vm, hosts, mark, begin, end))
    except vmodl.MethodFault as fault:
        return History((), f"vCenter's events can't be read: {faults.text(fault)}")
    except NotUnderstoodError as error:
        return History((), f"vCenter's events can't be understood: {error.said}")


def _since(
    session: VsphereSession, vm: str, known: set[str], mark: EventMark, begin: datetime.datetime, end: Newest
) -> History:
    asked = _Asked(session)
    machine = session.bound(vim.VirtualMachine, vm)
    try:
        events = asked.about(machine, begin=begin - BEFORE)
        recent = [_happening(event) for event in events]
        events += asked.about(machine, kinds=eventkinds.OF_VM)
        hosts = {host: session.bound(vim.HostSystem, host) for host in known if host}
        for event in events:
            for argument in (event.host, getattr(event, "sourceHost", None)):
                at = getattr(argument, "host", None)
                if at is not None and mark.looks_at(int(event.key)):
                    hosts[at._GetMoId()] = at
        for at in hosts.values():
            try:
                events += asked.about(at, kinds=eventkinds.HOST_FAILED)
            except vmodl.fault.ManagedObjectNotFound:
                return asked.gap("a host that the VM ran on was removed from vCenter")
    except _CutError as cut:
        return asked.gap(str(cut))
    found = {one.key: one for one in map(_happening, events)}
    if why := mark.contradicted(one.seen for one in found.values()):
        return asked.gap(why)
    if not (mark.witness is not None and mark.witness.key in found):
        chain = [_happening(event).seen for event in asked.chain(mark.newest.chain)]
        if why := mark.contradicted(chain):
            return asked.gap(why)
        if not any(mark.newest.event.same(one) for one in chain):
            return asked.gap(
                f"vCenter's event history does not reach back to the last restore point: event {mark.newest.event.key} "
                "is no longer in it"
            )
    new = tuple(found[key] for key in sorted(found) if mark.looks_at(key))
    later = [one for one in recent if one.key > end.event.key]
    witness = max((one.seen for one in later), key=lambda one: one.at, default=None)  # which is asked for by its date
    return History(new, "", witness, asked.count)


class _Asked:
    """Questions to vCenter's history, and how many events came of them. Blocks."""

    def __init__(self, session: VsphereSession) -> None:
        self._manager = session.content.eventManager
        self._until = time.monotonic() + MOST_S
        self.count = 0

    def about(self, entity: Any, *, kinds: tuple[str, ...] = (), begin: datetime.datetime | None = None) -> list[Any]:
        """The events of one entity, itself. _CutError where there are too many."""
        spec = vim.event.EventFilterSpec(
            entity=vim.event.EventFilterSpec.ByEntity(entity=entity, recursion="self"), disableFullMessage=True
        )
        if begin is not None:
            spec.time = vim.event.EventFilterSpec.ByTime(beginTime=begin)
        if kinds:
            spec.eventTypeId = list(kinds)
        found = list(self._manager.QueryEvents(spec) or ())
        if len(found) >= PAGE:
            found = self._all(spec)
        self.count += len(found)
        return found

    def chain(self, chain: int) -> list[Any]:
        """The events of one chain: what belongs to one action."""
        spec = vim.event.EventFilterSpec(eventChainId=chain, disableFullMessage=True)
        found = list(self._manager.QueryEvents(spec) or ())
        self.count += len(found)
        return found

    def _all(self, spec: Any) -> list[Any]:
        """More than one answer holds, a page at a time. In which order does not matter, for all are read."""
        reader = self._manager.CreateCollectorForEvents(spec)
        try:
            reader.RewindCollector()
            found: list[Any] = []
            while page := list(reader.ReadNextEvents(PAGE) or ()):
                found += page
                if len(found) > MOST_EVENTS or time.monotonic() > self._until:
                    self.count += len(found)
                    raise _CutError(f"vCenter has more than the {len(found)} events that were looked at")
            return found
        finally:
            reader.DestroyCollector()

    def gap(self, why: str) -> History:
        return History((), why, None, self.count)


def _happening(event: Any) -> Happening:
    kind = getattr(event, "eventTypeId", None) or type_name(event)
    info = getattr(event, "info", None)
    if isinstance(event, vim.event.TaskEvent) and info is not None:
        kind = str(info.descriptionId or kind)
    at = event.createdTime.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    return Happening(int(event.key), str(kind), at, tuple(_disks(event)), _moved(event))


def _disks(event: Any) -> list[int]:
    """Keys of disks that a reconfiguration added or removed."""
    spec = getattr(event, "configSpec", None)
    changes = (getattr(spec, "deviceChange", None) or ()) if spec is not None else ()
    return [
        int(change.device.key)
        for change in changes
        if isinstance(change.device, vim.vm.device.VirtualDisk) and change.operation in ("add", "remove")
    ]


def _moved(event: Any) -> bool:
    """Whether it says that files went from one datastore to another."""
    source, target = getattr(event, "sourceDatastore", None), event.ds
    if source is None or target is None:
        return False
    return bool(source.datastore._GetMoId() != target.datastore._GetMoId())
