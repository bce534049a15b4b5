"""Which policy the configuration has for a VM of a repository, and why it keeps its points; removes none.

vCenter is not asked, so which VMs a folder or a tag means is not known: their policy is taken for a VM that nothing
else means where all of them have the same one, and it is called unsure.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from warmspare.engine.host_places import config_path
from warmspare.engine.wiring.fleet_expected import FleetExpected
from warmspare.errors import ConfigError, FormatError
from warmspare.model.ids import VmId, VmKey
from warmspare.outside.time_zones import time_zone
from warmspare.repository.chain import Point, Repository
from warmspare.repository.failover_record import read_journal
from warmspare.repository.points.point_choice import ReadPoint
from warmspare.retain.point_times import ToldTime, believed
from warmspare.retain.policy import PastPoint, RetentionPolicy, plan

if TYPE_CHECKING:
    from warmspare.engine.repository_place import RepositoryPlace

UTC = RetentionPolicy().time_zone


@dataclass(frozen=True, slots=True)
class ConfiguredPolicy:
    """name: the `[vm.NAME]` that has it. sure: whether that means this VM alone; otherwise it is the folder or tag that
    may."""

    name: str
    policy: RetentionPolicy
    sure: bool


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


def policy_of(
    expected: FleetExpected, vm: VmId, name: str, adopted: Mapping[VmKey, VmId] | None = None
) -> ConfiguredPolicy | None:
    """What the configuration has for a VM of that ID and name; None where nothing there means it, or may. adopted: see
    HostRecords."""
    meant = expected.meaning(vm, name, adopted or {})
    if meant is not None:
        return ConfiguredPolicy(meant.name, RetentionPolicy(**asdict(meant.policy.retention)), True)
    several = [one for one in expected.vms if one.find.several]
    if not several or any(one.policy.retention != several[0].policy.retention for one in several):
        return None
    return ConfiguredPolicy(several[0].name, RetentionPolicy(**asdict(several[0].policy.retention)), False)


def times_of(points: Sequence[ReadPoint], policy: RetentionPolicy, needed: tuple[str, ...] = ()) -> list[PastPoint]:
    """Points of one VM as a policy judges them, in their order. needed: what else keeps each of them."""
    told = [
        ToldTime(one.number, _created_s(one.read), one.stored_s)
        for one in points
        if isinstance(one.read, Point) and one.stored_s is not None
    ]
    times = {one.sequence: one for one in believed(told, trust_created=policy.trust_created)}
    past = []
    for one in points:
        time = times.get(one.number)
        moment_s, doubt = (time.moment_s, time.doubt) if time is not None else (None, "its record can't be read")
        past.append(PastPoint(one.number, moment_s, doubt, one.held, needed))
    return past


def _created_s(point: Point) -> float:
    return datetime.datetime.fromisoformat(point.record.created).timestamp()


class KeptPoints:
    """Of a repository, by what the configuration says of it. ConfigError where the file that `place` names is wrong;
    the usual one counts for nothing then, for whoever named the repository does not need it."""

    def __init__(self, repository: Repository, place: RepositoryPlace) -> None:
        self.repository = repository
        self._expected = _expected(place)

    @property
    def any(self) -> bool:
        """Whether any of its VMs has a policy that lets something go."""
        return any(not RetentionPolicy(**asdict(vm.policy.retention)).empty for vm in self._expected.vms)

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
        found = policy_of(self._expected, newest.record.vm_id, newest.record.vm_name) if newest is not None else None
        unheard = any(one.number == 0 for one in points)  # of holds
        if found is None or newest is None or found.policy.empty or unheard:
            return [(one, WhyKept()) for one in points]
        needed = await self._failover(newest.record.vm_id)
        past = [
            one if needed in (None, one.sequence) else PastPoint(one.sequence, one.moment_s, one.doubt, one.held)
            for one in times_of(points, found.policy, ("failed over to",) if needed != 0 else ())
        ]
        kept = plan(past, found.policy).kept
        return [(one, WhyKept(kept.get(one.number, ()), found.policy.time_zone)) for one in points]

    async def _failover(self, vm: VmId) -> int | None:
        """The point of a failover that is not over; 0 for none, None where that can't be read, so that it may be
        any."""
        try:
            record = (await read_journal(self.repository, vm)).record
        except FormatError:
            return None
        return record.sequence if record is not None and record.holds else 0


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
