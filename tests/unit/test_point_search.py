"""`--at` a time: which moment is meant, and which point; how much is asked for that, and whose clock is believed."""

from __future__ import annotations

import asyncio
import datetime
import time
import zoneinfo
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigs.stores.vm_fleet import VmFleet, uuid_of
from warmspare.errors import ConfigError
from warmspare.format import restore_point
from warmspare.model.ids import vm_key
from warmspare.model.named_moment import named_moment
from warmspare.repository.points.point_search import PointSearch
from warmspare.store import layout

NOW = datetime.datetime(2026, 11, 30, 15, 30, tzinfo=datetime.UTC).timestamp()
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
VM = uuid_of(1)
STEP = 900.0


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-30T14:00", "2026-11-30T14:00+01:00"),
        ("2026-11-30 14:00", "2026-11-30T14:00+01:00"),
        ("2026-07-30t14:00:05.25", "2026-07-30T14:00:05.250000+02:00"),
        ("2026-11-30T14:00Z", "2026-11-30T14:00Z"),
        ("2026-11-30T14:00:01 z", "2026-11-30T14:00:01Z"),
        ("2026-11-30T14:00-05:30", "2026-11-30T14:00-05:30"),
        ("2026-11-30T14:00+0200", "2026-11-30T14:00+02:00"),
        ("2026-11-30", "2026-11-30T23:59:59.999999+01:00"),
        ("today", "2026-11-30T23:59:59.999999+01:00"),
        ("Yesterday", "2026-11-29T23:59:59.999999+01:00"),
        ("yesterday 14:00", "2026-11-29T14:00+01:00"),
        ("  yesterday   14:00 ", "2026-11-29T14:00+01:00"),
        ("today 08:15", "2026-11-30T08:15+01:00"),
        ("now", "2026-11-30T15:30Z"),
        ("2h ago", "2026-11-30T13:30Z"),
        ("2h", "2026-11-30T13:30Z"),
        ("1h30m ago", "2026-11-30T14:00Z"),
        ("2 hours 5 minutes ago", "2026-11-30T13:25Z"),
        ("3 days ago", "2026-11-27T15:30Z"),
        ("1w", "2026-11-23T15:30Z"),
        ("2026-10-25T02:30", "2026-10-25T02:30+02:00"),  # comes twice: the first
        ("2026-10-25", "2026-10-25T23:59:59.999999+01:00"),
        ("2026-03-29T02:30", "2026-03-29T02:30+01:00"),  # does not come
    ],
)
def test_a_moment_as_people_name_it(text: str, expected: str) -> None:
    assert named_moment(text, NOW, BERLIN) == at(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        "2026",
        "12-3fa9c1d2",
        "2026-11",
        "latest",
        "ago",
        "2x",
        "-2h",
        "3-1d",
        "\u0661h",
        "14:00",
        "tomorrow",
        "2026-W48",
        "2026-11-30T14",
        "2026-11-30T1:00",
        "2026-11-30T14:00Q",
        "2026-11-30T14:00:00+1",
    ],
)
def test_what_is_none(text: str) -> None:
    assert named_moment(text, NOW, BERLIN) is None


@pytest.mark.parametrize(
    "text", ["2026-13-01", "2026-02-30T10:00", "2026-11-30T24:01", "0000-01-01", "2026-11-30T10:00+99:00"]
)
def test_a_day_that_no_calendar_has(text: str) -> None:
    with pytest.raises(ConfigError, match="no such day or time"):
        named_moment(text, NOW, BERLIN)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789-:TZ+ .hmdagoyestrdw", max_size=30))
def test_any_text_is_a_moment_or_none(text: str) -> None:
    try:
        found = named_moment(text, NOW)
    except ConfigError:
        return
    assert found is None or isinstance(found, float)


def test_the_local_clock_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert named_moment("2026-11-30T14:00", NOW) == at("2026-11-30T14:00-05:00")
        assert named_moment("yesterday 14:00", NOW) == at("2026-11-29T14:00-05:00")
    finally:
        monkeypatch.undo()
        time.tzset()


# the search


def text_of(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat().replace("+00:00", "Z")


def fleet_of(created: Sequence[float], stored: Sequence[float], numbers: Sequence[int] = ()) -> VmFleet:
    """One VM. numbers: the sequences that stand; without: from 1 on."""
    fleet = VmFleet()
    fleet.point(VM, "vm")
    sample = fleet.heads[VM].record
    fleet.store.forget(layout.point_key(vm_key(VM), 1))
    keys = []
    for number, made_s, stored_s in zip(numbers or range(1, len(created) + 1), created, stored, strict=True):
        parent = None if number == 1 else "a" * 64
        record = msgspec.structs.replace(sample, sequence=number, parent=parent, created=text_of(made_s))
        key = layout.point_key(vm_key(VM), number)
        fleet.store.objects[key] = restore_point.encode(record), stored_s
        keys.append(key)
    fleet.store._keys[:] = sorted([*fleet.store._keys, *keys])
    return fleet


def searched(fleet: VmFleet, until_s: float, newest: int) -> int | None:
    fleet.store.requests.clear()
    return asyncio.run(PointSearch(fleet.repository, VM, until_s).run(newest))


def test_the_newest_that_is_not_younger() -> None:
    times = [NOW + n * STEP for n in range(1, 51)]
    fleet = fleet_of(times, times)
    for number in (1, 2, 25, 49, 50):
        assert searched(fleet, times[number - 1], 50) == number
        assert searched(fleet, times[number - 1] + STEP / 2, 50) == number
        assert searched(fleet, times[number - 1] - 1.0, 50) == (number - 1 or None)
    assert searched(fleet_of([NOW], [NOW]), NOW, 1) == 1
    assert searched(fleet_of([], []), NOW, 1) is None


def test_a_year_of_points_is_not_read_for_it() -> None:
    """Of 35,040 points every 15 minutes, and of what a policy left of them."""
    count = 35040
    times = [NOW + n * STEP for n in range(1, count + 1)]
    fleet = fleet_of(times, times)
    for number in (1, 500, 17_000, 34_038, 34_041, 35_032, count):
        assert searched(fleet, times[number - 1] + 60.0, count) == number
        assert fleet.store.requests["get"] <= 50 and fleet.store.requests["list"] <= 10, fleet.store.requests
    assert searched(fleet, times[35_031], count) == 35_032
    assert fleet.store.requests["get"] <= 34 and fleet.store.requests["list"] <= 3, "one of the last days"
    left = [*range(672, 30_000, 672), *range(30_000, 34_900, 96), *range(34_900, count + 1, 4)]
    fleet = fleet_of([times[n - 1] for n in left], [times[n - 1] for n in left], left)
    for number in (left[0], left[20], 30_096, left[-1]):
        assert searched(fleet, times[number - 1] + 60.0, left[-1]) == number
        assert fleet.store.requests["get"] <= 40 and fleet.store.requests["list"] <= 20, fleet.store.requests


@pytest.mark.parametrize("wrong_s", [3600.0, 86400.0, -7200.0, -86400.0, -1e9])
@pytest.mark.parametrize("copied", [False, True])
def test_one_wrong_clock_leads_nowhere(wrong_s: float, copied: bool) -> None:
    times = [NOW + n * STEP for n in range(1, 201)]
    for bad in (1, 2, 50, 99, 100, 101, 150, 199, 200):
        made = list(times)
        made[bad - 1] += wrong_s
        fleet = fleet_of(made, [NOW + 1e9] * 200 if copied else times)
        for wanted in (60, 100, 140):
            found = searched(fleet, times[wanted - 1] + 1.0, 200)
            near = {wanted, wanted - 1} if bad == wanted else {wanted}
            assert found in near, (bad, wanted, found)


def test_a_clock_that_was_ahead_for_long_and_was_put_right() -> None:
    times = [NOW + n * STEP for n in range(1, 2001)]
    made = [one + (366 * 86400.0 if n < 900 else 0.0) for n, one in enumerate(times)]
    fleet = fleet_of(made, times)
    for wanted in (1200, 1999):
        assert searched(fleet, times[wanted - 1] + 301.0, 2000) == wanted


def test_a_clock_that_lost_its_battery_for_a_day() -> None:
    times = [NOW + n * STEP for n in range(1, 3001)]
    made = [n * STEP if 1400 <= n < 1496 else one for n, one in enumerate(times)]
    fleet = fleet_of(made, times)
    for wanted in (200, 1000, 1390, 1600, 2500):
        assert searched(fleet, times[wanted - 1] + 1.0, 3000) == wanted, wanted


def test_a_record_that_can_not_be_read_is_passed() -> None:
    times = [NOW + n * STEP for n in range(1, 101)]
    fleet = fleet_of(times, times)
    for number in (50, 75, 62, 61, 100):
        fleet.store.objects[layout.point_key(vm_key(VM), number)] = b"{}", times[number - 1]
    assert searched(fleet, times[61] + 1.0, 100) == 60
    assert searched(fleet, times[62] + 1.0, 100) == 63
    assert searched(fleet, times[99] + 1.0, 100) == 99


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 1e5), min_size=1, max_size=60),
    st.lists(st.booleans(), min_size=60, max_size=60),
    st.floats(-10, 1.1e5),
)
def test_any_chain_in_order(moments: list[float], stands: list[bool], wanted: float) -> None:
    numbers = [n for n in range(1, len(moments) + 1) if stands[n - 1] or n == len(moments)]
    times = [NOW + round(one) for one in sorted(moments)]
    there = [times[n - 1] for n in numbers]
    found = searched(fleet_of(there, there, numbers), NOW + wanted, numbers[-1])
    right = [n for n in numbers if times[n - 1] <= NOW + wanted]
    assert found == (right[-1] if right else None)


def resolved(fleet: VmFleet, wanted: str) -> int:
    fleet.store.requests.clear()
    return asyncio.run(fleet.repository.resolve(VM, wanted))


def test_numbers_and_labels_are_what_they_were() -> None:
    times = [time.time() - (2100 - n) * STEP for n in range(1, 2101)]
    fleet = fleet_of(times, times)
    assert resolved(fleet, "2026") == 2026 and dict(fleet.store.requests) == {"head": 1}
    assert resolved(fleet, "latest") == 2100
    label = asyncio.run(fleet.repository.load(VM, 7)).id.label
    assert resolved(fleet, label) == resolved(fleet, label[:4]) == 7
    for wanted in ("7-ffffffff", "7-zz", "3000", "3000-ab", "0", "", "2020-01-01", "first", "2101-1", "last week"):
        with pytest.raises(ConfigError, match="restore point"):
            resolved(fleet, wanted)
    with pytest.raises(ConfigError, match="no such day"):
        resolved(fleet, "2026-13-13")


def test_a_time_names_a_point() -> None:
    times = [time.time() - (2100 - n) * STEP for n in range(1, 2101)]
    fleet = fleet_of(times, times)
    assert resolved(fleet, "2h ago") == resolved(fleet, "120m") == 2092
    assert resolved(fleet, text_of(times[999])) == 1000
    assert resolved(fleet, "now") == 2100
