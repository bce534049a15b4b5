"""How a VM stands, out of what is known of it, and what is to be done next; owns these rules, and asks nobody.

The first of these that holds is the state: its chain can't be read, or is behind what this host saw of it (damaged); it
runs in AWS (failed over); it has no restore point; its newest is older than its RPO (late). What a drill or an audit of
this host came to leaves the state as it is, and needs somebody all the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from warmspare.format.index_shard import IndexEntry
from warmspare.model.ids import VmKey, vm_key
from warmspare.model.named_moment import moment_text
from warmspare.observe.kinds.repository_events import (
    LastAudit,
    LastDrill,
    NewestStaged,
    RollingCoverage,
    StandingFailover,
    VmState,
    VmStatusTold,
)
from warmspare.observe.quantities import age_s
from warmspare.repository.vm_heads import VmHead
from warmspare.status.host_records import HostRecords, SenderNotes

if TYPE_CHECKING:
    from warmspare.recover.staging.staged import StagedPoint

USUAL_RPO_S = 2 * 900  # where no configuration says one: two of its default


@dataclass(frozen=True, slots=True)
class ExpectedVm:
    """What is expected of a VM. name: the `[vm.NAME]` that means it, None for none. sync: what makes its next restore
    point: a command, or words."""

    name: str | None = None
    rpo_s: int = USUAL_RPO_S
    sync: str = "its sync, on the host that sends it"


@dataclass(frozen=True, slots=True)
class JudgedVm:
    """state, attention, message, next_step: as the event has them."""

    state: VmState
    attention: bool = False
    message: str = ""
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class StatusBoard:
    """What the VMs of a repository are held against. uri: of it. now_s: Unix seconds. command: one of ours for a VM of
    it, with further arguments, as it is typed. staged: the newest usable of each VM in EC2; None where that is not
    known."""

    uri: str
    now_s: float
    kept: HostRecords
    command: Callable[..., str]
    staged: Mapping[VmKey, StagedPoint] | None = None

    def told(self, head: VmHead, expected: ExpectedVm) -> VmStatusTold:
        """How a VM stands."""
        newest, judged = head.newest, self._judged(head, expected)
        sender, replica = self.kept.senders.get(head.id), self.kept.replicas.get(head.id)
        return VmStatusTold(
            repository=self.uri,
            vm=head.id,
            vm_name=head.name,
            state=judged.state,
            attention=judged.attention,
            message=judged.message,
            point=head.point.label if head.point else None,
            sequence=newest.sequence if newest else None,
            created=newest.created if newest else None,
            age_seconds=age_s(newest.created, self.now_s) if newest else None,
            rpo_seconds=expected.rpo_s,
            configured=expected.name,
            disks=newest.disks if newest else None,
            disk_bytes=newest.disk_bytes if newest else None,
            unprotected=newest.unprotected if newest else None,
            failover=_failover(head),
            drill=self._drill(head),
            audit=self._audit(head),
            rolling=_rolling(sender, newest),
            replica=replica.sequence if replica else None,
            staged=self._staged(head),
            next_step=judged.next_step,
        )

    def _judged(self, head: VmHead, expected: ExpectedVm) -> JudgedVm:
        """By the first rule that speaks."""
        return (
            self._by_chain(head)
            or self._by_failover(head)
            or self._by_age(head, expected)
            or self._by_drill(head)
            or self._by_audit(head, expected)
            or JudgedVm("ok", message=_left_out(head.newest))
        )

    def _by_chain(self, head: VmHead) -> JudgedVm | None:
        sender = self.kept.senders.get(head.id)
        seen = sender.seen if sender is not None else None
        message = head.trouble
        if not message and seen is not None and seen.sequence > (head.newest.sequence if head.newest else 0):
            message = f"restore point {seen.label}, which this host has seen, is gone"
        return JudgedVm("damaged", True, message, self.command("audit repository", head.id)) if message else None

    def _by_failover(self, head: VmHead) -> JudgedVm | None:
        found = _failover(head)
        if found is None:
            return None
        if found.state == "starting":
            what = "its failover is under way, or did not come to its end"
            return JudgedVm("failed over", True, what, "its failover again: it goes on")
        from warmspare.repository.failover_record import CLEARS  # it is read: there is a failover

        message = f"it runs in {found.region} as {found.instance}, since {found.began}"
        return JudgedVm("failed over", False, message, f"{self.command(CLEARS, head.id)}, once it runs at home again")

    def _by_age(self, head: VmHead, expected: ExpectedVm) -> JudgedVm | None:
        if head.newest is not None and age_s(head.newest.created, self.now_s) <= expected.rpo_s:
            return None
        state: VmState = "late" if head.newest is not None else "no restore point"
        sender = self.kept.senders.get(head.id)
        cut = "a sync of this host is under way, or did not come to its end" if sender and sender.unfinished else ""
        return JudgedVm(state, True, cut or _left_out(head.newest), expected.sync)

    def _by_drill(self, head: VmHead) -> JudgedVm | None:
        drill = self._drill(head)
        if drill is None or drill.result == "passed":
            return None
        message = f"its last drill here, in {drill.where}: {drill.result}" + (
            f": {drill.reason}" if drill.reason else ""
        )
        return JudgedVm("ok", True, message, shlex.join(["warmspare", "drills", "--vm", head.id]))

    def _by_audit(self, head: VmHead, expected: ExpectedVm) -> JudgedVm | None:
        audit = self.kept.audit(head.id, head.name)
        if audit is None or audit.result == "clean":
            return None
        message = f"its last audit here, of {audit.ended}, has findings"
        if audit.kind == "replica":
            again = self.command("audit replica", head.id, "--replica", audit.subject, "--repair")
        elif audit.kind == "repository":
            again = self.command("audit repository", head.id, "--repair")
        else:
            again = "an audit of its source with --repair"
        return JudgedVm("ok", True, message, again)

    def _drill(self, head: VmHead) -> LastDrill | None:
        kept = self.kept.drill(head.id, head.name)
        if kept is None:
            return None
        step = kept.step
        return LastDrill(where=kept.kind, began=kept.began, result=step.result, reason=step.reason, point=step.point)

    def _audit(self, head: VmHead) -> LastAudit | None:
        kept = self.kept.audit(head.id, head.name)
        if kept is None:
            return None
        percent = kept.coverage_percent
        return LastAudit(kind=kept.kind, ended=kept.ended, result=kept.result, coverage_percent=percent)

    def _staged(self, head: VmHead) -> NewestStaged | UnsetType | None:
        if self.staged is None:
            return UNSET
        found = self.staged.get(vm_key(head.id)) if head.id else None
        if found is None:
            return None
        return NewestStaged(
            point=found.id.label,
            sequence=found.id.sequence,
            created=found.created,
            age_seconds=age_s(found.created, self.now_s),
        )


def _failover(head: VmHead) -> StandingFailover | None:
    """The one that is not over."""
    record = head.failover
    if record is None or not record.holds:
        return None
    instance = record.id_of("instance")
    return StandingFailover(state=record.state, began=record.began, region=record.region, instance=instance)


def _left_out(newest: IndexEntry | None) -> str:
    if newest is None or not newest.unprotected:
        return ""
    return f"{newest.unprotected} of its disks are not in its newest restore point"


def _rolling(sender: SenderNotes | None, newest: IndexEntry | None) -> RollingCoverage | None:
    """covered_s is of the disk that has waited longest."""
    if sender is None or not sender.rolling or newest is None:
        return None
    covered = None
    if sender.covered_s:
        covered = moment_text(sender.covered_s)
    percent = 100.0 * sender.round_bytes / newest.disk_bytes if newest.disk_bytes else 100.0
    return RollingCoverage(covered=covered, round_percent=round(min(percent, 100.0), 1))
