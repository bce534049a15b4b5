"""Which of a VM's disks boots: what vCenter says of its order, and who may say otherwise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from warmspare.errors import ConfigError
from warmspare.recover.disks.origin import boot_first
from warmspare.vsphere.inventory.vm_devices import VmDisk
from warmspare.vsphere.inventory.vm_info import _boot_disks

DISKS = [("u1", "system"), ("u2", "data"), ("u3", "more")]


@pytest.mark.parametrize(
    ("order", "says", "first"),
    [
        (None, None, "u1"),
        ([], None, "u1"),
        (["u2"], None, "u2"),
        (["u3", "u2"], None, "u3"),
        (["gone", "u2"], None, "u2"),
        (["gone"], None, "u1"),
        (["u2"], "more", "u3"),
        (["u2"], "u1", "u1"),
    ],
)
def test_the_disk_that_boots_comes_first_and_the_others_keep_their_order(
    order: list[str] | None, says: str | None, first: str
) -> None:
    got = boot_first(DISKS, {} if order is None else {"boot_disks": order}, says)
    assert [got[0][0], *(pair for pair in got[1:])] == [first, *(pair for pair in DISKS if pair[0] != first)]


def test_a_disk_that_is_none_of_the_vms_is_refused() -> None:
    with pytest.raises(ConfigError, match="'x' is none of the VM's disks") as caught:
        boot_first(DISKS, {}, "x")
    assert "system, data, more" in str(caught.value.hint)
    assert boot_first([], {"boot_disks": ["u1"]}) == []


def _disk(key: int, uuid: str) -> VmDisk:
    values = dict.fromkeys(VmDisk.__dataclass_fields__) | {"key": key, "uuid": uuid}
    return VmDisk(**values)  # type: ignore[arg-type]


def test_vcenters_order_names_disks_by_their_keys() -> None:
    disks = [_disk(2000, "a"), _disk(2001, "b"), _disk(2002, "")]
    order = [SimpleNamespace(deviceKey=key) for key in (4000, 2001, 2002, 2000)] + [SimpleNamespace()]
    assert _boot_disks(SimpleNamespace(bootOrder=order), disks) == ("b", "a")
    assert _boot_disks(SimpleNamespace(bootOrder=None), disks) == _boot_disks(None, disks) == ()
