"""What VMs, disks, runs, packs and points are known by: there and back, refused where malformed, and never mixed up."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from warmspare.errors import ConfigError
from warmspare.format.pack import PackHeader
from warmspare.model.ids import (
    DiskId,
    PackId,
    PointId,
    RunId,
    VmId,
    VmKey,
    disk_key,
    new_run,
    run_bytes,
    run_of,
    vm_key,
    vm_of,
)
from warmspare.outside import records
from warmspare.outside.records import UnfitError
from warmspare.store import layout

ROOT = Path(__file__).parents[2]
names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=200)
runs = st.binary(min_size=16, max_size=16)


class Named(msgspec.Struct, frozen=True):
    """Each of them, as a record has it."""

    vm: VmId
    disk: DiskId
    run: RunId
    point: PointId


def record(**changed: object) -> bytes:
    sound = {"vm": "web 01", "disk": "d", "run": "0f" * 16, "point": {"sequence": 7, "sha256": "ab" * 32}}
    return msgspec.json.encode(sound | changed)


@given(names)
@example("x" * 151)
def test_vms_and_disks_there_and_back(name: str) -> None:
    key = vm_key(VmId(name))
    assert disk_key(DiskId(name)) == key and layout.vm_of_key(layout.lease_key(key)) == key
    assert vm_of(key) == (name if "=sha256-" not in key else None)


@given(runs, st.integers(0, 999_999))
def test_runs_and_packs_there_and_back(raw: bytes, number: int) -> None:
    run = run_of(raw)
    assert run_bytes(run) == raw and re.fullmatch("[0-9a-f]{32}", run)
    pack = PackId(run, number)
    assert PackHeader.decode(PackHeader(pack, 0).encode(), "here").id == pack
    assert layout.pack_key(VmKey("v"), pack) == f"vms/v/packs/{raw.hex()}/{number:06d}.pack"
    assert records.decode(record(run=run), Named).run == run


@pytest.mark.parametrize("raw", [b"", bytes(15), bytes(17)])
def test_runs_of_another_length_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="a run has 16 bytes"):
        run_of(raw)
    with pytest.raises(ValueError, match="a run has 16 bytes"):
        run_bytes(RunId(raw.hex()))


def test_no_two_runs_are_one() -> None:
    assert len({new_run() for _ in range(1000)}) == 1000 and len(run_bytes(new_run())) == 16


@given(st.integers(1, 9_999_999_999), st.binary(min_size=32, max_size=32))
def test_points_are_stored_as_they_are_passed(sequence: int, digest: bytes) -> None:
    point = PointId(sequence, digest.hex())
    stored = msgspec.json.encode(point)
    assert stored == b'{"sequence":%d,"sha256":"%s"}' % (sequence, digest.hex().encode())
    assert records.decode(stored, PointId) == point and len({point, records.decode(stored, PointId)}) == 1
    assert point.label == f"{sequence}-{digest.hex()[:8]}"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"vm": "x" * 4097}, r"Expected `str` of length <= 4096 - at `$.vm`"),
        ({"vm": 1}, r"Expected `str`, got `int` - at `$.vm`"),
        ({"disk": "x" * 4097}, r"Expected `str` of length <= 4096 - at `$.disk`"),
        ({"run": "0F" * 16}, "Expected `str` matching regex '^[0-9a-f]{32}\\\\Z' - at `$.run`"),
        ({"run": "0f" * 15}, "Expected `str` matching regex '^[0-9a-f]{32}\\\\Z' - at `$.run`"),
        ({"run": "0f" * 16 + "\n"}, "Expected `str` of length <= 32 - at `$.run`"),
        ({"point": {"sequence": 0, "sha256": "ab" * 32}}, "Expected `int` >= 1 - at `$.point.sequence`"),
        ({"point": {"sequence": 1}}, "Object missing required field `sha256` - at `$.point`"),
    ],
)
def test_what_a_record_must_not_say(changed: dict[str, object], said: str) -> None:
    assert records.decode(record(), Named).vm == "web 01"
    with pytest.raises(UnfitError) as caught:
        records.decode(record(**changed), Named)
    assert str(caught.value) == said


@pytest.mark.parametrize("name", ["", "a\nb", "\ud800"])
def test_what_is_no_vm_and_no_disk(name: str) -> None:
    for key in (vm_key, disk_key):
        with pytest.raises(ConfigError):
            key(name)  # type: ignore[operator]


MIXED = """
from warmspare.model.ids import DiskId, DiskKey, PackId, RunId, VmId, VmKey, disk_key, run_of, vm_key, vm_of
from warmspare.store import layout

vm, run = VmId("web 01"), run_of(bytes(16))
layout.point_key(vm_key(vm), 1)
layout.pack_key(vm_key(vm), PackId(run, 1))
layout.point_key(vm, 1)  # wrong
layout.point_key("web", 1)  # wrong
layout.lease_key(DiskKey("d"))  # wrong
layout.pack_key(vm_key(vm), (run, 1))  # wrong
layout.manifest_key(vm_key(vm), bytes(16), 1)  # wrong
layout.run_prefixes(vm_key(vm), "0" * 32)  # wrong
vm_key(vm_key(vm))  # wrong
vm_key(DiskId("d"))  # wrong
vm_of(vm)  # wrong
disk_key(vm)  # wrong
PackId("0" * 32, 1)  # wrong
RunId(bytes(16))  # wrong
"""


@pytest.mark.program
def test_a_type_checker_refuses_one_for_the_other(tmp_path: Path) -> None:
    """What the types are for; with them as bare strings each of these lines would pass."""
    from mypy import api

    path = tmp_path / "mixed.py"
    path.write_text(MIXED)
    cache = ["--cache-dir", str(tmp_path / "cache")]
    said, failed, _ = api.run(
        ["--config-file", str(ROOT / "pyproject.toml"), *cache, "--follow-imports", "silent", str(path)]
    )
    assert not failed, failed
    refused = {int(number) for number in re.findall(r"mixed\.py:(\d+): error", said)}
    wrong = {number for number, line in enumerate(MIXED.splitlines(), 1) if line.endswith("# wrong")}
    assert refused == wrong, said
