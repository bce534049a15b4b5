"""How a sync that published, or a look at one, ends: the event that says what it did."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from msgspec import UNSET

from warmspare.engine.error_groups import telling
from warmspare.observe.kinds.sync_events import PlanDone, SyncDone, SyncUnneeded

if TYPE_CHECKING:
    from warmspare.observe.events import Events
    from warmspare.sync.results import Survey, SyncResult, UnneededError

T = TypeVar("T")


async def unless_unneeded(work: Awaitable[T]) -> T | UnneededError:
    """The result of a sync, or of a look; or that it had nothing to do."""
    from warmspare.sync.results import UnneededError

    try:
        return await work
    except (UnneededError, BaseExceptionGroup) as caught:
        error = telling(caught)
        if not isinstance(error, UnneededError):
            raise
        return error


def _unneeded(there: UnneededError, events: Events) -> SyncUnneeded:
    end = SyncUnneeded(
        vm=there.vm,
        point=there.point.label,
        sequence=there.point.sequence,
        sha256=there.point.sha256,
        created=there.created,
        request_id=UNSET if there.request is None else there.request,
    )
    events.emit(end)
    return end


def published(result: SyncResult | UnneededError, events: Events) -> SyncDone | SyncUnneeded:
    """Say what a sync did."""
    if isinstance(result, Exception):
        return _unneeded(result, events)
    done = SyncDone(
        vm=result.vm,
        point=result.point.label,
        sequence=result.point.sequence,
        sha256=result.point.sha256,
        parent=result.parent.label if result.parent else None,
        bytes_read=result.bytes_read,
        bytes_changed=result.bytes_changed,
        bytes_sent=result.bytes_sent,
        seconds=round(result.seconds, 3),
        findings=result.findings,
        unprotected=result.unprotected,
    )
    events.emit(done)
    return done


def surveyed(
    found: Survey | UnneededError, events: Events, *, limit: float | None, rpo_s: int | None
) -> PlanDone | SyncUnneeded:
    """Say what a sync would do. limit: bytes a second that it may send now. Reading and sending go on side by side, so
    the longer of the two is what it takes."""
    if isinstance(found, Exception):
        return _unneeded(found, events)

    def takes_s(rate: float | None) -> float | None:
        return None if rate is None else round(max(found.seconds, found.bytes_to_send / rate), 1)

    at_limit, at_rate = takes_s(limit), takes_s(found.rate)
    likely = max((each for each in (at_limit, at_rate) if each is not None), default=None)
    done = PlanDone(
        vm=found.vm,
        bytes_read=found.bytes_read,
        bytes_changed=found.bytes_changed,
        bytes_to_send=found.bytes_to_send,
        seconds=round(found.seconds, 3),
        seconds_at_limit=at_limit,
        seconds_at_measured_rate=at_rate,
        rpo_seconds=rpo_s,
        rpo_holds=None if rpo_s is None or likely is None else likely <= rpo_s,
    )
    events.emit(done)
    return done
