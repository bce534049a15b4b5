"""The timetable of rates: days, midnight, overlaps, and what the wall clock does twice a year."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmspare.config.timetable import (
    DAY_MINUTES,
    DAYS,
    EVERY_DAY,
    Period,
    Timetable,
    clock,
    days,
    show_clock,
    show_days,
    show_rate,
)
from warmspare.errors import ConfigError

MONDAY = datetime(2026, 3, 2)


def period(when: str, begin: str, end: str, bytes_s: float = 1e6) -> Period:
    return Period(days(when), clock(begin), clock(end), bytes_s)


def at(table: Timetable, day: str, moment: str) -> float | None:
    hour, minute = divmod(clock(moment), 60)
    return table.rate((MONDAY + timedelta(days=DAYS.index(day), hours=hour, minutes=minute)).timetuple())


def test_edges_of_a_period() -> None:
    table = Timetable((period("mon-fri", "08:00", "18:00"),))
    for day, moment, limited in [
        ("mon", "07:59", False),
        ("mon", "08:00", True),
        ("mon", "17:59", True),
        ("mon", "18:00", False),
        ("fri", "08:00", True),
        ("sat", "12:00", False),
        ("sun", "12:00", False),
        ("sun", "23:59", False),
    ]:
        assert (at(table, day, moment) is not None) is limited, (day, moment)


def test_over_midnight_counts_to_the_day_on_which_it_begins() -> None:
    table = Timetable((period("fri,sun", "22:00", "06:00"),))
    for day, moment, limited in [
        ("fri", "05:59", False),
        ("fri", "21:59", False),
        ("fri", "22:00", True),
        ("fri", "23:59", True),
        ("sat", "00:00", True),
        ("sat", "05:59", True),
        ("sat", "06:00", False),
        ("sat", "22:30", False),
        ("sun", "22:00", True),
        ("mon", "05:59", True),
        ("mon", "06:00", False),
    ]:
        assert (at(table, day, moment) is not None) is limited, (day, moment)
    until_midnight = Timetable((period("mon", "18:00", "24:00"), period("wed", "18:00", "00:00")))
    for day, moment, limited in [
        ("mon", "23:59", True),
        ("tue", "00:00", False),
        ("wed", "23:59", True),
        ("thu", "00:00", False),
    ]:
        assert (at(until_midnight, day, moment) is not None) is limited, (day, moment)


def test_the_lowest_rate_of_what_overlaps() -> None:
    table = Timetable(
        (
            period("mon-sun", "00:00", "24:00", 9e6),
            period("mon-fri", "08:00", "18:00", 1e6),
            period("wed", "12:00", "13:00", 5e6),
            period("wed", "17:00", "19:00", 2e6),
        )
    )
    assert at(table, "wed", "12:30") == 1e6 and at(table, "wed", "17:30") == 1e6
    assert at(table, "wed", "18:00") == 2e6 and at(table, "wed", "19:00") == 9e6
    assert Timetable().rate(time.localtime()) is None


@given(
    st.lists(st.tuples(st.frozensets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(1, 1440))),
    st.integers(0, 6),
    st.integers(0, 1439),
)
def test_a_minute_is_covered_if_a_period_that_began_reaches_it(
    given_periods: list[tuple[frozenset[int], int, int]], day: int, minute: int
) -> None:
    periods = [Period(d, b, e, 1000.0 + i) for i, (d, b, e) in enumerate(given_periods) if b != e]
    now = day * DAY_MINUTES + minute
    expected = [
        one.bytes_s
        for one in periods
        for began in one.days
        for week in (0, 7)
        if 0
        <= now + week * DAY_MINUTES - (began * DAY_MINUTES + one.begin)
        < (one.end - one.begin if one.begin < one.end else one.end + DAY_MINUTES - one.begin)
    ]
    moment = (MONDAY + timedelta(days=day, minutes=minute)).timetuple()
    assert Timetable(tuple(periods)).rate(moment) == min(expected, default=None)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The rule, not the place: systems without a time zone database know it too."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0/2,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_the_nights_on_which_the_clock_changes() -> None:
    def limited_minutes(table: Timetable, start: datetime, hours: int) -> int:
        first = int(start.replace(tzinfo=UTC).timestamp())
        return sum(table.rate(time.localtime(first + 60 * m)) is not None for m in range(hours * 60))

    table = Timetable((period("sun", "01:30", "03:30"),))
    inside = Timetable((period("sun", "02:15", "02:45"),))
    ordinary, forward, back = datetime(2026, 3, 21, 23), datetime(2026, 3, 28, 23), datetime(2026, 10, 24, 22)
    assert limited_minutes(table, ordinary, 12) == 120 and limited_minutes(inside, ordinary, 12) == 30
    assert limited_minutes(table, forward, 12) == 60 and limited_minutes(inside, forward, 12) == 0
    assert limited_minutes(table, back, 12) == 180 and limited_minutes(inside, back, 12) == 60


def test_days_and_times_as_they_are_written() -> None:
    for text, shown in {
        "mon-fri": "mon-fri",
        "sat,sun": "sat,sun",
        "Mon, Wed-Fri": "mon,wed-fri",
        "fri-mon": "mon,fri-sun",
        "mon-mon": "mon",
        "sun-sat": "mon-sun",
        "tue,tue": "tue",
    }.items():
        assert show_days(days(text)) == shown and days(shown) == days(text)
    assert days("mon-sun") == EVERY_DAY
    assert [clock(text) for text in ("00:00", "08:05", "23:59", "24:00")] == [0, 485, 1439, 1440]
    assert [show_clock(minutes) for minutes in (0, 485, 1440)] == ["00:00", "08:05", "24:00"]
    assert [show_rate(r) for r in (8e3, 62.5e3, 2.5e6, 125e6)] == ["64kbit", "500kbit", "20mbit", "1gbit"]
    for value in ("", "mon-", "-mon", "monday", "mon;tue", "mon,,tue", 1, None, ["mon"]):
        with pytest.raises(ConfigError, match="days of the week"):
            days(value)
    for value in ("8:00", "24:01", "08:60", "0800", "08:00:00", "", 800, None):
        with pytest.raises(ConfigError, match="time of the day"):
            clock(value)
