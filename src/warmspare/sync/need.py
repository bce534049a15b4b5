"""Whether a sync has anything to do; owns the two ways in which a retry finds that it has not.

By the number of a restore point that was the newest before, or by a request ID that the points themselves hold. Both
are looked at under the VM's lease: what another makes afterwards takes the sequence number of ours, and of two only one
is published.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from warmspare.errors import ConfigError
from warmspare.model.ids import PointId, RequestId, VmId
from warmspare.observe.events import Events
from warmspare.repository.chain import Point, Repository
from warmspare.repository.history.steps import ancestors, dropped, recall
from warmspare.state.local_files import STATE_DIRECTORY, read_record, write_record
from warmspare.sync.local.local_state import LocalState
from warmspare.sync.results import UnneededError
from warmspare.sync.sync_settings import SyncSettings

LOOKED_AT = 100  # the newest points, which a request ID is looked for in
AHEAD = 8  # records that are read at once


class MadePoints(msgspec.Struct, frozen=True):
    """Which of the newest points were made for a request, up to one point: these the store need not be asked for again.
    They are the chain's, since a point stands for all before it."""

    newest: PointId
    made: dict[RequestId, PointId]


async def demand_needed(
    settings: SyncSettings, vm: VmId, repository: Repository, head: Point | None, local: LocalState, events: Events
) -> None:
    """UnneededError where the point that is asked for is there. head: the chain's newest point; None: there is no chain
    yet. ConfigError, IntegrityError."""
    if head is None:
        return
    if settings.request is not None:
        made = await _made_for(settings.request, vm, repository, head, local, events)
        if made is not None:
            raise UnneededError(vm, made.id, made.record.created, settings.request)
    if settings.not_after is not None:
        _demand_not_after(settings.not_after, vm, head, repository.store.uri)


def _demand_not_after(not_after: str, vm: VmId, head: Point, where: str) -> None:
    """UnneededError where the chain's newest point is newer than that; ConfigError where it is no point, or not the
    one that stands at its number."""
    number = not_after.partition("-")[0]
    if not number.isdecimal() or len(number) > 18:
        raise ConfigError(
            f"{not_after[:40]!r} is no restore point", hint="give its number or label, as `points` shows it"
        )
    if head.id.sequence > int(number):
        raise UnneededError(vm, head.id, head.record.created)
    if head.id.sequence == int(number) and "-" in not_after and head.id.label != not_after:
        raise ConfigError(
            f"restore point {not_after} of VM {vm!r} is not in its chain, which has {head.id.label} there",
            where=where,
            hint="look at `points`: whoever named it knows another chain",
        )


async def _made_for(
    request: RequestId,
    vm: VmId,
    repository: Repository,
    newest: Point,
    local: LocalState,
    events: Events,
) -> Point | None:
    """The newest point that was made for it, of those that are looked at; newest first, as far as this host does not
    know them yet."""
    head = newest.id
    oldest = head.sequence - LOOKED_AT  # of the ones before those that count
    known = read_record(local.made_points_path, MadePoints, STATE_DIRECTORY, events)
    made: dict[RequestId, PointId] = {}
    async for point in _newest_first(repository, newest):
        if point.id.sequence <= oldest:
            break
        if point.record.request_id == request:
            return point
        if point.record.request_id is not None:
            made.setdefault(point.record.request_id, point.id)
        if known is not None and known.newest.sha256 in (point.id.sha256, point.record.parent):
            made = known.made | made
            break
    made = {name: point for name, point in made.items() if point.sequence > oldest}
    if known is None or known.newest != head:
        write_record(local.made_points_path, MadePoints(head, made), STATE_DIRECTORY)
    return await recall(repository, vm, made[request]) if request in made else None


async def _newest_first(repository: Repository, head: Point) -> AsyncIterator[Point]:
    """All points of the chain, also those that were dropped."""
    async for step in ancestors(repository, head, ahead=AHEAD):
        yield step.point
        if step.fold is not None:
            for point in reversed([point async for point in dropped(repository, head.record.vm_id, step.fold)]):
                yield point
