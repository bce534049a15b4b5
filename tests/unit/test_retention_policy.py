"""Which points a policy keeps: the rules that users of restic and Borg know, over any history and any clock."""

from __future__ import annotations

import datetime
import zoneinfo
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmspare.errors import ConfigError
from warmspare.retain.policy import PastPoint, RetentionPlan, RetentionPolicy, plan

HOUR = 3600.0
DAY = 24 * HOUR
ALL = RetentionPolicy(
    keep_last=3, keep_within_s=6 * 3600, keep_hourly=5, keep_daily=4, keep_weekly=3, keep_monthly=3, keep_yearly=2
)


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def made(*moments: str) -> list[PastPoint]:
    return [PastPoint(number, at(moment)) for number, moment in enumerate(moments, 1)]


def every(seconds: float, begin: str, count: int) -> list[PastPoint]:
    return [PastPoint(number + 1, at(begin) + number * seconds) for number in range(count)]


def reasons(result: RetentionPlan, word: str) -> list[str]:
    return [reason for why in result.kept.values() for reason in why if reason.startswith(word)]


def test_a_year_every_15_minutes() -> None:
    policy = RetentionPolicy(keep_last=8, keep_hourly=24, keep_daily=14, keep_weekly=8, keep_monthly=12)
    points = every(900, "2025-12-01T00:14:00+00:00", 35040)
    result = plan(points, policy)
    assert len(result.kept) <= 8 + 24 + 14 + 8 + 12 and len(result.kept) + len(result.goes) == 35040
    assert [len(reasons(result, word)) for word in ("last", "hourly", "daily", "weekly", "monthly")] == [
        8,
        24,
        14,
        8,
        12,
    ]
    assert result.kept[35040] == (
        "last 1",
        "hourly 2026-11-30 23",
        "daily 2026-11-30",
        "weekly 2026-W49",
        "monthly 2026-11",
        "newest",
    )
    assert not result.refusal


def test_the_newest_of_each_period_that_has_any() -> None:
    points = made("2026-03-01T10:00Z", "2026-03-01T22:00Z", "2026-03-09T08:00Z", "2026-05-02T00:00Z")
    result = plan(points, RetentionPolicy(keep_daily=2, keep_monthly=2))
    assert result.kept == {
        3: ("daily 2026-03-09", "monthly 2026-03"),
        4: ("daily 2026-05-02", "monthly 2026-05", "newest"),
    }
    assert result.goes == (1, 2)


def test_within_counts_back_from_the_newest_point() -> None:
    points = made("2020-01-01T00:00Z", "2020-01-01T23:59Z", "2020-01-02T00:00Z", "2020-01-03T00:00Z")
    result = plan(points, RetentionPolicy(keep_within_s=86400))
    assert result.kept == {3: ("within 1d",), 4: ("within 1d", "newest")}


def test_weeks_are_those_of_iso() -> None:
    points = made("2026-12-31T12:00Z", "2027-01-03T12:00Z", "2027-01-04T00:00Z")
    result = plan(points, RetentionPolicy(keep_weekly=2, keep_yearly=2))
    assert result.kept == {
        2: ("weekly 2026-W53",),
        1: ("yearly 2026",),
        3: ("weekly 2027-W01", "yearly 2027", "newest"),
    }


def test_days_are_those_of_the_time_zone() -> None:
    points = made("2026-06-01T21:00Z", "2026-06-01T22:30Z")  # 23:00 and 00:30 in Berlin
    assert len(plan(points, RetentionPolicy(keep_daily=5)).kept) == 1
    result = plan(points, RetentionPolicy(keep_daily=5, time_zone="Europe/Berlin"))
    assert reasons(result, "daily") == ["daily 2026-06-01", "daily 2026-06-02"]


def test_an_hour_that_comes_twice_is_two() -> None:
    """Berlin, 25 October 2026: at 03:00 clocks go back to 02:00."""
    points = every(1800, "2026-10-25T01:00:00+02:00", 8)  # 01:00, 01:30, 02:00, 02:30, and 02:00, 02:30 again
    policy = RetentionPolicy(keep_hourly=9, keep_daily=9, time_zone="Europe/Berlin")
    result = plan(points, policy)
    assert reasons(result, "hourly") == [
        "hourly 2026-10-25 01",
        "hourly 2026-10-25 02",
        "hourly 2026-10-25 02 (again)",
        "hourly 2026-10-25 03",
    ]
    assert list(result.kept) == [2, 4, 6, 8] and reasons(result, "daily") == ["daily 2026-10-25"]


def test_an_hour_that_does_not_come_is_none() -> None:
    """Berlin, 29 March 2026: at 02:00 clocks go to 03:00; the day has 23 hours."""
    points = every(900, "2026-03-29T00:00:00+01:00", 23 * 4 + 1)
    policy = RetentionPolicy(keep_hourly=99, keep_daily=9, time_zone="Europe/Berlin")
    result = plan(points, policy)
    assert len(reasons(result, "hourly")) == 24 and "hourly 2026-03-29 02" not in reasons(result, "hourly")
    assert reasons(result, "daily") == ["daily 2026-03-29", "daily 2026-03-30"]


def test_a_day_of_25_hours_keeps_its_last_point() -> None:
    points = every(900, "2026-10-25T00:00:00+02:00", 25 * 4)
    result = plan(points, RetentionPolicy(keep_daily=9, time_zone="Europe/Berlin"))
    assert list(result.kept) == [100]


@pytest.mark.parametrize("policy", [RetentionPolicy(), RetentionPolicy(time_zone="Asia/Tokyo", trust_created=True)])
def test_an_empty_policy_lets_nothing_go(policy: RetentionPolicy) -> None:
    result = plan(every(900, "2026-01-01T00:00Z", 5), policy)
    assert policy.empty and not policy.words and not result.goes and len(result.kept) == 5
    assert result.refusal == "no policy says which restore points are kept"
    assert result.kept[1] == (result.refusal,) and result.kept[5] == ("newest",)


def test_a_policy_that_keeps_nothing_lets_nothing_go() -> None:
    points = [PastPoint(1, None, "why"), PastPoint(2, None, "why")]
    result = plan(points, RetentionPolicy(keep_daily=7))
    assert not result.goes and result.refusal == "the policy would keep none of the restore points"
    assert plan([], RetentionPolicy(keep_daily=7)) == RetentionPlan({}, ())


def test_what_is_held_needed_or_not_believed_stays() -> None:
    points = every(900, "2026-01-01T00:00Z", 6)
    points[0] = replace(points[0], held=("the audit of May", ""))
    points[1] = replace(points[1], moment_s=None, doubt="it says 1970")
    points[2] = replace(points[2], needed=("it was failed over to",))
    result = plan(points, RetentionPolicy(keep_last=1))
    assert result.kept == {
        1: ("held: the audit of May", "held"),
        2: ("its time is not to be believed: it says 1970",),
        3: ("it was failed over to",),
        6: ("last 1", "newest"),
    }


def test_the_words_of_a_policy() -> None:
    assert ALL.words == "last 3, hourly 5, daily 4, weekly 3, monthly 3, yearly 2, within 6h"
    assert RetentionPolicy(keep_daily=1, time_zone="Europe/Berlin").words == "daily 1 (Europe/Berlin)"


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "a\0b", "Europe", "Ä" * 300])
def test_a_time_zone_that_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match="knows no time zone"):
        plan([], RetentionPolicy(time_zone=name))


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia")
COUNTS = st.integers(0, 4)
POLICIES = st.builds(
    RetentionPolicy,
    keep_last=COUNTS,
    keep_within_s=st.sampled_from([0, 1, 7200, 3 * 86400]),
    keep_hourly=COUNTS,
    keep_daily=COUNTS,
    keep_weekly=COUNTS,
    keep_monthly=COUNTS,
    keep_yearly=COUNTS,
    time_zone=st.sampled_from(ZONES),
)
STEPS = st.lists(st.sampled_from([0.0, 60.0, 900.0, HOUR, 5 * HOUR, DAY, 9 * DAY, 40 * DAY]), min_size=1, max_size=60)


def history(begin: float, steps: list[float]) -> list[PastPoint]:
    points, moment = [], begin
    for number, step in enumerate(steps, 1):
        moment += step
        points.append(PastPoint(number, moment))
    return points


@settings(max_examples=300, deadline=None)
@given(POLICIES, st.floats(1.7e9, 1.8e9), STEPS)
def test_a_history_that_was_retained_keeps_what_the_whole_one_does(
    policy: RetentionPolicy, begin: float, steps: list[float]
) -> None:
    points, stand = history(begin, steps), list[PastPoint]()
    for number, point in enumerate(points, 1):
        stand.append(point)
        result, whole = plan(stand, policy), plan(points[:number], policy)
        if not policy.empty:
            assert result.kept == whole.kept
        stand = [one for one in stand if one.sequence in result.kept]


@settings(max_examples=300, deadline=None)
@given(POLICIES, st.floats(1.7e9, 1.8e9), STEPS)
def test_of_a_period_nothing_is_kept_but_its_newest_point(
    policy: RetentionPolicy, begin: float, steps: list[float]
) -> None:
    points = history(begin, steps)
    result = plan(points, policy)
    zone = datetime.UTC if policy.time_zone == "UTC" else zoneinfo.ZoneInfo(policy.time_zone)
    local = {one.sequence: datetime.datetime.fromtimestamp(one.moment_s or 0.0, zone) for one in points}
    days = {sequence for sequence, why in result.kept.items() if any(one.startswith("daily") for one in why)}
    newest = {when.date(): sequence for sequence, when in sorted(local.items())}
    assert days == set(sorted(newest.values())[-policy.keep_daily :] if policy.keep_daily else ())
    if not policy.empty:
        assert len(points) in result.kept
        assert sorted([*result.kept, *result.goes]) == [one.sequence for one in points]


@settings(max_examples=200, deadline=None)
@given(POLICIES, st.floats(1.7e9, 1.8e9), STEPS, st.sets(st.integers(1, 60)))
def test_more_that_keeps_a_point_lets_no_other_go(
    policy: RetentionPolicy, begin: float, steps: list[float], held: set[int]
) -> None:
    points = history(begin, steps)
    some = [replace(one, held=("x",)) if one.sequence in held else one for one in points]
    plain, result = plan(points, policy), plan(some, policy)
    assert set(result.goes) == set(plain.goes) - held
