"""What this host has kept of a repository's VMs: its senders' notes, the records of its drills, the reports of its
audits; refuses to lock, to change or to wait for any of it.

What another host has drilled, audited or sent is not known here. A record that is damaged, or may not be read, is told
(`state.unreadable`) and counts as none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from warmspare.errors import StoreError, WarmspareError
from warmspare.model.ids import PointId, VmId, VmKey
from warmspare.model.units import SPAN_BYTES
from warmspare.observe.events import Events
from warmspare.observe.kinds.repository_events import StateUnreadable
from warmspare.state.local_files import STATE_DIRECTORY, read_record
from warmspare.sync.local.state_record import ADOPTED_RECORD, STATE_RECORD, AdoptedRecord, StateRecord
from warmspare.sync.planning.rolling_cursor import RollingCursor

if TYPE_CHECKING:  # what there are no files of need not be read
    from warmspare.audit.reports.audit_summary import AuditSummary
    from warmspare.recover.drills.drill_record import DrillKind, DrillStep

PLANS = 20  # records of drills of several VMs, and reports on all of them: of how many of the newest is read


@dataclass(frozen=True, slots=True)
class RecordPlaces:
    """Where this host keeps what. senders: the state directories of its senders. drills, audits: of records and
    reports."""

    senders: tuple[Path, ...]
    drills: Path
    audits: Path


@dataclass(frozen=True, slots=True)
class KeptDrill:
    """The newest drill of a VM on this host."""

    kind: DrillKind
    began: str
    step: DrillStep


@dataclass(frozen=True, slots=True)
class SenderNotes:
    """What a sender of this host knows of a VM. seen: the newest restore point, None if it saw none. unfinished: a run
    is under way, or did not come to its end. rolling: whether changes are audited now and then; covered_s: since when
    all disks have been looked at, Unix seconds, 0.0 for never; round_bytes: how far their present rounds are."""

    seen: PointId | None
    unfinished: bool
    rolling: bool = False
    covered_s: float = 0.0
    round_bytes: int = 0


@dataclass(slots=True)
class HostRecords:
    """Of one repository. senders: by VM. adopted: in which chain a VM goes on, where that is another's. drills, audits:
    the newest of each VM, by its ID or by what it was called when it was asked for. of_all: the newest audit of the
    whole repository, None for none. replicas: by VM, what a replica holds that was audited here."""

    senders: dict[VmId, SenderNotes] = field(default_factory=dict)
    adopted: dict[VmKey, VmId] = field(default_factory=dict)
    drills: dict[str, KeptDrill] = field(default_factory=dict)
    audits: dict[str, AuditSummary] = field(default_factory=dict)
    of_all: AuditSummary | None = None
    replicas: dict[str, PointId] = field(default_factory=dict)

    def drill(self, vm: VmId, name: str) -> KeptDrill | None:
        """The newest of a VM, None for none."""
        kept = [self.drills[key] for key in (vm, name) if key in self.drills]
        return max(kept, key=lambda one: one.began, default=None)

    def audit(self, vm: VmId, name: str) -> AuditSummary | None:
        """The same: its own, or one of all that saw it."""
        kept = [self.audits[key] for key in (vm, name) if key in self.audits]
        if self.of_all is not None and self.of_all.saw(vm):
            kept.append(self.of_all)
        return max(kept, key=lambda one: one.ended, default=None)


def records_of(places: RecordPlaces, repository: str, events: Events) -> HostRecords:
    """All of a repository, which has that ID. Blocks."""
    found = HostRecords()
    for root in places.senders:
        with _told(root, events):
            _take_senders(found, root, repository, events)
    _take_drills(found, places.drills, repository, events)
    _take_audits(found, places.audits, repository, events)
    return found


def _take_senders(found: HostRecords, root: Path, repository: str, events: Events) -> None:
    """Each for itself: whoever can't be read takes nobody else's place."""
    for folder in sorted(root.glob(f"*/{repository}")):
        path = folder / STATE_RECORD
        with _told(path, events):
            record = read_record(path, StateRecord, STATE_DIRECTORY, events)
            if record is not None and record.repository == repository:
                found.senders[record.vm] = _notes(record, folder, events)
        path = folder / ADOPTED_RECORD
        with _told(path, events):
            adopted = read_record(path, AdoptedRecord, STATE_DIRECTORY, events)
            if adopted is not None:
                found.adopted[VmKey(folder.parent.name)] = adopted.chain


def _notes(record: StateRecord, folder: Path, events: Events) -> SenderNotes:
    seen = PointId(record.sequence, record.sha256) if record.sequence else None
    paths = sorted((folder / "disks").glob("*/audit.json"))
    cursors = [one for path in paths if (one := RollingCursor.read(path, events)) is not None]
    return SenderNotes(
        seen,
        (folder / "run" / "run.json").exists(),
        bool(cursors),
        min((one.covered_s for one in cursors), default=0.0),
        sum(one.round_spans for one in cursors) * SPAN_BYTES,
    )


def _take_drills(found: HostRecords, directory: Path, repository: str, events: Events) -> None:
    with _told(directory, events):
        if not directory.is_dir():
            return
        from warmspare.recover.drills import drill_record

        for kept in drill_record.of(directory).newest_of_each(PLANS, _teller(events)):
            for step in kept.report.steps if kept.report.repository_id in ("", repository) else []:
                found.drills.setdefault(step.vm, KeptDrill(kept.report.kind, kept.report.began, step))


def _take_audits(found: HostRecords, directory: Path, repository: str, events: Events) -> None:
    with _told(directory, events):
        if not directory.is_dir():
            return
        from warmspare.audit.reports.audit_summary import summaries

        for report in (kept.report for kept in summaries(directory).newest_of_each(PLANS, _teller(events))):
            if report.repository_id != repository:
                continue
            if not report.vm:
                found.of_all = found.of_all or report
                continue
            found.audits.setdefault(report.vm, report)
            if report.kind == "replica" and report.vm not in found.replicas:
                _take_replica(found, report, events)


def _take_replica(found: HostRecords, report: AuditSummary, events: Events) -> None:
    """What the replica holds by now."""
    from warmspare.state.replica_record import ReplicaPlace, mode_of

    target = Path(report.subject)
    with _told(target, events):
        mode = mode_of(target) if target.is_absolute() else 0
        replica = ReplicaPlace(target, mode, None).read() if mode else None
        if replica is not None and replica.vm == report.vm and replica.at is not None:
            found.replicas[report.vm] = replica.at


def _teller(events: Events) -> Callable[[WarmspareError], None]:
    return lambda error: events.emit_once(StateUnreadable(path=error.where, message=error.what))


@contextlib.contextmanager
def _told(path: Path, events: Events) -> Iterator[None]:
    """What can't be read there counts as not there."""
    try:
        yield
    except (StoreError, OSError) as error:
        message = error.what if isinstance(error, StoreError) else error.strerror or str(error)
        events.emit_once(StateUnreadable(path=str(path), message=message))
