"""warmspare keeps a warm spare of VMware virtual machines in AWS.

For programs: an `Engine` runs requests, many at once on one event loop, and gives their results as values
(docs/api.md).

    async with asyncio.timeout(3600):
        done = await warmspare.Engine().run(warmspare.SyncRequest(disks=…, repository=…), on_event=print)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from warmspare.version import __version__

if TYPE_CHECKING:  # `as`: a type checker takes them for names of this module
    from warmspare.engine.budget import Share as Share
    from warmspare.engine.engine_runs import Engine as Engine
    from warmspare.engine.given_disks import (
        GivenDisksOf as GivenDisksOf,
        NamedDisk as NamedDisk,
    )
    from warmspare.engine.overrides import Overrides as Overrides
    from warmspare.engine.repository_place import RepositoryPlace as RepositoryPlace
    from warmspare.engine.request import Request as Request
    from warmspare.engine.requests.audit_requests import (
        ReplicaAuditRequest as ReplicaAuditRequest,
        ReportsRequest as ReportsRequest,
        RepositoryAuditRequest as RepositoryAuditRequest,
    )
    from warmspare.engine.requests.drill_requests import (
        DrillRequest as DrillRequest,
        DrillsRequest as DrillsRequest,
        Ec2DrillRequest as Ec2DrillRequest,
        ReadinessRequest as ReadinessRequest,
        RehearsalRequest as RehearsalRequest,
    )
    from warmspare.engine.requests.files_requests import (
        FilesGetRequest as FilesGetRequest,
        FilesListRequest as FilesListRequest,
    )
    from warmspare.engine.requests.hold_requests import (
        HoldAddRequest as HoldAddRequest,
        HoldListRequest as HoldListRequest,
        HoldRemoveRequest as HoldRemoveRequest,
    )
    from warmspare.engine.requests.looking_requests import (
        MountRequest as MountRequest,
        PointDiffRequest as PointDiffRequest,
    )
    from warmspare.engine.requests.recovery_requests import (
        ExportRequest as ExportRequest,
        FailoverRequest as FailoverRequest,
        StageRequest as StageRequest,
    )
    from warmspare.engine.requests.replica_requests import (
        ApplyRequest as ApplyRequest,
        CopyRequest as CopyRequest,
    )
    from warmspare.engine.requests.repository_requests import (
        FailbackDoneRequest as FailbackDoneRequest,
        InitRequest as InitRequest,
        PointsRequest as PointsRequest,
        PruneRequest as PruneRequest,
    )
    from warmspare.engine.requests.setup_requests import (
        ConfigCheckRequest as ConfigCheckRequest,
        DoctorRequest as DoctorRequest,
        VmsRequest as VmsRequest,
    )
    from warmspare.engine.requests.source_audit_requests import (
        FleetAuditRequest as FleetAuditRequest,
        Judging as Judging,
        SourceAuditRequest as SourceAuditRequest,
    )
    from warmspare.engine.requests.status_requests import StatusRequest as StatusRequest
    from warmspare.engine.requests.sync_requests import (
        FleetPlanRequest as FleetPlanRequest,
        FleetSyncRequest as FleetSyncRequest,
        PlanRequest as PlanRequest,
        SyncRequest as SyncRequest,
    )
    from warmspare.engine.wiring.readable_disks import DisksChoice as DisksChoice
    from warmspare.errors import (
        ConfigError as ConfigError,
        IntegrityError as IntegrityError,
        LeaseError as LeaseError,
        NotFoundError as NotFoundError,
        RecoverError as RecoverError,
        SourceError as SourceError,
        StoreError as StoreError,
        WarmspareError as WarmspareError,
    )

# Read when they are asked for: a program that only lists restore points need not wait for what a drill takes.
_PLACES = {
    "engine.budget": ("Share",),
    "engine.engine_runs": ("Engine",),
    "engine.request": ("Request",),
    "engine.requests.audit_requests": ("ReplicaAuditRequest", "ReportsRequest", "RepositoryAuditRequest"),
    "engine.requests.drill_requests": (
        "DrillRequest",
        "DrillsRequest",
        "Ec2DrillRequest",
        "ReadinessRequest",
        "RehearsalRequest",
    ),
    "engine.requests.files_requests": ("FilesGetRequest", "FilesListRequest"),
    "engine.requests.hold_requests": ("HoldAddRequest", "HoldListRequest", "HoldRemoveRequest"),
    "engine.requests.looking_requests": ("MountRequest", "PointDiffRequest"),
    "engine.requests.recovery_requests": ("ExportRequest", "FailoverRequest", "StageRequest"),
    "engine.requests.replica_requests": ("ApplyRequest", "CopyRequest"),
    "engine.requests.repository_requests": ("FailbackDoneRequest", "InitRequest", "PointsRequest", "PruneRequest"),
    "engine.requests.setup_requests": ("ConfigCheckRequest", "DoctorRequest", "VmsRequest"),
    "engine.requests.source_audit_requests": ("FleetAuditRequest", "Judging", "SourceAuditRequest"),
    "engine.requests.status_requests": ("StatusRequest",),
    "engine.requests.sync_requests": ("FleetPlanRequest", "FleetSyncRequest", "PlanRequest", "SyncRequest"),
    "engine.given_disks": ("GivenDisksOf", "NamedDisk"),
    "engine.wiring.readable_disks": ("DisksChoice",),
    "engine.overrides": ("Overrides",),
    "engine.repository_place": ("RepositoryPlace",),
    "errors": (
        "ConfigError",
        "IntegrityError",
        "LeaseError",
        "NotFoundError",
        "RecoverError",
        "SourceError",
        "StoreError",
        "WarmspareError",
    ),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "__version__",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'warmspare' has no attribute {name!r}")
    return getattr(importlib.import_module(f"warmspare.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
