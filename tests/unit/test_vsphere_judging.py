"""What vSphere's answers are taken for: changed areas, snapshot trees, events. No vCenter is needed."""

from __future__ import annotations

import datetime
from array import array
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmspare.model.extents import normalise
from warmspare.source.ports import LastDisk, LastPoint
from warmspare.vsphere.inventory.snapshot_tree import Node, SnapshotTree
from warmspare.vsphere.inventory.vm_devices import VmDisk
from warmspare.vsphere.snapshots.marker import parse
from warmspare.vsphere.tracking import changes, distrust
from warmspare.vsphere.tracking.eventmark import MOST_JUDGED, EventMark, Newest, SeenEvent
from warmspare.vsphere.tracking.history import Happening, History

CAPACITY = 1 << 20
NOW = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
DISK = VmDisk(
    2000,
    "Hard disk 1",
    "pvscsi",
    0,
    0,
    CAPACITY,
    "6000C29a",
    "[ds1] a/a-000001.vmdk",
    "[ds1] a/a.vmdk",
    2,
    "persistent",
    True,
    "",
    "sharingNone",
    "noSharing",
    "52 de/3",
)
LAST = LastPoint({DISK.uuid: LastDisk(CAPACITY, "52 de/2")}, False)


SEEN = SeenEvent(100, "2024-05-01T11:59:00.000+00:00", "UserLoginSessionEvent")
NEWEST = Newest(SEEN, 100)
MARK = EventMark.at("vc-1", NEWEST)


def page(offset: int, length: int, areas: list[tuple[int, int]]) -> Any:
    return SimpleNamespace(
        startOffset=offset, length=length, changedArea=[SimpleNamespace(start=at, length=n) for at, n in areas]
    )


@given(st.lists(st.integers(0, CAPACITY), min_size=2, max_size=40, unique=True), st.integers(1, 5), st.data())
def test_true_pages_are_taken_and_mended_ones_are_not(cuts: list[int], at_once: int, data: st.DataObject) -> None:
    cuts = sorted(cuts)[: len(cuts) // 2 * 2]
    areas = [(cuts[i], cuts[i + 1] - cuts[i]) for i in range(0, len(cuts), 2)]
    pages, offset = [], 0
    for first in range(0, len(areas), at_once):
        some = areas[first : first + at_once]
        end = some[-1][0] + some[-1][1] if first + at_once < len(areas) else CAPACITY
        pages.append(page(offset, end - offset, some))
        offset = end
    starts, lengths = array("q"), array("q")
    for one in pages:
        assert changes._take(one, one.startOffset, CAPACITY, starts, lengths) == ""
    got = normalise(np.frombuffer(starts, np.int64), np.frombuffer(lengths, np.int64))
    assert got.pairs() == normalise([at for at, _ in areas], [n for _, n in areas]).pairs()

    one = data.draw(st.sampled_from(pages))
    area = data.draw(st.sampled_from(one.changedArea))
    spoil = data.draw(st.sampled_from(["start", "length", "before", "after", "nothing", "twice"]))
    asked = one.startOffset
    if spoil == "start":
        one.startOffset += data.draw(st.sampled_from([-512, 512]))
    elif spoil == "length":
        one.length = data.draw(st.sampled_from([0, -1, CAPACITY + 1 - asked]))
    elif spoil == "before":
        area.start = asked - 1
    elif spoil == "after":
        area.length = asked + one.length - area.start + 1
    elif spoil == "nothing":
        area.length = data.draw(st.sampled_from([0, -1]))
    else:
        one.changedArea.append(area)
    assert changes._take(one, asked, CAPACITY, array("q"), array("q")) != ""


@pytest.mark.parametrize(
    ("last", "now", "reason"),
    [
        ("52 de/1", "52 de/2", ""),
        ("52 de/9", "52 de/2", ""),  # never ordered
        ("52 de/1", "52 df/1", "began anew"),
        ("nonsense", "nonsense", "began anew"),
        (None, "52 de/1", "no change ID"),
        ("52 de/1", None, "not at work"),
        ("52 de/1", "", "not at work"),
    ],
)
def test_change_ids(last: str | None, now: str | None, reason: str) -> None:
    found = changes.no_base(last, now)
    assert reason in found and bool(found) is bool(reason)


def tree(current: str, *chains: str) -> SnapshotTree:
    """Of branches like "a-b-c", whose snapshots hang one on another."""
    nodes: dict[str, Node] = {}
    for chain in chains:
        parent = ""
        for moref in chain.split("-"):
            nodes.setdefault(moref, Node(moref, moref, "", "2024-05-01T00:00:00+00:00", parent, False))
            parent = moref
    return SnapshotTree(tuple(nodes.values()), current)


@pytest.mark.parametrize(
    ("left", "here", "reverted"),
    [
        (tree(""), tree(""), False),
        (tree(""), tree("a", "a"), False),  # somebody took one
        (tree("a", "a"), tree("a", "a"), False),
        (tree("b", "a-b"), tree("c", "a-b-c"), False),
        (tree("b", "a-b"), tree("a", "a"), False),  # b was removed
        (tree("b", "a-b"), tree("", ""), False),  # all were removed
        (tree("b", "a-b"), tree("c", "c"), False),  # all were removed, and one taken
        (tree("c", "a-b-c"), tree("c", "a-c"), False),  # one between was removed
        (tree("b", "a-b"), tree("a", "a-b"), True),
        (tree("b", "a-b"), tree("c", "a-b", "a-c"), True),
        (tree("b", "a-b", "a-d"), tree("d", "a-b", "a-d"), True),
        (tree("", "a"), tree("a", "a"), True),
    ],
)
def test_trees(left: SnapshotTree, here: SnapshotTree, reverted: bool) -> None:
    parsed = SnapshotTree.parse(left.as_json())
    assert parsed is not None and parsed.chain() == left.chain()
    before = distrust.LastSeen(NOW, parsed, {}, "host-1", MARK)
    assert ("reverted" in distrust.of_vm(before, here, History(()))) is reverted


def test_a_tree_without_some() -> None:
    whole = tree("d", "a-b-c-d", "b-e")
    rest = whole.without({"b", "d"})
    assert rest.chain() == ["c", "a"] and [node.moref for node in rest.nodes] == ["a", "c", "e"]


def test_what_the_last_point_says() -> None:
    hardware = {
        "taken": NOW.isoformat(),
        "snapshots": tree("a", "a").as_json(),
        "host_moref": "host-7",
        "disks": [{"uuid": "u", "base_path": "[x] y"}],
        "events": MARK.as_json(),
    }
    left = distrust.LastSeen.of(hardware)
    assert left is not None and (left.taken, left.host, left.paths) == (NOW, "host-7", {"u": "[x] y"})
    assert left.mark == MARK
    for spoiled in ({}, {"taken": "soon"}, {"taken": 5}, {"taken": "2024-05-01T12:00:00"}):
        assert distrust.LastSeen.of(spoiled) is None
    for odd in (None, {}, {"nodes": 1}, {"nodes": [{}], "current": ""}, [1]):
        partial = distrust.LastSeen.of(hardware | {"snapshots": odd, "disks": "none"})
        assert partial is not None and partial.tree is None
        assert "which snapshots" in distrust.of_vm(partial, tree(""), History(()))


def event(kind: str, **more: Any) -> Happening:
    return Happening(7, kind, NOW.isoformat(), **more)


@pytest.mark.parametrize(
    ("happenings", "reason"),
    [
        ([], ""),
        ([event("VmMigratedEvent")], ""),
        ([event("VmMigratedEvent", moved=True)], "moved to another datastore"),
        ([event("VmStoppingEvent"), event("VmPoweredOffEvent")], ""),
        ([event("VmStoppingEvent"), event("VmPoweredOffEvent"), event("VmPoweredOffEvent")], "went off"),
        ([event("VirtualMachine.powerOff"), event("VmPoweredOffEvent")], ""),
        ([event("vm.Snapshot.revert")], "reverted"),
        ([event("esx.problem.host.coredump")], "its host failed"),
        ([event("VmReconfiguredEvent", devices=(2000,))], ""),  # of that disk, not of the VM
    ],
)
def test_events(happenings: list[Happening], reason: str) -> None:
    left = distrust.LastSeen(NOW, tree(""), {}, "host-1", MARK)
    found = distrust.of_vm(left, tree(""), History(tuple(happenings)))
    assert reason in found and bool(found) is bool(reason)


LATER = NOW + datetime.timedelta(minutes=15)
NEXT = Newest(SeenEvent(140, "2024-05-01T12:14:00.000+00:00", "VmPoweredOnEvent"), 138)


def judged(last: LastPoint = LAST, mark: EventMark | None = MARK, **changed: Any) -> str:
    left = distrust.LastSeen(NOW, tree(""), {}, "host-1", mark)
    now = {"vcenter": "vc-1", "now": LATER, "newest": NEXT} | changed
    return distrust.before_asking(last, left, **now)


def test_a_doubt_that_the_caller_has_goes_before_all() -> None:
    assert judged(replace(LAST, doubt="it came back from a failover")) == "it came back from a failover"
    assert judged() == ""


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"vcenter": "vc-2"}, "another vCenter (vc-2)"),
        ({"vcenter": ""}, "another vCenter (a host)"),
        ({"now": NOW - datetime.timedelta(seconds=1)}, "vCenter's clock was put back"),
        ({"now": NOW}, ""),
        ({"newest": "it can't be read"}, "it can't be read"),
        ({"newest": Newest(replace(SEEN, key=3), 3)}, "counts its events anew: the newest is 3, and at the last"),
        ({"newest": Newest(replace(SEEN, key=-5), -5)}, "counts its events anew"),  # the key overflowed
        ({"newest": NEWEST}, ""),
        ({"newest": Newest(replace(SEEN, time="2024-05-01T11:59:00.003+00:00"), 100)}, ""),  # rounded otherwise
        ({"newest": Newest(replace(SEEN, time="2024-05-01T11:54:00.000+00:00"), 100)}, "event 100 is another"),
        ({"newest": Newest(replace(SEEN, kind="VmPoweredOnEvent"), 100)}, "event 100 is another"),
        ({"mark": None}, "does not say where vCenter's events stood"),
        ({"mark": None, "newest": "it can't be read"}, "it can't be read"),  # the cause that stays
    ],
)
def test_what_is_known_before_events_are_asked_for(changed: dict[str, Any], reason: str) -> None:
    found = judged(**changed)
    assert reason in found and bool(found) is bool(reason)


def test_a_mark_is_read_as_it_was_written_and_nothing_else_is() -> None:
    mark = EventMark("vc-1", NEWEST, SeenEvent(104, SEEN.time, "VirtualMachine.createSnapshot"), 90, (93, 97))
    whole = mark.as_json()
    assert EventMark.parse(whole) == mark and EventMark.parse(whole | {"witness": None}) == replace(mark, witness=None)
    odd = [
        None,
        [],
        "x",
        {},
        {"vcenter": "vc-1"},
        whole | {"newest": None},
        whole | {"newest": {"key": "1"}},
        whole | {"newest": SEEN.as_json() | {"time": "soon"}},
        whole | {"newest": SEEN.as_json() | {"key": True}},
        whole | {"newest": SEEN.as_json() | {"time": "2024-05-01T11:59:00"}},
        whole | {"chain": "7"},
        whole | {"after": None},
        whole | {"judged": 3},
        whole | {"judged": ["3"]},
        whole | {"vcenter": 5},
    ]
    assert [EventMark.parse(one) for one in odd] == [None] * len(odd)


def test_where_the_next_run_goes_on() -> None:
    """It looks at everything since the point before, for an event may be shown late, but not twice at what it knew."""
    mark = MARK.going_on(NEXT, None, [95, 100, 120, 130, 150])
    assert (mark.after, mark.judged, mark.newest) == (100, (120, 130), NEXT)
    seen = [key for key in (99, 100, 101, 120, 130, 140, 141, 150) if mark.looks_at(key)]
    assert seen == [101, 140, 141, 150]
    flood = MARK.going_on(Newest(replace(SEEN, key=1000), 1), None, range(101, 102 + MOST_JUDGED))
    assert (flood.after, flood.judged) == (1000, ())  # its record would grow without end


def test_events_that_contradict_a_mark() -> None:
    witness = SeenEvent(104, SEEN.time, "VirtualMachine.createSnapshot")
    mark = replace(MARK, witness=witness)
    assert mark.contradicted([SEEN, witness, SeenEvent(7, "x", "y")]) == ""
    assert "event 104 is another" in mark.contradicted([replace(witness, kind="VmPoweredOnEvent")])
    assert "event 100 is another" in mark.contradicted([replace(SEEN, time="2024-05-01T11:58:00.000+00:00")])


def test_one_disk() -> None:
    left = distrust.LastSeen(NOW, tree(""), {DISK.uuid: DISK.base_path}, "host-1", MARK)
    assert distrust.of_disk(DISK, LAST, left, History(())) == ""
    added = History((event("VmReconfiguredEvent", devices=(2000,)),))
    assert "removed or added" in distrust.of_disk(DISK, LAST, left, added)
    assert distrust.of_disk(replace(DISK, key=2001), LAST, left, added) == ""
    assert "capacity" in distrust.of_disk(replace(DISK, capacity_bytes=5), LAST, left, History(()))
    assert "moved" in distrust.of_disk(replace(DISK, base_path="[ds2] a/a.vmdk"), LAST, left, History(()))
    assert "not in the last" in distrust.of_disk(replace(DISK, uuid="other"), LAST, left, History(()))


@given(st.text())
def test_any_description_is_read(text: str) -> None:
    assert parse(text) is None and parse(text + '{"product": "warmspare"}') is None
