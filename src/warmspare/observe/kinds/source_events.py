"""Events of where blocks come from: VDDK and vCenter, snapshots, change tracking, the list of VMs."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from warmspare.observe.event import Event, FleetEvent, Weight, note
from warmspare.observe.kinds.repository_events import NamedReason
from warmspare.observe.quantities import duration


class SourceOpen(FleetEvent, frozen=True, kw_only=True, tag="source.open"):
    """A disk was opened through VDDK."""

    disk: str
    path: str
    capacity_bytes: int
    transport: Annotated[str, note(description="by which it is read")]
    vddk: Annotated[str, note(description="the library's version")]

    def words(self) -> str:
        return f"disk {self.disk}: opened through VDDK {self.vddk}, read by {self.transport}"


class SourceRetry(FleetEvent, frozen=True, kw_only=True, tag="source.retry"):
    """A call of VDDK or vCenter failed and is tried again after so many seconds."""

    usual = Weight.WARNING

    message: str
    attempt: int
    seconds: float

    def words(self) -> str:
        return f"{self.message}; trying again in {duration(self.seconds)}"


class SourceWarning(FleetEvent, frozen=True, kw_only=True, tag="source.warning"):
    """It goes on, but something is not as it should be."""

    usual = Weight.WARNING

    message: str
    offset: Annotated[int | UnsetType, note(description="with length: where a part of the disk is meant")] = UNSET
    length: int | UnsetType = UNSET

    def words(self) -> str:
        return f"warning: {self.message}"


class VsphereLogin(FleetEvent, frozen=True, kw_only=True, tag="vsphere.login"):
    """Logged in at vCenter."""

    server: str
    user: str
    about: str
    again: Annotated[bool, note(description="after a session that ended")]


class VsphereHistory(FleetEvent, frozen=True, kw_only=True, tag="vsphere.history"):
    """Events of the VM and its hosts were looked at for what became known since the last restore point."""

    vm: str
    events: Annotated[int, note(description="how many")]
    since: Annotated[int, note(description="the newest event of the last restore point")]
    seconds: float


class SnapshotCreated(FleetEvent, frozen=True, kw_only=True, tag="snapshot.created"):
    """A snapshot was taken."""

    vm: str
    snapshot: str
    name: str
    quiesced: bool
    seconds: float


class SnapshotRemoved(FleetEvent, frozen=True, kw_only=True, tag="snapshot.removed"):
    """A snapshot was removed."""

    vm: str
    snapshot: str
    leftover: Annotated[bool, note(description="a run that died had taken it")]
    seconds: float


class SnapshotConsolidated(FleetEvent, frozen=True, kw_only=True, tag="snapshot.consolidated"):
    """What removed snapshots had left was merged."""

    vm: str
    seconds: float


class TrackingEnabled(FleetEvent, frozen=True, kw_only=True, tag="tracking.enabled"):
    """Change tracking was switched on, and took hold."""

    vm: str


class VmListed(Event, frozen=True, kw_only=True, tag="vm"):
    """`vms`: a VM that can be seen."""

    usual = Weight.ANSWER

    vcenter: str
    vm: Annotated[str, note(description="its instance UUID")]
    vm_name: str
    path: str
    host: str
    power: str
    state: Annotated[str, note(description="protected, possible, impossible")]
    names: Annotated[list[str], note(description="of the `[vm.NAME]` that mean it")]
    reason: str
    disks: int
    left_out: Annotated[list[NamedReason], note(description="name, reason")]
    change_tracking: bool
    unknown: Annotated[list[str], note(description="what vCenter says of it that is not understood")]
    twins: Annotated[list[str], note(description="where others live that have its instance UUID")]


class VmMissing(Event, frozen=True, kw_only=True, tag="vm.missing"):
    """`vms`: a `[vm.NAME]` that means no VM; exit code 2."""

    usual = Weight.ALARM

    vcenter: str
    name: str
    message: str


class VmsDone(Event, frozen=True, kw_only=True, tag="vms.done"):
    """`vms`."""

    ends = True
    usual = Weight.ANSWER

    count: int
    missing: int
