"""Which restore points a policy keeps, and why; pure, and refuses to let one go that no rule was asked about.

The rules are those that users of restic and Borg know: of each hour, day, week, month or year that has points, the
newest one, for the newest so many such periods. Rules count by themselves: a point may be kept by several.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from warmspare.outside.time_zones import time_zone
from warmspare.retain.point_times import PointTime, ToldTime, believed

NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Counts of points or of periods; 0: no such rule. keep_within_s: all points that are at most so many seconds older
    than the newest. time_zone: an IANA name, whose hours, days, weeks (ISO: from Monday on), months and years count.
    trust_created: a point's time need not agree with the store's time of its record (point_times.py)."""

    keep_last: int = 0
    keep_within_s: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    time_zone: str = "UTC"
    trust_created: bool = False

    @property
    def empty(self) -> bool:
        """Whether it has no rule, so that by it nothing may go."""
        return not any((self.keep_last, self.keep_within_s, *(count for _, count, _ in self.periods)))

    @property
    def periods(self) -> tuple[tuple[str, int, Callable[[datetime.datetime], str]], ...]:
        """Of each kind: its word, how many of them, and what one is called that a local time lies in. Names of a kind
        are different for different periods."""
        return (
            ("hourly", self.keep_hourly, _hour),
            ("daily", self.keep_daily, lambda local: f"{local:%Y-%m-%d}"),
            ("weekly", self.keep_weekly, _week),
            ("monthly", self.keep_monthly, lambda local: f"{local:%Y-%m}"),
            ("yearly", self.keep_yearly, lambda local: f"{local:%Y}"),
        )

    @property
    def words(self) -> str:
        """`last 8, hourly 24, within 2d`; "" for an empty one."""
        counts = (("last", self.keep_last), *((word, count) for word, count, _ in self.periods))
        parts = [f"{word} {count}" for word, count in counts if count]
        if self.keep_within_s:
            parts.append(f"within {_span(self.keep_within_s)}")
        zone = f" ({self.time_zone})" if parts and self.time_zone != "UTC" else ""
        return ", ".join(parts) + zone


@dataclass(frozen=True, slots=True)
class PastPoint:
    """A restore point that stands. moment_s: when it was made, Unix seconds; None: its time is not to be believed, and
    doubt says why, as a clause. held: the reasons of its holds. needed: whatever else keeps it, as clauses."""

    sequence: int
    moment_s: float | None
    doubt: str = ""
    held: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()


def past_points(
    told: Mapping[int, ToldTime | None],
    policy: RetentionPolicy,
    held: Mapping[int, Sequence[str]],
    needed: Mapping[int, Sequence[str]],
) -> list[PastPoint]:
    """The points of a VM that stand, as its policy judges them. All by sequence, told in their order; None: the record
    can't be read."""
    readable = [one for one in told.values() if one is not None]
    times = {one.sequence: one for one in believed(readable, trust_created=policy.trust_created)}
    past = []
    for number in told:
        time = times.get(number) or PointTime(number, None, "its record can't be read")
        kept = tuple(held.get(number, ())), tuple(needed.get(number, ()))
        past.append(PastPoint(number, time.moment_s, time.doubt, *kept))
    return past


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """kept: why, by sequence, ascending. goes: the sequences of all others, ascending. refusal: why nothing goes, as a
    clause, where it is the policy's fault; "" otherwise."""

    kept: dict[int, tuple[str, ...]]
    goes: tuple[int, ...]
    refusal: str = ""


def plan(points: Sequence[PastPoint], policy: RetentionPolicy) -> RetentionPlan:
    """What the policy says of all points of one VM that stand, in any order.

    A point whose time is not to be believed is kept, and counts for keep_last alone. What is kept does not depend on
    whether the policy was applied before. ConfigError for a time zone that this host does not know.
    """
    zone = time_zone(policy.time_zone)
    ordered = sorted(points, key=lambda point: point.sequence)
    by_rule = dict(zip((one.sequence for one in ordered), _rules(ordered, policy, zone), strict=True))
    refusal = ""
    if policy.empty:
        refusal = "no policy says which restore points are kept"
    elif ordered and not any(by_rule.values()):
        refusal = "the policy would keep none of the restore points"
    kept: dict[int, tuple[str, ...]] = {}
    for point in ordered:
        reasons = list(by_rule[point.sequence])
        if point is ordered[-1]:
            reasons.append(NEWEST)
        reasons += [f"held: {reason}" if reason else "held" for reason in point.held]
        reasons += point.needed
        if point.moment_s is None:
            reasons.append(f"its time is not to be believed: {point.doubt}")
        if reasons or refusal:
            kept[point.sequence] = tuple(reasons) or (refusal,)
    return RetentionPlan(kept, tuple(point.sequence for point in ordered if point.sequence not in kept), refusal)


def _rules(ordered: Sequence[PastPoint], policy: RetentionPolicy, zone: datetime.tzinfo) -> list[list[str]]:
    """For each point the rules of the policy that keep it. ordered: by sequence."""
    reasons: list[list[str]] = [[] for _ in ordered]
    for place in range(max(0, len(ordered) - policy.keep_last), len(ordered)):
        reasons[place].append(f"last {len(ordered) - place}")
    timed = [(place, point.moment_s) for place, point in enumerate(ordered) if point.moment_s is not None]
    if not timed:
        return reasons
    if policy.keep_within_s:
        newest_s = max(moment_s for _, moment_s in timed)
        for place, moment_s in timed:
            if newest_s - moment_s <= policy.keep_within_s:
                reasons[place].append(f"within {_span(policy.keep_within_s)}")
    for word, count, named in policy.periods:
        if not count:
            continue
        newest: dict[str, tuple[float, int]] = {}  # of each period: a time in it, and its last point
        for place, moment_s in timed:
            name = named(datetime.datetime.fromtimestamp(moment_s, zone))
            newest[name] = (max(moment_s, newest.get(name, (moment_s, 0))[0]), place)
        for name, (_, place) in sorted(newest.items(), key=lambda item: item[1][0])[-count:]:
            reasons[place].append(f"{word} {name}")
    return reasons


def _hour(local: datetime.datetime) -> str:
    """An hour that comes twice, when clocks are put back, is two."""
    return f"{local:%Y-%m-%d %H}" + (" (again)" if local.fold else "")


def _week(local: datetime.datetime) -> str:
    year, week, _ = local.isocalendar()
    return f"{year:04d}-W{week:02d}"


def _span(seconds: int) -> str:
    """As the configuration has it: 1h30m."""
    parts = (("d", seconds // 86400), ("h", seconds // 3600 % 24), ("m", seconds // 60 % 60), ("s", seconds % 60))
    return "".join(f"{count}{unit}" for unit, count in parts if count)
