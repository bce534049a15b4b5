"""A library that says it succeeded and gives nothing, that lacks functions, or reads its own rules otherwise."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fault.vddk_bench import Bench
from fault.vddk_campaign import World
from rig import KIB, MIB, VddkRig, random_disk, same
from standin import Standin
from warmspare.errors import SourceError
from warmspare.model.extents import normalise, whole_disk
from warmspare.model.units import BLOCK_BYTES
from warmspare.source.ports import Hole
from warmspare.source.vddk import vddk_doctor, vddk_install


@pytest.mark.parametrize(
    "rule",
    [
        "at ConnectEx 2 null",
        "at Open 2 null",
        "at GetInfo 2 null",
        "at AllocateConnectParams 1 null",
        "at QueryAllocatedBlocks 1 null",
        "at ReadAsync 5 null",
        "every GetTransportMode null",
        "every GetTransportMode wrong",
        "every ListTransportModes null",
        "every GetErrorText null\nat ReadAsync 5 fail 14009",
    ],
)
def test_nothing_given_once(tmp_path: Path, rule: str) -> None:
    world = World(tmp_path, 41)
    world.round(0, rule)
    assert world.report.ends == {"identical": 1} and sum(world.report.hits.values()) >= 1


@pytest.mark.parametrize(
    ("call", "what"),
    [("ConnectEx", "connection"), ("Open", "handle"), ("GetInfo", "info"), ("AllocateConnectParams", "parameters")],
)
async def test_nothing_given_ever(tmp_path: Path, call: str, what: str) -> None:
    bench = Bench(tmp_path, MIB)
    bench.standin.script(f"every {call} null")
    with pytest.raises(SourceError, match=f"VixDiskLib_{call} said that it succeeded and gave no {what}"):
        async with bench.source():
            pass
    bench.standin.check()


async def test_an_open_that_fails_with_1_hints_at_the_thumbprint(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MIB)
    bench.standin.script("every Open error 1")
    with pytest.raises(SourceError, match="thumbprint"):
        async with bench.source():
            pass


@pytest.mark.parametrize("rules", ["strict", "nbdkit"])
async def test_lists_that_are_rounded_up_by_either_reading(tmp_path: Path, rules: str) -> None:
    bench = Bench(tmp_path, MIB)
    bench.standin.rules(rules)
    random_disk(bench.image, 150 * MIB + 7 * 512, random.Random(7), pieces=12, most=300 * KIB)
    with bench.image.open("r+b") as file:
        file.seek(149 * MIB)
        file.write(random.Random(8).randbytes(700 * KIB))
    expected, holes = bench.image.read_bytes(), 0
    async with bench.source() as source:
        async for item in source.read(whole_disk(source.capacity_bytes)):
            if isinstance(item, Hole):
                holes += item.stop - item.start
                assert not any(expected[item.start * BLOCK_BYTES : item.stop * BLOCK_BYTES])
                continue
            for row, block in enumerate(item.blocks.tolist()):
                at = block * BLOCK_BYTES
                wanted = expected[at : at + BLOCK_BYTES]
                assert bytes(item.data[row * BLOCK_BYTES : row * BLOCK_BYTES + len(wanted)]) == wanted
            item.release()
    assert holes > 1000 and not bench.retries()
    bench.standin.check()


async def test_one_refusal_of_the_list_ends_the_asking(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 100 * MIB)
    bench.standin.script("at QueryAllocatedBlocks 1 error 6")
    async with bench.source() as source:
        async for item in source.read(normalise([0, 64 * MIB], [32 * MIB, 32 * MIB])):
            assert not isinstance(item, Hole)
            item.release()
    assert bench.standin.counts()["QueryAllocatedBlocks"] == 2  # fine and coarse were asked together


def without(rig: VddkRig, *names: str) -> None:
    """The library has these functions under another name."""
    library = rig.standin.library.resolve()
    raw = library.read_bytes()
    for name in names:  # dlsym looks for the name in .dynstr
        raw = raw.replace(f"\0VixDiskLib_{name}\0".encode(), f"\0XixDiskLib_{name}\0".encode())
    library.write_bytes(raw)


@pytest.mark.parametrize("name", ["Close", "Disconnect", "FreeInfo", "Read"])
def test_a_function_that_is_needed_is_named(tmp_path: Path, name: str) -> None:
    rig = VddkRig(tmp_path)
    random_disk(rig.disk, MIB, random.Random(4))
    without(rig, name)
    assert f"lacks VixDiskLib_{name}" in rig.sync(code=2).stderr
    assert rig.standin.counts()["Open"] == 0


def test_functions_that_can_be_done_without(tmp_path: Path) -> None:
    rig = VddkRig(tmp_path)
    random_disk(rig.disk, 3 * MIB, random.Random(4))
    without(rig, "Wait", "FreeBlockList", "Write", "WriteAsync", "Flush")
    rig.sync(disks=[f"disk={rig.disk}"])
    rig.apply()
    assert same(rig.disk, rig.replica)
    rig.standin.check()


@pytest.mark.parametrize("point_at", ["above", "lib64", "link"])
async def test_a_library_9_1_wherever_the_user_points(tmp_path: Path, point_at: str) -> None:
    """libDir is the folder above lib64, whatever was named; the stand-in sees to it."""
    standin = Standin(tmp_path / "vddk", new=True)
    (tmp_path / "link").symlink_to(standin.home / "lib64")
    named = {"above": standin.home, "lib64": standin.home / "lib64", "link": tmp_path / "link"}[point_at]
    install = vddk_install.find(named)
    assert install.version == "9.1.0.0" and install.lib_dir == standin.home and not install.newer
    checks = {check.name: check for check in await vddk_doctor.examine(named)}
    assert {check.state for check in checks.values()} == {"ok"}
    standin.check()


async def test_a_library_without_a_version_or_with_a_later_one(tmp_path: Path) -> None:
    standin = Standin(tmp_path / "vddk")
    real = standin.library.resolve()
    later = real.rename(real.with_name("libvixDiskLib.so.9.2.0"))
    real.with_name("libvixDiskLib.so.8").unlink()
    standin.library.unlink()
    standin.library.symlink_to(later.name)
    version = {check.name: check for check in await vddk_doctor.examine(standin.home)}["version"]
    assert version.state == "note" and "9.1" in version.meaning
    assert "9.1" in vddk_install.GET_IT
