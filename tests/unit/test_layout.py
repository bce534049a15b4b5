"""Keys: what they look like, that they sort, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmspare.model.ids import PackId
from warmspare.store import layout


def test_the_layout() -> None:
    assert layout.repository_key() == "repository.json"
    assert layout.all_vms_prefix() == "vms/"
    assert layout.vm_prefix("v") == "vms/v/"
    assert layout.points_prefix("v") == "vms/v/points/"
    assert layout.point_key("v", 12) == "vms/v/points/0000000012.json"
    assert layout.manifest_key("v", "r", 1) == "vms/v/manifests/r/001.manifest"
    assert layout.pack_key("v", PackId("r", 1)) == "vms/v/packs/r/000001.pack"
    assert layout.table_key("v", "r", 1) == "vms/v/tables/r/001.table"
    assert layout.lease_key("v") == "vms/v/lease.json"


def test_holds() -> None:
    key = layout.hold_key("v", 12, "0123456789abcdef")
    assert key == "vms/v/holds/0000000012-0123456789abcdef.json" and key.startswith(layout.holds_prefix("v"))
    assert layout.parse_hold_key(key) == (12, "0123456789abcdef")
    assert layout.names_object(key) and layout.holds_objects("vms/v/holds") and layout.vm_of_key(key) == "v"
    for other in (key + "x", key.replace("a", "A"), key.replace("holds", "marks"), "x/" + key, key + "\n"):
        assert layout.parse_hold_key(other) is None


@given(st.integers(0, 10**10 - 1), st.integers(0, 10**10 - 1))
def test_points_sort_by_number(one: int, other: int) -> None:
    first, second = layout.point_key("v", one), layout.point_key("v", other)
    assert (first < second) is (one < other)
    assert layout.parse_point_key(first) == one
    assert layout.vm_of_key(first) == "v"


def test_what_is_no_point() -> None:
    for key in (
        "vms/v/points/12.json",
        "vms/v/points/0000000012.json2",
        "vms/v/points/0000000012.jsonx",
        "vms/v/x/points/0000000012.json",
        "points/0000000012.json",
        "vms/v/points/00000000१२.json",
        "vms/v/lease.json",
        "",
        "vms/v/points/0000000012.json\n",
    ):
        assert layout.parse_point_key(key) is None


def test_the_vm_of_a_key() -> None:
    assert layout.vm_of_key("vms/a=2Fb/lease.json") == "a=2Fb"
    for key in ("repository.json", "vms/a", "vms//x", "vms/", "", "other/a/b"):
        assert layout.vm_of_key(key) is None


def test_numbers_that_do_not_fit_are_refused() -> None:
    for call in (
        lambda: layout.point_key("v", 10**10),
        lambda: layout.point_key("v", -1),
        lambda: layout.manifest_key("v", "r", 1000),
        lambda: layout.pack_key("v", PackId("r", 1_000_000)),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            call()
