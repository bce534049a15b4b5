"""Which events of vCenter cast doubt on change tracking, by kind: a class of the API, the ID of an EventEx, or the
description ID of a task; judges no event.

A filter for kinds matches exactly, not what is derived from a class, so each is named. What VMware's documents of
events and KB 1021607, 1020128 and 2090639 tell.
"""

from __future__ import annotations

HOST_FAILED = (
    "HostConnectionLostEvent",
    "HostShutdownEvent",
    "DasHostFailedEvent",
    "com.vmware.vc.HA.DasHostFailedEvent",
    "com.vmware.vc.ha.DasHostFailedEvent",
    "com.vmware.vc.HA.HostStateChangedToDeadEvent",
    "esx.problem.host.coredump",
)
REVERTED = (
    "com.vmware.vc.vm.VmStateRevertedToSnapshot",
    "VirtualMachine.revertToCurrentSnapshot",
    "vm.Snapshot.revert",
    "VirtualMachine.revertToSnapshot",
)
RESTARTED = (
    "com.vmware.vc.ha.VmRestartedByHAEvent",
    "VmRestartedOnAlternateHostEvent",
    "VmFailoverFailed",
    "VmDasBeingResetEvent",
    "VmDasBeingResetWithScreenshotEvent",
    "VmDasResetFailedEvent",
    "com.vmware.vc.HA.VmRestartedByHAEvent",
    "com.vmware.vc.HA.FailedRestartAfterIsolationEvent",
)
MOVED = ("VmRelocatedEvent", "VirtualMachine.relocate")
REGISTERED = ("VmRegisteredEvent", "VmDiscoveredEvent", "VmRemovedEvent")
TOLD_TO_STOP = (
    "VmStoppingEvent",
    "VmGuestShutdownEvent",
    "VirtualMachine.powerOff",
    "VirtualMachine.shutdownGuest",
    "VmSuspendedEvent",
)
WENT_OFF = "VmPoweredOffEvent"
RECONFIGURED = "VmReconfiguredEvent"
KILLED = "esx.problem.vm.kill.unexpected"  # begins so
_KILLED_BY = ("fault.failure", "forcefulPageRetire", "forcefulPageRetire.64", "noSwapResponse", "vmtrack")

# Of a VM, as a filter takes them. Tasks can't be asked for by what they did.
OF_VM = (
    *(kind for kind in (*REVERTED, *RESTARTED, *MOVED, *REGISTERED, *TOLD_TO_STOP) if "VirtualMachine." not in kind),
    WENT_OFF,
    RECONFIGURED,
    *(f"{KILLED}.{by}" for by in _KILLED_BY),
)
