"""Which policy the configuration has for a VM of a repository, and why it keeps its points; removes none.

vCenter is not asked, so which VMs a folder or a tag means is not known: their policy is taken for a VM that nothing
else means where all of them have the same one, and it is called unsure.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from warmspare.engine.host_places import config_path
from warmspare.engine.retention_rules import policy_by
from warmspare.engine.wiring.fleet_expected import FleetExpected
from warmspare.errors import ConfigError, FormatError
from warmspare.model.ids import VmId
from warmspare.outside.time_zones import time_zone
from warmspare.repository.chain import Point, Repository
from warmspare.repository.failover_record import read_journal
from warmspare.repository.points.point_choice import ReadPoint
from warmspare.retain.point_times import ToldTime
from warmspare.retain.policy import RetentionPolicy, past_points, plan

if TYPE_CHECKING:
    from warmspare.engine.repository_place import RepositoryPlace

UTC = RetentionPolicy().time_zone


@dataclass(frozen=True, slots=True)
class WhyKept:
    """reasons: why a policy keeps a point, none: it would not; None: no policy, or it can't tell. zone: of the
    policy."""

    reasons: tuple[str, ...] | None = None
    zone: str = UTC

    def local(self, created: str) -> str:
        """A moment, RFC 3339, in that time zone."""
        moment = datetime.datetime.fromisoformat(created)
        try:
            return moment.astimezone(time_zone(self.zone)).isoformat(timespec="seconds")
        except OverflowError:  # of a year that this zone has not
            return moment.isoformat(timespec="seconds")


class KeptPoints:
    """Of a repository, by what the configuration says of it. ConfigError where the file that `place` names is wrong;
    the usual one counts for nothing then, for whoever named the repository does not need it."""

    def __init__(self, repository: Repository, place: RepositoryPlace) -> None:
        self.repository = repository
        self._expected = _expected(place)

    @property
    def any(self) -> bool:
        """Whether any of its VMs has a policy that lets something go."""
        return any(not policy_by(vm.policy.retention).empty for vm in self._expected.vms)

    async def told(self, points: AsyncIterator[ReadPoint], *, whole: bool) -> AsyncIterator[tuple[ReadPoint, WhyKept]]:
        """Each point, with why it is kept. whole: those of a VM are all from some point on to its newest; otherwise
        that can't be told."""
        if not (self.any and whole):
            async for one in points:
                yield one, WhyKept()
            return
        ours: list[ReadPoint] = []
        async for one in points:
            if ours and ours[-1].vm != one.vm:
                for judged in await self._judged(ours):
                    yield judged
                ours = []
            ours.append(one)
        for judged in await self._judged(ours):
            yield judged

    async def _judged(self, points: list[ReadPoint]) -> list[tuple[ReadPoint, WhyKept]]:
        """Of one VM."""
        newest = next((one.read for one in reversed(points) if isinstance(one.read, Point)), None)
        rules = self._expected.retention(newest.record.vm_id, newest.record.vm_name) if newest is not None else None
        unheard = any(one.number == 0 for one in points)  # of holds
        if newest is None or rules is None or (policy := policy_by(rules)).empty or unheard:
            return [(one, WhyKept()) for one in points]
        over = await self._failover(newest.record.vm_id)
        needed = {one.number: ("failed over to",) for one in points if over in (None, one.number)}
        held = {one.number: one.held for one in points}
        kept = plan(past_points({one.number: _told(one) for one in points}, policy, held, needed), policy).kept
        return [(one, WhyKept(kept.get(one.number, ()), policy.time_zone)) for one in points]

    async def _failover(self, vm: VmId) -> int | None:
        """The point of a failover that is not over; 0 for none, None where that can't be read, so that it may be
        any."""
        try:
            record = (await read_journal(self.repository, vm)).record
        except FormatError:
            return None
        return record.sequence if record is not None and record.holds else 0


def _told(point: ReadPoint) -> ToldTime | None:
    if not isinstance(point.read, Point) or point.stored_s is None:
        return None
    created_s = datetime.datetime.fromisoformat(point.read.record.created).timestamp()
    return ToldTime(point.number, created_s, point.stored_s)


def _expected(place: RepositoryPlace) -> FleetExpected:
    path = config_path(place.config)
    if place.config is None and not os.access(path, os.R_OK):
        return FleetExpected()
    from warmspare.config.load import load

    try:
        return FleetExpected.of(load(path), place.uri, place.config)
    except ConfigError:
        if place.config is not None:
            raise
        return FleetExpected()
