"""`points`: which are shown, and which records are read for that."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import warmspare
from rigs.stores.vm_fleet import VmFleet, uuid_of
from warmspare.cli.telling.point_lines import line
from warmspare.config import values
from warmspare.errors import ConfigError, IntegrityError
from warmspare.model.ids import vm_key
from warmspare.observe.event import Event
from warmspare.observe.kinds.repository_events import PointListed, PointsDone
from warmspare.observe.quantities import age, ago
from warmspare.repository.points.point_choice import CLOCKS_S
from warmspare.store import layout

DAY_S = 86400.0


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> VmFleet:
    """Three VMs with a point a day for 100 days, and one with a single one."""
    fleet = VmFleet()
    monkeypatch.setattr("warmspare.store.opening.open_store", lambda uri, **more: fleet.store)
    for number in range(3):
        for days in range(100, 0, -1):
            fleet.point(uuid_of(number), f"vm {number}", age_s=days * DAY_S, noted=days == 1)
    fleet.point(uuid_of(3), "vm 3", age_s=5400.0)
    return fleet


def asked(fleet: VmFleet, **fields: Any) -> list[tuple[str, int]]:
    """What is shown."""
    events: list[Event] = []
    fleet.store.requests.clear()
    request = warmspare.PointsRequest(repository=warmspare.RepositoryPlace("x"), **fields)
    told = asyncio.run(warmspare.Engine().run(request, events.append))
    assert events[:-1] == told
    done = events[-1]
    assert isinstance(done, PointsDone) and done.count == len(told) and done.vms == len({one.vm for one in told})
    assert (done.bytes_changed, done.bytes_sent) == (2 * len(told), 3 * len(told))
    return [(one.vm_name, one.sequence) for one in told]


def test_the_newest_of_one_vm_is_the_one_record_that_is_read(fleet: VmFleet) -> None:
    assert asked(fleet, vm="vm 1", last=1) == [("vm 1", 100)]
    assert dict(fleet.store.requests) == {"get": 3, "list": 2}, "repository.json, a shard, and the record; holds"
    assert asked(fleet, vm=uuid_of(1), last=1) == [("vm 1", 100)]
    assert dict(fleet.store.requests) == {"get": 3, "list": 2}, "the shard says from where on to list"
    fleet.point(uuid_of(1), "vm 1", noted=False)
    assert asked(fleet, vm="vm 1", last=1) == [("vm 1", 101)]
    assert fleet.store.requests["get"] == 3


def test_the_newest_few(fleet: VmFleet) -> None:
    assert asked(fleet, vm=uuid_of(2), last=3) == [("vm 2", number) for number in (98, 99, 100)]
    assert fleet.store.requests["get"] == 1 + 1 + 3
    newest = [*((f"vm {number}", sequence) for number in range(3) for sequence in (99, 100)), ("vm 3", 1)]
    assert asked(fleet, last=2) == newest
    assert fleet.store.requests["get"] == 1 + 7
    assert len(asked(fleet, last=1000)) == 301 == len(asked(fleet))


def test_what_is_too_old_is_not_read(fleet: VmFleet) -> None:
    week = [("vm 0", number) for number in range(94, 101)]
    since_s = time.time() - 7.5 * DAY_S
    assert asked(fleet, vm=uuid_of(0), since_s=since_s) == week
    assert fleet.store.requests["get"] <= 1 + 1 + 7 + 1 + CLOCKS_S / DAY_S
    assert asked(fleet, vm=uuid_of(0), since_s=since_s, until_s=time.time() - 5.5 * DAY_S) == week[:2]
    assert asked(fleet, vm=uuid_of(0), since_s=since_s, last=2) == week[-2:]
    assert asked(fleet, vm=uuid_of(0), until_s=time.time() - 98.5 * DAY_S) == [("vm 0", 1), ("vm 0", 2)]
    assert asked(fleet, until_s=time.time() - 98.5 * DAY_S, last=1) == [(f"vm {number}", 2) for number in range(3)]
    assert asked(fleet, since_s=time.time() + DAY_S) == []


def test_in_a_copy_all_objects_are_young_and_the_records_decide(fleet: VmFleet) -> None:
    for number in range(1, 101):
        key = layout.point_key(vm_key(uuid_of(0)), number)
        fleet.store.keep(key, fleet.store.objects[key][0])
    assert len(asked(fleet, vm=uuid_of(0), since_s=time.time() - 7.5 * DAY_S)) == 7


def test_one_point(fleet: VmFleet) -> None:
    label = fleet.heads[uuid_of(2)].id.label
    for wanted in ("100", label, "latest"):
        assert asked(fleet, vm="vm 2", at=wanted) == [("vm 2", 100)]
    for wanted in ("101", "100-00000000", "x"):
        with pytest.raises(ConfigError):
            asked(fleet, vm="vm 2", at=wanted)


def test_a_record_that_is_damaged_stops_no_other(fleet: VmFleet) -> None:
    fleet.store.keep(layout.point_key(vm_key(uuid_of(0)), 99), b"{")
    events: list[Event] = []
    for fields, count in (({"last": 2}, 6), ({}, 300)):
        events.clear()
        request = warmspare.PointsRequest(repository=warmspare.RepositoryPlace("x"), **fields)  # type: ignore[arg-type]
        with pytest.raises(IntegrityError):
            asyncio.run(warmspare.Engine().run(request, events.append))
        assert len([event for event in events if isinstance(event, PointListed)]) == count


@pytest.mark.parametrize(
    "fields",
    [
        {"at": "1"},
        {"vm": "vm 1", "at": "1", "last": 1},
        {"since_s": 2.0, "until_s": 1.0},
        {"last": 0},
        {"vm": "nobody"},
    ],
)
def test_what_contradicts_itself_is_refused(fleet: VmFleet, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        asked(fleet, **fields)


def test_moments() -> None:
    now_s = 1_796_000_000.0
    assert values.moment("7d", now_s) == now_s - 7 * DAY_S
    midnight = values.moment("2026-11-29", now_s)
    assert values.moment("2026-11-29T00:00", now_s) == values.moment("2026-11-29 00:00:00+00:00", now_s) == midnight
    assert values.moment("2026-11-29T02:00+02:00", now_s, end=True) == midnight
    assert values.moment("2026-11-29", now_s, end=True) == midnight + DAY_S - 1
    assert midnight % DAY_S == 0
    for wrong in ("", "yesterday", "2026-13-01", "7", "7x", "400d", 7, None, "2026-11-29T25:00"):
        with pytest.raises(ConfigError):
            values.moment(wrong, now_s)


def test_ages_in_words() -> None:
    words = {0: "0 s", 59.9: "59 s", 61: "1 min", 3600: "1 h", 100_000: "27 h", 172_800: "2 d"}
    assert {seconds: age(seconds) for seconds in words} == words
    assert ago("nonsense") == "nonsense" and ago("2000-01-01T00:00:00Z").endswith(" d ago")


def test_a_line(fleet: VmFleet) -> None:
    request = warmspare.PointsRequest(repository=warmspare.RepositoryPlace("x"), vm="vm 3")
    [point] = asyncio.run(warmspare.Engine().run(request))
    assert "1 h ago" in line(point) and "5.0 GiB" in line(point) and point.capacity_bytes == 5 << 30
