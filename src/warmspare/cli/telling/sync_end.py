"""How a sync that published, or a plan of one, ends on the command line: its last event and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from warmspare.observe.events import Events
    from warmspare.source.ports import Machine
    from warmspare.sync.results import Survey, SyncResult

UNPROTECTED = 7


def finished(machine: Machine, result: SyncResult, events: Events) -> int:
    """Say what a sync did; its exit code."""
    from warmspare.observe.kinds.sync import SyncDone

    events.emit(
        SyncDone(
            vm=result.vm,
            point=result.point.label,
            parent=result.parent.label if result.parent else None,
            bytes_read=result.bytes_read,
            bytes_changed=result.bytes_changed,
            bytes_sent=result.bytes_sent,
            seconds=round(result.seconds, 3),
            findings=result.findings,
            unprotected=result.unprotected,
        )
    )
    return UNPROTECTED if result.unprotected else 0


def planned(machine: Machine, found: Survey, events: Events, *, limit: float | None, rpo_s: int | None) -> int:
    """Say what a sync would do. limit: bytes a second that it may send now. Reading and sending go on side by side, so
    the longer of the two is what it takes; 7 if that is longer than the RPO."""
    from warmspare.observe.kinds.sync import PlanDone

    def takes_s(rate: float | None) -> float | None:
        return None if rate is None else round(max(found.seconds, found.bytes_to_send / rate), 1)

    at_limit, at_rate = takes_s(limit), takes_s(found.rate)
    likely = max((each for each in (at_limit, at_rate) if each is not None), default=None)
    holds = None if rpo_s is None or likely is None else likely <= rpo_s
    events.emit(
        PlanDone(
            vm=found.vm,
            bytes_read=found.bytes_read,
            bytes_changed=found.bytes_changed,
            bytes_to_send=found.bytes_to_send,
            seconds=round(found.seconds, 3),
            seconds_at_limit=at_limit,
            seconds_at_measured_rate=at_rate,
            rpo_seconds=rpo_s,
            rpo_holds=holds,
        )
    )
    return UNPROTECTED if holds is False else 0
