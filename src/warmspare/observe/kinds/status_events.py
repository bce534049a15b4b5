"""Events of `status`: how each VM stands."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from warmspare.observe.event import Event, note

VmState = Literal["ok", "late", "no restore point", "failed over", "damaged"]
"""How a VM stands; what is not `ok` needs somebody, but for a failover that stands as it is meant to."""


class StandingFailover(msgspec.Struct, frozen=True, kw_only=True):
    """A failover that is not over. state: starting, started."""

    state: str
    began: str
    region: str
    instance: str


class LastDrill(msgspec.Struct, frozen=True, kw_only=True):
    """The newest drill that this host has a record of. where: qemu, ec2. result: passed, late, failed, not judged."""

    where: str
    began: str
    result: str
    reason: str
    point: str


class LastAudit(msgspec.Struct, frozen=True, kw_only=True):
    """The newest audit that this host has a report of. kind: replica, repository, source. result: clean, findings."""

    kind: str
    ended: str
    result: str
    coverage_percent: float


class RollingCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """How far the rolling audit of this host's sender is. covered: since when each disk has been read whole, null for
    not yet. round_percent: of the disks, in their present rounds."""

    covered: str | None
    round_percent: float


class NewestStaged(msgspec.Struct, frozen=True, kw_only=True):
    """The newest restore point of which every disk is staged and completed."""

    point: str
    sequence: int
    created: str
    age_seconds: float


class VmStatusTold(Event, frozen=True, kw_only=True, tag="status"):
    """`status`: a VM. What is null is not known here: another host may know it, or EC2."""

    repository: str
    vm: Annotated[str, note(description='"" for one of the configuration that no restore point tells the ID of')]
    vm_name: str
    state: VmState
    attention: Annotated[bool, note(description="whether somebody has to do something")]
    message: Annotated[str, note(description='why, "" where there is nothing to say')]
    point: Annotated[str | None, note(description="null: there is none, or it can't be read")]
    sequence: int | None
    created: str | None
    age_seconds: float | None
    rpo_seconds: int
    configured: Annotated[str | None, note(description="the `[vm.NAME]` that means it and says its RPO; null: none")]
    disks: int | None
    disk_bytes: int | None
    unprotected: Annotated[int | None, note(description="disks that are not in the point: left out, or lost")]
    failover: Annotated[StandingFailover | None, note(description="state, began, region, instance; null: none")]
    drill: Annotated[LastDrill | None, note(description="where, began, result, reason, point")]
    audit: Annotated[LastAudit | None, note(description="kind, ended, result, coverage_percent")]
    rolling: Annotated[RollingCoverage | None, note(description="covered, round_percent")]
    replica: Annotated[int | None, note(description="the sequence that a replica holds which was audited here")]
    staged: Annotated[
        NewestStaged | UnsetType | None,
        note(description="with `--staged`: point, sequence, created, age_seconds; null: nothing is"),
    ] = UNSET
    next_step: Annotated[str, note(description='a command, or what is to be done; "" for nothing')]


class StatusDone(Event, frozen=True, kw_only=True, tag="status.done"):
    """`status`."""

    ends = True

    vms: int
    attention: Annotated[int, note(description="VMs that need somebody; with `--strict` exit code 7")]
    damaged: Annotated[int, note(description="of them, those whose chain is not as it should be; with `--strict` 5")]
