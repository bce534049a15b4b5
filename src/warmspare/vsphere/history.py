"""What vCenter's event history tells of a VM since a moment, and whether it reaches back that far; judges nothing."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim, vmodl

from warmspare.vsphere import faults
from warmspare.vsphere.session import VsphereSession

MOST_EVENTS = 1000  # that QueryEvents gives, the newest
HOST_EVENTS = (
    "HostConnectionLostEvent", "HostShutdownEvent", "DasHostFailedEvent", "com.vmware.vc.HA.DasHostFailedEvent",
    "com.vmware.vc.ha.DasHostFailedEvent", "com.vmware.vc.HA.HostStateChangedToDeadEvent", "esx.problem.host.coredump",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Happening:
    """An event. kind: a class of the API, the ID of an EventEx, or the description ID of a task. devices: disks
    (keys) that were added or removed; moved: from one datastore to another."""

    kind: str
    time: str
    message: str
    devices: tuple[int, ...] = ()
    moved: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """happenings: of the VM and of the hosts that it ran on, oldest first. gap: why it may not be all, "" if it is."""

    happenings: tuple[Happening, ...]
    gap: str = ""


async def now(session: VsphereSession) -> datetime.datetime:
    """The time by vCenter's clock, which its events are dated by."""
    clock = session.bound(vim.ServiceInstance, "ServiceInstance")
    at: datetime.datetime = await session.call("asking the time", clock.CurrentTime)
    return at.astimezone(datetime.UTC)


async def since(session: VsphereSession, vm: str, hosts: set[str], begin: datetime.datetime) -> History:
    """All that is known from `begin` on, by vCenter's clock. vm, hosts: morefs; those that the VM's events name are
    looked at too. A history that can't be read has a gap
    that says so; only SourceError of a vCenter that stays away is raised."""
    try:
        return await session.call("reading events", lambda: _since(session, vm, hosts, begin))
    except vmodl.MethodFault as fault:
        return History((), f"vCenter's events can't be read: {faults.text(fault)}")
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # pyVmomi met what it does not know
        return History((), f"vCenter's events can't be understood: {type(error).__name__}")


def _since(session: VsphereSession, vm: str, known: set[str], begin: datetime.datetime) -> History:
    manager = session.content.eventManager
    event_filter = vim.event.EventFilterSpec
    before = event_filter(time=event_filter.ByTime(endTime=begin), maxCount=1)
    if not manager.QueryEvents(before):
        return History((), "vCenter's event history does not reach back to the last restore point")
    after = event_filter.ByTime(beginTime=begin)

    def about(entity: Any, kinds: tuple[str, ...] = ()) -> list[Any]:
        by = event_filter.ByEntity(entity=entity, recursion="self")
        return list(manager.QueryEvents(event_filter(entity=by, time=after, eventTypeId=list(kinds))) or ())

    machine = session.bound(vim.VirtualMachine, vm)
    events = about(machine)
    hosts = {host: session.bound(vim.HostSystem, host) for host in known if host}
    for event in events:
        for argument in (event.host, getattr(event, "sourceHost", None)):
            at = getattr(argument, "host", None)
            if at is not None:
                hosts[at._GetMoId()] = at
    counts = [len(events)]
    for at in hosts.values():
        try:
            of_host = about(at, HOST_EVENTS)
        except vmodl.fault.ManagedObjectNotFound:
            return History((), "a host that the VM ran on was removed from vCenter")
        counts.append(len(of_host))
        events += of_host
    if max(counts) >= MOST_EVENTS:
        return History((), f"vCenter tells only the newest {MOST_EVENTS} events since the last restore point")
    found = [_happening(event) for event in events]
    return History(tuple(sorted(found, key=lambda one: one.time)))


def _happening(event: Any) -> Happening:
    kind = getattr(event, "eventTypeId", None) or type(event).__name__.rpartition(".")[2]
    info = getattr(event, "info", None)
    if isinstance(event, vim.event.TaskEvent) and info is not None:
        kind = str(info.descriptionId or kind)
    at = event.createdTime.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    message = " ".join(str(event.fullFormattedMessage or "").split())[:200]
    return Happening(str(kind), at, message, tuple(_disks(event)), _moved(event))


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
