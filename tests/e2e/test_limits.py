"""--limit on real syncs: the rate holds, and what is published is exact."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from rig import KIB, MIB, Rig, files_below, python, same
from warmspare.config.timetable import EVERY_DAY, Period, Timetable
from warmspare.engine.host_places import HostPlaces
from warmspare.engine.wiring.rate_limit import kept
from warmspare.store.directory.directory_store import DirectoryStore


@pytest.fixture(autouse=True)
def _own_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests on this host must not share our rate."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))


def incompressible(path: Path, size: int, seed: int) -> None:
    path.write_bytes(random.Random(seed).randbytes(size))


def test_a_sync_keeps_to_its_limit_and_publishes_exactly(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    incompressible(rig.disk, 6 * MIB, 1)
    began = time.monotonic()
    Rig(tmp_path, repo=str(tmp_path / "free")).sync(state=tmp_path / "free-state")
    free_s = time.monotonic() - began  # of this machine, beside whatever it does
    began = time.monotonic()
    done = rig.sync("--limit", "16mbit")  # 2 MB/s
    seconds, sent = time.monotonic() - began, done.last("sync.done")["bytes_sent"]
    assert sent > 6 * MIB
    assert sent / 2e6 - 0.2 < seconds < sent / 2e6 + 2 + 2 * free_s, (seconds, free_s)
    rig.apply()
    assert same(rig.disk, rig.replica)
    assert (tmp_path / "xdg/warmspare/limit").exists()


def written(folder: Path) -> int:
    """Bytes of packs that are being written."""
    size = 0
    for path in files_below(folder):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size if "packs" in path.parts else 0
    return size


def test_it_is_smooth_within_a_part(tmp_path: Path) -> None:
    """A part of 8 MiB at 8 Mbit/s takes eight seconds: what has been written grows evenly all the while."""
    rig = Rig(tmp_path)
    incompressible(rig.disk, 5 * MIB, 2)
    command = [
        python(),
        "-m",
        "warmspare",
        "sync",
        rig.disk,
        "--vm",
        "vm",
        "--repo",
        rig.repo,
        "--state",
        rig.state,
        "--limit",
        "8mbit",
        *rig.new(),
    ]
    child = subprocess.Popen(list(map(str, command)))
    sizes: list[tuple[float, int]] = []
    while child.poll() is None:
        sizes.append((time.monotonic(), written(Path(rig.repo) / ".tmp~")))
        time.sleep(0.05)
    assert child.returncode == 0
    growing = [(moment, size) for moment, size in sizes if 0 < size < 5 * MIB - 100 * KIB]
    assert growing[-1][0] - growing[0][0] > 3
    seconds = []
    for moment, size in growing:
        seconds += [other - size for m, other in growing if moment + 0.95 <= m <= moment + 1.05][:1]
    assert max(seconds) < 1.4e6, "a second brought more than 40 % over the rate"
    assert sorted(seconds)[len(seconds) // 2] > 0.8e6, "most seconds brought less than they might have"
    rig.apply()
    assert same(rig.disk, rig.replica)


def test_two_syncs_share_a_limit(tmp_path: Path) -> None:
    rigs = [Rig(tmp_path / str(number), vm=f"vm{number}", repo=str(tmp_path / "repo")) for number in range(2)]
    for number, rig in enumerate(rigs):
        rig.home.mkdir()
        incompressible(rig.disk, 3 * MIB, number)
    began = time.monotonic()
    children = [
        subprocess.Popen(
            [
                python(),
                "-m",
                "warmspare",
                "sync",
                str(rig.disk),
                "--vm",
                rig.vm,
                "--repo",
                rig.repo,
                "--state",
                str(rig.state),
                "--limit",
                "2MB",
                *rig.new(),
            ]
        )
        for rig in rigs
    ]
    assert [child.wait(120) for child in children] == [0, 0]
    assert time.monotonic() - began > 6 * MIB / 2e6 - 0.2, "each had the whole rate"
    for rig in rigs:
        rig.apply()
        assert same(rig.disk, rig.replica)


async def test_the_timetable_is_kept_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From no limit to one: the hour changes under an upload."""
    now = time.struct_time((2026, 3, 2, 7, 59, 30, 0, 61, 0))
    monkeypatch.setattr(time, "localtime", lambda: now)
    table = Timetable((Period(EVERY_DAY, 8 * 60, 9 * 60, 1e6),))
    store = DirectoryStore(str(tmp_path / "r"))
    with kept(store, None, HostPlaces(), table) as target:
        began = time.monotonic()
        async with target.upload("a") as upload:
            await upload.write(os.urandom(4 * MIB))
        free_s = time.monotonic() - began
        now = time.struct_time((2026, 3, 2, 8, 0, 0, 0, 61, 0))
        began = time.monotonic()
        await target.put("b", os.urandom(MIB))
        assert time.monotonic() - began > 0.8 and free_s < 4 * 0.8
    await store.close()


@pytest.mark.parametrize("wrong", ["fast", "20", "20Mb", "1kbit", "-5mbit", "5 mbit"])
def test_what_is_no_rate(tmp_path: Path, wrong: str) -> None:
    rig = Rig(tmp_path)
    incompressible(rig.disk, 4096, 3)
    refused = rig.sync(f"--limit={wrong}", code=2)
    assert "rate" in refused.stderr and "--limit" in refused.stderr
    assert not (Path(rig.repo) / "vms").exists()


def test_a_bucket_that_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    incompressible(rig.disk, 4096, 4)
    (tmp_path / "xdg").write_text("in the way")
    refused = rig.sync("--limit", "5mbit", code=4)
    assert str(tmp_path / "xdg") in refused.stderr
